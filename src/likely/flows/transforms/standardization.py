"""Values brought to a usual size: their logit, then mean zero and deviation one."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from likely.errors import require_positive
from likely.event import Event, Interval
from likely.flows.transforms.transform import Pair, Transform, finite, sum_values
from likely.nn.moments import mean_and_deviation


class LogitWithMargin(Transform):
    """z = logit((x + m) / (1 + 2 m)), from (−m, 1 + m) onto the reals: what lies in (0, 1) does not come near infinity.

    The smaller the margin, the wider are the cells of the first and the last symbol, which in images hold the most: a
    Gaussian that is not sure of black pays less. On MNIST that is worth half a bit per dimension beside m = 0.05.

    Where the sigmoid of z rounds to 0 or 1 the inverse gives the end of the interval: the value is right, though it
    does not tell z any more. The symbol in whose cell it lies needs nothing else.

    Papers: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio, 2017), https://arxiv.org/abs/1605.08803
    (m = 0.05); Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou, Murray, 2017),
    https://arxiv.org/abs/1705.07057 (m = 1e-6).

    Args:
        margin: m, positive.

    Raises:
        InputError: m is not positive.
    """

    def __init__(self, margin: float = 1e-6) -> None:
        super().__init__()
        require_positive(margin=margin)
        self.margin = margin
        self.domain = Interval(-margin, 1 + margin)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """Raises InputError where x is not inside its interval."""
        self.domain.check(x, "x")
        part, width = (x + self.margin) / (1 + 2 * self.margin), math.log1p(2 * self.margin)
        return part.logit(), -sum_values(part.log() + (-part).log1p() + width)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """The sigmoid, stretched."""
        x, width = z.sigmoid() * (1 + 2 * self.margin) - self.margin, math.log1p(2 * self.margin)
        return finite(x, sum_values(logsigmoid(z) + logsigmoid(-z) + width))


class Standardize(Transform):
    """z = (x − mean) / standard deviation, value by value, both taken from data by `initialize`; until then z = x.

    Args:
        shape: of mean and deviation: that of one example, or with 1 in place of a size along which they are shared.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("deviation", torch.ones(self.shape))
        self.register_buffer("initialized", torch.tensor(False))

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Take mean and deviation from x.

        Raises:
            InputError: a value that is the same in all examples.
        """
        if self.initialized:
            return
        own = [dim for dim, size in enumerate(self.shape, 1) if size > 1]
        last = range(-len(own), 0)
        rows = x.movedim(own, list(last)).flatten(0, x.ndim - 1 - len(own))
        for statistic, found in zip((self.mean, self.deviation), mean_and_deviation(rows), strict=True):
            statistic.copy_(found.view(self.shape))
        self.initialized.fill_(True)

    def _require_shape(self, event: Event) -> None:
        sizes = zip(self.shape, event.shape, strict=True) if len(self.shape) == len(event.shape) else [(0, 1)]
        if any(own not in (1, size) for own, size in sizes):
            super()._require_shape(event)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """To mean zero and deviation one."""
        return (x - self.mean) / self.deviation, -sum_values(self.deviation.log().expand(x.shape))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Back to the data's units."""
        return finite(z * self.deviation + self.mean, sum_values(self.deviation.log().expand(z.shape)))
