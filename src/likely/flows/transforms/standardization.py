"""Standardisation of values: their logit, then mean zero and standard deviation one."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from likely.errors import require_positive
from likely.event import Event, Interval
from likely.flows.transforms.transform import Pair, Transform, finite, sum_values
from likely.nn.moments import location_and_scale
from likely.nn.units import InUnits


class LogitWithMargin(Transform):
    """z = logit((x + m) / (1 + 2 m)), from (−m, 1 + m) onto the reals; the margin m keeps z finite for x in [0, 1].

    With a smaller margin the cells of the first and the last symbol are wider. Most pixels of images are in these: a
    Gaussian that is not certain of black loses less. On MNIST this gains half a bit per dimension against m = 0.05.

    Where the sigmoid of z rounds to 0 or 1 the inverse gives the end of the interval. This value is correctly rounded,
    though z cannot be computed from it, and the symbol of its cell is right.

    Papers: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio, 2017), https://arxiv.org/abs/1605.08803
    (m = 0.05); Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou, Murray, 2017),
    https://arxiv.org/abs/1705.07057 (m = 1e-6).

    Args:
        margin: m, positive.

    Raises:
        InputError: m is not positive.
    """

    keeps_precision = True

    def __init__(self, margin: float = 1e-6) -> None:
        super().__init__()
        require_positive(margin=margin)
        self.margin = margin
        self.domain = Interval(-margin, 1 + margin)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """Raises InputError where x is not inside its interval."""
        self.domain.check(x, "x")
        part = (x + self.margin) / (1 + 2 * self.margin)
        log_width = math.log1p(2 * self.margin)
        return part.logit(), -sum_values(part.log() + (-part).log1p() + log_width)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Return the sigmoid, scaled to the interval."""
        x = z.sigmoid() * (1 + 2 * self.margin) - self.margin
        log_width = math.log1p(2 * self.margin)
        return finite(x, sum_values(logsigmoid(z) + logsigmoid(-z) + log_width))


class Standardize(InUnits, Transform):
    """z = (x − mean) / standard deviation, value by value, both taken from data by `initialize`; until then z = x.

    It is computed in float64, so that values of any size may come first in a flow, and their draws have float64's
    precision.

    Args:
        shape: of mean and deviation: that of one example, with 1 in place of each size along which they are shared.
    """

    precise = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.hold_units(self.shape)
        self.register_buffer("initialized", torch.tensor(False))

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Take mean and deviation from x.

        Raises:
            InputError: a value that is the same in all examples.
        """
        if self.initialized:
            return
        own = [dim for dim, size in enumerate(self.shape, 1) if size > 1]
        last = list(range(-len(own), 0))
        self.set_units(x.movedim(own, last).flatten(0, x.ndim - 1 - len(own)), self._find)
        self.initialized.fill_(True)

    def _find(self, rows: Tensor) -> Pair:
        """Return location and scale of rows, one for each set of values that share them."""
        return location_and_scale(rows)

    def _require_shape(self, event: Event) -> None:
        fits = len(self.shape) == len(event.shape)
        fits = fits and all(own in (1, size) for own, size in zip(self.shape, event.shape, strict=True))
        if not fits:
            super()._require_shape(event)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """Subtract the mean and divide by the standard deviation."""
        return self.standardized(x), -sum_values(self.log_scale_of.expand(x.shape))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Return to the data's units."""
        return finite(self.in_units(z), sum_values(self.log_scale_of.expand(z.shape)))
