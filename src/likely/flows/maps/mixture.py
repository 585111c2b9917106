"""The cumulative distribution function of a mixture as a map, computed from logarithms of both tails."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from likely.errors import InputError, require_positive, require_sizes, suggestion
from likely.flows.maps.activation import LogisticToNormal, log_hazard, log_normal_cdf
from likely.flows.maps.map import Map, bounded
from likely.flows.maps.root import invert

Kernel = Literal["logistic", "gaussian"]


class _Distribution(NamedTuple):
    """Of components: symmetric about zero, F(−u) = 1 − F(u)."""

    log_tails: Callable[[Tensor], tuple[Tensor, Tensor]]  # u → ln F(u) and ln F(−u)
    log_hazard: Callable[[Tensor, Tensor], Tensor]  # u and ln F(−u) → ln F′(u)/F(u)
    quantile: Callable[[Tensor], Tensor]  # y → F⁻¹(σ(y))
    deviation: float


def _logistic_tails(u: Tensor) -> tuple[Tensor, Tensor]:
    both, zero = (-u.abs()).exp().log1p(), u.new_zeros(())
    return torch.minimum(u, zero) - both, torch.minimum(-u, zero) - both  # the derivative is right at zero too


DISTRIBUTIONS = {
    "logistic": _Distribution(
        _logistic_tails,
        lambda u, beyond: beyond,
        lambda y: y,
        math.pi / math.sqrt(3),
    ),
    "gaussian": _Distribution(
        lambda u: (log_normal_cdf(u), log_normal_cdf(-u)),
        lambda u, beyond: log_hazard(u),
        lambda y: LogisticToNormal().forward(y, y)[0],
        1.0,
    ),
}


class MixtureLogit(Map):
    """z = ln F(x) − ln(1 − F(x)), F(x) = Σ_k π_k K((x − μ_k) / s_k): values of the mixture become logistic ones.

    `Sigmoid` after it makes them uniform, z = F(x), and `LogisticToNormal` normal. Parameters of zero spread the
    components so that F is nearly K; each parameter moves its component from there. s_k stays within e^±c of its start.

    Paper: Flow++: Improving Flow-Based Generative Models with Variational Dequantization and Architecture Design (Ho,
    Chen, Srinivas, Duan, Abbeel, 2019), https://arxiv.org/abs/1902.00275

    Args:
        components: their number.
        kernel: K, the distribution function of a "logistic" or "gaussian" component.
        bound: c.

    Raises:
        InputError: no component, an unknown kernel, or c is not positive.
    """

    def __init__(self, components: int = 8, kernel: Kernel = "logistic", bound: float = 5.0) -> None:
        require_sizes(components=components)
        require_positive(bound=bound)
        if kernel not in DISTRIBUTIONS:
            raise InputError(f'unknown kernel "{kernel}"{suggestion(kernel, DISTRIBUTIONS)}')
        self.components, self.kernel, self.bound = components, kernel, bound
        self.count = 3 * components
        self._start = _spread(components, kernel)

    def of_deviation_one(self) -> Tensor:
        """Return parameters (count,) of a mixture like K but with a standard deviation of one, as standardised data."""
        wide, means = DISTRIBUTIONS[self.kernel].deviation, torch.tensor(self._start[0])
        log_factor = self.bound * math.atanh(-math.log(wide) / self.bound)
        return torch.cat([0 * means, means / wide - means, torch.full_like(means, log_factor)])

    def _parts(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ln π, μ, ln s."""
        logits, shifts, log_factors = parameters.unflatten(-1, (3, self.components)).unbind(-2)
        means, scale = self._start
        mu = shifts + parameters.new_tensor(means)
        log_s = bounded(log_factors, self.bound) + math.log(scale)
        return logits.log_softmax(-1), mu, log_s

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters are the logits of π, then shifts of μ, then those of ln s, one of each per component."""
        log_pi, mu, log_s = self._parts(parameters)
        kernel = DISTRIBUTIONS[self.kernel]
        u = (x[..., None] - mu) * (-log_s).exp()  # (…, components)
        below, above = kernel.log_tails(u)
        log_f = (log_pi + below).logsumexp(-1)  # ln F
        log_g = (log_pi + above).logsumexp(-1)  # ln(1 − F)
        # ∂z/∂x = F′/F/(1 − F). In the smaller tail F′/F is a mean of its components' and loses no digits.
        left = log_f < log_g
        wide = left[..., None]
        near, far = torch.where(wide, below, above), torch.where(wide, above, below)
        hazard = kernel.log_hazard(torch.where(wide, u, -u), far) - log_s
        log_weights = (log_pi + near).log_softmax(-1)
        ladj = (log_weights + hazard).logsumexp(-1) - torch.where(left, log_g, log_f)
        return log_f - log_g, ladj

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Find the root between the quantiles of the components."""
        _, mu, log_s = self._parts(parameters)
        standard = DISTRIBUTIONS[self.kernel].quantile(z)
        quantiles = mu + log_s.exp() * standard[..., None]
        return invert(self.forward, z, parameters, quantiles.amin(-1), quantiles.amax(-1))


def _spread(components: int, kernel: Kernel) -> tuple[list[float], float]:
    """Return means at quantiles of K, and the scale that gives the mixture K's variance."""
    distribution = DISTRIBUTIONS[kernel]
    middle = (torch.arange(components, dtype=torch.float64) + 0.5) / components
    means, scale = distribution.quantile(middle.logit()), components**-0.25
    width = means.square().mean().sqrt().clamp_min(1e-9)
    wanted = math.sqrt(1 - scale**2) * distribution.deviation
    return (means * (wanted / width)).tolist(), scale
