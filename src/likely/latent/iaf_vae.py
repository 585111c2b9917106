"""IAFVAE: a variational autoencoder with an inverse autoregressive flow as posterior."""

from typing import Literal

from likely.density import seeded
from likely.errors import require_sizes
from likely.event import Event
from likely.flows.flow import Flow
from likely.flows.maps.map import Affine
from likely.flows.transforms.autoregressive import MaskedAutoregressive
from likely.flows.transforms.transform import Inverse
from likely.latent.priors import prior_for
from likely.latent.vae import Autoencoder, Head, gaussian_encoder, independent_decoder


class IAFVAE(Autoencoder):
    """A VAE with q(z | x) a flow: z_0 ~ N(μ(x), diag σ²(x)), z_t,i = e^{s_i} z_{t−1,i} + b_i.

    s_i and b_i depend on z_{t−1,<i} and on features of x; the order is reversed from one step to the next. A draw and
    its density take one parallel pass of each step; training and bounds need no more. The density of other z takes as
    many small steps as z has values.

    Paper: Improving Variational Inference with Inverse Autoregressive Flow (Kingma, Salimans, Jozefowicz, Chen,
    Sutskever, Welling, 2016), https://arxiv.org/abs/1606.04934

    Args:
        event: any.
        latent: number of latent values.
        hidden: units of the hidden layers of encoder and decoder.
        channels: of convolutions over images, on either side of one hidden layer, the last of `hidden`; 0: none, images
            are taken as vectors.
        head: how symbols are decoded, "categorical" (Bernoulli where there are two) or "logistics".
        layers: number of steps of the flow.
        flow_hidden: units of the hidden layers of its networks.
        features: number of features of x that they are given.
        prior_kind: of p(z): "normal", N(0, I), or learnt: "mixture" of Gaussians, "flow" (masked autoregressive).
        components: of a mixture.
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
        layers: int = 4,
        flow_hidden: tuple[int, ...] = (64, 64),
        features: int = 64,
        prior_kind: Literal["normal", "mixture", "flow"] = "normal",
        components: int = 50,
        kl_warmup: float = 0.3,
        free_bits: float = 0.0,
        seed: int = 0,
    ) -> None:
        require_sizes(layers=layers, features=features)
        decoder = independent_decoder(event, latent, hidden, channels, head, seed)
        base = gaussian_encoder(event, latent, hidden, channels, seed + 1)
        prior = prior_for(prior_kind, base, components, seed + 2)
        with seeded(seed + 3):
            steps = [
                MaskedAutoregressive(
                    Affine(), (latent,), flow_hidden, order="reversed" if k % 2 else "raster", features=features
                )
                for k in range(layers)
            ]
        encoder = Flow(base, [Inverse(step) for step in steps], event, features=features, seed=seed + 4)
        super().__init__(prior, decoder, encoder, kl_warmup=kl_warmup, free_bits=free_bits)
        self.latent = latent
        self.hidden = tuple(hidden)
        self.channels = channels
        self.head = head
        self.layers = layers
        self.flow_hidden = tuple(flow_hidden)
        self.features = features
        self.prior_kind: Literal["normal", "mixture", "flow"] = prior_kind
        self.components, self.seed = components, seed
