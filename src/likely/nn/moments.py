"""Means, deviations and covariances of data, in the form that Gaussian densities take them."""

import torch
from torch import Tensor

from likely.errors import InputError


def mean_and_deviation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the examples x (n, …), of every value by itself, in float64.

    Raises:
        InputError: a value that is the same in all examples; names it. Or a single example.
    """
    if len(x) < 2:
        raise InputError(f"at least two examples to take a mean and a deviation from are expected, found {len(x)}")
    mean = x.double().mean(0)
    deviation = x.double().std(0, correction=0)
    constant = (deviation <= 1e-9 * mean.abs()) | (deviation == 0)
    if constant.any():
        place = tuple(constant.nonzero()[0].tolist())
        if len(place) == 1:
            name = f"column {place[0] + 1}"
        elif place:
            name = f"the value at {place}"
        else:
            name = "the value"
        raise InputError(
            f"{name} is {x[0][place].item():g} in all of {len(x)} examples: it has no density; leave it out"
        )
    return mean, deviation


@torch.no_grad()
def set_once(mean: Tensor, deviation: Tensor, x: Tensor) -> None:
    """Copy mean and deviation of the examples x (n, …) into buffers that are still as built, 0 and 1 everywhere.

    Buffers that were set before, also by a run that was loaded, are left alone. Examples of mean 0 and
    deviation 1 leave the smallest positive number as the mean: it says that they were seen.

    Raises:
        InputError: as `mean_and_deviation`.
    """
    if not _as_built(mean, deviation):
        return
    found_mean, found_deviation = mean_and_deviation(x)
    mean.copy_(found_mean)
    deviation.copy_(found_deviation)
    if _as_built(mean, deviation):
        mean.fill_(torch.finfo(mean.dtype).tiny)


def _as_built(mean: Tensor, deviation: Tensor) -> bool:
    return bool((mean == 0).all() and (deviation == 1).all())


def whitening(covariance: Tensor, floor: float) -> Tensor:
    """W, lower triangular, with W Σ Wᵀ = I where no eigenvalue of Σ (…, dims, dims) is below `floor`.

    Smaller ones are raised to it: of all Gaussians of that least variance in any direction, (Wᵀ W)⁻¹ is then the
    covariance of the most likely one.
    """
    values, vectors = torch.linalg.eigh(covariance)
    raised = (vectors * values.clamp_min(floor)[..., None, :]) @ vectors.mT
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(raised), identity.expand_as(raised), upper=False)
