"""PixelVAE: a variational autoencoder with a Gated PixelCNN as decoder."""

from likely.autoregressive.gated_pixelcnn import GatedPixelCNN, require_picture
from likely.densities.conditional import ConditionalNormal
from likely.density import seeded
from likely.errors import require_sizes
from likely.event import Event
from likely.latent.priors import PriorKind, prior_for
from likely.latent.vae import Autoencoder
from likely.nn.heads import Head
from likely.nn.network import network_for


class PixelVAE(Autoencoder):
    """p(x) = ∫ p(z) ∏_i p(x_i | x_<i, z) dz: z need not tell details that the pixels around do.

    A decoder that sees far leaves z unused: its receptive field is small, two layers of 3×3 kernels, unless more is
    asked for. Convolutions bring z to the image's size, so that each place has features of its own. Warm-up and free
    bits keep z in use too.

    Paper: PixelVAE: A Latent Variable Model for Natural Images (Gulrajani, Kumar, Ahmed, Taiga, Visin, Vazquez,
    Courville, 2017), https://arxiv.org/abs/1611.05013

    Args:
        event: an image (channels, height, width) of symbols.
        latent: number of latent values.
        hidden: units of the layer between z and convolutions, in encoder and decoder.
        channels: width of the decoder's stacks.
        layers: number of the decoder's gated layers.
        kernel: odd side of its kernels.
        head: "categorical" (any alphabet) or "logistics" (a mixture of discretised logistics, for ordered levels).
        features: number of features of z that the decoder is given at every pixel.
        prior_kind: of p(z): "normal", N(0, I), or learnt: "mixture" of Gaussians, "flow" (masked autoregressive), or
            "vamp", the encoder's mean over pseudo-inputs.
        components: of a mixture, or pseudo-inputs of "vamp".
        kl_warmup: the KL's weight rises from 0 to 1 over this part of a fit.
        free_bits: bits of KL, in the mean over a batch, that training does not count.
        seed: of the initial weights.
    """

    def __init__(
        self,
        event: Event,
        *,
        latent: int = 32,
        hidden: int = 128,
        channels: int = 32,
        layers: int = 2,
        kernel: int = 3,
        head: Head = "categorical",
        features: int = 32,
        prior_kind: PriorKind = "normal",
        components: int = 50,
        kl_warmup: float = 0.3,
        free_bits: float = 4.0,
        seed: int = 0,
    ) -> None:
        require_picture("PixelVAE", event)
        require_sizes(latent=latent, hidden=hidden)
        z = Event((latent,))
        decoder = _Decoder(
            event,
            z,
            hidden=hidden,
            channels=channels,
            layers=layers,
            kernel=kernel,
            head=head,
            features=features,
            seed=seed,
        )
        encoder = ConditionalNormal(z, event, network=network_for(event, (), hidden), seed=seed + 1)
        prior = prior_for(prior_kind, encoder, components, seed + 2)
        super().__init__(prior, decoder, encoder, kl_warmup=kl_warmup, free_bits=free_bits)
        self.latent = latent
        self.hidden = hidden
        self.channels = channels
        self.layers = layers
        self.kernel, self.features = kernel, features
        self.head: Head = head
        self.prior_kind: PriorKind = prior_kind
        self.components, self.seed = components, seed


class _Decoder(GatedPixelCNN):
    """A Gated PixelCNN given a vector that becomes features of every pixel, not the same ones for all."""

    def __init__(
        self,
        event: Event,
        context: Event,
        *,
        hidden: int,
        channels: int,
        layers: int,
        kernel: int,
        head: Head,
        features: int,
        seed: int,
    ) -> None:
        super().__init__(
            event,
            context,
            channels=channels,
            layers=layers,
            kernel=kernel,
            first_kernel=kernel,
            head=head,
            features=features,
            seed=seed,
        )
        self.hidden = hidden
        _, *size = event.shape
        places = (size[0], size[1])
        with seeded(seed):
            self.encode = network_for(context, places, hidden).of_event(context, places, features)  # pyrefly: ignore[bad-assignment]
