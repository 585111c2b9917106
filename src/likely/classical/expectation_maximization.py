"""Mixtures of Gaussians by expectation maximisation: the components, a step, the climb, and where it starts."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from likely.distributions.discrete import uniform
from likely.nn.moments import whitening

Covariance = Literal["full", "diagonal"]
CHUNK = 8192  # examples at once


class Components(NamedTuple):
    """K Gaussians and their weights; W whitens: W Σ Wᵀ = I.

    log_weights (K,), means (K, dims), whitening (K, dims, dims), or (K, dims) where W is diagonal.
    """

    log_weights: Tensor
    means: Tensor
    whitening: Tensor

    @property
    def covariance(self) -> Covariance:
        """The kind of the covariances."""
        return "diagonal" if self.whitening.ndim == 2 else "full"

    def log_joint(self, x: Tensor) -> Tensor:
        """ln π_k N(x; μ_k, Σ_k) for examples x (n, dims): (n, K)."""
        log_weights, means, w = self
        diagonal = w
        if w.ndim == 3:
            diagonal = w.diagonal(dim1=1, dim2=2)
        constant = log_weights + diagonal.log().sum(1) - x.shape[1] * math.log(2 * math.pi) / 2
        squares = [_squares(rows, means, w) for rows in x.split(CHUNK)]
        return constant - torch.cat(squares) / 2


def _squares(x: Tensor, means: Tensor, w: Tensor) -> Tensor:
    """|W_k (x − μ_k)|² of examples (n, dims), (n, K): one product for all components."""
    if w.ndim == 2:
        return ((x[:, None] - means) * w).square().sum(2)
    whitened = x @ w.flatten(0, 1).T - (w @ means[..., None]).flatten()
    return whitened.view(len(x), *means.shape).square().sum(2)


def expectation_maximization(
    x: Tensor, components: Components, floor: float, iterations: int, tolerance: float
) -> tuple[Components, list[float]]:
    """Raise the likelihood of x (n, dims) until a step gains less than `tolerance` nats per example.

    Returns:
        The components, and the mean log-likelihood before every step and at the end: it never falls, rounding apart,
        because each step is the maximum under the constraint that the variances' floor is.
    """
    trace: list[float] = []
    for _ in range(iterations):
        joint = components.log_joint(x)
        evidence = joint.logsumexp(1, keepdim=True)
        trace.append(float(evidence.mean()))
        if len(trace) > 1 and trace[-1] - trace[-2] < tolerance:
            return components, trace
        components = maximize(x, (joint - evidence).exp(), components.covariance, floor)
    return components, [*trace, float(components.log_joint(x).logsumexp(1).mean())]


def maximize(x: Tensor, responsibilities: Tensor, covariance: Covariance, floor: float) -> Components:
    """Return the most likely components, given the part (n, K) of each example x (n, dims) that belongs to each."""
    counts = responsibilities.sum(0) + 1e-12
    means = (responsibilities.T @ x) / counts[:, None]
    parts = []
    for k, mean in enumerate(means):
        weighted = responsibilities[:, k, None] / counts[k] * (x - mean)
        if covariance == "diagonal":
            parts.append((weighted * (x - mean)).sum(0).clamp_min(floor).rsqrt())
        else:
            parts.append(whitening(weighted.T @ (x - mean), floor))
    return Components((counts / counts.sum()).log(), means, torch.stack(parts))


def k_means_start(x: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """k-means++: centres drawn from the examples x (n, dims), in proportion to the squared distance to those before.

    Returns:
        A one in every row (n, count), at the nearest centre.
    """
    centres = x[:0]
    distance = torch.ones_like(x[:, 0])
    for k in range(count):
        cumulated = distance.cumsum(0)
        place = torch.searchsorted(cumulated, uniform((1,), generator, x) * cumulated[-1], right=True)
        centres = torch.cat([centres, x[place.clamp_max(len(x) - 1)]])
        new = (x - centres[-1]).square().sum(1)
        distance = new if k == 0 else distance.minimum(new)
    return torch.nn.functional.one_hot(torch.cdist(x, centres).argmin(1), count).to(x.dtype)
