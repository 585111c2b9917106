"""VAE: the variational autoencoder, and the base of models trained on its bound."""

import math
from typing import Literal

import torch
from torch import Tensor

from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.density import Array, Density
from likely.errors import InputError, require_hidden, require_numbers, require_sizes
from likely.event import Event
from likely.latent.latent import LatentVariable, draw_terms, training_loss
from likely.latent.priors import PriorKind, VampPrior, prior_for
from likely.nn.heads import Head
from likely.nn.network import ConvolutionalNetwork, NetworkSpec, Perceptron

Covariance = Literal["diagonal", "full"]


class Autoencoder(LatentVariable):
    """A latent-variable model that is trained on its evidence lower bound.

    Warm-up and free bits change the loss, and never the bound that `log_prob` reports.

    Papers: warm-up: Generating Sentences from a Continuous Space (Bowman et al., 2016),
    https://arxiv.org/abs/1511.06349; free bits: Improving Variational Inference with Inverse Autoregressive Flow
    (Kingma et al., 2016), https://arxiv.org/abs/1606.04934

    Args:
        prior: p(z).
        decoder: p(x | z).
        encoder: q(z | x).
        kl_warmup: the KL's weight rises from 0 to 1 over this part of a fit.
        free_bits: bits of KL, of every layer of z in the mean over a batch, that training does not count.

    Raises:
        InputError: parts that do not fit, or a warm-up or free bits out of range.
    """

    def __init__(
        self, prior: Density, decoder: Density, encoder: Density, *, kl_warmup: float = 0.0, free_bits: float = 0.0
    ) -> None:
        super().__init__(prior, decoder, encoder)
        require_numbers(0.0, 1.0, kl_warmup=kl_warmup)
        require_numbers(0.0, free_bits=free_bits)
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
        self.weight = 1.0

    def advance(self, fraction: float) -> None:
        """Raise the KL's weight."""
        if self.kl_warmup:
            self.weight = min(1.0, fraction / self.kl_warmup)
        else:
            self.weight = 1.0

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """Let every part start from data, once; the pseudo-inputs of a `VampPrior` are examples."""
        super().initialize(x, context, generator=generator)
        if isinstance(self.prior, VampPrior) and not self.prior.started:
            self.prior.start_from(self.check(x))

    def _loss(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        terms = draw_terms(self, x, 1, generator)
        return training_loss(terms, self.weight, self.free_bits * math.log(2)) / self.event.dims


class VAE(Autoencoder):
    """p(x) = ∫ p(x | z) p(z) dz, q(z | x) = N(z; μ(x), Σ(x)), trained on the evidence lower bound.

    Symbols are independent given z (Bernoulli, categorical, or discretised logistics), real values are Gaussian with
    learnt scales. Warm-up and free bits change the loss, and never the bound that `log_prob` reports.

    Paper: Auto-Encoding Variational Bayes (Kingma, Welling, 2014), https://arxiv.org/abs/1312.6114

    Args:
        event: any.
        latent: number of latent values.
        hidden: units of the hidden layers of encoder and decoder.
        channels: of convolutions over images, on either side of one hidden layer, the last of `hidden`; 0: none, images
            are taken as vectors.
        head: how symbols are decoded, "categorical" (Bernoulli where there are two) or "logistics".
        prior_kind: of p(z): "normal", N(0, I), or learnt: "mixture" of Gaussians, "flow" (masked autoregressive), or
            "vamp", the encoder's mean over pseudo-inputs.
        components: of a mixture, or pseudo-inputs of "vamp".
        covariance: of q(z | x), "diagonal" or "full".
        kl_warmup: the KL's weight rises from 0 to 1 over this part of a fit.
        free_bits: bits of KL, in the mean over a batch, that training does not count.
        seed: of the initial weights.
    """

    def __init__(
        self,
        event: Event,
        *,
        latent: int = 32,
        hidden: tuple[int, ...] = (200, 200),
        channels: int = 0,
        head: Head = "categorical",
        prior_kind: PriorKind = "normal",
        components: int = 50,
        covariance: Covariance = "diagonal",
        kl_warmup: float = 0.3,
        free_bits: float = 0.0,
        seed: int = 0,
    ) -> None:
        parts = gaussian_parts(event, latent, hidden, channels, head, seed, prior_kind, components, covariance)
        super().__init__(*parts, kl_warmup=kl_warmup, free_bits=free_bits)
        self.latent = latent
        self.hidden = tuple(hidden)
        self.channels = channels
        self.head = head
        self.prior_kind: PriorKind = prior_kind
        self.covariance: Covariance = covariance
        self.components, self.seed = components, seed


def gaussian_parts(
    event: Event,
    latent: int,
    hidden: tuple[int, ...],
    channels: int,
    head: Head,
    seed: int,
    prior_kind: PriorKind = "normal",
    components: int = 50,
    covariance: Covariance = "diagonal",
) -> tuple[Density, Density, Density]:
    """Return a prior over `latent` values, a decoder that suits the event, and a Gaussian encoder."""
    encoder = gaussian_encoder(event, latent, hidden, channels, seed + 1, covariance)
    decoder = independent_decoder(event, latent, hidden, channels, head, seed)
    return prior_for(prior_kind, encoder, components, seed + 2), decoder, encoder


def gaussian_encoder(
    event: Event, latent: int, hidden: tuple[int, ...], channels: int, seed: int, covariance: Covariance = "diagonal"
) -> ConditionalNormal:
    """q(z | x) = N(z; μ(x), Σ(x)) of `latent` values."""
    network, _ = networks(latent, hidden, channels)
    return ConditionalNormal(Event((latent,)), event, network=network, covariance=covariance, seed=seed)


def independent_decoder(
    event: Event, latent: int, hidden: tuple[int, ...], channels: int, head: Head, seed: int
) -> Density:
    """p(x | z) = ∏_i p(x_i | z), with z of `latent` values."""
    _, network = networks(latent, hidden, channels)
    return decoder_of(event, Event((latent,)), network, head, seed)


def decoder_of(event: Event, z: Event, network: NetworkSpec, head: Head, seed: int) -> Density:
    """p(x | z) = ∏_i p(x_i | z), parameters from a network of z.

    Raises:
        InputError: no event, another head, or one for real values.
    """
    if event.discrete:
        return ConditionalSymbols(event, z, network=network, head=head, seed=seed)
    if head != "categorical":
        raise InputError(f"head: symbols have one, real values are Gaussian; leave out head={head!r}, or give levels")
    return ConditionalNormal(event, z, network=network, seed=seed)


def networks(latent: int, hidden: tuple[int, ...], channels: int) -> tuple[NetworkSpec, NetworkSpec]:
    """An encoder's and a decoder's: perceptrons, or convolutions on either side of a hidden layer.

    Raises:
        InputError: sizes out of range.
    """
    require_sizes(latent=latent)
    require_sizes(0, channels=channels)
    require_hidden(hidden)
    if not hidden:
        raise InputError("hidden: one layer at least is expected, found none")
    if channels:
        return (ConvolutionalNetwork(channels, hidden=hidden[-1]),) * 2
    return Perceptron(hidden, "relu"), Perceptron(hidden[::-1], "relu")
