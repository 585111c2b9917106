"""Gradients of bounds with respect to the encoder that draws z.

An estimator is a function of a batch of draws. It returns (n,): the value is the bound in nats, the gradient
is an estimate of the gradient of the bound's expectation. Draws come from `draw_terms`; its `proposal` decides how the
encoder's parameters get gradients:

                            through z   through q's density   proposal
    reparametrised             yes              yes           the encoder; there is nothing else to do
    doubly reparametrised      yes              no            ThroughDraws(encoder)
    score function, VIMCO      no               yes           ThroughDensity(encoder); of symbols the encoder itself
    importance weights         no               no            Fixed(encoder), or any other density
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

import torch
from torch import Tensor

from likely.density import Autoregressive, Density
from likely.errors import InputError
from likely.latent.bounds import importance_weighted_bound
from likely.latent.indicators import Indicators
from likely.latent.latent import Borrower, LatentVariable, Terms, draw_latents, evidence_lower_bound


@contextmanager
def held(*parts: Density) -> Iterator[None]:
    """Inside, results have no gradients for the parameters of these parts; those for their inputs remain.

    Parameters that a part borrows from another are held too.
    """
    lenders = [m.lender for part in parts for m in part.modules() if isinstance(m, Borrower)]
    free = [p for part in (*parts, *lenders) for p in part.parameters() if p.requires_grad]
    try:
        for parameter in free:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in free:
            parameter.requires_grad_(True)


class View(Density):
    """q(z | x) as it is, but for the gradients that its parameters get.

    Args:
        q: an encoder, or another density to draw z from.
    """

    def __init__(self, q: Density) -> None:
        super().__init__(q.event, q.context)
        self.q = q

    @abstractmethod
    def _seen(
        self, z: Tensor, log_q: Tensor, context: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Draws, one for each context, and ln q of each, with the gradients that they shall have."""

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.q._log_prob(x, context, generator)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self._draw(n, context, generator)[0]

    def _draw(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        return self._seen(*self.q._draw(n, context, generator), context, generator)

    def _draw_each(self, count: int, context: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        rows = context.repeat(count, *[1] * (context.ndim - 1))
        return self._seen(*self.q._draw_each(count, context, generator), rows, generator)


class ThroughDensity(View):
    """Draws are numbers; their density has gradients."""

    def _seen(
        self, z: Tensor, log_q: Tensor, context: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        if not z.requires_grad:  # symbols, or values that are not reparametrised
            return z, log_q
        return z.detach(), self.q._log_prob(z.detach(), context, generator)


class ThroughDraws(View):
    """Draws have gradients, and their density has them as a function of z alone; the last draws are `drawn`."""

    drawn: Tensor

    def _seen(
        self, z: Tensor, log_q: Tensor, context: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        self.drawn = z
        with held(self.q):
            return z, self.q._log_prob(z, context, generator)


class Fixed(View):
    """Draws are numbers, and so is their density."""

    def _seen(
        self, z: Tensor, log_q: Tensor, context: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        return z.detach(), log_q.detach()


def with_score(value: Tensor, log_posterior: Tensor, signal: Tensor) -> Tensor:
    """`value` (n,), with Σ_k signal_k ∇ ln q(z_k | x) added to its gradient; log_posterior and signal (draws, n)."""
    return value + (signal.detach() * (log_posterior - log_posterior.detach())).sum(0)


def score_function(terms: Terms, baseline: Tensor | float = 0.0) -> Tensor:
    """ELBO; ∇ = 1/K Σ_k (ln w_k − b_k) ∇ ln q(z_k | x) for the encoder. Draws: `ThroughDensity`.

    ∇ ln w_k itself has −∇ ln q(z_k | x): its expectation is zero, and it is left out.

    Paper: Neural Variational Inference and Learning in Belief Networks (Mnih, Gregor, 2014),
    https://arxiv.org/abs/1402.0030

    Args:
        terms: of draws z without gradients.
        baseline: b, near ln w and independent of z_k, (draws, n), (n,) or a number.
    """
    bound = evidence_lower_bound(with_posterior_held(terms).log_weight)
    return with_score(bound, terms.log_posterior, (terms.log_weight - baseline) / len(terms.log_weight))


def leave_one_out(terms: Terms) -> Tensor:
    """ELBO; the score function, with the mean of ln w over the other draws for a baseline. Draws: `ThroughDensity`.

    Paper: Buy 4 REINFORCE Samples, Get a Baseline for Free! (Kool, van Hoof, Welling, 2019),
    https://openreview.net/forum?id=r1lgTGL5DE

    Raises:
        InputError: fewer than two draws.
    """
    return score_function(terms, mean_of_others(terms.log_weight.detach()))


def vimco(terms: Terms) -> Tensor:
    """L_K; ∇ = Σ_k (L_K − L_K^(−k)) ∇ ln q(z_k | x) + Σ_k w_k / Σ_j w_j ∇ ln w_k. Draws: `ThroughDensity`.

    In L_K^(−k), w_k is replaced by the geometric mean of the other weights.

    Paper: Variational Inference for Monte Carlo Objectives (Mnih, Rezende, 2016), https://arxiv.org/abs/1602.06725

    Raises:
        InputError: fewer than two draws.
    """
    log_weights = terms.log_weight
    others = mean_of_others(log_weights.detach())
    own = torch.eye(len(log_weights), dtype=torch.bool)
    replaced = torch.where(own.to(others.device)[..., None], others, log_weights.detach()[:, None])  # (draws, draws, n)
    bound = importance_weighted_bound(log_weights)
    return with_score(bound, terms.log_posterior, bound - importance_weighted_bound(replaced))


def doubly_reparametrized(terms: Terms, z: Tensor) -> Tensor:
    """L_K; ∇ = Σ_k v_k² ∂ ln w_k / ∂z_k ∇ z_k for the encoder, v_k = w_k / Σ_j w_j, Σ_k v_k ∇ ln w_k for the others.

    Where q is the posterior, the encoder's gradient is zero in every draw, and not only in the mean.

    Paper: Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives (Tucker, Lawson, Gu, Maddison, 2018),
    https://arxiv.org/abs/1810.04152

    Args:
        terms: of draws by `ThroughDraws`.
        z: the draws (draws · n, *latent shape); their gradients are changed on the way to the encoder.
    """
    weights = terms.log_weight.detach().softmax(0).view(-1, *[1] * (z.ndim - 1))
    if z.requires_grad:
        z.register_hook(lambda gradient: gradient * weights.to(gradient))
    return importance_weighted_bound(terms.log_weight)


def straight_through(model: LatentVariable, x: Tensor, draws: int, generator: torch.Generator | None = None) -> Terms:
    """Terms of symbols z, with ∂ ln w / ∂ indicators of z · ∇ q(· | x) for the encoder's gradient: a biased estimate.

    The values are those of the symbols drawn; there is no relaxation and no temperature. The gradient takes the decoder
    for linear between symbols, though it is not. Where prior and encoder have the symbols independent, that of the KL
    is right in expectation. Take `evidence_lower_bound` of the log-weights.

    Paper: Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation (Bengio, Léonard,
    Courville, 2013), https://arxiv.org/abs/1308.3432

    Args:
        model: a decoder on indicators (`OnIndicators`), and a prior and an encoder that are autoregressive, in one
            ordering.
        x: checked examples.
        draws: K, at least 1.
        generator: of z.

    Raises:
        InputError: another kind of model.
    """
    prior, encoder = model.prior, encoder_of(model)
    layer = next((part for part in model.decoder.modules() if isinstance(part, Indicators)), None)
    if not (layer and _of_one_ordering(prior) and _of_one_ordering(encoder)):
        raise InputError(
            "straight-through gradients need an autoregressive prior and encoder, each of one ordering, and a decoder "
            "whose network is OnIndicators; found "
            f"{', '.join(type(part).__name__ for part in (prior, encoder, model.decoder))}"
        )
    with torch.no_grad():
        z, _ = draw_latents(model, x, draws, generator)
    rows = x.repeat(draws, *[1] * (x.ndim - 1))
    log_q = encoder._conditionals(z, rows, 0).log_table()  # (draws · n, *latent shape, levels)
    indicators = layer(z) + log_q.exp() - log_q.exp().detach()
    found = [
        model.decoder._log_prob(rows, indicators, generator),
        (indicators * prior._conditionals(z, None, 0).log_table()).flatten(1).sum(1),
        (indicators * log_q.detach()).flatten(1).sum(1),
    ]
    return Terms(*(part.view(draws, len(x)) for part in found))


def _of_one_ordering(density: Density) -> TypeGuard[Autoregressive]:
    return isinstance(density, Autoregressive) and density.orders == 1


def with_posterior_held(terms: Terms) -> Terms:
    """The same terms, with no gradient of ln q(z | x)."""
    return terms._replace(log_posterior=terms.log_posterior.detach())


def mean_of_others(values: Tensor) -> Tensor:
    """For every draw, the mean over the other draws, (draws, n) → (draws, n).

    Raises:
        InputError: there are no others.
    """
    if len(values) < 2:
        raise InputError("a draw is compared with the others: at least 2 draws are expected, found 1")
    return (values.sum(0) - values) / (len(values) - 1)


def encoder_of(model: LatentVariable) -> Density:
    """The model's encoder.

    Raises:
        InputError: it has none.
    """
    if model.encoder is None:
        raise InputError(f"this {type(model).__name__} has no encoder q(z | x), which its objective needs")
    return model.encoder
