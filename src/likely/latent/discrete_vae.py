"""DiscreteVAE: a variational autoencoder with latents that are symbols."""

from typing import Literal

from likely.autoregressive.made import MADE
from likely.densities.conditional import ConditionalSymbols
from likely.density import Density
from likely.errors import require_sizes
from likely.event import Event
from likely.latent.indicators import OnIndicators
from likely.latent.objectives import TrainedOn, refuse_unknown
from likely.latent.vae import Head, decoder_of, networks

Gradient = Literal["score function", "leave one out", "VIMCO", "straight through"]
GRADIENTS = ("score function", "leave one out", "VIMCO", "straight through")


class DiscreteVAE(TrainedOn):
    """p(x) = Σ_z p(x | z) p(z), symbols z, q(z | x) = ∏_i q(z_i | x).

    The prior is learnt, every symbol a linear model of those before it; the decoder is that of `VAE`, on indicators.
    A draw has no derivative. The score function needs none, but is nearly all noise unless a draw is compared with the
    others: "leave one out" for the evidence lower bound, "VIMCO" for L_K. These have no bias; "straight through" has
    one, because it takes the decoder for linear between symbols.

    Papers: Neural Variational Inference and Learning in Belief Networks (Mnih, Gregor, 2014),
    https://arxiv.org/abs/1402.0030; those of the gradients are named in `likely.latent.gradients`.

    Args:
        event: any.
        latent: number of latent symbols.
        categories: size of their alphabet, at least 2.
        hidden: units of the hidden layers of encoder and decoder.
        channels: of convolutions over images, on either side of one hidden layer, the last of `hidden`; 0: none, images
            are taken as vectors.
        head: how symbols are decoded, "categorical" (Bernoulli where there are two) or "logistics".
        gradient: "score function", "leave one out", "VIMCO" (trained on L_K, not the evidence lower bound) or "straight
            through".
        particles: K, draws of z for every example; at least 2 where they are compared.
        seed: of the initial weights.
    """

    def __init__(
        self,
        event: Event,
        *,
        latent: int = 32,
        categories: int = 2,
        hidden: tuple[int, ...] = (200, 200),
        channels: int = 0,
        head: Head = "categorical",
        gradient: Gradient = "leave one out",
        particles: int = 4,
        seed: int = 0,
    ) -> None:
        refuse_unknown("gradient", gradient, GRADIENTS)
        parts = discrete_parts(event, latent, categories, hidden, channels, head, seed)
        super().__init__(*parts, objective=gradient, draws=particles)
        self.latent = latent
        self.categories = categories
        self.hidden = tuple(hidden)
        self.channels = channels
        self.head = head
        self.gradient = gradient
        self.particles = particles
        self.seed = seed


def discrete_parts(
    event: Event, latent: int, categories: int, hidden: tuple[int, ...], channels: int, head: Head, seed: int
) -> tuple[Density, Density, Density]:
    """A learnt prior over `latent` symbols, a decoder that suits the event, an encoder with independent symbols."""
    require_sizes(2, categories=categories)
    into, out = networks(latent, hidden, channels)
    z = Event((latent,), levels=categories)
    decoder = decoder_of(event, z, OnIndicators(out), head, seed)
    return MADE(z, hidden=(), seed=seed + 2), decoder, ConditionalSymbols(z, event, network=into, seed=seed + 1)
