"""HierarchicalVAE: layers of latent values, each given the one above it, inferred from the top down."""

from itertools import pairwise

from torch import Tensor, nn

from likely.densities.conditional import ConditionalNormal
from likely.density import seeded
from likely.distributions.normals import Normals
from likely.errors import InputError, require_hidden
from likely.event import Event
from likely.latent.latent import Borrower
from likely.latent.layers import Conditionals, OfLowestLayer, TopDown
from likely.latent.vae import Autoencoder, Head, independent_decoder, networks
from likely.nn import Linear, NormalHead, Product, ReLU
from likely.nn.network import NetworkSpec, Perceptron

FLOOR = 1e-3  # of scales


class HierarchicalVAE(Autoencoder):
    """p(x) = ∫ p(x | z_1) p(z_1 | z_2) … p(z_L) dz, q(z | x) = q(z_L | x) ∏ q(z_l | z_{l+1}, x), trained on the bound.

    All factors are diagonal Gaussians. Inference is a ladder: a network goes up from x and finds evidence N(z_l; μ̂, σ̂²)
    for every layer; on the way down each is multiplied with the model's own p(z_l | z_{l+1}), the precisions adding up.
    Without warm-up or free bits, upper layers are often left unused: `draw_terms(…).by_name()` has the KL of each.

    Paper: Ladder Variational Autoencoders (Sønderby, Raiko, Maaløe, Sønderby, Winther, 2016),
    https://arxiv.org/abs/1602.02282

    Args:
        event: any.
        latents: number of values of each layer, from x upwards, two layers at least.
        hidden: units of the hidden layers between x and z_1; between layers there is one of as many as the last.
        channels: of convolutions over images, on either side of one hidden layer, the last of `hidden`; 0: none, images
            are taken as vectors.
        head: how symbols are decoded, "categorical" (Bernoulli where there are two) or "logistics".
        kl_warmup: the KL's weight rises from 0 to 1 over this part of a fit.
        free_bits: bits of KL of every layer, in the mean over a batch, that training does not count.
        seed: of the initial weights.
    """

    def __init__(
        self,
        event: Event,
        *,
        latents: tuple[int, ...] = (32, 16),
        hidden: tuple[int, ...] = (200, 200),
        channels: int = 0,
        head: Head = "categorical",
        kl_warmup: float = 0.3,
        free_bits: float = 2.0,
        seed: int = 0,
    ) -> None:
        require_hidden(latents, "latents")
        if len(latents) < 2:
            raise InputError(f"latents: two layers at least are expected, found {tuple(latents)}")
        bottom = independent_decoder(event, latents[0], hidden, channels, head, seed)
        prior = LadderPrior(latents, hidden[-1], seed + 1)
        network, _ = networks(latents[0], hidden, channels)
        encoder = LadderPosterior(prior, event, network, hidden[-1], seed + 2)
        super().__init__(prior, OfLowestLayer(bottom, prior.event), encoder, kl_warmup=kl_warmup, free_bits=free_bits)
        self.latents = tuple(latents)
        self.hidden = tuple(hidden)
        self.channels = channels
        self.head = head
        self.seed = seed


class LadderPrior(TopDown):
    """p(z) = N(z_L; 0, I) ∏_l p(z_l | z_{l+1}).

    Args:
        layers: number of values of each, z_1 first.
        hidden: units of the hidden layer between two of them.
        seed: of the initial weights.
    """

    def __init__(self, layers: tuple[int, ...], hidden: int = 200, seed: int = 0) -> None:
        super().__init__(layers)
        self.hidden, self.seed = hidden, seed
        network = Perceptron((hidden,), "relu")
        self.given_above = nn.ModuleList(
            ConditionalNormal(Event((below,)), Event((above,)), network=network, floor=FLOOR, seed=seed + level)
            for level, (below, above) in enumerate(pairwise(layers))
        )

    @property
    def prior(self) -> "LadderPrior":
        """The prior itself."""
        return self

    def given(self, level: int, above: Tensor) -> Normals:
        """p(z_l | z_{l+1})."""
        return self.given_above[level].parameters_of(above)  # pyrefly: ignore[not-callable]

    def _conditionals(self, n: int, context: Tensor | None) -> Conditionals:
        zeros = self.noise.like.new_zeros(n, self.layers[-1])

        def factor(level: int, above: Tensor | None) -> Normals:
            if above is None:
                return Normals(zeros, zeros, None)
            return self.given(level, above)

        return factor


class LadderPosterior(Borrower, TopDown):
    """q(z | x) = q(z_L | x) ∏_l q(z_l | z_{l+1}, x), q(z_l | z_{l+1}, x) ∝ N(z_l; μ̂_l(x), σ̂_l²(x)) p(z_l | z_{l+1}).

    Args:
        lender: the prior, with these p(z_l | z_{l+1}).
        context: the event of x.
        network: from x to features.
        hidden: number of features at every layer.
        seed: of the initial weights.
    """

    lender: LadderPrior

    def __init__(
        self, lender: LadderPrior, context: Event, network: NetworkSpec, hidden: int = 200, seed: int = 0
    ) -> None:
        super().__init__(lender.layers, context)
        self.borrow(lender)
        self.network = network
        self.hidden = hidden
        self.seed = seed
        with seeded(seed):
            first = network.of_event(context, (), hidden)
            self.up = nn.ModuleList([first, *(_onwards(hidden, hidden) for _ in lender.layers[1:])])
            self.out = nn.ModuleList(_onwards(hidden, 2 * size) for size in lender.layers)
        self.head, self.product = NormalHead(FLOOR), Product()

    @property
    def prior(self) -> LadderPrior:
        """The lender."""
        return self.lender

    def evidence(self, x: Tensor) -> list[Normals]:
        """N(z_l; μ̂_l(x), σ̂_l²(x)) of every layer."""
        found = []
        for up, out in zip(self.up, self.out, strict=True):
            x = up(x)
            mu, log_sigma = self.head(out(x))
            found.append(Normals(mu, log_sigma, None))
        return found

    def _conditionals(self, n: int, context: Tensor | None) -> Conditionals:
        assert context is not None
        evidence = [normals.repeated(n // len(context)) for normals in self.evidence(context)]

        def factor(level: int, above: Tensor | None) -> Normals:
            if above is None:
                return evidence[level]
            return self.product(evidence[level], self.lender.given(level, above))

        return factor


def _onwards(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(ReLU(), Linear(inputs, outputs))
