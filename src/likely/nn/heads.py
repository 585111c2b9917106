"""Heads: the last leaf of a network, from its outputs to distributions.

Parameters come as (n, *places, channels · width), channels side by side; the batch of distributions is
(n, channels, *places), as events lie. `part` names the channels handed in, where they are not all.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from likely.distributions import Bernoulli, Categorical, Discrete, DiscretizedLogistics, Table
from likely.distributions.logistics import scaled
from likely.errors import require_choice

REACH = 7.0  # of the logarithm of a scale
Head = Literal["categorical", "logistics"]
HEADS: tuple[Head, ...] = ("categorical", "logistics")


class CategoricalHead(nn.Module):
    """One logit per symbol, or a single one for two symbols.

    Args:
        alphabets: size of each channel's alphabet; shorter ones get logits of −∞ beyond their end.
    """

    def __init__(self, alphabets: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = max(alphabets)
        ragged = min(alphabets) < self.levels
        self.binary = self.levels == 2 and not ragged
        self.width = 1 if self.binary else self.levels
        forbidden = torch.arange(self.levels) >= torch.tensor(alphabets)[:, None]
        self.register_buffer("forbidden", forbidden if ragged else None, persistent=False)

    def forward(
        self, parameters: Float[Tensor, "n *places c_width"], x: Tensor | None = None, part: slice = slice(None)
    ) -> Bernoulli | Categorical:
        """Distributions over (n, channels, *places); x is not needed."""
        parameters = _at_least_single(parameters)
        if self.binary:
            return Bernoulli(parameters.movedim(-1, 1)[..., None])
        parameters = parameters.unflatten(-1, (-1, self.width))
        if self.forbidden is not None:
            parameters = parameters.masked_fill(self.forbidden[part], -torch.inf)
        return Categorical(parameters.movedim(-2, 1))


class CountsHead(nn.Module):
    """Probabilities in proportion to counts; what was never counted is uniform over the allowed symbols."""

    def forward(self, counts: Float[Tensor, "*batch levels"], allowed: Float[Tensor, "*#batch levels"]) -> Discrete:
        """Distributions over (*batch); `allowed` is 1 for the symbols of the alphabet, 0 beyond it."""
        counts = torch.where(counts.sum(-1, keepdim=True) > 0, counts, allowed)
        return Table((counts / counts.sum(-1, keepdim=True)).log())


class NormalHead(nn.Module):
    """Means and logarithms of scales, which are kept within floor … e^REACH.

    Args:
        floor: smallest scale.
    """

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, parameters: Float[Tensor, "n *places c2"]) -> tuple[Tensor, Tensor]:
        """Of (n, *places, 2 · channels), for each channel μ and ln σ: both (n, channels · places), as events lie."""
        values = _at_least_single(parameters).unflatten(-1, (-1, 2)).movedim(-2, 1)  # (n, channels, *places, 2)
        mu, log_sigma = values.reshape(len(values), -1, 2).unbind(-1)
        return mu, log_sigma.clamp(math.log(self.floor), REACH)


class LogisticsHead(nn.Module):
    """Discretised mixture of logistics; the channels of one pixel share the mixture's component.

    For three channels p(r, g, b) = Σ_k π_k p_k(r) p_k(g | r) p_k(b | r, g), where the means of g and b move linearly
    with the true values before them, is given in parts: p(r), p(g | r), p(b | r, g). Each part is itself a mixture,
    whose weights have been updated by Bayes' rule on the channels before it.

    Paper: PixelCNN++ (Salimans, Karpathy, Chen, Kingma, 2017), https://arxiv.org/abs/1701.05517

    Args:
        levels: size of the alphabet.
        channels: channels of a pixel.
        components: number of logistics in the mixture.
    """

    def __init__(self, levels: int, channels: int, components: int) -> None:
        super().__init__()
        self.levels = levels
        self.channels = channels
        self.components = components
        couplings = channels * (channels - 1) // 2
        self.parts = [1, channels, channels, couplings]
        self.width = components * sum(self.parts) / channels

    def forward(
        self, parameters: Float[Tensor, "n *places p"], x: Int[Tensor, "n c *places"], part: slice = slice(None)
    ) -> DiscretizedLogistics:
        """Distributions over (n, channels, *places), each given the channels of x before its own."""
        parameters = _at_least_single(parameters)
        parameters = parameters.unflatten(-1, (sum(self.parts), self.components)).movedim(-2, 1)
        logits, means, log_scales, couplings = parameters.split(self.parts, 1)  # (n, ·, *places, k)
        values = scaled(x, self.levels, parameters.dtype)[..., None]
        logits, coupling = [logits[:, 0]], iter(couplings.tanh().unbind(1))
        shifted = []
        for c in range(self.channels):
            mean = means[:, c]
            for earlier in range(c):
                mean = mean + next(coupling) * values[:, earlier]
            shifted.append(mean)
            p = DiscretizedLogistics(logits[-1], mean, log_scales[:, c], self.levels)
            logits.append(logits[-1] + p.component_log_prob(x[:, c]))
        return DiscretizedLogistics(torch.stack(logits[:-1], 1), torch.stack(shifted, 1), log_scales, self.levels)


def head_of_symbols(kind: Head, alphabets: tuple[int, ...], components: int) -> CategoricalHead | LogisticsHead:
    """The head of that name.

    Args:
        kind: "categorical", or "logistics", which takes the same alphabet for all channels.
        alphabets: size of each channel's alphabet.
        components: number of logistics in a mixture.

    Raises:
        InputError: another name.
    """
    require_choice(HEADS, head=kind)
    if kind == "categorical":
        return CategoricalHead(alphabets)
    return LogisticsHead(max(alphabets), len(alphabets), components)


def _at_least_single(parameters: Tensor) -> Tensor:
    """A network may compute in bfloat16; what its outputs mean is worked out in float32 at least."""
    return parameters.float() if parameters.dtype == torch.bfloat16 else parameters
