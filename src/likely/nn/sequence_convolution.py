"""Convolutions over sequences that see earlier places."""

import torch
import torch.nn.functional as F
from jaxtyping import Real
from torch import Tensor, nn

from likely.errors import InputError
from likely.nn.cache import Cache
from likely.nn.exact import LinearLeaf
from likely.nn.recurrent import Kind

Sequence = Real[Tensor, "_ _ _"]  # (n, places, channels)


class MaskedConv1d(LinearLeaf):
    """y_j = b + Σ_k W_k x_{i − k d}, where i is the last place that output j sees.

    With stride s, output j stands for the places s j … s j + s − 1. Of kind "B" it sees them all, of kind "A" those
    before them only. Beyond the beginning there are zeros.

    Cached, it is handed the newest places and returns the outputs that they determine. Kind "A" starts from nothing,
    (n, 0, inputs), and returns the first.

    Paper: WaveNet: A Generative Model for Raw Audio (van den Oord et al., 2016), https://arxiv.org/abs/1609.03499

    Args:
        inputs, outputs: channels.
        kernel: number of places that an output sees.
        kind: "A" or "B".
        dilation: d, distance between them.
        stride: s.

    Raises:
        InputError: a stride of more places than the kernel reaches: it would leave some unseen.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, kind: Kind, *, dilation: int = 1, stride: int = 1
    ) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.dilation, self.stride = dilation, stride
        if stride > dilation * (kernel - 1) + 1:
            raise InputError(f"a stride of {stride} leaves places unseen by a kernel of {kernel}")
        bound = (3 / max(1, inputs * kernel)) ** 0.5  # keeps the variance
        self.weight = nn.Parameter((torch.rand(outputs, inputs, kernel) * 2 - 1) * bound)
        self.bias = nn.Parameter(torch.zeros(outputs))

    @property
    def reach(self) -> int:
        """How many places lie between the first and the last that an output sees, the last included."""
        return self.dilation * (self.weight.shape[2] - 1) + 1

    def probe_shape(self) -> tuple[int, ...]:
        """Return that of a sequence a little longer than the kernel."""
        return (1, self.reach + 2 * self.stride, self.weight.shape[1])

    def forward(self, x: Sequence, features: None = None, cache: Cache | None = None) -> Sequence:
        """Return every output, or with a cache those that the newest places determine."""
        if cache is not None:
            return self._advance(x, cache)
        outputs = x.shape[1] // self.stride
        return self._convolve(F.pad(x, (0, 0, self._zeros, 0)))[:, :outputs]

    @property
    def _zeros(self) -> int:
        """How many zeros come first, so that the first output ends at its last place."""
        if self.kind == "A":
            return self.reach
        return self.reach - self.stride

    def _convolve(self, x: Sequence) -> Sequence:
        """Return an output for every `stride` places; the first output sees the first `reach` places."""
        if x.shape[1] < self.reach:
            return x.new_zeros(len(x), 0, len(self.weight))
        if x.dtype in (torch.float32, torch.bfloat16, torch.float16):
            y = F.conv1d(x.mT, self.weight, self.bias, self.stride, dilation=self.dilation)
            return y.mT
        last = x.shape[1] - self.reach + 1
        starts = [k * self.dilation for k in range(self.weight.shape[2])]
        taps = [x[:, start : start + last : self.stride] for start in starts]
        weight = self.weight.permute(0, 2, 1).flatten(1)  # (outputs, kernel · inputs)
        return F.linear(torch.cat(taps, -1), weight, self.bias)

    def _advance(self, x: Sequence, cache: Cache) -> Sequence:
        window = cache.of(self, lambda: _Window(x.new_zeros(len(x), self._zeros, x.shape[2])))
        window.places = torch.cat([window.places, x], 1)
        y = self._convolve(window.places)
        window.places = window.places[:, y.shape[1] * self.stride :]
        return y


class _Window:
    """The places that outputs to come still see."""

    def __init__(self, places: Tensor) -> None:
        self.places = places
