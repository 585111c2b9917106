"""VQVAE: an autoencoder with a code of a few entries of a codebook, and an autoregressive prior over codes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from likely.autoregressive.gated_pixelcnn import GatedPixelCNN
from likely.autoregressive.made import MADE
from likely.classical.expectation_maximization import k_means_start
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.density import Array, Density, seeded
from likely.distributions.discrete import uniform
from likely.errors import (
    InputError,
    require_below,
    require_hidden,
    require_numbers,
    require_positive,
    require_sizes,
)
from likely.event import Event
from likely.latent.diagnostics import scorer
from likely.latent.latent import Borrower, Deterministic, LatentVariable
from likely.latent.vae import Head, decoder_of
from likely.nn import Codebook
from likely.nn.network import Downscaling, NetworkSpec, Perceptron, Places, Size, Upscaling, is_image
from likely.nn.values import take_units

ROUNDS = 10  # of k-means
CODES = 2**16  # entries at most; a network has an output for each
ROWS, DISTANCES = 2**14, 2**24  # that k-means looks at, at most, as long as there are more rows than entries
CHUNK = 256  # examples that the encoder takes at once


class VQVAE(LatentVariable):
    """ln p(x) ≥ ln p(x | z) + ln p(z), z the entries of a codebook e that are nearest to a network's outputs.

    The encoder is deterministic, q(z | x) = 1 at z_i = argmin_k |h_i(x) − e_k|, so that the bound has two terms and
    ln q(z | x) = 0. Networks are trained on −ln p(x | z) + β Σ_i |h_i(x) − e_{z_i}|², the gradient of the entries being
    handed on to h(x) as it is (straight through); an entry is the moving average of the h_i(x) it is nearest to, and
    one that has long been nearest to none starts again at one of them. The prior is a Gated PixelCNN over the map of
    an image's codes, a MADE over the codes of anything else. It is trained along, and in the last part of a fit alone.

    Paper: Neural Discrete Representation Learning (van den Oord, Vinyals, Kavukcuoglu, 2017),
    https://arxiv.org/abs/1711.00937; restarts: Jukebox (Dhariwal et al., 2020), https://arxiv.org/abs/2005.00341

    Args:
        event: any.
        codes: entries of the codebook.
        size: values of an entry.
        latent: number of codes of an event that is no image.
        halvings: how often an image's sides are halved to the map of codes, as far as they are even and leave 2 pixels.
        channels: of the convolutions over images.
        blocks: residual blocks at every size of an image.
        hidden: units of the hidden layers of encoder and decoder where there are no images.
        head: how symbols are decoded, "categorical" (Bernoulli where there are two) or "logistics".
        commitment: β.
        decay: γ of the entries' moving averages.
        revival: an entry that no h_i(x) was nearest to for so many steps starts again.
        prior_channels: width of the prior over a map.
        prior_layers: its gated layers.
        prior_hidden: units of the prior's hidden layers where there is no map.
        prior_from: part of a fit; after it nothing but the prior is trained.
        seed: of the initial weights.

    Raises:
        InputError: settings out of range.
    """

    def __init__(
        self,
        event: Event,
        *,
        codes: int = 64,
        size: int = 16,
        latent: int = 8,
        halvings: int = 2,
        channels: int = 32,
        blocks: int = 1,
        hidden: tuple[int, ...] = (200, 200),
        head: Head = "categorical",
        commitment: float = 0.25,
        decay: float = 0.99,
        revival: int = 100,
        prior_channels: int = 32,
        prior_layers: int = 4,
        prior_hidden: tuple[int, ...] = (256,),
        prior_from: float = 0.75,
        seed: int = 0,
    ) -> None:
        require_sizes(2, codes=codes)
        if codes > CODES:
            raise InputError(f"a codebook of at most {CODES:,} entries is expected, found {codes:,}")
        require_sizes(size=size, latent=latent, channels=channels, blocks=blocks, revival=revival)
        require_sizes(0, halvings=halvings)
        require_hidden(hidden)
        require_numbers(0.0, commitment=commitment)
        require_numbers(0.0, 1.0, decay=decay, prior_from=prior_from)
        require_positive(prior_from=prior_from)
        require_below(1.0, decay=decay)
        require_hidden(prior_hidden, "prior_hidden")
        z = code_event(event, codes, latent, halvings)
        into: NetworkSpec
        out: NetworkSpec
        prior: Density
        if is_image(event.shape):
            into = Downscaling(channels, blocks)
            out = Upscaling(channels, blocks)
            prior = GatedPixelCNN(
                z, channels=prior_channels, layers=prior_layers, kernel=3, first_kernel=5, seed=seed + 2
            )
        else:
            into = Perceptron(hidden, "relu")
            out = Perceptron(hidden[::-1], "relu")
            prior = MADE(z, hidden=prior_hidden, seed=seed + 2)
        decoder = decoder_of(event, z, OnCodes(out, size), head, seed)
        super().__init__(prior, decoder, NearestCodes(decoder, network=into, seed=seed + 1))
        self.codes = codes
        self.size = size
        self.latent = latent
        self.halvings = halvings
        self.channels = channels
        self.blocks = blocks
        self.hidden = tuple(hidden)
        self.head: Head = head
        self.commitment = commitment
        self.decay = decay
        self.revival = revival
        self.prior_channels = prior_channels
        self.prior_layers = prior_layers
        self.prior_hidden = tuple(prior_hidden)
        self.prior_from = prior_from
        self.seed = seed
        self.settled = False

    @property
    def codebook(self) -> Codebook:
        """The entries: the decoder's first layer."""
        return self.quantizer.codebook

    @property
    def quantizer(self) -> "NearestCodes":
        """The encoder."""
        assert isinstance(self.encoder, NearestCodes)
        return self.encoder

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """Let the networks start from data, and the codebook from clusters of the encoder's vectors; once.

        Raises:
            InputError: a codebook larger than that.
        """
        x = self.check(x)
        with torch.no_grad():
            take_units(self.quantizer, x)
            vectors = torch.cat([self.quantizer.vectors(rows) for rows in x.split(CHUNK)])
            if not self.codebook.started:
                self._start_codebook(vectors.view(-1, self.size), generator)
            z = self.codebook.nearest(vectors)
            self.prior.initialize(z, generator=generator)
            self.decoder.initialize(x, z, generator=generator)

    def _start_codebook(self, vectors: Tensor, generator: torch.Generator | None) -> None:
        if len(vectors) < self.codes:
            examples = len(vectors) // self.prior.event.dims
            raise InputError(
                f"a codebook of {self.codes} entries needs as many places in the training data to start from, "
                f"found {len(vectors)}: {examples} examples of {self.prior.event.dims} codes; choose fewer codes"
            )
        start_at_clusters(self.codebook, vectors, generator)

    def advance(self, fraction: float) -> None:
        """Leave all but the prior as it is in the last part."""
        self.settled = fraction >= self.prior_from

    def _loss(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        if self.settled:
            with torch.no_grad():
                z = self.quantizer._sample(len(x), x, generator)
            return -self.prior._log_prob(z, None, generator).mean() / self.event.dims
        vectors = self.quantizer.vectors(x)
        z = self.codebook.nearest(vectors)
        entries = self.codebook(z)
        reconstruction = self.decoder._log_prob(x, straight_through(vectors, entries), generator)
        distance = (vectors - entries).square().flatten(1).sum(1)
        bound = reconstruction + self.prior._log_prob(z, None, generator)
        if self.training:
            self.codebook.update(vectors.detach(), z, self.decay, self.revival, generator)
        return (self.commitment * distance - bound).mean() / self.event.dims


def code_event(event: Event, codes: int, latent: int, halvings: int) -> Event:
    """A map (1, h, w) of codes for an image, a vector of them for anything else."""
    if not is_image(event.shape):
        return Event((latent,), levels=codes)
    _, height, width = event.shape
    while halvings and height % 2 == width % 2 == 0 and min(height, width) >= 4:
        halvings, height, width = halvings - 1, height // 2, width // 2
    return Event((1, height, width), levels=codes)


@torch.no_grad()
def start_at_clusters(codebook: Codebook, vectors: Tensor, generator: torch.Generator | None) -> None:
    """Put the entries at the centres of clusters of vectors (n, size): k-means from a k-means++ start."""
    codes = len(codebook.entries)
    most = max(codes, min(ROWS, DISTANCES // codes))
    rows = vectors[uniform((len(vectors),), generator, vectors).argsort()[:most]]
    z = k_means_start(rows, codes, generator).argmax(1)
    for _ in range(ROUNDS):
        counts, sums = codebook.sums_by_code(rows, z)
        codebook.entries.copy_(torch.where(counts[:, None] > 0, sums / counts[:, None], codebook.entries))
        z = codebook.nearest(rows)
    codebook.place(torch.arange(codes, device=z.device), codebook.entries.clone())


def straight_through(vectors: Tensor, entries: Tensor) -> Tensor:
    """The entries, with the derivatives of the vectors."""
    return vectors + (entries - vectors).detach()


class NearestCodes(Borrower, Deterministic):
    """q(z | x) = 1 at the codes of the entries that are nearest to a network's outputs: ln q = 0 there, else −∞.

    Args:
        lender: the decoder, p(x | z), with the codebook as its first layer.
        network: kind of network.
        seed: of the initial weights.
    """

    def __init__(self, lender: Density, *, network: NetworkSpec, seed: int = 0) -> None:
        z, x = lender.context, lender.event
        assert z is not None
        super().__init__(z, x)
        self.borrow(lender)
        self.network, self.seed = network, seed
        places: Places = ()
        if is_image(x.shape):
            places = (z.shape[1], z.shape[2])
        with seeded(seed):
            self.body = network.of_event(x, places, self.codebook.entries.shape[1] * z.dims // math.prod(places))

    @property
    def codebook(self) -> Codebook:
        """The decoder's."""
        assert isinstance(self.lender, ConditionalNormal | ConditionalSymbols)
        codebook = self.lender.body.get_submodule("0")
        assert isinstance(codebook, Codebook)
        return codebook

    def vectors(self, x: Tensor) -> Tensor:
        """h(x) (n, *event.shape, size)."""
        h = self.body(x).view(len(x), *self.event.shape, -1)
        return h.float() if h.dtype == torch.bfloat16 else h

    def code(self, x: Tensor) -> Tensor:
        """Return the codes of the nearest entries."""
        return self.codebook.nearest(self.vectors(x))


@scorer.register
def _(encoder: NearestCodes, x: Tensor) -> Callable[[Tensor], Tensor]:
    codes = encoder._sample(len(x), x, None).flatten(1)

    def scored(z: Tensor) -> Tensor:
        same = (z.flatten(1)[:, None] == codes).all(2)
        return torch.where(same, 0.0, -math.inf).to(encoder.dtype)

    return scored


class CodebookUse(NamedTuple):
    """How much of a codebook is used.

    Attributes:
        used: part of the entries that some example has.
        perplexity: exp of the entropy of the entries' frequencies, from 1 to the number of entries, reached where all
            are used alike.
        counts: how often each entry is used (codes,).
    """

    used: float
    perplexity: float
    counts: Tensor


@torch.no_grad()
def codebook_use(model: VQVAE, x: Array) -> CodebookUse:
    """Count how often the codes of examples (n, *event.shape) use each entry of the codebook.

    Raises:
        InputError: data that are not the model's.
    """
    x = model.check(x)
    z = torch.cat([model.quantizer._sample(len(rows), rows, None).flatten() for rows in x.split(CHUNK)])
    counts = z.bincount(minlength=model.codes)
    entropy = torch.special.entr(counts.double() / counts.sum()).sum()
    return CodebookUse(float((counts > 0).double().mean()), float(entropy.exp()), counts)


@dataclass(frozen=True)
class OnCodes(NetworkSpec):
    """Networks from codes: the first layer is the code book.

    Args:
        network: specification of the rest, from the entries on.
        size: values of an entry.
    """

    network: NetworkSpec
    size: int

    def build(self, inputs: Size, outputs: Size, features: int | None = None) -> nn.Module:
        """Return the network from entries on."""
        return self.network.build(inputs, outputs, features)

    def of_event(self, given: Event, places: Places, outputs: int) -> nn.Sequential:
        """Return the network, for codes of one code book and any places."""
        built = self.network.of_event(Event((*given.shape, self.size)), places, outputs)
        built[0] = Codebook(given.alphabets[0], self.size)  # in place of values that are standardised
        return built
