"""Bits back: the scheme of latent-variable models.

To encode x, z is popped by q(z | x), x is pushed by p(x | z), and z by p(z). What was popped is not lost: it stands for
what had been pushed before, so that −ln q(z | x) comes back, and x costs −ln p(x | z) − ln p(z) + ln q(z | x), the
evidence lower bound in the mean. Real latents are cut into parts that are equally probable under N(0, 1); z lies in the
middle of one. Where z has layers, (z_l − μ_l) / σ_l is cut so, with μ_l and σ_l of p(z_l | z_{l+1}): parts are then
equally probable under the prior, wherever that lies. A code that x alone determines is not popped, and x costs
−ln p(x | z) − ln p(z) without initial bits.

Paper: Practical Lossless Compression with Latent Variables using Bits Back Coding (Townsend, Bird, Barber, 2019),
https://arxiv.org/abs/1901.04866
"""

import math
from collections.abc import Callable, Iterator
from functools import singledispatch

import torch
from jaxtyping import Int
from torch import Tensor

from likely.coding.rans import Stack
from likely.coding.schemes import (
    PASS,
    Account,
    Uniform,
    alike,
    decode,
    encode,
    groups,
    in_proportion,
    log2_likelihood,
    pop,
    push,
    slices,
)
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal
from likely.density import Autoregressive, Density
from likely.distributions import integers
from likely.distributions.frequencies import Frequencies, NormalFrequencies
from likely.distributions.normals import Normals
from likely.latent import LatentVariable
from likely.latent.hierarchical_vae import LadderPosterior, LadderPrior, OfLowestLayer
from likely.latent.vq_vae import NearestCodes
from likely.nn.normals import normal_frequencies, scale, standardized

PART_BITS = 11  # a real latent is one of 2^11 parts


@encode.register
@torch.no_grad()
def _(model: LatentVariable, stack: Stack, x: Tensor, context: Tensor | None, batch: int) -> None:
    plain, others = latent_groups(model, len(x), batch)
    if plain:
        push_plain(model, stack, x[len(x) - plain :])
    account = Account(stack)
    for rows in reversed(list(others)):
        part = _pop_posterior(model, stack, x[rows], batch)
        encode(model.decoder, stack, x[rows], latents(model.prior, part), batch)
        push_latents(model.prior, stack, part, None, batch)
        account.pushed()


@decode.register
@torch.no_grad()
def _(model: LatentVariable, stack: Stack, n: int, context: Tensor | None, batch: int) -> Tensor:
    plain, others = latent_groups(model, n, batch)
    x = torch.zeros(n, *model.event.shape, dtype=torch.int64)
    account = Account(stack)
    for rows in others:
        part = pop_latents(model.prior, stack, rows.stop - rows.start, None, batch)
        x[rows] = decode(model.decoder, stack, len(part), latents(model.prior, part), batch)
        _push_posterior(model, stack, part, x[rows], batch)
        account.popped(rows.stop, n)
    if plain:
        x[n - plain :] = pop_plain(model, stack, plain)
    return x


def push_plain(model: LatentVariable, stack: Stack, x: Tensor) -> None:
    """Push items, every symbol alike, so that their bits look random.

    Latents are popped from them. Had those bits the order of data, of many zeros say, z would be no draw of q(z | x),
    and the first items would cost far more than their bound.
    """
    p = alike(model.event, len(x))
    push(stack, p, (x + _mask(p)) % p.alphabets)


def pop_plain(model: LatentVariable, stack: Stack, n: int) -> Tensor:
    """Pop n items: the inverse of `push_plain`."""
    p = alike(model.event, n)
    return (pop(stack, p) - _mask(p)) % p.alphabets


def _mask(p: Uniform) -> Int[Tensor, "n *shape"]:
    """A symbol for each distribution, by a linear congruential generator."""
    state, found = 0, []
    for _ in range(p.alphabets.numel()):
        state = (6364136223846793005 * state + 1442695040888963407) % (1 << 64)
        found.append(state >> 32)
    return torch.tensor(found, dtype=torch.int64).view(p.shape) % p.alphabets


def _pop_posterior(model: LatentVariable, stack: Stack, x: Tensor, batch: int) -> Tensor:
    if model.encoder is None:
        return pop(stack, exact_posterior(model, x))
    return pop_latents(model.encoder, stack, len(x), x, batch)


def _push_posterior(model: LatentVariable, stack: Stack, parts: Tensor, x: Tensor, batch: int) -> None:
    if model.encoder is None:
        push(stack, exact_posterior(model, x), parts)
    else:
        push_latents(model.encoder, stack, parts, x, batch)


def exact_posterior(model: LatentVariable, x: Tensor) -> Frequencies:
    """p(z | x) of a single symbol z, from p(z) and p(x | z) of all its values: nothing is lost to a bound then."""
    assert isinstance(model.prior, Autoregressive)
    assert isinstance(model.decoder, Autoregressive)
    logs = []
    for symbol in range(model.prior.event.alphabets[0]):
        z = torch.full((len(x),), symbol)
        logs.append(log2_likelihood(model.prior, z, None, 0) + log2_likelihood(model.decoder, x, z, 0))
    return in_proportion(torch.stack(logs, 1))


def latent_groups(model: LatentVariable, n: int, batch: int) -> tuple[int, Iterator[slice]]:
    """How many items, the first to be encoded, are coded plainly; and the groups of the others, in decoding order.

    The plain ones, every symbol alike, fill the stack with what the first latents are popped from: twice what those of
    one item take. Later groups are an eighth of what has been coded, so that it is enough for all their latents.
    Nothing has to be there first where nothing is popped.
    """
    if isinstance(model.encoder, NearestCodes):
        return 0, groups(n, batch, growing=False)
    z, x = model.prior.event, model.event
    needed = 2 * z.dims * PART_BITS if not z.discrete else 2 * sum(map(math.log2, z.alphabets))
    plain = min(n, math.ceil(needed / max(1.0, sum(map(math.log2, x.alphabets)))))
    return plain, slices(n - plain, batch, _eighths(plain))


def _eighths(coded: int) -> Iterator[int]:
    while True:
        size = max(1, coded // 8)
        yield size
        coded += size


@encode.register
def _(model: OfLowestLayer, stack: Stack, x: Tensor, context: Tensor | None, batch: int) -> None:
    assert context is not None
    encode(model.decoder, stack, x, context[:, : model.size], batch)


@decode.register
def _(model: OfLowestLayer, stack: Stack, n: int, context: Tensor | None, batch: int) -> Tensor:
    assert context is not None
    return decode(model.decoder, stack, n, context[:, : model.size], batch)


@singledispatch
def latents(prior: Density, parts: Int[Tensor, "n *shape"]) -> Tensor:
    """The values of z that numbers of parts stand for: the middle of each part, or symbols themselves."""
    return parts if prior.event.discrete else middles(parts)


@latents.register
def _(prior: LadderPrior, parts: Int[Tensor, "n dims"]) -> Tensor:
    factor, above, found = prior._conditionals(len(parts), None), None, []
    for level, part in reversed(list(enumerate(parts.split(prior.layers, 1)))):
        above = at(factor(level, above), part)
        found.insert(0, above)
    return torch.cat(found, 1)


def middles(parts: Int[Tensor, "*batch"]) -> Tensor:
    """The median of each part under N(0, 1)."""
    return integers.look_up(integers.normal_quantiles(2 << PART_BITS)[1::2], parts).double() / (1 << 16)


def at(p: Normals, parts: Int[Tensor, "n dims"]) -> Tensor:
    """The values of which (z − μ) / σ is in the middle of its part."""
    return p.mu + scale(p.log_sigma) * middles(parts)


@singledispatch
def push_latents(density: Density, stack: Stack, parts: Tensor, given: Tensor | None, batch: int) -> None:
    """Push latents (n, *shape), as symbols or as the numbers of their parts, given each context.

    Raises:
        NotImplementedError: there is no way to code latents of this density yet.
    """
    push(stack, latent_frequencies(density, len(parts), given), parts)


@singledispatch
def pop_latents(density: Density, stack: Stack, n: int, given: Tensor | None, batch: int) -> Tensor:
    """Pop the latents of n items: the inverse of `push_latents`."""
    return pop(stack, latent_frequencies(density, n, given))


@push_latents.register
def _(density: Autoregressive, stack: Stack, parts: Tensor, given: Tensor | None, batch: int) -> None:
    encode(density, stack, parts, given, batch)


@pop_latents.register
def _(density: Autoregressive, stack: Stack, n: int, given: Tensor | None, batch: int) -> Tensor:
    return decode(density, stack, n, given, batch)


@push_latents.register
def _(density: LadderPosterior, stack: Stack, parts: Tensor, given: Tensor | None, batch: int) -> None:
    found, layers = [], parts.split(density.layers, 1)

    def note(level: int, p: Frequencies) -> Tensor:
        found.append((p, layers[level]))
        return layers[level]

    _downwards(density, given, note)
    for p, part in reversed(found):
        push(stack, p, part)


@pop_latents.register
def _(density: LadderPosterior, stack: Stack, n: int, given: Tensor | None, batch: int) -> Tensor:
    return _downwards(density, given, lambda level, p: pop(stack, p))


def _downwards(density: LadderPosterior, x: Tensor | None, choose: Callable[[int, Frequencies], Tensor]) -> Tensor:
    """Parts of z, chosen layer by layer from the top, given q(z_l | z_{l+1}, x) over the parts of layer l.

    All layers are popped before x is pushed, and pushed after it, so that an item needs the bits of all its latents
    to be there. Bit-Swap takes turns and needs those of one layer, but asks for inference from x upwards,
    q(z_1 | x) q(z_2 | z_1) …. Here z_1, which x is pushed by, is the last to be popped; and no pop could come later
    than that push, because decoding undoes it by x, which it then would not know yet.

    Paper on taking turns: Bit-Swap: Recursive Bits-Back Coding for Lossless Compression with Hierarchical Latent
    Variables (Kingma, Abbeel, Ho, 2019), https://arxiv.org/abs/1905.06845
    """
    assert x is not None
    of_prior, of_posterior = density.lender._conditionals(len(x), None), density._conditionals(len(x), x)
    above, found = None, []
    for level in reversed(range(len(density.layers))):
        p, q = of_prior(level, above), of_posterior(level, above)
        found.insert(0, choose(level, over_parts(*standardized(q, p))))
        above = at(p, found[0])
    return torch.cat(found, 1)


@push_latents.register
def _(density: NearestCodes, stack: Stack, parts: Tensor, given: Tensor | None, batch: int) -> None:
    """Nothing: x determines them."""


@pop_latents.register
def _(density: NearestCodes, stack: Stack, n: int, given: Tensor | None, batch: int) -> Tensor:
    assert given is not None
    return torch.cat([density._sample(len(rows), rows, None) for rows in given.split(PASS)])


@singledispatch
def latent_frequencies(density: Density, n: int, given: Tensor | None) -> Frequencies:
    """p(z | given) of real latents, over the parts that are equally probable under N(0, 1)."""
    raise NotImplementedError(
        f"{type(density).__name__} cannot be coded as a density of latents: normal ones, whose values are independent, "
        "and autoregressive ones can so far"
    )


@latent_frequencies.register
def _(density: Normal | LadderPrior, n: int, given: Tensor | None) -> Frequencies:
    return Uniform(torch.full((n, *density.event.shape), 1 << PART_BITS))


@latent_frequencies.register
def _(density: ConditionalNormal, n: int, given: Tensor | None) -> Frequencies:
    if density.corner is not None:
        raise NotImplementedError("a ConditionalNormal with a full covariance cannot be coded as a density of latents")
    assert given is not None
    found = density.parameters_of(given)
    return over_parts(*(value.reshape(n, *density.event.shape) for value in (found.mu, found.log_sigma)))


def over_parts(mu: Tensor, log_sigma: Tensor) -> NormalFrequencies:
    """N(μ, σ²) over the parts that are equally probable under N(0, 1)."""
    return normal_frequencies(mu, log_sigma, integers.normal_quantiles(1 << PART_BITS))
