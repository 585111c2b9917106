"""IWAE: the importance-weighted autoencoder."""

from typing import Literal

from likely.event import Event
from likely.latent.objectives import ObjectiveName, TrainedOn, refuse_unknown
from likely.latent.vae import Head, gaussian_parts

Gradient = Literal["reparametrized", "doubly reparametrized"]
OBJECTIVE: dict[str, ObjectiveName] = {
    "reparametrized": "importance-weighted bound",
    "doubly reparametrized": "doubly reparametrized",
}


class IWAE(TrainedOn):
    """The model of `VAE`, trained on L_K = E[ln 1/K Σ_k p(x, z_k) / q(z_k | x)], z_k ~ q(z | x).

    Prior, decoder and encoder have this one objective, at most ln p(x) and rising to it with K. With K the encoder's
    gradient falls faster than its noise if it is reparametrised as usual, and not if it is doubly, which costs another
    pass of the encoder for every particle. `log_prob` reports the bound of one draw, which is looser; ask
    `likely.latent.importance_sampling` for L_K.

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
        seed: int = 0,
    ) -> None:
        refuse_unknown("gradient", gradient, OBJECTIVE)
        parts = gaussian_parts(event, latent, hidden, channels, head, seed)
        super().__init__(*parts, objective=OBJECTIVE[gradient], draws=particles)
        self.latent, self.hidden, self.channels, self.head = latent, tuple(hidden), channels, head
        self.particles, self.gradient, self.seed = particles, gradient, seed
