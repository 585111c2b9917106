"""Discretised mixture of logistics."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from likely.distributions.discrete import Discrete

REACH = -7, 8  # of the logarithm of a scale


class DiscretizedLogistics(Discrete):
    """p(x) = Σ_k π_k [σ((x⁺ − μ_k)/s_k) − σ((x⁻ − μ_k)/s_k)], a mixture of logistics on a grid of ordered symbols.

    Symbols are spread over [−1, 1]; x⁺ and x⁻ are the upper and lower edge of a symbol's bin. The first bin reaches
    down to −∞ and the last up to +∞, so the bins tile the line and Σ_x p(x) = 1. With lower and upper logits
    a = (x⁻ − μ)/s and b = (x⁺ − μ)/s the difference is computed as σ(b) σ(−a) (1 − e^{a−b}): no digits are lost.

    Paper: PixelCNN++ (Salimans, Karpathy, Chen, Kingma, 2017), https://arxiv.org/abs/1701.05517

    Args:
        logits: unnormalised log π.
        means: μ, in units where the symbols span [−1, 1].
        log_scales: ln s, brought within −7 … 8; wider ones would leave no probability between the ends.
        levels: number of symbols, at least 2.
    """

    def __init__(
        self,
        logits: Float[Tensor, "... k"],
        means: Float[Tensor, "... k"],
        log_scales: Float[Tensor, "... k"],
        levels: int,
    ) -> None:
        self.logits = logits
        self.means = means
        self.log_scales = log_scales
        self.levels = levels

    @property
    def shape(self) -> torch.Size:
        """Shape (...) of the batch."""
        return self.logits.shape[:-1]

    def map(self, f: Callable[[Tensor], Tensor]) -> "DiscretizedLogistics":
        """The same kind of distribution with `f` applied to every parameter."""
        return type(self)(f(self.logits), f(self.means), f(self.log_scales), self.levels)

    def component_log_prob(self, x: Int[Tensor, "..."]) -> Float[Tensor, "... k"]:
        """Log-probability of the symbol under each component of the mixture."""
        half = 1 / (self.levels - 1)
        centred = scaled(x, self.levels, self.means.dtype)[..., None] - self.means
        inverse = (-self.log_scales.clamp(*REACH)).exp()
        below_upper = F.logsigmoid((centred + half) * inverse)
        above_lower = F.logsigmoid((half - centred) * inverse)
        inside = torch.log(-torch.expm1(-2 * half * inverse))
        x = x[..., None]
        first, last = x == 0, x == self.levels - 1
        return torch.where(first, below_upper, torch.where(last, above_lower, below_upper + above_lower + inside))

    def log_prob(self, x: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log-probability in nats of one symbol per distribution."""
        return (self.logits.log_softmax(-1) + self.component_log_prob(x)).logsumexp(-1)

    def log_table(self) -> Float[Tensor, "... levels"]:
        """The formula at every symbol."""
        symbols = torch.arange(self.levels, device=self.logits.device).expand(*self.shape, self.levels)
        return self.map(lambda parameter: parameter.unsqueeze(-2)).log_prob(symbols)

    def _like(self) -> Tensor:
        return self.means


def scaled(x: Int[Tensor, "..."], levels: int, dtype: torch.dtype) -> Float[Tensor, "..."]:
    """Symbols 0 … levels − 1 spread evenly over [−1, 1]."""
    return x.to(dtype) * (2 / (levels - 1)) - 1
