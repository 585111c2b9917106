"""Monotone rational-quadratic splines."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from likely.errors import require_positive, require_sizes
from likely.flows.maps.map import Map, bounded

LEAST = 1e-2  # width and height of a bin, in parts of an even one


class RationalQuadraticSpline(Map):
    """z = x outside ±B; inside, z is a ratio of quadratic polynomials in each of K bins, smooth where bins meet.

    With d₀ and d₁ the slopes at a bin's corners, s that of its diagonal, ξ the part of its width left of x and ζ that
    of its height below z, and their complements ξ̄ = 1 − ξ, ζ̄ = 1 − ζ:

        ζ = ξ (s ξ + d₀ ξ̄) / (s (ξ² + ξ̄²) + (d₀ + d₁) ξ ξ̄)

    The inverse is ξ/ξ̄ = t, the positive root of s ζ̄ t² + (d₀ ζ̄ − d₁ ζ) t − s ζ = 0. Its discriminant is a sum of
    squares: no difference of nearly equal numbers is taken.

    Paper: Neural Spline Flows (Durkan, Bekasov, Murray, Papamakarios, 2019), https://arxiv.org/abs/1906.04032

    Args:
        bins: K.
        bound: B.
        slopes: c, the slopes where bins meet stay within e^±c.

    Raises:
        InputError: no bin, or B or c is not positive.
    """

    def __init__(self, bins: int = 8, bound: float = 5.0, slopes: float = 5.0) -> None:
        require_sizes(bins=bins)
        require_positive(bound=bound, slopes=slopes)
        self.bins, self.bound, self.slopes = bins, bound, slopes
        self.count = 3 * bins - 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters are the logits of the bins' widths and of their heights, then ln of the slopes between them."""
        (x0, z0), (x1, z1), (width, height), (d0, d1) = self._bin(x, parameters, 0)
        s = height / width
        left, right = _parts(x, x0, x1, width)  # ξ, ξ̄
        below, above = left * (s * left + d0 * right), right * (s * right + d1 * left)
        z = _between(z0, z1, height, below, above)
        return self._where_inside(x, z, _log_slope(left, right, s, d0, d1))

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Solve in closed form."""
        (x0, z0), (x1, z1), (width, height), (d0, d1) = self._bin(z, parameters, 1)
        s = height / width
        below, above = _parts(z, z0, z1, height)  # ζ, ζ̄
        b = d0 * above - d1 * below
        discriminant = b.square() + 4 * s.square() * below * above
        root = discriminant.sqrt() + b.abs()
        left = torch.where(b < 0, root, 2 * s * below)
        right = torch.where(b < 0, 2 * s * above, root)  # t = left / right
        x = _between(x0, x1, width, left, right)
        xi, rest = left / (left + right), right / (left + right)  # ξ, ξ̄
        return self._where_inside(z, x, -_log_slope(xi, rest, s, d0, d1))

    def _where_inside(self, given: Tensor, found: Tensor, ladj: Tensor) -> tuple[Tensor, Tensor]:
        inside = given.abs() < self.bound
        return torch.where(inside, found, given), torch.where(inside, ladj, 0.0)

    def _bin(self, given: Tensor, parameters: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (x₀, z₀), (x₁, z₁), (width, height), (d₀, d₁) of the bin that x (axis 0) or z (axis 1) lies in."""
        logits, slopes = parameters.split([2 * self.bins, self.bins - 1], -1)
        even = logits.unflatten(-1, (2, self.bins)).softmax(-1)
        parts = LEAST / self.bins + (1 - LEAST) * even
        sizes = 2 * self.bound * parts  # (…, 2, bins)
        inner = sizes[..., :-1].cumsum(-1) - self.bound
        end = inner.new_full((*inner.shape[:-1], 1), self.bound)
        knots = torch.cat([-end, inner, end], -1)  # (…, 2, bins + 1)
        index = (given[..., None] >= inner[..., axis, :]).sum(-1, keepdim=True)
        both = torch.cat([index, index + 1], -1)
        corners = knots.gather(-1, both[..., None, :].expand(*given.shape, 2, 2))
        first, second = corners.unbind(-1)  # (…, 2)
        size = sizes.gather(-1, index[..., None].expand(*given.shape, 2, 1))[..., 0]
        padded = pad(slopes, (1, 1)).gather(-1, both)
        slope = bounded(padded, self.slopes).exp()
        return first.movedim(-1, 0), second.movedim(-1, 0), size.movedim(-1, 0), slope.movedim(-1, 0)


def _parts(x: Tensor, start: Tensor, end: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return the parts of the bin below and above x."""
    below = (x - start) / size
    above = (end - x) / size
    return below.clamp(0, 1), above.clamp(0, 1)


def _between(start: Tensor, end: Tensor, size: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """Return the point that divides the bin as below : above, computed from the nearer end."""
    first = below < above
    near = torch.where(first, below, above) / (below + above) * size
    return torch.where(first, start + near, end - near)


def _log_slope(left: Tensor, right: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """Return ln ∂z/∂x = ln s² (d₁ ξ² + 2 s ξ ξ̄ + d₀ ξ̄²) / (s (ξ² + ξ̄²) + (d₀ + d₁) ξ ξ̄)²."""
    both = left * right
    numerator = d1 * left.square() + 2 * s * both + d0 * right.square()
    denominator = s * (left.square() + right.square()) + (d0 + d1) * both
    return 2 * s.log() + numerator.log() - 2 * denominator.log()
