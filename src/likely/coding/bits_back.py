"""Codecs of latent-variable models, by bits back.

To push x, z is popped by q(z | x), x is pushed by p(x | z), and z by p(z). The popped bits are not lost: they are
bits pushed before, so that −ln q(z | x) comes back. x costs −ln p(x | z) − ln p(z) + ln q(z | x), the evidence
lower bound in the mean. Real latents are cut into parts that are equally probable, and z lies in the middle of one.

Paper: Practical Lossless Compression with Latent Variables using Bits Back Coding (Townsend, Bird, Barber, 2019),
https://arxiv.org/abs/1901.04866
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from likely.coding.autoregressive import PASS, InOrder
from likely.coding.family import Codec, codec
from likely.coding.groups import Account, eighths, groups, slices
from likely.coding.rans import Stack
from likely.coding.symbols import Uniform, alike, in_proportion, pop, push
from likely.densities.bases import Normal
from likely.densities.conditional import Gaussian
from likely.density import Autoregressive, Density
from likely.distributions import integers
from likely.distributions.frequencies import Frequencies, NormalFrequencies
from likely.distributions.normals import Normals
from likely.errors import UncodableError
from likely.event import Event
from likely.latent.latent import Deterministic, LatentVariable
from likely.latent.layers import OfLowestLayer, TopDown
from likely.nn.normals import normal_frequencies, scale, standardized

PART_BITS = 11  # a real latent is one of 2^11 parts, equally probable under N(0, 1)


class BitsBack(Codec):
    """z popped by q(z | x), x pushed by p(x | z), z pushed by p(z)."""

    def __init__(self, model: LatentVariable, batch: int) -> None:
        self.event, self.latent, self.batch = model.event, model.prior.event, batch
        self.prior, self.decoder = codec(model.prior, batch), codec(model.decoder, batch)
        self.posterior = posterior_codec(model, batch)

    def push(self, stack: Stack, x: Tensor, context: Tensor | None) -> None:
        """Push the items of z's initial bits plainly, then group by group, the last first."""
        plain, others = self.groups(len(x))
        push_plain(self.event, stack, x[len(x) - plain :])
        account = Account(stack)
        for rows in reversed(list(others)):
            z = self.posterior.pop(stack, rows.stop - rows.start, x[rows])
            self.decoder.push(stack, x[rows], self.prior.values(z))
            self.prior.push(stack, z, None)
            account.pushed()

    def pop(self, stack: Stack, n: int, context: Tensor | None) -> Tensor:
        """Pop group by group, the first first, then the items that were pushed plainly."""
        x, account = torch.zeros(n, *self.event.shape, dtype=torch.int64), Account(stack)
        plain, others = self.groups(n)
        for rows in others:
            z = self.prior.pop(stack, rows.stop - rows.start, None)
            x[rows] = self.decoder.pop(stack, rows.stop - rows.start, self.prior.values(z))
            self.posterior.push(stack, z, x[rows])
            account.popped(rows.stop, n)
        x[n - plain :] = pop_plain(self.event, stack, plain)
        return x

    def groups(self, n: int) -> tuple[int, Iterator[slice]]:
        """Return how many items, the first to be pushed, are pushed plainly, and the groups of the others.

        The plain ones fill the stack with the bits that the first latents are popped from: twice those of one item.
        Later groups are an eighth of the items coded so far: enough for all their latents. Nothing has to be there
        first where nothing is popped.
        """
        if isinstance(self.posterior, Determined):
            return 0, groups(n, self.batch, growing=False)
        needed = 2 * self.latent.dims * PART_BITS
        if self.latent.discrete:
            needed = 2 * sum(map(math.log2, self.latent.alphabets))
        plain = min(n, math.ceil(needed / max(1.0, sum(map(math.log2, self.event.alphabets)))))
        return plain, slices(n - plain, self.batch, eighths(plain))


@codec.register
def _(density: LatentVariable, batch: int) -> Codec:
    return BitsBack(density, batch)


def posterior_codec(model: LatentVariable, batch: int) -> Codec:
    """Return the codec of q(z | x): of the encoder, or of the posterior itself where z is a single symbol.

    Raises:
        UncodableError: there is neither.
    """
    if model.encoder is not None:
        return codec(model.encoder, batch)
    prior, decoder = model.prior, model.decoder
    if prior.event.shape == () and isinstance(prior, Autoregressive) and isinstance(decoder, Autoregressive):
        return ExactPosterior(InOrder(prior, 0, batch), InOrder(decoder, 0, batch))
    raise UncodableError(
        f"{type(model).__name__} cannot be coded: an encoder is needed, or a latent of one symbol, whose posterior is "
        "known"
    )


class Independent(Codec):
    """Symbols, or numbers of parts, each under a distribution of its own, given by a subclass."""

    @abstractmethod
    def _frequencies(self, n: int, context: Tensor | None) -> Frequencies:
        """Return the distributions of n examples."""

    def push(self, stack: Stack, x: Tensor, context: Tensor | None) -> None:
        """Push them."""
        push(stack, self._frequencies(len(x), context), x)

    def pop(self, stack: Stack, n: int, context: Tensor | None) -> Tensor:
        """Pop them."""
        return pop(stack, self._frequencies(n, context))


class ExactPosterior(Independent):
    """p(z | x) of a single symbol z, from p(z) and p(x | z) of all its values: nothing is lost to a bound.

    Of several orderings the first one is looked at.
    """

    def __init__(self, prior: InOrder, decoder: InOrder) -> None:
        self.prior, self.decoder = prior, decoder

    def _frequencies(self, n: int, context: Tensor | None) -> Frequencies:
        assert context is not None
        logs = []
        for symbol in range(self.prior.model.event.alphabets[0]):
            z = torch.full((n,), symbol)
            logs.append(self.prior.log2_likelihood(z, None) + self.decoder.log2_likelihood(context, z))
        return in_proportion(torch.stack(logs, 1))


class Determined(Codec):
    """A code that x alone determines costs nothing: nothing is pushed, and it is worked out again."""

    def __init__(self, density: Deterministic) -> None:
        self.density = density

    def push(self, stack: Stack, x: Tensor, context: Tensor | None) -> None:
        """Push nothing."""

    def pop(self, stack: Stack, n: int, context: Tensor | None) -> Tensor:
        """Return the code."""
        assert context is not None
        return torch.cat([self.density.code(rows) for rows in context.split(PASS)])


@codec.register
def _(density: Deterministic, batch: int) -> Codec:
    return Determined(density)


class StandardNormal(Independent):
    """Values under N(0, 1), as the numbers of parts that are equally probable: every part alike."""

    def __init__(self, density: Density) -> None:
        self.shape = density.event.shape

    def _frequencies(self, n: int, context: Tensor | None) -> Frequencies:
        return Uniform(torch.full((n, *self.shape), 1 << PART_BITS))

    def values(self, numbers: Tensor) -> Tensor:
        """Return the middle of each part."""
        return middles(numbers)


@codec.register
def _(density: Normal, batch: int) -> Codec:
    return StandardNormal(density)


class IndependentNormals(StandardNormal):
    """Values under N(μ(x), σ(x)²), as the numbers of parts that are equally probable under N(0, 1)."""

    def __init__(self, density: Gaussian) -> None:
        super().__init__(density)
        self.density = density

    def _frequencies(self, n: int, context: Tensor | None) -> Frequencies:
        assert context is not None
        mu, log_sigma, corner = self.density.parameters_of(context)
        if corner is not None:
            raise UncodableError("normal latents of a full covariance cannot be coded: independent ones can")
        return over_parts(*(value.reshape(n, *self.shape) for value in (mu, log_sigma)))


@codec.register
def _(density: Gaussian, batch: int) -> Codec:
    return IndependentNormals(density)


class Layers(StandardNormal):
    """Layers of normal values, each given the one above it, q(z_l | z_{l+1}, x).

    Of layer l, (z_l − μ_l) / σ_l is cut into parts, with μ_l and σ_l of the prior p(z_l | z_{l+1}): the parts are then
    equally probable under the prior, wherever that lies.

    All layers are popped before x is pushed, and pushed after it, so that an item needs the bits of all its latents to
    be there. Bit-Swap takes turns and needs those of one layer, but asks for inference from x upwards,
    q(z_1 | x) q(z_2 | z_1) …. Here z_1 is the last to be popped, and x is pushed by it; no pop could come later
    than that push, because popping x undoes it by x, not known yet.

    Paper on taking turns: Bit-Swap: Recursive Bits-Back Coding for Lossless Compression with Hierarchical Latent
    Variables (Kingma, Abbeel, Ho, 2019), https://arxiv.org/abs/1905.06845
    """

    def __init__(self, density: TopDown) -> None:
        super().__init__(density)
        self.density = density

    def push(self, stack: Stack, x: Tensor, context: Tensor | None) -> None:
        """Push numbers of parts, the lowest layer first."""
        layers = x.split(self.density.layers, 1)
        distributions: list[Frequencies] = []

        def note(level: int, p: Frequencies) -> Tensor:
            distributions.append(p)
            return layers[level]

        self._downwards(len(x), context, note)
        for layer, p in zip(layers, reversed(distributions), strict=True):
            push(stack, p, layer)

    def pop(self, stack: Stack, n: int, context: Tensor | None) -> Tensor:
        """Pop numbers of parts, the highest layer first."""
        layers = self._downwards(n, context, lambda level, p: pop(stack, p))
        return torch.cat(layers, 1)

    def _downwards(
        self, n: int, x: Tensor | None, choose: Callable[[int, Frequencies], Tensor]
    ) -> list[Int[Tensor, "n dims"]]:
        """Return the numbers of parts of every layer, chosen from the top, given q(z_l | z_{l+1}, x) over the parts."""
        of_prior, of_posterior = self.density.prior._conditionals(n, None), self.density._conditionals(n, x)
        above, layers = None, []
        for level in reversed(range(len(self.density.layers))):
            p, q = of_prior(level, above), of_posterior(level, above)
            layers.insert(0, choose(level, over_parts(*standardized(q, p))))
            above = at(p, layers[0])
        return layers


class LayersOfPrior(StandardNormal):
    """Layers of the prior itself: all parts alike."""

    def __init__(self, density: TopDown) -> None:
        super().__init__(density)
        self.density = density

    def values(self, numbers: Tensor) -> Tensor:
        """Return the value in the middle of each part, layer by layer from the top."""
        factor, above, values = self.density._conditionals(len(numbers), None), None, []
        for level, numbers_of_layer in reversed(list(enumerate(numbers.split(self.density.layers, 1)))):
            above = at(factor(level, above), numbers_of_layer)
            values.insert(0, above)
        return torch.cat(values, 1)


@codec.register
def _(density: TopDown, batch: int) -> Codec:
    if density.prior is density:
        return LayersOfPrior(density)
    return Layers(density)


class GivenFirst(Codec):
    """p(x | z) that depends on the first values of z alone."""

    def __init__(self, density: OfLowestLayer, batch: int) -> None:
        self.decoder, self.size = codec(density.decoder, batch), density.size

    def push(self, stack: Stack, x: Tensor, context: Tensor | None) -> None:
        """Push, given those."""
        assert context is not None
        self.decoder.push(stack, x, context[:, : self.size])

    def pop(self, stack: Stack, n: int, context: Tensor | None) -> Tensor:
        """Pop, given those."""
        assert context is not None
        return self.decoder.pop(stack, n, context[:, : self.size])


@codec.register
def _(density: OfLowestLayer, batch: int) -> Codec:
    return GivenFirst(density, batch)


def middles(parts: Int[Tensor, "*batch"]) -> Tensor:
    """Return the median of each part under N(0, 1)."""
    return integers.look_up(integers.normal_quantiles(2 << PART_BITS)[1::2], parts).double() / (1 << 16)


def at(p: Normals, parts: Int[Tensor, "n dims"]) -> Tensor:
    """Return the values z with (z − μ) / σ in the middle of its part."""
    return p.mu + scale(p.log_sigma) * middles(parts)


def over_parts(mu: Tensor, log_sigma: Tensor) -> NormalFrequencies:
    """Return N(μ, σ²) over the parts that are equally probable under N(0, 1)."""
    return normal_frequencies(mu, log_sigma, integers.normal_quantiles(1 << PART_BITS))


def push_plain(event: Event, stack: Stack, x: Tensor) -> None:
    """Push items, every symbol alike, so that their bits look random.

    Latents are popped from them. Had those bits the order of data, of many zeros say, z would be no draw of q(z | x),
    and the first items would cost far more than their bound.
    """
    if len(x):
        p = alike(event, len(x))
        push(stack, p, (x + scramble(p)) % p.alphabets)


def pop_plain(event: Event, stack: Stack, n: int) -> Tensor:
    """Pop n items: the inverse of `push_plain`."""
    p = alike(event, n)
    if not n:
        return torch.zeros(p.shape, dtype=torch.int64)
    return (pop(stack, p) - scramble(p)) % p.alphabets


def scramble(p: Uniform) -> Int[Tensor, "n *shape"]:
    """Return a symbol for each distribution, by a linear congruential generator."""
    state, symbols = 0, []
    for _ in range(p.alphabets.numel()):
        state = (6364136223846793005 * state + 1442695040888963407) % (1 << 64)
        symbols.append(state >> 32)
    return torch.tensor(symbols, dtype=torch.int64).view(p.shape) % p.alphabets
