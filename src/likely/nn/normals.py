"""Leaves that return Gaussians, and their arithmetic in whole numbers.

In exact arithmetic means are on a grid of 2⁻¹⁶, within ±FAR, and logarithms of scales on one of 2⁻¹⁰.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from likely.distributions import integers
from likely.distributions.frequencies import NormalFrequencies
from likely.distributions.normals import Normals
from likely.nn.exact import ExactLeaf
from likely.nn.heads import at_least_single
from likely.nn.leaf import Leaf

REACH = 7.0  # of the logarithm of a scale
LOWEST, HIGHEST = -7, 7  # the same, in exact arithmetic
FAR = 1 << 10  # beyond which no mean lies, in exact arithmetic
MEAN_STEPS = 1 << 16  # grid points per unit of a mean


class NormalHead(Leaf):
    """Means and logarithms of scales, the scales kept within floor … e^REACH.

    Args:
        floor: smallest scale.
    """

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, parameters: Float[Tensor, "n *places c2"]) -> tuple[Tensor, Tensor]:
        """Return μ and ln σ, both (n, channels · places), as events lie."""
        mu, log_sigma = means_and_scales(at_least_single(parameters))
        return mu, log_sigma.clamp(math.log(self.floor), REACH)

    def exact(self, stored: dict[str, Tensor]) -> "ExactNormalHead":
        """Return the head on grids."""
        return ExactNormalHead(self)


class ExactNormalHead(ExactLeaf):
    """Means and logarithms of scales on their grids."""

    def __init__(self, head: NormalHead) -> None:
        super().__init__()
        self.lowest = max(math.ceil(math.log(head.floor) * integers.STEPS), LOWEST * integers.STEPS)

    def forward(self, parameters: Float[Tensor, "n *places c2"]) -> tuple[Tensor, Tensor]:
        """As `NormalHead`."""
        mu, log_sigma = means_and_scales(parameters)
        highest = HIGHEST * integers.STEPS
        log_sigma = (log_sigma * integers.STEPS).round_().clamp_(self.lowest, highest) / integers.STEPS
        return means_on_grid(mu), log_sigma


def means_and_scales(parameters: Float[Tensor, "n *places c2"]) -> tuple[Tensor, Tensor]:
    """Split parameters, channels side by side, into two tensors (n, channels · places)."""
    values = parameters.unflatten(-1, (-1, 2)).movedim(-2, 1)  # (n, channels, *places, 2)
    mu, log_sigma = values.reshape(len(values), -1, 2).unbind(-1)
    return mu, log_sigma


class Product(Leaf):
    """N(μ_a, σ_a²) · N(μ_b, σ_b²), normalised: precisions add up, and weigh the means."""

    def forward(self, a: Normals, b: Normals) -> Normals:
        """Multiply two batches of Gaussians with diagonal covariances."""
        log_precision = torch.logaddexp(-2 * a.log_sigma, -2 * b.log_sigma)
        mu = torch.lerp(b.mu, a.mu, (-2 * a.log_sigma - log_precision).exp())
        return Normals(mu, -0.5 * log_precision, None)

    def exact(self, stored: dict[str, Tensor]) -> "ExactProduct":
        """Return the product by tables."""
        return ExactProduct()


class ExactProduct(ExactLeaf):
    """Precisions weigh the means by a table; logarithms of scales stay on their grid of 2⁻¹⁰."""

    def forward(self, a: Normals, b: Normals) -> Normals:
        """As `Product`, of outputs of exact normal heads."""
        reach = integers.REACH * integers.STEPS
        ratio = (2 * integers.STEPS * (b.log_sigma - a.log_sigma)).clamp_(-reach, reach).long()  # ln of precisions'
        weight = integers.look_up(integers.logistic(), ratio + reach).double() / (1 << integers.UNIT)
        narrower = integers.look_up(integers.narrowing(), ratio.abs()).double() / integers.STEPS
        mu = b.mu + weight * (a.mu - b.mu)
        return Normals(mu, torch.minimum(a.log_sigma, b.log_sigma) - narrower, None)


def standardized(q: Normals, p: Normals) -> tuple[Tensor, Tensor]:
    """Return mean and logarithm of the scale of (z − μ_p) / σ_p under q, on their grids."""
    log_sigma = (q.log_sigma - p.log_sigma).clamp(LOWEST, HIGHEST)
    return means_on_grid((q.mu - p.mu) / scale(p.log_sigma)), log_sigma


def scale(log_sigma: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return σ of logarithms on their grid, in units of 2⁻³⁰."""
    place = HIGHEST * integers.STEPS - (log_sigma * integers.STEPS).long()
    table = integers.inverse_scale(-HIGHEST, -LOWEST, 1, 30)
    return integers.look_up(table, place).double() / (1 << 30)


def normal_frequencies(
    mu: Float[Tensor, "*batch"], log_sigma: Float[Tensor, "*batch"], edges: Int[Tensor, " edges"]
) -> NormalFrequencies:
    """Return the output of an exact normal head as whole numbers, over bins between edges in units of 2⁻¹⁶."""
    inverses = integers.inverse_scale(LOWEST, HIGHEST, 1, 16)
    place = (log_sigma * integers.STEPS).long() - LOWEST * integers.STEPS
    return NormalFrequencies((mu * MEAN_STEPS).long(), integers.look_up(inverses, place), edges)


def means_on_grid(mu: Tensor) -> Tensor:
    """Return μ on its grid, within ±FAR."""
    reach = FAR * MEAN_STEPS
    return (mu * MEAN_STEPS).round_().clamp_(-reach, reach) / MEAN_STEPS
