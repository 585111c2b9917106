"""Activation normalisation: scale and shift that start from data."""

import torch
from torch import Tensor, nn

from likely.errors import InputError
from likely.flows.transforms.transform import Pair, Transform, finite
from likely.nn.network import is_image


class ActNorm(Transform):
    """z = eˢ (x − b), of every channel of an image or of every value of another event; ln|det| = Σ s over the values.

    `initialize` sets s and b so that z has mean zero and standard deviation one over a batch; then they are trained
    like any weight. A flag that says whether this was done is saved with them.

    Paper: Glow: Generative Flow with Invertible 1×1 Convolutions (Kingma, Dhariwal, 2018),
    https://arxiv.org/abs/1807.03039

    Args:
        shape: of one example.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        size = self.shape
        if is_image(self.shape):
            size = (self.shape[0], 1, 1)
        self.shift = nn.Parameter(torch.zeros(size))
        self.log_scale = nn.Parameter(torch.zeros(size))
        self.register_buffer("initialized", torch.tensor(False))

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Take mean and deviation from x.

        Raises:
            InputError: a channel or value that is the same in all examples.
        """
        if self.initialized:
            return
        kind, dims = "value", (0,)
        if is_image(self.shape):
            kind, dims = "channel", (0, 2, 3)
        mean = x.double().mean(dims)
        deviation = x.double().std(dims, correction=0)
        constant = (deviation <= 1e-9 * mean.abs()) | (deviation == 0)
        if constant.any():
            place = tuple(constant.nonzero()[0].tolist())
            raise InputError(f"the {kind} at {place} is the same in all of {len(x)} examples and cannot be normalised")
        with torch.no_grad():
            self.shift.copy_(mean.view_as(self.shift))
            self.log_scale.copy_(-deviation.log().view_as(self.shift))
            self.initialized.fill_(True)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """Return eˢ (x − b)."""
        return self.log_scale.exp() * (x - self.shift), self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Return e⁻ˢ z + b."""
        x = (-self.log_scale).exp() * z + self.shift
        return finite(x, -self._log_det(z))

    def _log_det(self, x: Tensor) -> Tensor:
        places = x[0].numel() // self.log_scale.numel()
        return (places * self.log_scale.sum()).expand(len(x))
