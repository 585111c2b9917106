"""VAE: the variational autoencoder."""

import math
from typing import Literal

import torch
from torch import Tensor

from likely.bases import Normal
from likely.conditional import ConditionalNormal, ConditionalSymbols
from likely.density import Density
from likely.errors import InputError
from likely.event import Event
from likely.latent.latent import LatentVariable, draw_terms, training_loss
from likely.nn.network import ConvolutionalNetwork, MultilayerPerceptron, Network

Head = Literal["categorical", "logistics"]


class VAE(LatentVariable):
    """p(x) = ∫ p(x | z) N(z; 0, I) dz, q(z | x) = N(z; μ(x), diag σ²(x)), trained on the evidence lower bound.

    Symbols are independent given z (Bernoulli, categorical, or discretised logistics), real values are Gaussian with
    learnt scales. Warm-up and free bits change what is trained on, and never what `log_prob` reports.

    Paper: Auto-Encoding Variational Bayes (Kingma, Welling, 2014), https://arxiv.org/abs/1312.6114; free bits:
    Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016),
    https://arxiv.org/abs/1606.04934

    Args:
        event: any.
        latent: number of latent values.
        hidden: units of the hidden layers of encoder and decoder.
        channels: of convolutions over images, on either side of one hidden layer, the last of `hidden`; 0: none, images
            are taken as vectors.
        head: how symbols are decoded, "categorical" (Bernoulli where there are two) or "logistics".
        warmup: part of a fit during which the KL's weight rises from 0 to 1.
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
        warmup: float = 0.0,
        free_bits: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(*gaussian_parts(event, latent, hidden, channels, head, seed))
        self.latent, self.hidden, self.channels, self.head = latent, tuple(hidden), channels, head
        self.warmup, self.free_bits, self.seed, self.weight = warmup, free_bits, seed, 1.0

    def advance(self, fraction: float) -> None:
        """Raise the KL's weight."""
        self.weight = min(1.0, fraction / self.warmup) if self.warmup else 1.0

    def _loss(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        terms = draw_terms(self, x, 1, generator)
        return training_loss(terms, self.weight, self.free_bits * math.log(2)) / self.event.dims


def gaussian_parts(
    event: Event, latent: int, hidden: tuple[int, ...], channels: int, head: Head, seed: int
) -> tuple[Density, Density, Density]:
    """A standard normal prior over `latent` values, a decoder of what the event needs, a diagonal Gaussian encoder."""
    if latent < 1 or channels < 0 or not hidden or min(hidden) < 1:
        raise InputError(
            "a latent of at least 1 value, hidden layers of at least 1 unit, one at least, and channels of at least 0 "
            f"are expected, found latent={latent}, hidden={hidden}, channels={channels}"
        )
    z = Event((latent,))
    into: Network = ConvolutionalNetwork(channels, hidden=hidden[-1]) if channels else MultilayerPerceptron(hidden)
    out: Network = ConvolutionalNetwork(channels, hidden=hidden[-1]) if channels else MultilayerPerceptron(hidden[::-1])
    decoder = (
        ConditionalSymbols(event, z, network=out, head=head, seed=seed)
        if event.discrete
        else ConditionalNormal(event, z, network=out, seed=seed)
    )
    return Normal(z), decoder, ConditionalNormal(z, event, network=into, seed=seed + 1)
