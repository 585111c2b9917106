"""Inverses of increasing functions by bracketed root finding, value by value, down to the precision's limit."""

from collections.abc import Callable

import torch
from torch import Tensor

from likely.errors import ConvergenceError
from likely.event import REAL

Forward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
GROWTH = 8.0  # of a bracket that does not hold yet, per step
STEPS = 2000  # ten are usual; where rounding drowns f, some sixty
PATIENCE = 16  # steps after which every fourth is a halving: where rounding makes f flat, Newton's lead nowhere
WAIT = 64  # steps in which a bracket becomes narrower, unless f is not a number inside it


def invert(forward: Forward, z: Tensor, parameters: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return x with f(x; θ) = z, and ln ∂x/∂z, for a continuous increasing f on the reals.

    The bracket grows until it holds the root. Inside it Newton's steps are taken, cut off at its ends, and halvings
    where those are slow, until the error is below the rounding of x or z, or no number lies between the bracket's ends.
    Values are found independently of one another, and those that are found are not computed again. The results are
    differentiable (once) with respect to z and θ, by the implicit function theorem.

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
        bracket = _bracket(forward, *flat, low.reshape(-1), high.reshape(-1))
        x = _root(forward, *flat, *bracket).view(z.shape)
    value, ladj = forward(x, parameters)
    if not torch.is_grad_enabled():
        return x, -ladj
    slope = (-ladj.detach()).exp()
    slope = slope.clamp_max(torch.finfo(x.dtype).max)
    error = value - z
    x = x - (error - error.detach()) * slope  # the same number, with the gradient of the root
    return x, -forward(x, parameters)[1]


def _bracket(forward: Forward, z: Tensor, parameters: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    finfo = torch.finfo(z.dtype)
    most = finfo.max / 4  # further out, intermediate results of f may overflow
    low, high = torch.minimum(low, high), torch.maximum(low, high)
    low, high = low.clamp(-most, most), high.clamp(-most, most)
    least = finfo.eps * torch.maximum(low.abs(), high.abs())
    width = (high - low).maximum(least).clamp_min(finfo.tiny)
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
    x, last, width = low / 2 + high / 2, high - low, high - low
    for step in range(STEPS):
        value, ladj = forward(x, parameters)
        error = value - z
        low = torch.where(error <= 0, x, low)
        high = torch.where(error >= 0, x, high)
        newton = -error * (-ladj).exp()
        hidden_in_z = error.abs() <= eps * z.abs()
        hidden_in_x = (newton.abs() <= eps * x.abs()) & (newton != 0)
        closed = torch.nextafter(low, high) >= high
        going = ~(hidden_in_z | hidden_in_x | closed)
        found[left] = x
        if not going.any():
            return found
        x, last = _following(x, newton, last, low, high, step)
        state = (left, x, last, low, high, z, parameters, width)
        left, x, last, low, high, z, parameters, width = (part[going] for part in state)
        if step % WAIT == WAIT - 1:
            stuck = ~(high - low < width)
            if stuck.any():
                raise _lost(z[stuck][0], low[stuck][0], high[stuck][0], step + 1)
            width = high - low
    raise _lost(z[0], low[0], high[0], STEPS)


def _lost(z: Tensor, low: Tensor, high: Tensor, steps: int) -> ConvergenceError:
    return ConvergenceError(
        f"z: found {z.item()}, whose root lies between {low.item()} and {high.item()} after {steps} steps, "
        f"{(high - low).item():g} apart: the function is not increasing"
    )


def _following(x: Tensor, newton: Tensor, last: Tensor, low: Tensor, high: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Take Newton's step if it is at most half the last; else one beyond the root or a halving, to close the bracket.

    Returns:
        The next x, and the length of the step.
    """
    width, length = high - low, newton.abs()
    beyond = (width > 16 * length) & (step % 4 != 3)
    halved = _middle(low, high) if step % 2 else low / 2 + high / 2
    other = torch.where(beyond, x + 4 * newton, halved)
    stepped = x + newton
    within = (stepped >= low) & (stepped <= high)
    quick = (newton != 0) & (length <= last / 2) & within
    if step > PATIENCE and step % 4 == 3:
        quick = torch.zeros_like(quick)
    following = torch.where(quick, stepped, other)
    following = following.maximum(torch.nextafter(low, high)).minimum(torch.nextafter(high, low))
    return following, torch.where(quick, length, width)


def _middle(low: Tensor, high: Tensor) -> Tensor:
    """Return the number with as many floats between it and either end: at most 64 halvings reach the limit."""
    whole = torch.int32 if low.dtype == torch.float32 else torch.int64
    least = torch.iinfo(whole).min

    def ordered(bits: Tensor) -> Tensor:
        return torch.where(bits < 0, least - bits, bits)

    a = ordered(low.contiguous().view(whole))
    b = ordered(high.contiguous().view(whole))
    return ordered((a & b) + ((a ^ b) >> 1)).view(low.dtype)
