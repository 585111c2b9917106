"""WakeSleep: a decoder trained by importance weights, an encoder by a KL divergence."""

from typing import Literal

from likely.event import Event
from likely.latent.objectives import ObjectiveName, TrainedOn, refuse_unknown
from likely.latent.vae import Head, gaussian_parts

Divergence = Literal["inclusive", "exclusive"]
OBJECTIVE: dict[str, ObjectiveName] = {"inclusive": "wake-sleep", "exclusive": "exclusive wake-sleep"}


class WakeSleep(TrainedOn):
    """The model of `VAE`, trained on two objectives: prior and decoder on L_K, the encoder on a KL to the posterior.

    The inclusive one, KL(p(z | x) ‖ q(z | x)), is reweighted wake-sleep; q comes to cover the posterior, as a proposal
    should. The exclusive one, KL(q(z | x) ‖ p(z | x)), is the gap of the evidence lower bound. Neither is IWAE,
    where one objective trains all. `log_prob` reports the bound of one draw.

    Paper: Reweighted Wake-Sleep (Bornschein, Bengio, 2015), https://arxiv.org/abs/1406.2751

    Args:
        event: any.
        latent: number of latent values.
        hidden: units of the hidden layers of encoder and decoder.
        channels: of convolutions over images, on either side of one hidden layer, the last of `hidden`; 0: none, images
            are taken as vectors.
        head: how symbols are decoded, "categorical" (Bernoulli where there are two) or "logistics".
        particles: K, draws of z for every example.
        divergence: that the encoder minimises, "inclusive" or "exclusive".
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
        divergence: Divergence = "inclusive",
        seed: int = 0,
    ) -> None:
        refuse_unknown("divergence", divergence, OBJECTIVE)
        parts = gaussian_parts(event, latent, hidden, channels, head, seed)
        super().__init__(*parts, objective=OBJECTIVE[divergence], draws=particles)
        self.latent = latent
        self.hidden = tuple(hidden)
        self.channels = channels
        self.head = head
        self.particles = particles
        self.divergence = divergence
        self.seed = seed
