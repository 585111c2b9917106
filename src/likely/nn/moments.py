"""Means, deviations and covariances of data, in the form that Gaussian densities take them."""

import warnings

import torch
from torch import Tensor

from likely.errors import DataWarning, InputError

APART = 10.0  # times the range of all other values
ROUNDING = 1e-14  # relative to the mean: no deviation of values, but of their last digits


def location_and_scale(x: Tensor, constant: float | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the examples x (n, …), of every value by itself, in float64.

    Differences to the first example are what is summed: that loses no digits of values far from zero.

    Args:
        x: examples.
        constant: the scale of a value that is the same in all examples; None: it is refused.

    Raises:
        InputError: a value that is the same in all examples, or differs by rounding alone; or that is beyond float64's
            range; names it. Or a single example, unless constants are taken.
    """
    if len(x) < 2 and constant is None:
        raise InputError(f"at least two examples to take a mean and a deviation from are expected, found {len(x)}")
    rest = x.double() - x[0].double()
    offset = rest.mean(0)
    mean = x[0].double() + offset
    rest = rest - offset
    size = rest.abs().amax(0)
    unit = torch.where(size > 0, size, 1.0)
    deviation = unit * (rest / unit).square().mean(0).sqrt()
    _refuse_values(~deviation.isfinite(), x, "varies by more than float64 can hold: give it in larger units")
    same = (size == 0) | (deviation <= ROUNDING * mean.abs())
    if constant is not None:
        return mean, torch.where(same, constant, deviation)
    _refuse_values(same, x, f"is {{}} in all of {len(x)} examples: it has no density; leave it out")
    return mean, deviation


def warn_of_values_apart(x: Tensor) -> None:
    """Warn of a value that several examples (n, …) have, and that lies far from all others: it may say "missing".

    Warns:
        DataWarning: the smallest or the largest value of a column is repeated, and lies ten times further from the next
            than all others lie from one another.
    """
    for sign in (1.0, -1.0):
        values = sign * x.double()
        end = values.amin(0)
        at_end = values == end
        count = at_end.sum(0)
        rest = values.masked_fill(at_end, torch.inf).amin(0)
        far = (count > 1) & (2 * count < len(x)) & (rest - end > APART * (values.amax(0) - rest))
        for place in (far & (values.amax(0) > rest)).nonzero().tolist():
            at = tuple(place)
            found = f"{float(sign * end[at]):g} in {int(count[at])} of {len(x)} examples, far from all others"
            warnings.warn(
                f"{name_of(at)}: {found}: if it stands for a missing value, leave these out, or put another value "
                "in its place",
                DataWarning,
                stacklevel=2,
            )


def name_of(place: tuple[int, ...]) -> str:
    """Return the name of a value of an example: "column 3" of a table, counted from 1."""
    if len(place) == 1:
        return f"column {place[0] + 1}"
    if place:
        return f"the value at {place}"
    return "the value"


def _refuse_values(bad: Tensor, x: Tensor, problem: str) -> None:
    """Refuse the first of the values of an example that are bad; `{}` in the problem is what it is in the first one."""
    if bad.any():
        place = tuple(bad.nonzero()[0].tolist())
        raise InputError(f"{name_of(place)} {problem.format(f'{x[0][place].item():g}')}")


def whitening(covariance: Tensor, floor: float) -> Tensor:
    """W, lower triangular, with W Σ Wᵀ = I where no eigenvalue of Σ (…, dims, dims) is below `floor`.

    Smaller ones are raised to it: of all Gaussians of that least variance in any direction, (Wᵀ W)⁻¹ is then the
    covariance of the most likely one.
    """
    values, vectors = torch.linalg.eigh(covariance)
    raised = (vectors * values.clamp_min(floor)[..., None, :]) @ vectors.mT
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(raised), identity.expand_as(raised), upper=False)
