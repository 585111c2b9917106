"""Maps of one formula each: scales and powers, and activations between all real values and an interval.

Where z rounds to an end of its open interval it is refused, because x could not be computed from it. A value that is
drawn is the end of the way: it becomes the nearest number inside the interval (`Map.image`, `Map.preimage`).
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.special import erfcx, log_ndtr

from likely.errors import require_positive
from likely.event import POSITIVE, UNIT, Interval
from likely.flows.maps.map import Map, bounded

SYMMETRIC = Interval(-1.0, 1.0)


class Sigmoid(Map):
    """z = σ(x) = 1 / (1 + e⁻ˣ), from the reals into (0, 1).

    Raises:
        InputError: x so large that σ(x) rounds to 0 or 1.
    """

    count = 0
    codomain = UNIT

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """No parameters."""
        z, log_slope = _sigmoid(x)
        return UNIT.check(z, "σ(x)"), log_slope

    def image(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return σ(x) inside (0, 1)."""
        z, log_slope = _sigmoid(x)
        return UNIT.nearest(z), log_slope

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x = ln z − ln(1 − z)."""
        return _logit(z, "z")


class Logit(Map):
    """z = ln x − ln(1 − x), from (0, 1) onto the reals: the inverse of `Sigmoid`."""

    count = 0
    domain = UNIT

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """No parameters."""
        return _logit(x, "x")

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x = σ(z)."""
        return Sigmoid().forward(z, parameters)

    def preimage(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return σ(z) inside (0, 1)."""
        return Sigmoid().image(z, parameters)


class Tanh(Map):
    """z = tanh x, from the reals into (−1, 1).

    Raises:
        InputError: x so large that tanh x rounds to −1 or 1.
    """

    count = 0
    codomain = SYMMETRIC

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """No parameters; ∂z/∂x = 4 σ(2x) σ(−2x)."""
        z, log_slope = _tanh(x)
        return SYMMETRIC.check(z, "tanh x"), log_slope

    def image(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return tanh x inside (−1, 1)."""
        z, log_slope = _tanh(x)
        return SYMMETRIC.nearest(z), log_slope

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x = artanh z."""
        SYMMETRIC.check(z, "z")
        return z.atanh(), -z.log1p() - (-z).log1p()


class Softplus(Map):
    """z = ln(1 + eˣ), from the reals onto the positive numbers.

    Raises:
        InputError: x so small that z is below the precision's range.
    """

    count = 0
    codomain = POSITIVE

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """No parameters; ∂z/∂x = σ(x)."""
        return _precise(-logsigmoid(-x), "ln(1 + eˣ)"), logsigmoid(x)

    def image(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return ln(1 + eˣ), or the smallest number that has all digits."""
        return (-logsigmoid(-x)).clamp_min(torch.finfo(x.dtype).tiny), logsigmoid(x)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x = z + ln(1 − e⁻ᶻ)."""
        POSITIVE.check(z, "z")
        log_slope = (-(-z).expm1()).log()
        return z + log_slope, -log_slope


class LeakyReLU(Map):
    """z = x where x is positive, else a x: strictly increasing, unlike the ReLU.

    Args:
        slope: a, positive.

    Raises:
        InputError: a is not positive.
    """

    count = 0

    def __init__(self, slope: float = 0.1) -> None:
        require_positive(slope=slope)
        self.slope = slope

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """No parameters."""
        slope = torch.where(x > 0, torch.ones_like(x), self.slope)
        return slope * x, slope.log()

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x = z where z is positive, else z / a."""
        slope = torch.where(z > 0, torch.ones_like(z), self.slope)
        return z / slope, -slope.log()


class Scale(Map):
    """z = eˢ x, s = c tanh(a / c).

    Args:
        bound: c, largest |ln scale|.

    Raises:
        InputError: c is not positive.
    """

    count = 1

    def __init__(self, bound: float = 5.0) -> None:
        require_positive(bound=bound)
        self.bound = bound

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The parameter is a."""
        s = bounded(parameters[..., 0], self.bound)
        return s.exp() * x, s

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x = e⁻ˢ z."""
        s = bounded(parameters[..., 0], self.bound)
        return (-s).exp() * z, -s


class Power(Map):
    """z = xᵖ for positive x, p = exp(c tanh(a / c)).

    Args:
        bound: c, largest |ln p|.

    Raises:
        InputError: c is not positive; or x is not positive, or so extreme that xᵖ is beyond the precision's range.
    """

    count = 1
    domain = codomain = POSITIVE

    def __init__(self, bound: float = 2.0) -> None:
        require_positive(bound=bound)
        self.bound = bound

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The parameter is a; ∂z/∂x = p xᵖ⁻¹."""
        log_p = bounded(parameters[..., 0], self.bound)
        z = POSITIVE.check(x, "x") ** log_p.exp()
        return _precise(z, "xᵖ"), log_p + log_p.expm1() * x.log()

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x = z^(1/p)."""
        log_p = bounded(parameters[..., 0], self.bound)
        x = POSITIVE.check(z, "z") ** (-log_p).exp()
        error = (z / x ** log_p.exp()).log()
        x = x * (1 + error * (-log_p).exp())  # Newton's step: 1/p was rounded
        return _precise(x, "z^(1/p)"), -log_p - log_p.expm1() * x.log()


class LogisticToNormal(Map):
    """z = Φ⁻¹(σ(x)): a logistic value becomes a normal one, computed from logarithms of the tails to lose no digits."""

    count = 0

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """No parameters; ∂z/∂x = σ(x) σ(−x) / φ(z)."""
        tail = -_tail_quantile(logsigmoid(-x.abs()))
        z = torch.where(x.abs() < 1, _central_quantile(x), x.sign() * tail)
        return z, logsigmoid(x.abs()) - log_hazard(-z.abs())

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x = ln Φ(z) − ln Φ(−z)."""
        scaled = z.clamp(-1, 1) * math.sqrt(0.5)
        central = 2 * scaled.erf().atanh()
        x = torch.where(z.abs() < 1, central, log_normal_cdf(z) - log_normal_cdf(-z))
        return x, log_hazard(-z.abs()) - log_normal_cdf(z.abs())


def _sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.sigmoid(), logsigmoid(x) + logsigmoid(-x)


def _tanh(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.tanh(), math.log(4) + logsigmoid(2 * x) + logsigmoid(-2 * x)


def _logit(x: Tensor, name: str) -> tuple[Tensor, Tensor]:
    UNIT.check(x, name)
    return x.logit(), -x.log() - (-x).log1p()


def _precise(z: Tensor, name: str) -> Tensor:
    """Return z; subnormal numbers are refused like zero, because they have fewer digits."""
    return Interval(torch.finfo(z.dtype).tiny).check(z, name)


def log_normal_cdf(u: Tensor) -> Tensor:
    """Return ln Φ(u). Unlike `torch.special.log_ndtr` it has the right derivative far out on the left."""
    left, right = u.clamp_max(0), u.clamp_min(0)
    tail = _log_erfcx(left) - left.square() / 2 - math.log(2)
    return torch.where(u < 0, tail, log_ndtr(right))


def log_hazard(u: Tensor) -> Tensor:
    """Return ln φ(u)/Φ(u), in either tail."""
    left, right = u.clamp_max(0), u.clamp_min(0)
    tail = math.log(2 / math.pi) / 2 - _log_erfcx(left)
    density = -right.square() / 2 - math.log(2 * math.pi) / 2
    return torch.where(u < 0, tail, density - log_ndtr(right))


def _log_erfcx(u: Tensor) -> Tensor:
    return erfcx(-u * math.sqrt(0.5)).log()


def _central_quantile(x: Tensor) -> Tensor:
    """Return Φ⁻¹(σ(x)) where |x| is small, without adding ½, which would lose small digits of x."""
    half = x.clamp(-1, 1) / 2
    return math.sqrt(2) * half.tanh().erfinv()


def _tail_quantile(log_tail: Tensor) -> Tensor:
    """Return z with ln Φ(z) = log_tail ≤ ln ½. Newton steps on a concave function never pass the root."""
    with torch.no_grad():
        z = -(2 * (-math.log(2) - log_tail).clamp_min(0)).sqrt()  # Φ(z) ≤ exp(−z²/2) / 2
        for _ in range(4):
            z = _newton(z, log_tail)
    return _newton(z, log_tail)


def _newton(z: Tensor, log_tail: Tensor) -> Tensor:
    scaled = erfcx(-z * math.sqrt(0.5))  # Φ(z) = scaled exp(−z²/2) / 2
    error = scaled.log() - z.square() / 2 - math.log(2) - log_tail
    return z - error * scaled * math.sqrt(math.pi / 2)
