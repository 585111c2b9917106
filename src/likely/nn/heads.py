"""Heads: the last leaf of a network, from its outputs to distributions.

Parameters come as (n, *places, channels · width), channels side by side; the batch of distributions is
(n, channels, *places), as events lie. `part` names the channels handed in, where they are not all.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from likely.distributions import Bernoulli, Categorical, Discrete, DiscretizedLogistics, Table, integers
from likely.distributions.frequencies import Cumulative, Frequencies, LogisticFrequencies, softmax
from likely.distributions.logistics import scaled
from likely.errors import require_choice
from likely.nn.exact import ExactLeaf, on_grid
from likely.nn.leaf import Leaf

Head = Literal["categorical", "logistics"]
HEADS: tuple[Head, ...] = ("categorical", "logistics")
PIXELS, STEPS = 1 << 10, 40  # that the marginals of a mixture are found from, and the gradient steps to them


class CategoricalHead(Leaf):
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
        parameters = at_least_single(parameters)
        if self.binary:
            return Bernoulli(parameters.movedim(-1, 1)[..., None])
        parameters = parameters.unflatten(-1, (-1, self.width))
        if self.forbidden is not None:
            parameters = parameters.masked_fill(self.forbidden[part], -torch.inf)
        return Categorical(parameters.movedim(-2, 1))

    def marginals(self, x: Int[Tensor, "n c *places"]) -> Float[Tensor, "*places c_width"]:
        """Return the parameters of the frequencies of x, over the first dimension, half a count more of each."""
        _, *cells = x.movedim(1, -1).shape  # (*places, c)
        first = torch.arange(math.prod(cells), device=x.device) * self.levels
        found = (x.movedim(1, -1).flatten(1) + first).flatten().bincount(minlength=len(first) * self.levels)
        logits = (found.view(*cells, self.levels) + 0.5).log()
        if self.binary:
            return logits[..., 1] - logits[..., 0]
        return logits.log_softmax(-1).flatten(-2)

    def exact(self, stored: dict[str, Tensor]) -> "ExactCategoricalHead":
        """Return the head in whole numbers."""
        return ExactCategoricalHead(self)


class ExactCategoricalHead(ExactLeaf):
    """Logits on a grid of 2⁻¹⁰, then integers."""

    def __init__(self, head: CategoricalHead) -> None:
        super().__init__()
        self.levels = head.levels
        self.width = head.width
        self.binary = head.binary
        self.forbidden = head.forbidden

    def forward(
        self, parameters: Float[Tensor, "n *places p"], x: Tensor | None = None, part: slice = slice(None)
    ) -> Frequencies:
        """As `CategoricalHead`, in units of 2⁻²⁴."""
        logits = on_grid(parameters, integers.STEPS, 1 << 20)
        bits = min(integers.UNIT, 38 - math.ceil(math.log2(self.levels)))
        if self.binary:
            logits = logits.movedim(-1, 1)[..., None]
            return Cumulative.of_weights(softmax(torch.cat([torch.zeros_like(logits), logits], -1), bits))
        logits, allowed = logits.unflatten(-1, (-1, self.width)), None
        if self.forbidden is not None:
            forbidden = self.forbidden[part]
            logits, allowed = logits.masked_fill(forbidden, -(1 << 40)), (~forbidden).long()
        return Cumulative.of_weights(softmax(logits, bits), allowed).map(lambda edges: edges.movedim(-2, 1))


class CountsHead(Leaf):
    """Probabilities in proportion to counts; where nothing was counted, uniform over the allowed symbols."""

    def forward(self, counts: Float[Tensor, "*batch levels"], allowed: Float[Tensor, "*#batch levels"]) -> Discrete:
        """Distributions over (*batch); `allowed` is 1 for the symbols of the alphabet, 0 beyond it."""
        counts = torch.where(counts.sum(-1, keepdim=True) > 0, counts, allowed)
        return Table((counts / counts.sum(-1, keepdim=True)).log())

    def exact(self, stored: dict[str, Tensor]) -> "ExactCountsHead":
        """Return the head in whole numbers."""
        return ExactCountsHead()


class ExactCountsHead(ExactLeaf):
    """Proportions of whole numbers."""

    def forward(self, counts: Int[Tensor, "*batch levels"], allowed: Tensor) -> Frequencies:
        """As `CountsHead`, in units of 2⁻²⁴."""
        allowed = allowed.long()
        counts = torch.where(counts.sum(-1, keepdim=True) > 0, counts, allowed)
        return Cumulative.of_weights(counts, allowed)


class LogisticsHead(Leaf):
    """Discretised mixture of logistics; the channels of one pixel share the mixture's component.

    For three channels p(r, g, b) = Σ_k π_k p_k(r) p_k(g | r) p_k(b | r, g), where the means of g and b move linearly
    with the true values before them, is given in parts: p(r), p(g | r), p(b | r, g). Each part is itself a mixture;
    its weights have been updated by Bayes' rule on the channels before it.

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
        parameters = at_least_single(parameters)
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

    def marginals(self, x: Int[Tensor, "n c *places"]) -> Float[Tensor, "*places p"]:
        """Return parameters under which x is nearly most likely, the same ones at every place.

        A component starts at the pixels of one quantile of the channels' sum; some gradient steps follow.
        """
        _, _, *places = x.shape
        pixels = x.movedim(1, -1).reshape(-1, self.channels)
        some = torch.randint(len(pixels), (PIXELS,), generator=torch.Generator().manual_seed(0))
        pixels = pixels[some.to(pixels.device)]
        found = self._most_likely(self._by_quantiles(pixels), pixels)
        return found.expand(*places, -1)

    def _by_quantiles(self, pixels: Int[Tensor, "m c"]) -> Float[Tensor, " p"]:
        values = scaled(pixels, self.levels, torch.get_default_dtype())
        order = values.sum(1).argsort(stable=True)
        places = torch.arange(self.components * len(order), device=order.device) // self.components
        groups = values[order[places]].unflatten(0, (self.components, -1))  # (k, m, c)
        means, deviations = groups.mean(1), groups.std(1, correction=0)
        log_scales = (deviations * (3**0.5 / math.pi)).clamp_min(1 / (self.levels - 1)).log()
        rest = means.new_zeros(self.components, self.parts[-1])
        return torch.cat([torch.zeros_like(means[:, :1]), means, log_scales, rest], 1).T.flatten()

    def _most_likely(self, parameters: Float[Tensor, " p"], pixels: Int[Tensor, "m c"]) -> Float[Tensor, " p"]:
        with torch.enable_grad():
            found = parameters.clone().requires_grad_()
            optimizer = torch.optim.Adam([found], lr=0.05)
            for _ in range(STEPS):
                loss = -self(found.expand(len(pixels), -1), pixels).log_prob(pixels).mean()
                (found.grad,) = torch.autograd.grad(loss, found)
                optimizer.step()
        return found.detach()

    def exact(self, stored: dict[str, Tensor]) -> "ExactLogisticsHead":
        """Return the head in whole numbers."""
        return ExactLogisticsHead(self)


class ExactLogisticsHead(ExactLeaf):
    """Weights, means and scales on grids, then integers."""

    def __init__(self, head: LogisticsHead) -> None:
        super().__init__()
        self.levels, self.channels, self.components, self.parts = (
            head.levels,
            head.channels,
            head.components,
            head.parts,
        )

    def forward(
        self, parameters: Float[Tensor, "n *places p"], x: Int[Tensor, "n c *places"], part: slice = slice(None)
    ) -> Frequencies:
        """As `LogisticsHead`, in units of 2⁻²⁴."""
        parameters = parameters.unflatten(-1, (sum(self.parts), self.components)).movedim(-2, 1)
        logits, means, log_scales, couplings = parameters.split(self.parts, 1)  # (n, ·, *places, k)
        bits = 20 - math.ceil(math.log2(self.components))
        weights = [softmax(on_grid(logits[:, 0], integers.STEPS, 1 << 20), bits)]
        positions = (on_grid(means, 1 << 20, 64) * (self.levels - 1)) >> 4
        table = integers.inverse_scale(-7, 8, self.levels - 1, 28).to(parameters.device)
        least = 7 * integers.STEPS
        place = on_grid(log_scales, integers.STEPS, 8).clamp(min=-least) + least
        inverses = table[place]
        reach = 12 * integers.STEPS
        tangents = integers.tangent().to(parameters.device)[on_grid(couplings, integers.STEPS, 12) + reach]
        coupling = iter(tangents.unbind(1))
        values = (2 * x - (self.levels - 1))[..., None]
        shifted = []
        for c in range(self.channels):
            position = positions[:, c]
            for earlier in range(c):
                position = position + ((next(coupling) * values[:, earlier]) >> 14)
            shifted.append(position)
            p = LogisticFrequencies(weights[-1], position, inverses[:, c], self.levels)
            edges = torch.stack([x[:, c], x[:, c] + 1], -1)
            likelihood = p.components_below(edges).diff(dim=-2)[..., 0, :].clamp(min=1)
            joint = weights[-1] * likelihood
            weights.append(joint // (joint.sum(-1, keepdim=True) >> 20).clamp(min=1))
        return LogisticFrequencies(torch.stack(weights[:-1], 1), torch.stack(shifted, 1), inverses, self.levels)


def head_of_symbols(kind: Head, alphabets: tuple[int, ...], components: int) -> CategoricalHead | LogisticsHead:
    """The head of that name.

    Args:
        kind: "categorical", or "logistics" for channels of one alphabet.
        alphabets: size of each channel's alphabet.
        components: number of logistics in a mixture.

    Raises:
        InputError: another name.
    """
    require_choice(HEADS, head=kind)
    if kind == "categorical":
        return CategoricalHead(alphabets)
    return LogisticsHead(max(alphabets), len(alphabets), components)


def at_least_single(parameters: Tensor) -> Tensor:
    """Return outputs of a network in float32, if they are in bfloat16; else as they are."""
    return parameters.float() if parameters.dtype == torch.bfloat16 else parameters
