"""Priors p(z) that are learnt with the rest of a model, each a density by itself."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from likely.classical.gaussian_mixture import GaussianMixture
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal
from likely.density import Density, seeded
from likely.distributions.normals import Normals
from likely.errors import InputError, require_choice, require_sizes
from likely.flows.maf import MAF
from likely.latent.latent import Borrower
from likely.nn.values import Values

PriorKind = Literal["normal", "mixture", "flow", "vamp"]
PRIOR_KINDS: tuple[PriorKind, ...] = ("normal", "mixture", "flow", "vamp")


def prior_for(kind: PriorKind, encoder: Density, components: int, seed: int) -> Density:
    """The prior of that name over the encoder's event.

    Args:
        kind: "normal", N(0, I); "mixture" of diagonal Gaussians; "flow", masked autoregressive; "vamp", `VampPrior`.
        encoder: q(z | x).
        components: of a mixture, or pseudo-inputs.
        seed: of initial weights.

    Raises:
        InputError: another name, or settings that the prior refuses.
    """
    require_choice(PRIOR_KINDS, prior_kind=kind)
    require_sizes(components=components)
    if kind == "normal":
        return Normal(encoder.event)
    if kind == "mixture":
        return GaussianMixture(encoder.event, components=components, covariance="diagonal", seed=seed)
    if kind == "flow":
        return MAF(encoder.event, layers=4, hidden=(64, 64), seed=seed)
    return VampPrior(encoder, components=components, seed=seed)


class VampPrior(Borrower, Density):
    """p(z) = 1/K Σ_k q(z | u_k): the encoder's mean over K learnt pseudo-inputs u.

    A pseudo-input has the form of an example after the first layer of the encoder's network: symbols as features, real
    values standardised.

    Paper: VAE with a VampPrior (Tomczak, Welling, 2018), https://arxiv.org/abs/1705.07120

    Args:
        lender: the encoder, a `ConditionalNormal` with a diagonal covariance.
        components: K.
        seed: of the initial pseudo-inputs.

    Raises:
        InputError: another encoder, or no components.
    """

    lender: ConditionalNormal

    def __init__(self, lender: Density, *, components: int = 100, seed: int = 0) -> None:
        if not isinstance(lender, ConditionalNormal) or lender.corner is not None:
            raise InputError("a VampPrior takes an encoder that is a ConditionalNormal of diagonal covariance")
        require_sizes(components=components)
        super().__init__(lender.event)
        self.borrow(lender)
        self.components, self.seed = components, seed
        values = self._network[0]
        assert isinstance(values, Values)
        assert lender.context is not None
        self.inputs = nn.Parameter(self._drawn_inputs(components, *lender.context.shape, values.width))

    def _drawn_inputs(self, *shape: int) -> Tensor:
        """Draw the pseudo-inputs that a new prior has, (components, *shape, width)."""
        with seeded(self.seed):
            return 0.5 * torch.randn(shape)

    @property
    def started(self) -> bool:
        """Whether the pseudo-inputs are others than those that a new prior has."""
        return not torch.equal(self.inputs, self._drawn_inputs(*self.inputs.shape).to(self.inputs))

    @torch.no_grad()
    def start_from(self, x: Tensor) -> None:
        """Set the pseudo-inputs to examples (n, *shape), gone through again where there are fewer than K."""
        self.inputs.copy_(self._network[0](x[torch.arange(self.components) % len(x)]))

    @property
    def _network(self) -> nn.Sequential:
        return self.lender.body  # pyrefly: ignore[bad-return]

    def _normals(self) -> Normals:
        mu, log_sigma = self.lender.head(self._network[1:](self.inputs))
        return Normals(mu, log_sigma, None)

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        pairs = self.lender._scored(x.repeat_interleave(self.components, 0), self._normals().repeated(len(x)))
        return pairs.view(len(x), -1).logsumexp(1) - math.log(self.components)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        device = None if generator is None else generator.device
        which = torch.randint(self.components, (n,), generator=generator, device=device).to(self.device)
        mu, log_sigma, _ = self._normals()
        return self.lender._drawn(Normals(mu[which], log_sigma[which], None), generator)[0]
