"""Discrete distributions in whole numbers: how many of 2²⁴ units each symbol has, the same on every machine.

A frozen network's heads return these. A coder reads F(k), the units of all symbols below k: F(0) = 0,
F(levels) = 2²⁴, and every symbol of the alphabet has at least one unit. From the network's outputs on, everything is
arithmetic of integers.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from likely.distributions import integers
from likely.distributions.discrete import Discrete

BITS = 24
TOTAL = 1 << BITS
WIDE = 38  # weights add up to less than 2³⁸, so that their products with 2²⁴ stay within 63 bits
RADIX = 16


class Frequencies(Discrete):
    """A batch (...) of distributions in units of 2⁻²⁴."""

    @abstractmethod
    def below(self, symbols: Int[Tensor, "*batch m"]) -> Int[Tensor, "*batch m"]:
        """F(k): the units of all symbols below k, for m numbers k in 0 … levels of each distribution."""

    def certain(self, where: Bool[Tensor, "*batch"], symbol: int) -> "Frequencies":
        """Return the same distributions, but under a mask those that give all of the units to one symbol."""
        return Certain(self, where[..., None], symbol)

    def log_prob(self, x: Int[Tensor, "*batch"]) -> Tensor:
        """Log-probability in nats of one symbol per distribution, broadcast, digit by digit as it is coded."""
        x = x.expand(torch.broadcast_shapes(x.shape, self.shape))
        return torch.stack([(width.double() / TOTAL).log() for _, width in digits(self, x)]).sum(0)

    def log_table(self) -> Tensor:
        """Log-probability of every symbol."""
        symbols = torch.arange(self.levels, device=self._like().device).expand(*self.shape, self.levels)
        return self.map(lambda parameter: parameter.unsqueeze(-2)).log_prob(symbols)


class Certain(Frequencies):
    """Distributions that give one symbol for certain under a mask (*batch, 1)."""

    def __init__(self, p: Frequencies, where: Bool[Tensor, "*batch 1"], symbol: int) -> None:
        self.p = p
        self.where = where
        self.symbol = symbol
        self.levels = p.levels

    @property
    def shape(self) -> torch.Size:
        """Shape (...) of the batch."""
        return self.p.shape

    def map(self, f: Callable[[Tensor], Tensor]) -> "Certain":
        """The same with `f` applied to every parameter, and to the mask."""
        p = self.p.map(f)
        assert isinstance(p, Frequencies)
        return type(self)(p, f(self.where), self.symbol)

    def below(self, symbols: Int[Tensor, "*batch m"]) -> Int[Tensor, "*batch m"]:
        """Nothing up to the symbol and everything beyond it."""
        return torch.where(self.where, (symbols > self.symbol) * TOTAL, self.p.below(symbols))

    def _like(self) -> Tensor:
        return self.p._like()


class Cumulative(Frequencies):
    """Distributions given by F at every edge (..., levels + 1)."""

    def __init__(self, edges: Int[Tensor, "*batch edges"]) -> None:
        self.edges = edges
        self.levels = edges.shape[-1] - 1

    @classmethod
    def of_weights(
        cls, weights: Int[Tensor, "*batch levels"], allowed: Int[Tensor, "*#batch levels"] | None = None
    ) -> "Cumulative":
        """In proportion to integer weights, beyond the one unit that every allowed symbol gets.

        Args:
            weights: at least 0; those of one distribution add up to 1 at least and to 2³⁸ at most.
            allowed: 1 for the symbols of the alphabet, 0 beyond it (where the weights are 0); None: all are.
        """
        if allowed is None:
            allowed = torch.ones_like(weights[..., :1]).expand_as(weights)
        sums = torch.nn.functional.pad(weights.cumsum(-1), (1, 0))
        own = torch.nn.functional.pad(allowed.cumsum(-1), (1, 0))
        return cls(_spread(sums, sums[..., -1:], own, own[..., -1:]))

    @property
    def shape(self) -> torch.Size:
        """Shape (...) of the batch."""
        return self.edges.shape[:-1]

    def map(self, f: Callable[[Tensor], Tensor]) -> "Cumulative":
        """The same with `f` applied to the edges."""
        return type(self)(f(self.edges))

    def below(self, symbols: Int[Tensor, "*batch m"]) -> Int[Tensor, "*batch m"]:
        """Read F."""
        return self.edges.expand(*symbols.shape[:-1], -1).gather(-1, symbols)

    def _like(self) -> Tensor:
        return self.edges.new_zeros((), dtype=torch.float64)


class LogisticFrequencies(Frequencies):
    """A discretised mixture of logistics, F(k) = Σ_m w_m σ((k⁻ − μ_m) / s_m), the last bins open to ±∞.

    Positions are in units of 2⁻¹⁶ of half a symbol, symbol k lying at 2k − (levels − 1).

    Args:
        weights: w, up to 2²¹ in sum; heads give at least 2¹⁶, because F has fewer than 24 bits below that.
        means: μ.
        inverses: 1 / s in units of 2⁻²⁸ per half symbol.
        levels: number of symbols. Of more than 2¹³, wide logistics are coded coarsely: at 2¹⁶, of a scale of 1.5
            alphabets, 0.24 bits above −log2 of the real mixture.
    """

    def __init__(
        self,
        weights: Int[Tensor, "*batch m"],
        means: Int[Tensor, "*batch m"],
        inverses: Int[Tensor, "*batch m"],
        levels: int,
    ) -> None:
        self.weights = weights
        self.means = means
        self.inverses = inverses
        self.levels = levels

    @property
    def shape(self) -> torch.Size:
        """Shape (...) of the batch."""
        return self.weights.shape[:-1]

    def map(self, f: Callable[[Tensor], Tensor]) -> "LogisticFrequencies":
        """The same with `f` applied to every parameter."""
        return type(self)(f(self.weights), f(self.means), f(self.inverses), self.levels)

    def components_below(self, symbols: Int[Tensor, "*batch e"]) -> Int[Tensor, "*batch e m"]:
        """Each component's probability below each of e edges, in units of 2⁻³⁰."""
        edges = ((2 * symbols - self.levels) << 16)[..., None]
        z = ((edges - self.means[..., None, :]) * self.inverses[..., None, :]) >> 28
        reach = integers.REACH << 16
        z = z.clamp(-reach, reach) + reach
        low = integers.look_up(integers.logistic().to(z.device), z >> 6)
        step = integers.look_up(integers.logistic_steps().to(z.device), z >> 6)
        inside = low + ((step * (z & 63)) >> 6)
        edges = symbols[..., None]
        return torch.where(edges == 0, 0, torch.where(edges == self.levels, 1 << integers.UNIT, inside))

    def below(self, symbols: Int[Tensor, "*batch e"]) -> Int[Tensor, "*batch e"]:
        """The mixture's units below each edge."""
        sums = (self.weights[..., None, :] * self.components_below(symbols)).sum(-1) >> 13
        total = (self.weights.sum(-1, keepdim=True) << integers.UNIT) >> 13
        return _spread(sums, total, symbols, torch.full_like(symbols[..., :1], self.levels))

    def _like(self) -> Tensor:
        return self.weights.new_zeros((), dtype=torch.float64)


class NormalFrequencies(Frequencies):
    """A normal variable cut at edges, F(k) = Φ((e_k − μ) / σ), the first part open to −∞ and the last to +∞.

    Args:
        means: μ, in units of 2⁻¹⁶.
        inverses: 1 / σ, in units of 2⁻¹⁶.
        edges: e (levels + 1,), ascending, in units of 2⁻¹⁶.
    """

    def __init__(
        self, means: Int[Tensor, "*batch"], inverses: Int[Tensor, "*batch"], edges: Int[Tensor, " edges"]
    ) -> None:
        self.means = means
        self.inverses = inverses
        self.edges = edges
        self.levels = len(edges) - 1

    @property
    def shape(self) -> torch.Size:
        """Shape (...) of the batch."""
        return self.means.shape

    def map(self, f: Callable[[Tensor], Tensor]) -> "NormalFrequencies":
        """The same with `f` applied to every parameter."""
        means = f(self.means[..., None])[..., 0]
        inverses = f(self.inverses[..., None])[..., 0]
        return type(self)(means, inverses, self.edges)

    def below(self, symbols: Int[Tensor, "*batch m"]) -> Int[Tensor, "*batch m"]:
        """Φ between the points of its table."""
        edges = integers.look_up(self.edges, symbols)
        reach = integers.TAILS << 16
        z = ((edges - self.means[..., None]) * self.inverses[..., None]) >> 16
        z = z.clamp(-reach, reach) + reach
        table = integers.normal()
        place = z >> 6
        low = integers.look_up(table, place)
        high = integers.look_up(table, place + (z < 2 * reach).long())
        inside = low + (((high - low) * (z & 63)) >> 6)
        whole = torch.full_like(symbols[..., :1], 1 << integers.UNIT)
        inside = torch.where(symbols == 0, 0, torch.where(symbols == self.levels, whole, inside))
        return _spread(inside, whole, symbols, torch.full_like(whole, self.levels))

    def _like(self) -> Tensor:
        return self.means.new_zeros((), dtype=torch.float64)


def _spread(sums: Tensor, total: Tensor, own: Tensor, symbols: Tensor) -> Tensor:
    """2²⁴ units over cumulative weights `sums` of `total`, one unit apart for each of the `own` symbols below."""
    per_weight = ((TOTAL - symbols) << WIDE) // total
    return torch.where(own == symbols, TOTAL, ((sums * per_weight) >> WIDE) + own)


def softmax(logits: Int[Tensor, "*batch k"], bits: int) -> Int[Tensor, "*batch k"]:
    """e^(l − max l) of logits in units of 1/1024, in units of 2^−bits (at most 30)."""
    below = logits.amax(-1, keepdim=True) - logits
    below = below.clamp(max=integers.REACH * integers.STEPS)
    return integers.exponential().to(logits.device)[below] >> (integers.UNIT - bits)


def digits(p: Frequencies, x: Int[Tensor, "*batch"]) -> Iterator[tuple[Tensor, Tensor]]:
    """Start and width in units of 2⁻²⁴ of each radix-16 digit of one symbol per distribution, the coarsest first."""
    low = torch.zeros_like(x)
    high = torch.full_like(x, p.levels)
    for size in sizes(p.levels):
        first = low + (x - low) // size * size
        last = torch.minimum(first + size, high)
        outer = p.below(torch.stack([low, first, last, high], -1))
        start = _within(outer[..., 1], outer[..., 0], outer[..., 3])
        stop = _within(outer[..., 2], outer[..., 0], outer[..., 3])
        yield start, stop - start
        low, high = first, last


def digit_table(p: Frequencies, low: Tensor, high: Tensor, size: int) -> Int[Tensor, "*batch seventeen"]:
    """Cumulative units of the (at most 16) parts of `size` symbols that low … high falls into."""
    steps = torch.arange(min(RADIX, -(-p.levels // size)) + 1, device=low.device) * size
    edges = p.below(torch.minimum(low[..., None] + steps, high[..., None]))
    return _within(edges, edges[..., :1], edges[..., -1:])


def sizes(levels: int) -> list[int]:
    """How many symbols a digit's unit spans, the coarsest first: 1 for alphabets up to 16, 16 and 1 up to 256, …"""
    found = [1]
    while found[0] * RADIX < levels:
        found.insert(0, found[0] * RADIX)
    return found


def _within(edges: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return edges of parts of low … high, stretched over 2²⁴ units; no part that was a unit wide becomes narrower."""
    return ((edges - low) << BITS) // (high - low).clamp(min=1)
