"""A latent-variable model: a prior, a decoder and an encoder, each a density of this library; and its bound."""

import math
from abc import abstractmethod
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from likely.density import Array, Density
from likely.errors import InputError
from likely.event import refuse
from likely.nn.units import InUnits
from likely.nn.values import take_units
from likely.rows import Rows
from likely.scoring import Scored, Scoring


class LatentVariable(Density):
    """p(x) = ∫ p(x | z) p(z) dz, with q(z | x) close to the posterior p(z | x).

    `log_prob` returns ln p(x | z) + ln p(z) − ln q(z | x) of one draw z ~ q(z | x). Its expectation, the evidence lower
    bound, is at most ln p(x). `likely.latent.bounds` has tighter ones, and exact sums.

    Paper: Auto-Encoding Variational Bayes (Kingma, Welling, 2014), https://arxiv.org/abs/1312.6114

    Args:
        prior: p(z), any density without context.
        decoder: p(x | z), any density given the prior's event.
        encoder: q(z | x), any density over the prior's event given the decoder's event that can draw and has an exact
            log_prob; None where nothing but sums over z is asked for.

    Raises:
        InputError: events that do not fit (names both), or an encoder that is known by a bound only.
    """

    kind: Literal["exact", "lower bound"] = "lower bound"
    proposals = ("encoder", "prior")

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
        refuse_bound("encoder", encoder)
        if encoder is not None and not prior.support.holds(encoder.support):
            raise InputError(
                f"the encoder draws values inside {encoder.support}, the prior has density inside {prior.support} only"
            )
        parts = prior, decoder, encoder
        for part in parts:
            if isinstance(part, Borrower) and not any(part.lender is other for other in parts):
                raise InputError(
                    f"a {type(part).__name__} computes with the weights of a {type(part.lender).__name__}, which must "
                    "be a part of the same model"
                )
        self.prior, self.decoder, self.encoder = parts
        self.support = decoder.support

    @property
    def precise(self) -> bool:  # pyrefly: ignore[bad-override]
        """Whether the decoder takes real values as they are given, and the encoder standardises them."""
        parts = [] if self.encoder is None else list(self.encoder.modules())
        return self.decoder.precise and (self.encoder is None or any(isinstance(part, InUnits) for part in parts))

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """Let every part start from data: encoder and decoder from x, the prior from draws of the encoder given x."""
        x = self.check(x)
        with torch.no_grad():
            if self.encoder is None:
                z = self.prior.sample(len(x), generator=generator)
            else:
                take_units(self.encoder, x)
                z = self.encoder.sample(len(x), x, generator=generator)
            self.prior.initialize(z, generator=generator)
            self.decoder.initialize(x, z, generator=generator)

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        bound = evidence_lower_bound(draw_terms(self, x, 1, generator).log_weight)
        refuse_infinite(bound, self)
        return bound

    def _score(self, rows: Rows, how: Scoring, generator: torch.Generator | None) -> Scored:
        from likely.latent.scoring import score_latent

        return score_latent(self, rows, how, generator)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.decoder._sample(n, self.prior._sample(n, None, generator), generator)


def latent_variable(model: Density) -> LatentVariable:
    """Return the model, if it has a prior and a decoder.

    Raises:
        InputError: it is of another kind.
    """
    if not isinstance(model, LatentVariable):
        raise InputError(
            f"a LatentVariable (prior, decoder and, for most, an encoder) is expected, found a {type(model).__name__}"
        )
    return model


def refuse_bound(name: str, q: Density | None) -> None:
    """Refuse to draw z from a density that is known by a bound only.

    Where ln q is too low, ln p(x | z) + ln p(z) − ln q is too high, and no bound of ln p(x).

    Raises:
        InputError: names it.
    """
    if q is not None and q.kind != "exact":
        raise InputError(
            f"{name}: a density with an exact log_prob is expected, found a {type(q).__name__}, whose log_prob is a "
            f"{q.kind}; ln q is subtracted, and the result would be no bound"
        )


def refuse_infinite(bound: Tensor, model: LatentVariable) -> None:
    """Refuse bounds of ln p(x) that are no numbers; of symbols, −∞ says that a model gives them no probability.

    Raises:
        InputError: names the first one.
    """
    bad = bound.isnan() if model.event.discrete else ~bound.isfinite()
    refuse(bad, bound, "ln p(x)", "x is further out than this precision can tell")


class Borrower:
    """Beside `Density`: one that computes with the weights of another part of the same model, its lender.

    The weights stay the lender's: they are trained, moved, saved and loaded there, and only there.
    """

    lender: Any  # a density

    def borrow(self, lender: Density) -> None:
        """Compute with the weights of a lender."""
        object.__setattr__(self, "lender", lender)  # past nn.Module, which would count the weights here too


class Deterministic(Density):
    """q(z | x) = 1 at one z that is computed from x: ln q = 0 there, else −∞."""

    @abstractmethod
    def code(self, x: Tensor) -> Tensor:
        """Return z (n, *event.shape) of checked x."""

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        same = (self._sample(len(x), context, generator) == x).flatten(1).all(1)
        return torch.where(same, 0.0, -math.inf).to(self.dtype)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        assert context is not None
        return self.code(context)

    def _draw(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        z = self._sample(n, context, generator)
        return z, torch.zeros(len(z), dtype=self.dtype, device=z.device)

    def _draw_each(self, count: int, context: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        z, log_q = self._draw(len(context), context, generator)
        return z.repeat(count, *[1] * (z.ndim - 1)), log_q.repeat(count)


class Layered(Density):
    """A density over vectors that are layers z_1 … z_L side by side, one factor each: ∏_l q(z_l | other layers).

    A subclass writes `_factors` and `_draw_factors`; `_log_prob`, `_draw` and the like return their sums over layers.
    """

    layers: tuple[int, ...]  # number of values of each

    @abstractmethod
    def _factors(self, z: Tensor, context: Tensor | None) -> Tensor:
        """ln of every factor, (layers, n)."""

    @abstractmethod
    def _draw_factors(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Draw n examples, a multiple of the contexts, taken in turn; and return ln of every factor (layers, n)."""

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self._factors(x, context).sum(0)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self._draw_factors(n, context, generator)[0]

    def _draw(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        z, factors = self._draw_factors(n, context, generator)
        return z, factors.sum(0)

    def _draw_each(self, count: int, context: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        return self._draw(count * len(context), context, generator)


class Terms(NamedTuple):
    """The parts of ln w, (draws, n) each, in nats: ln w = reconstruction + ln p(z) − ln q(z | x).

    Where prior and posterior are made of the same layers, `kl_of_layers` (layers, draws, n) has the parts of `kl`.
    """

    reconstruction: Tensor
    log_prior: Tensor
    log_posterior: Tensor
    kl_of_layers: Tensor | None = None

    @property
    def log_weight(self) -> Tensor:
        """ln p(x | z) + ln p(z) − ln q(z | x)."""
        return self.reconstruction + self.log_prior - self.log_posterior

    @property
    def kl(self) -> Tensor:
        """ln q(z | x) − ln p(z); its mean over q is KL(q(z | x) ‖ p(z))."""
        return self.log_posterior - self.log_prior

    def by_name(self) -> dict[str, Tensor]:
        """For reports: the bound's two terms, and the parts of the second by layer, the first being nearest to x."""
        terms = {"reconstruction": self.reconstruction, "KL": self.kl}
        if self.kl_of_layers is not None:
            terms |= {f"KL of layer {number}": kl for number, kl in enumerate(self.kl_of_layers, 1)}
        return terms


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
    z, of_posterior = _draw_factors(model, x, draws, generator, proposal)
    of_prior = _factors(model.prior, z, generator)
    found = model.decoder._score_each(x, z, generator), of_prior.sum(0), of_posterior.sum(0)
    if 1 < len(of_prior) == len(of_posterior):
        kl = (of_posterior - of_prior).view(-1, draws, len(x))
    else:
        kl = None
    return Terms(*(part.view(draws, len(x)) for part in found), kl_of_layers=kl)


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
    z, factors = _draw_factors(model, x, draws, generator, proposal)
    return z, factors.sum(0)


def _draw_factors(
    model: LatentVariable,
    x: Tensor,
    draws: int,
    generator: torch.Generator | None,
    proposal: Density | None,
) -> tuple[Tensor, Tensor]:
    """Draw z ~ q(z | x), and return ln of every factor of q (layers, draws · n); most densities have one."""
    require_draws(draws)
    q = model.encoder if proposal is None else proposal
    if q is None:
        raise InputError(f"this {type(model).__name__} has no encoder q(z | x); give one, or another proposal")
    if proposal is not None and (q.event != model.prior.event or q.context not in (None, model.event)):
        raise InputError(
            f"a proposal over {model.prior.event}, without context or given {model.event}, is expected, found one over "
            f"{q.event} given {q.context}"
        )
    refuse_bound("proposal", proposal)
    n, context = draws * len(x), x
    if q.context is None:
        context = None
    if isinstance(q, Layered):
        return q._draw_factors(n, context, generator)
    if context is None:
        z, log_q = q._draw(n, None, generator)
    else:
        z, log_q = q._draw_each(draws, context, generator)
    return z, log_q[None]


def require_draws(draws: int) -> None:
    """Refuse a K that is no whole number of at least 1.

    Raises:
        InputError: names it.
    """
    if type(draws) is not int or draws < 1:
        raise InputError(f"a whole number of draws of z, at least 1, is expected, found {draws}")


def _factors(prior: Density, z: Tensor, generator: torch.Generator | None) -> Tensor:
    if isinstance(prior, Layered):
        return prior._factors(z, None)
    return prior._log_prob(z, None, generator)[None]


def evidence_lower_bound(log_weights: Tensor) -> Tensor:
    """ELBO: mean of ln w over draws, (draws, n) → (n,). Its expectation is at most ln p(x).

    Paper: Auto-Encoding Variational Bayes (Kingma, Welling, 2014), https://arxiv.org/abs/1312.6114
    """
    return log_weights.mean(0)


def training_loss(terms: Terms, weight: float = 1.0, free_nats: float = 0.0) -> Tensor:
    """−ELBO of draws, mean over a batch in nats, with the KL as training counts it: weight · max(mean KL, free nats).

    Where z has layers, each has its own free nats. With a weight of 1 and nothing free it is the negative evidence
    lower bound; else it is no bound of anything.
    """
    layers = terms.kl_of_layers
    if layers is None:
        layers = terms.kl[None]
    kl = layers.flatten(1).mean(1)
    counted = kl
    if free_nats:  # else a KL estimated by draws may be negative
        counted = kl.clamp_min(free_nats)
    return (weight * counted - kl).sum() - evidence_lower_bound(terms.log_weight).mean()
