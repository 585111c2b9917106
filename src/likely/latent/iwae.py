"""IWAE: the importance-weighted autoencoder."""

from typing import Literal

import torch
from torch import Tensor

from likely.errors import require_sizes
from likely.event import Event
from likely.latent.objectives import (
    Objective,
    doubly_reparametrized_bound,
    importance_weighted,
    refuse_unknown,
)
from likely.latent.vae import Autoencoder, Head, gaussian_parts
from likely.scoring import Scoring

Gradient = Literal["reparametrized", "doubly reparametrized"]
OBJECTIVE: dict[str, Objective] = {
    "reparametrized": importance_weighted,
    "doubly reparametrized": doubly_reparametrized_bound,
}


class IWAE(Autoencoder):
    """The model of `VAE`, trained on L_K = E[ln 1/K Σ_k p(x, z_k) / q(z_k | x)], z_k ~ q(z | x).

    Prior, decoder and encoder have this one objective, at most ln p(x) and rising to it with K. As K grows, the
    signal-to-noise ratio of the encoder's gradient falls with the standard estimator, but not with the doubly
    reparametrised one, at the cost of another pass of the encoder for every particle. The warm-up is that of `VAE`, on
    its bound. `log_prob` reports the looser bound of one draw; `likely.latent.importance_sampling` estimates L_K.

    Papers: Importance Weighted Autoencoders (Burda, Grosse, Salakhutdinov, 2016), https://arxiv.org/abs/1509.00519;
    Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018), https://arxiv.org/abs/1802.04537

    Args:
        event: any.
        latent: number of latent values.
        hidden: units of the hidden layers of encoder and decoder.
        channels: of convolutions over images, on either side of one hidden layer, the last of `hidden`; 0: none, images
            are taken as vectors.
        head: how symbols are decoded, "categorical" (Bernoulli where there are two) or "logistics".
        particles: K, draws of z for every example.
        gradient: "reparametrized" or "doubly reparametrized".
        kl_warmup: part of a fit, from its start, with the loss of a VAE, the KL's weight rising from 0 to 1.
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
        particles: int = 5,
        gradient: Gradient = "reparametrized",
        kl_warmup: float = 0.3,
        seed: int = 0,
    ) -> None:
        refuse_unknown("gradient", gradient, OBJECTIVE)
        require_sizes(particles=particles)
        super().__init__(*gaussian_parts(event, latent, hidden, channels, head, seed), kl_warmup=kl_warmup)
        self.latent = latent
        self.hidden = tuple(hidden)
        self.channels = channels
        self.head = head
        self.particles = particles
        self.gradient = gradient
        self.seed = seed
        self.validation = Scoring(draws=particles)

    def _loss(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        if self.weight < 1:
            return super()._loss(x, context, generator)
        return -OBJECTIVE[self.gradient](self, x, self.particles, generator).mean() / self.event.dims
