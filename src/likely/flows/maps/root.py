"""Inverses of increasing functions by bracketed root finding, value by value, down to the precision's limit."""

from collections.abc import Callable

import torch
from torch import Tensor

from likely.errors import ConvergenceError
from likely.event import REAL

Forward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
GROWTH = 8.0  # of a bracket that does not hold yet, per step
STEPS = 2000  # ten are usual; where rounding drowns f, some sixty


def invert(forward: Forward, z: Tensor, parameters: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """x with f(x; θ) = z, and ln ∂x/∂z, for a continuous increasing f on the reals.

    The bracket is grown until it holds. Inside it go Newton's steps, which never leave it, and halvings where those are
    slow, until rounding x or z hides what is left, or no number lies between the bracket's ends. Values are found
    independently of one another, and those that are found are not computed again. The results are differentiable (once)
    with respect to z and θ, by the implicit function theorem.

    Args:
        forward: f: x (…) under parameters (…, count) → f(x) and ln ∂f/∂x (…).
        z: values (…).
        parameters: θ (…, count).
        low, high: a guess at the bracket (…); only speed depends on it.

    Raises:
        InputError: z is not finite.
        ConvergenceError: f does not reach z, or is not increasing; names the value, and the width that remains.
    """
    REAL.check(z, "z")
    with torch.no_grad():
        flat = z.reshape(-1), parameters.reshape(z.numel(), parameters.shape[-1])
        x = _root(forward, *flat, *_bracket(forward, *flat, low.reshape(-1), high.reshape(-1))).view(z.shape)
    value, ladj = forward(x, parameters)
    if not torch.is_grad_enabled():
        return x, -ladj
    slope = (-ladj.detach()).exp().clamp_max(torch.finfo(x.dtype).max)
    error = value - z
    x = x - (error - error.detach()) * slope  # the same number, with the gradient of the root
    return x, -forward(x, parameters)[1]


def _bracket(forward: Forward, z: Tensor, parameters: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    most = torch.finfo(z.dtype).max / 4  # further out, what f computes on its way may overflow
    low, high = torch.minimum(low, high).clamp(-most, most), torch.maximum(low, high).clamp(-most, most)
    width = (high - low).maximum(torch.finfo(z.dtype).eps * torch.maximum(low.abs(), high.abs()))
    width = width.clamp_min(torch.finfo(z.dtype).tiny)
    while True:
        too_high = ~(forward(low, parameters)[0] <= z)
        too_low = ~(forward(high, parameters)[0] >= z)
        if not (too_high | too_low).any():
            return low, high
        lost = too_high & ~(low > -most) | too_low & ~(high < most)
        if lost.any():
            raise ConvergenceError(f"z: found {z[lost][0].item()}, which no number of this precision is mapped to")
        low = torch.where(too_high, (low - width).clamp_min(-most), low)
        high = torch.where(too_low, (high + width).clamp_max(most), high)
        width = width * GROWTH


def _root(forward: Forward, z: Tensor, parameters: Tensor, low: Tensor, high: Tensor) -> Tensor:
    eps, found = torch.finfo(z.dtype).eps, torch.empty_like(z)
    left = torch.arange(len(z), device=z.device)  # to be found
    x, last = low / 2 + high / 2, high - low
    for step in range(STEPS):
        value, ladj = forward(x, parameters)
        error = value - z
        low, high = torch.where(error <= 0, x, low), torch.where(error >= 0, x, high)
        newton = -error * (-ladj).exp()
        hidden = (error.abs() <= eps * z.abs()) | ((newton.abs() <= eps * x.abs()) & (newton != 0))
        going = ~(hidden | (torch.nextafter(low, high) >= high))
        found[left] = x
        if not going.any():
            return found
        following, last = _following(x, newton, last, low, high, step)
        left, x, last, low, high, z, parameters = (
            part[going] for part in (left, following, last, low, high, z, parameters)
        )
    width = (high - low)[0].item()
    raise ConvergenceError(
        f"z: found {z[0].item()}, whose root lies between {low[0].item()} and {high[0].item()} after {STEPS} steps, "
        f"{width:g} apart: the function is not increasing"
    )


def _following(x: Tensor, newton: Tensor, last: Tensor, low: Tensor, high: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Newton's step if it is at most half the last; else one beyond the root or a halving, to close the bracket."""
    width, least, most = high - low, torch.nextafter(low, high), torch.nextafter(high, low)
    beyond = (width > 16 * newton.abs()) & (step % 4 != 3)
    other = torch.where(beyond, x + 4 * newton, _middle(low, high) if step % 2 else low / 2 + high / 2)
    quick = (newton != 0) & (newton.abs() <= last / 2) & (x + newton >= low) & (x + newton <= high)
    following = torch.where(quick, x + newton, other).maximum(least).minimum(most)
    return following, torch.where(quick, newton.abs(), width)


def _middle(low: Tensor, high: Tensor) -> Tensor:
    """The number with as many floating-point numbers between it and either end: at most 64 halvings reach the limit."""
    whole = torch.int32 if low.dtype == torch.float32 else torch.int64
    least = torch.iinfo(whole).min

    def ordered(bits: Tensor) -> Tensor:
        return torch.where(bits < 0, least - bits, bits)

    a, b = ordered(low.contiguous().view(whole)), ordered(high.contiguous().view(whole))
    return ordered((a & b) + ((a ^ b) >> 1)).view(low.dtype)
