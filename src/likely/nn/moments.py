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
    mean, deviation = x.double().mean(0), x.double().std(0, correction=0)
    constant = (deviation <= 1e-9 * mean.abs()) | (deviation == 0)
    if constant.any():
        place = tuple(constant.nonzero()[0].tolist())
        name = f"column {place[0] + 1}" if len(place) == 1 else f"the value at {place}" if place else "the value"
        raise InputError(
            f"{name} is {x[0][place].item():g} in all of {len(x)} examples: it has no density; leave it out"
        )
    return mean, deviation


def whitening(covariance: Tensor, floor: float) -> Tensor:
    """W, lower triangular, with W Σ Wᵀ = I where no eigenvalue of Σ (…, dims, dims) is below `floor`.

    Smaller ones are raised to it: of all Gaussians of that least variance in any direction, (Wᵀ W)⁻¹ is then the
    covariance of the most likely one.
    """
    values, vectors = torch.linalg.eigh(covariance)
    raised = (vectors * values.clamp_min(floor)[..., None, :]) @ vectors.mT
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(raised), identity.expand_as(raised), upper=False)
