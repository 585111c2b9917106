"""A latent-variable model: a prior, a decoder and an encoder, each a density of this library; and its bound."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from likely.density import Array, Density
from likely.errors import InputError


class LatentVariable(Density):
    """p(x) = ∫ p(x | z) p(z) dz, with q(z | x) close to the posterior p(z | x).

    `log_prob` returns ln p(x | z) + ln p(z) − ln q(z | x) of one draw z ~ q(z | x). Its expectation, the evidence lower
    bound, is at most ln p(x). `likely.latent.bounds` has tighter ones, and exact sums.

    Paper: Auto-Encoding Variational Bayes (Kingma, Welling, 2014), https://arxiv.org/abs/1312.6114

    Args:
        prior: p(z), any density without context.
        decoder: p(x | z), any density whose context is the prior's event.
        encoder: q(z | x), any density over the prior's event whose context is the decoder's event, which can draw;
            None where nothing but sums over z is asked for.

    Raises:
        InputError: events that do not fit; names both.
    """

    kind: Literal["exact", "lower bound"] = "lower bound"

    def __init__(self, prior: Density, decoder: Density, encoder: Density | None = None) -> None:
        super().__init__(decoder.event)
        if prior.context is not None:
            raise InputError(f"a prior without context is expected, found one conditioned on {prior.context}")
        fits = [("the decoder's context", decoder.context, "the prior's event", prior.event)]
        if encoder is not None:
            fits.append(("the encoder's event", encoder.event, "the prior's event", prior.event))
            fits.append(("the encoder's context", encoder.context, "the decoder's event", decoder.event))
        for name, found, other, expected in fits:
            if found != expected:
                raise InputError(f"{name} must be {other}: {expected} is expected, found {found}")
        self.prior, self.decoder, self.encoder = prior, decoder, encoder

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """Let every part start from data: encoder and decoder from x, the prior from what the encoder makes of x."""
        x = self.check(x)
        with torch.no_grad():
            z = self.prior.sample(len(x), generator=generator)
            if self.encoder is not None:
                self.encoder.initialize(z, x, generator=generator)
                z = self.encoder.sample(len(x), x, generator=generator)
            self.prior.initialize(z, generator=generator)
            self.decoder.initialize(x, z, generator=generator)

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return evidence_lower_bound(draw_terms(self, x, 1, generator).log_weight)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.decoder._sample(n, self.prior._sample(n, None, generator), generator)


class Terms(NamedTuple):
    """The parts of ln w, (draws, n) each, in nats: ln w = reconstruction + ln p(z) − ln q(z | x)."""

    reconstruction: Tensor
    log_prior: Tensor
    log_posterior: Tensor

    @property
    def log_weight(self) -> Tensor:
        """ln p(x | z) + ln p(z) − ln q(z | x)."""
        return self.reconstruction + self.log_prior - self.log_posterior

    @property
    def kl(self) -> Tensor:
        """ln q(z | x) − ln p(z), whose mean over q is KL(q(z | x) ‖ p(z))."""
        return self.log_posterior - self.log_prior


def draw_terms(
    model: LatentVariable,
    x: Tensor,
    draws: int,
    generator: torch.Generator | None = None,
    proposal: Density | None = None,
) -> Terms:
    """Draw z_k ~ q(z | x), `draws` for every example (n, *event.shape), and score them.

    Args:
        model: prior, decoder and encoder.
        x: checked examples.
        draws: K, at least 1.
        generator: of z.
        proposal: q; None: the model's encoder. Where it has no context, z does not depend on x.
    """
    z, log_posterior = draw_latents(model, x, draws, generator, proposal)
    rows = x.repeat(draws, *[1] * (x.ndim - 1))
    found = model.decoder._log_prob(rows, z, generator), model.prior._log_prob(z, None, generator), log_posterior
    return Terms(*(part.view(draws, len(x)) for part in found))


def draw_latents(
    model: LatentVariable,
    x: Tensor,
    draws: int,
    generator: torch.Generator | None = None,
    proposal: Density | None = None,
) -> tuple[Tensor, Tensor]:
    """z (draws · n, *latent shape) ~ q(z | x), the examples in turn, and ln q(z | x) (draws · n,).

    Raises:
        InputError: no draw, or neither an encoder nor a proposal.
    """
    if draws < 1:
        raise InputError(f"the number of draws of z must be at least 1, found {draws}")
    q = model.encoder if proposal is None else proposal
    if q is None:
        raise InputError(f"this {type(model).__name__} has no encoder q(z | x); give one, or another proposal")
    if q.context is None:
        return q._draw(draws * len(x), None, generator)
    return q._draw_each(draws, x, generator)


def evidence_lower_bound(log_weights: Tensor) -> Tensor:
    """ELBO: mean of ln w over draws, (draws, n) → (n,). Its expectation is at most ln p(x).

    Paper: Auto-Encoding Variational Bayes (Kingma, Welling, 2014), https://arxiv.org/abs/1312.6114
    """
    return log_weights.mean(0)


def training_loss(terms: Terms, weight: float = 1.0, free_nats: float = 0.0) -> Tensor:
    """−ELBO of draws, mean over a batch in nats, with the KL as training counts it: weight · max(mean KL, free nats).

    With a weight of 1 and nothing free it is the negative evidence lower bound; else it is no bound of anything.
    """
    kl = terms.kl.mean()
    return weight * kl.clamp_min(free_nats) - kl - evidence_lower_bound(terms.log_weight).mean()
