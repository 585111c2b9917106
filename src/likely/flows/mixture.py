"""The cumulative distribution function of a mixture as a map, in the logarithms of both tails."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.special import log_ndtr

from likely.errors import InputError, suggestion
from likely.flows.activation import LogisticToNormal, log_hazard
from likely.flows.map import Map, bounded
from likely.flows.root import invert

Kernel = Literal["logistic", "gaussian"]


class _Distribution(NamedTuple):
    """Of components: symmetric about zero, F(−u) = 1 − F(u)."""

    log_cdf: Callable[[Tensor], Tensor]
    log_hazard: Callable[[Tensor], Tensor]  # ln F′(u)/F(u)
    quantile: Callable[[Tensor], Tensor]  # y → F⁻¹(σ(y))
    deviation: float


DISTRIBUTIONS = {
    "logistic": _Distribution(logsigmoid, lambda u: logsigmoid(-u), lambda y: y, math.pi / math.sqrt(3)),
    "gaussian": _Distribution(log_ndtr, log_hazard, lambda y: LogisticToNormal().forward(y, y)[0], 1.0),
}


class Mixture(Map):
    """z = ln F(x) − ln(1 − F(x)), F(x) = Σ_k π_k K((x − μ_k) / s_k): values of the mixture become logistic ones.

    `Sigmoid` after it makes them uniform, z = F(x), and `LogisticToNormal` normal. Parameters of zero give components
    spread such that F is nearly K; each parameter moves its component from there. s_k stays within e^±c of its start.

    Paper: Flow++: Improving Flow-Based Generative Models with Variational Dequantization and Architecture Design (Ho,
    Chen, Srinivas, Duan, Abbeel, 2019), https://arxiv.org/abs/1902.00275

    Args:
        components: their number.
        kernel: K, the distribution function of a "logistic" or "gaussian" component.
        bound: c.

    Raises:
        InputError: no component, or an unknown kernel.
    """

    def __init__(self, components: int = 8, kernel: Kernel = "logistic", bound: float = 5.0) -> None:
        if components < 1:
            raise InputError(f"components: at least 1 is expected, found {components}")
        if kernel not in DISTRIBUTIONS:
            raise InputError(f'unknown kernel "{kernel}"{suggestion(kernel, DISTRIBUTIONS)}')
        self.components, self.kernel, self.bound = components, kernel, bound
        self.count = 3 * components
        self._start = _spread(components, kernel)

    def _parts(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ln π, μ, ln s."""
        logits, shifts, log_factors = parameters.unflatten(-1, (3, self.components)).unbind(-2)
        means, scale = self._start
        return (
            logits.log_softmax(-1),
            shifts + parameters.new_tensor(means),
            bounded(log_factors, self.bound) + math.log(scale),
        )

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters are the logits of π, then shifts of μ, then those of ln s, one of each per component."""
        log_pi, mu, log_s = self._parts(parameters)
        log_cdf, log_hazard, *_ = DISTRIBUTIONS[self.kernel]
        u = (x[..., None] - mu) * (-log_s).exp()
        below, above = log_pi + log_cdf(u), log_pi + log_cdf(-u)  # (…, components)
        log_f, log_g = below.logsumexp(-1), above.logsumexp(-1)  # F and 1 − F
        left = (log_f < log_g)[..., None]
        # ∂z/∂x = F′/F/(1 − F). In the smaller tail F′/F is a mean of its components' and loses no digits.
        share = torch.where(left, below, above).log_softmax(-1)
        hazard = share + log_hazard(torch.where(left, u, -u)) - log_s
        return log_f - log_g, hazard.logsumexp(-1) - torch.maximum(log_f, log_g)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The root lies between the quantiles of the components."""
        _, mu, log_s = self._parts(parameters)
        quantiles = mu + log_s.exp() * DISTRIBUTIONS[self.kernel].quantile(z)[..., None]
        return invert(self.forward, z, parameters, quantiles.amin(-1), quantiles.amax(-1))


def _spread(components: int, kernel: Kernel) -> tuple[list[float], float]:
    """Means at quantiles of K, and the scale with which the mixture has K's variance."""
    distribution = DISTRIBUTIONS[kernel]
    middle = (torch.arange(components, dtype=torch.float64) + 0.5) / components
    means, scale = distribution.quantile(middle.logit()), components**-0.5
    width = means.square().mean().sqrt().clamp_min(1e-9)
    return (means * (math.sqrt(1 - scale**2) * distribution.deviation / width)).tolist(), scale
