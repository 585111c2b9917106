"""Sources of known entropy over real values, and over real values that were rounded.

As in `likely.data.sources`, everything is computed in float64, and `entropy()` is in nats per example.
"""

import math

import numpy as np
import torch
from torch import Tensor

from likely.data.sources import Source
from likely.distributions.discrete import standard_normal, uniform
from likely.errors import InputError
from likely.event import Event

Arc = tuple[float, float, float, float, float]  # centre's x and y, radius, first and last angle
NODES, WEIGHTS = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(64))  # ∫₋₁¹ f ≈ Σ w f(node)
NEGLIGIBLE = 40.0  # parts of an integrand below e⁻⁴⁰ of its peak are beyond float64


class BlurredArcs(Source):
    """Points on arcs of circles plus noise: x = c + r (cos t, sin t) + s ε, t ~ U(t₀, t₁), ε ~ N(0, I).

    The arc is drawn evenly; one of radius 0 is a Gaussian blob. ln p is a one-dimensional integral over t for every
    arc, by Gauss–Legendre quadrature to the precision of float64, however far out x lies.

    Args:
        arcs: of each its centre's x and y, its radius, and the angles that it starts and ends at, at most 2π apart.
        noise: s.

    Raises:
        InputError: an arc or a noise that is none.
    """

    def __init__(self, arcs: tuple[Arc, ...], noise: float) -> None:
        super().__init__(Event((2,)))
        if not arcs or not all(radius >= 0 and 0 < end - start <= 2 * math.pi for _, _, radius, start, end in arcs):
            raise InputError(f"arcs (x, y, radius ≥ 0, start < end ≤ start + 2π) are expected, found {arcs}")
        if not 0 < noise < math.inf:
            raise InputError(f"a positive noise is expected, found {noise}")
        self.arcs, self.noise = arcs, noise
        self.register_buffer("table", torch.tensor(arcs, dtype=torch.float64), persistent=False)  # (arcs, 5)

    def entropy(self) -> float:
        """−∫ p ln p by the trapezoidal rule; its error falls exponentially for such functions."""
        reach = self.table[:, 2] + 9 * self.noise
        lines = []
        for centre in self.table[:, :2].T:
            low, high = float((centre - reach).min()), float((centre + reach).max())
            lines.append(torch.arange(low, high, self.noise / 4, dtype=torch.float64))
        log_p = self.log_prob(torch.cartesian_prod(*lines))
        return -float((log_p.exp() * log_p).sum()) * (self.noise / 4) ** 2

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        parts = [_log_blurred_arc(x, arc, self.noise) for arc in self.arcs]
        return torch.stack(parts).logsumexp(0) - math.log(len(parts))

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        which = (uniform((n,), generator, self.table) * len(self.table)).long()
        x, y, radius, start, end = self.table[which].T
        t = start + (end - start) * uniform((n,), generator, self.table)
        points = torch.stack([x + radius * t.cos(), y + radius * t.sin()], 1)
        return points + self.noise * standard_normal((n, 2), generator, self.table)


def _log_blurred_arc(x: Tensor, arc: Arc, noise: float) -> Tensor:
    """ln of the mean of N(x; c + r (cos t, sin t), s² I) over the angles t of an arc; x (n, 2) → (n,).

    With x = c + ρ (cos φ, sin φ), the exponent is −(ρ − r)² / 2s² − κ (1 − cos(t − φ)), κ = ρ r / s². On either side of
    the point opposite to x it has one peak, and is integrated over the part of the arc where it is not negligible.
    """
    centre_x, centre_y, radius, start, end = arc
    dx, dy = x[:, 0] - centre_x, x[:, 1] - centre_y
    rho, phi = torch.hypot(dx, dy), torch.atan2(dy, dx)
    kappa = rho * radius / noise**2
    opposite = start + (phi + math.pi - start).remainder(2 * math.pi)
    cut = opposite.clamp_max(end)
    sides = (torch.full_like(cut, start), cut, opposite - math.pi), (cut, torch.full_like(cut, end), opposite + math.pi)
    parts = []
    for low, high, direction in sides:
        peak = direction.maximum(low).minimum(high)
        reach = ((peak - direction).cos() - NEGLIGIBLE / kappa).clamp_min(-1).acos()
        low, high = low.maximum(direction - reach), high.minimum(direction + reach)
        half = ((high - low) / 2).clamp_min(0)
        t = (low + high)[:, None] / 2 + half[:, None] * NODES
        angle = (t - direction[:, None]) / 2
        exponent = -2 * kappa[:, None] * angle.sin().square()
        parts.append((exponent + WEIGHTS.log()).logsumexp(1) + half.log())
    mean = torch.logaddexp(*parts) - math.log(end - start)
    return mean - ((rho - radius) / noise).square() / 2 - math.log(2 * math.pi * noise**2)


def moons() -> BlurredArcs:
    """Two half circles that reach into each other: (cos t, sin t) and (1 − cos t, ½ − sin t), with noise of 0.1."""
    return BlurredArcs(((0.0, 0.0, 1.0, 0.0, math.pi), (1.0, 0.5, 1.0, -math.pi, 0.0)), 0.1)


def smiley() -> BlurredArcs:
    """Two eyes and a mouth, with noise of 0.2."""
    eyes = tuple((x, 2.5, 0.0, 0.0, 2 * math.pi) for x in (-1.5, 1.5))
    return BlurredArcs((*eyes, (0.0, 0.0, 2.0, -math.pi, 0.0)), 0.2)


def eight_gaussians() -> BlurredArcs:
    """Eight blobs of deviation 0.2 on a circle of radius 2."""
    angles = (k * math.pi / 4 for k in range(8))
    return BlurredArcs(tuple((2 * math.cos(t), 2 * math.sin(t), 0.0, 0.0, 2 * math.pi) for t in angles), 0.2)


class Checkerboard(Source):
    """Uniform on the eight unit squares of one colour of a 4×4 board, −2 ≤ x < 2: H = ln 8."""

    def __init__(self) -> None:
        super().__init__(Event((2,)))
        self.register_buffer("area", torch.tensor(8.0, dtype=torch.float64), persistent=False)

    def entropy(self) -> float:
        """ln 8."""
        return math.log(8)

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        inside = ((x >= -2) & (x < 2)).all(1) & (x.floor().sum(1).remainder(2) == 0)
        return torch.where(inside, -self.area.log(), -math.inf)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        x = 4 * uniform((n, 2), generator, self.area) - 2
        wrong = x.floor().sum(1).remainder(2) == 1
        return torch.stack([torch.where(wrong, (x[:, 0] + 3).remainder(4) - 2, x[:, 0]), x[:, 1]], 1)


class LinearGaussian(Source):
    """x = W z + b + s ε, z ~ N(0, I), ε ~ N(0, I), so x ~ N(b, W Wᵀ + s² I); with s > 0, probabilistic PCA.

    Args:
        weight: W, its rows, one per dimension of x.
        bias: b.
        noise: s.

    Raises:
        InputError: shapes that do not fit, or a covariance that is singular.
    """

    def __init__(self, weight: tuple[tuple[float, ...], ...], bias: tuple[float, ...], noise: float = 0.0) -> None:
        super().__init__(Event((len(bias),)))
        self.weight, self.bias, self.noise = weight, bias, noise
        if len(weight) != len(bias) or len({len(row) for row in weight}) != 1:
            raise InputError(f"a row of W per dimension, all of one length, is expected, found {weight} and b {bias}")
        w, b = (torch.tensor(part, dtype=torch.float64) for part in (weight, bias))
        factor, failed = torch.linalg.cholesky_ex(w @ w.T + noise**2 * torch.eye(len(bias), dtype=torch.float64))
        if failed:
            raise InputError(f"a covariance W Wᵀ + s² I without a direction of no width is expected, found W {weight}")
        self.register_buffer("mean", b, persistent=False)
        self.register_buffer("factor", factor, persistent=False)  # L of L Lᵀ, (dims, dims)

    def entropy(self) -> float:
        """½ ln det(2πe (W Wᵀ + s² I))."""
        return float(self.factor.diagonal().log().sum()) + self.event.dims / 2 * (1 + math.log(2 * math.pi))

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        z = torch.linalg.solve_triangular(self.factor, (x - self.mean).T, upper=False)
        log_det = self.factor.diagonal().log().sum()
        return -(z.square().sum(0) + self.event.dims * math.log(2 * math.pi)) / 2 - log_det

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.mean + standard_normal((n, self.event.dims), generator, self.mean) @ self.factor.T


def stretched_gaussian(turned: bool = False) -> LinearGaussian:
    """(1, 2) + (5, 1) ε, or with ε's ellipse turned by 45°: H = ln 5 + ln(2πe)."""
    weight = ((5.0, 0.0), (0.0, 1.0))
    if turned:
        c = math.sqrt(0.5)
        weight = ((5 * c, -c), (5 * c, c))
    return LinearGaussian(weight, (1.0, 2.0))


class RoundedGaussian(Source):
    """Symbols x = k + round(s ε), ε ~ N(0, 1): P(x) = Φ((x − k + ½) / s) − Φ((x − k − ½) / s).

    The alphabet 0 … 2k reaches to 9 s on either side; its ends have the probability of all values beyond. The cost of
    uniform dequantisation is known exactly for such data (`dequantization_gap`).

    Args:
        deviation: s.
        dims: number of independent symbols.
    """

    def __init__(self, deviation: float, dims: int = 1) -> None:
        if not 0 < deviation <= 1e4:
            raise InputError(f"a deviation above 0 and at most 10,000 is expected, found {deviation}")
        middle = math.ceil(9 * deviation)
        super().__init__(Event((dims,), levels=2 * middle + 1))
        self.deviation, self.dims = deviation, dims
        distance = torch.arange(-middle, middle + 1, dtype=torch.float64).abs()
        nearer, farther = (_beyond((distance + edge) / deviation) for edge in (-0.5, 0.5))
        farther[[0, -1]] = 0
        self.register_buffer("table", nearer - farther, persistent=False)  # (levels,)

    def entropy(self) -> float:
        """−Σ P ln P, for every symbol."""
        return -self.dims * float(torch.xlogy(self.table, self.table).sum())

    def dequantization_gap(self) -> float:
        """½ ln(2πe v) − H(P), where v = Var[x] + 1/12 is the variance of x + u, u ~ U(0, 1).

        The best Gaussian over x + u has a cross-entropy that is so much above the entropy, in nats per symbol.
        """
        symbols = torch.arange(len(self.table), dtype=torch.float64)
        mean = (self.table * symbols).sum()
        variance = float((self.table * (symbols - mean).square()).sum()) + 1 / 12
        return 0.5 * math.log(2 * math.pi * math.e * variance) - self.entropy() / self.dims

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.table.log()[x].sum(1)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return torch.searchsorted(self.table.cumsum(0)[:-1], uniform((n, self.dims), generator, self.table), right=True)


def _beyond(z: Tensor) -> Tensor:
    """P(ε > z), precise in the tail."""
    return torch.special.erfc(z / math.sqrt(2)) / 2
