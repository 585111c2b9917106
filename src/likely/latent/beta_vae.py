"""BetaVAE: the KL divergence counted more, or less, than the likelihood asks for."""

import torch
from torch import Tensor

from likely.errors import require_numbers
from likely.event import Event
from likely.latent.latent import LatentVariable, draw_terms, training_loss
from likely.latent.vae import Head, gaussian_parts


class BetaVAE(LatentVariable):
    """The model of `VAE`, trained on E[ln p(x | z)] − β KL(q(z | x) ‖ p(z)).

    That objective is no likelihood: with β > 1 it bounds ln p(x) more loosely than the evidence lower bound does, with
    β < 1 not at all. So it is never reported as one: `log_prob`, and all that is made of it, is the bound with β = 1.

    Paper: beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017),
    https://openreview.net/forum?id=Sy2fzU9gl

    Args:
        event: any.
        latent: number of latent values.
        hidden: units of the hidden layers of encoder and decoder.
        channels: of convolutions over images, on either side of one hidden layer, the last of `hidden`; 0: none, images
            are taken as vectors.
        head: how symbols are decoded, "categorical" (Bernoulli where there are two) or "logistics".
        beta: weight of the KL divergence in training, at least 0.
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
        beta: float = 4.0,
        seed: int = 0,
    ) -> None:
        require_numbers(0.0, beta=beta)
        super().__init__(*gaussian_parts(event, latent, hidden, channels, head, seed))
        self.latent = latent
        self.hidden = tuple(hidden)
        self.channels = channels
        self.head = head
        self.beta, self.seed = beta, seed

    def _loss(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return training_loss(draw_terms(self, x, 1, generator), self.beta) / self.event.dims
