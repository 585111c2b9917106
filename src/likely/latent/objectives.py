"""Training objectives of latent-variable models, by name: a bound, and how its gradient is estimated.

An objective is a function of the model, checked examples, a number of draws and a generator. It returns a bound of
ln p(x) in nats (n,) with that gradient. None of them changes the bound that `log_prob` reports.
"""

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

from likely.density import Density
from likely.errors import InputError, require_sizes, suggestion
from likely.latent.bounds import importance_weighted_bound
from likely.latent.gradients import (
    Fixed,
    ThroughDensity,
    ThroughDraws,
    doubly_reparametrized,
    encoder_of,
    held,
    leave_one_out,
    score_function,
    straight_through,
    vimco,
    with_posterior_held,
    with_score,
)
from likely.latent.latent import Borrower, LatentVariable, Terms, draw_terms, evidence_lower_bound
from likely.scoring import Scoring

Objective = Callable[[LatentVariable, Tensor, int, torch.Generator | None], Tensor]


def elbo(model: LatentVariable, x: Tensor, draws: int, generator: torch.Generator | None = None) -> Tensor:
    """ELBO of reparametrised draws."""
    return evidence_lower_bound(draw_terms(model, x, draws, generator).log_weight)


def path_elbo(model: LatentVariable, x: Tensor, draws: int, generator: torch.Generator | None = None) -> Tensor:
    """ELBO, with a gradient that reaches the encoder through z alone: zero where q is the posterior.

    Paper: Sticking the Landing: Simple, Lower-Variance Gradient Estimators for Variational Inference (Roeder, Wu,
    Duvenaud, 2017), https://arxiv.org/abs/1703.09194
    """
    return evidence_lower_bound(draw_terms(model, x, draws, generator, ThroughDraws(encoder_of(model))).log_weight)


def straight_through_elbo(
    model: LatentVariable, x: Tensor, draws: int, generator: torch.Generator | None = None
) -> Tensor:
    """ELBO of symbols, with the biased gradient of `straight_through`."""
    return evidence_lower_bound(straight_through(model, x, draws, generator).log_weight)


def importance_weighted(
    model: LatentVariable, x: Tensor, draws: int, generator: torch.Generator | None = None
) -> Tensor:
    """L_K of reparametrised draws, the one objective of prior, decoder and encoder."""
    return importance_weighted_bound(draw_terms(model, x, draws, generator).log_weight)


def doubly_reparametrized_bound(
    model: LatentVariable, x: Tensor, draws: int, generator: torch.Generator | None = None
) -> Tensor:
    """L_K, with the gradient of `doubly_reparametrized`; the encoder runs once more for every draw."""
    proposal = ThroughDraws(encoder_of(model))
    return doubly_reparametrized(draw_terms(model, x, draws, generator, proposal), proposal.drawn)


def prior_sampling(model: LatentVariable, x: Tensor, draws: int, generator: torch.Generator | None = None) -> Tensor:
    """ln 1/K Σ_k p(x | z_k), z_k ~ p(z): needs no encoder, and trains none."""
    return importance_weighted_bound(draw_terms(model, x, draws, generator, Fixed(model.prior)).log_weight)


def importance_sampling(
    model: LatentVariable, x: Tensor, draws: int, generator: torch.Generator | None = None
) -> Tensor:
    """L_K with z from the encoder as it is: trains prior and decoder only."""
    return importance_weighted_bound(draw_terms(model, x, draws, generator, Fixed(encoder_of(model))).log_weight)


def wake_sleep(model: LatentVariable, x: Tensor, draws: int, generator: torch.Generator | None = None) -> Tensor:
    """Two objectives: prior and decoder on L_K, the encoder on KL(p(z | x) ‖ q(z | x)), from the same weights.

    The gradient of that KL is −E_{p(z | x)}[∇ ln q(z | x)], estimated by the draws with their weights: biased where
    they are few, and the same for symbols and for real values.

    Paper: Reweighted Wake-Sleep (Bornschein, Bengio, 2015), https://arxiv.org/abs/1406.2751
    """
    terms = draw_terms(model, x, draws, generator, ThroughDensity(encoder_of(model)))
    bound = importance_weighted_bound(with_posterior_held(terms).log_weight)
    return with_score(bound, terms.log_posterior, terms.log_weight.softmax(0))


def exclusive_wake_sleep(
    model: LatentVariable, x: Tensor, draws: int, generator: torch.Generator | None = None
) -> Tensor:
    """Two objectives: prior and decoder on L_K, the encoder on KL(q(z | x) ‖ p(z | x)), the gap of the ELBO.

    A relative of wake-sleep, and not IWAE, where all parts have one objective.

    Raises:
        InputError: a prior that computes with the encoder's weights: they cannot be held and trained at once.
    """
    if any(isinstance(part, Borrower) and part.lender is model.encoder for part in model.prior.modules()):
        raise InputError(
            f"exclusive wake-sleep: a prior with weights of its own is expected, found a {type(model.prior).__name__}, "
            "which computes with the encoder's"
        )
    bound = importance_sampling(model, x, draws, generator)
    with held(model.prior, model.decoder):
        gap = elbo(model, x, 1, generator)
    return bound + gap - gap.detach()


def _of_scored_draws(estimator: Callable[[Terms], Tensor]) -> Objective:
    def objective(model: LatentVariable, x: Tensor, draws: int, generator: torch.Generator | None = None) -> Tensor:
        return estimator(draw_terms(model, x, draws, generator, ThroughDensity(encoder_of(model))))

    return objective


ObjectiveName = Literal[
    "evidence lower bound",
    "sticking the landing",
    "score function",
    "leave one out",
    "straight through",
    "importance-weighted bound",
    "doubly reparametrized",
    "VIMCO",
    "prior sampling",
    "importance sampling",
    "wake-sleep",
    "exclusive wake-sleep",
]

OBJECTIVES: dict[str, Objective] = {
    "evidence lower bound": elbo,
    "sticking the landing": path_elbo,
    "score function": _of_scored_draws(score_function),
    "leave one out": _of_scored_draws(leave_one_out),
    "straight through": straight_through_elbo,
    "importance-weighted bound": importance_weighted,
    "doubly reparametrized": doubly_reparametrized_bound,
    "VIMCO": _of_scored_draws(vimco),
    "prior sampling": prior_sampling,
    "importance sampling": importance_sampling,
    "wake-sleep": wake_sleep,
    "exclusive wake-sleep": exclusive_wake_sleep,
}
OF_REAL_LATENTS = {
    *("evidence lower bound", "sticking the landing", "importance-weighted bound", "doubly reparametrized"),
    "exclusive wake-sleep",
}
OF_SYMBOLS = {"straight through"}
ON_L_K = {
    *("prior sampling", "importance-weighted bound", "doubly reparametrized", "VIMCO", "importance sampling"),
    *("wake-sleep", "exclusive wake-sleep"),
}
COMPARE_DRAWS = {"leave one out", "VIMCO"}


class TrainedOn(LatentVariable):
    """A latent-variable model that is trained on one of `OBJECTIVES`; `log_prob` is the bound of one draw, as always.

    Args:
        prior: p(z).
        decoder: p(x | z).
        encoder: q(z | x); prior sampling needs none.
        objective: name of the bound that is maximised.
        draws: of z, for every example and step.

    Raises:
        InputError: parts that do not fit, an objective that is unknown, or not for such latents or so few draws.
    """

    def __init__(
        self,
        prior: Density,
        decoder: Density,
        encoder: Density | None = None,
        *,
        objective: ObjectiveName = "evidence lower bound",
        draws: int = 1,
    ) -> None:
        super().__init__(prior, decoder, encoder)
        refuse_unknown("objective", objective, OBJECTIVES)
        require_sizes(2 if objective in COMPARE_DRAWS else 1, draws=draws)
        if objective in (OF_REAL_LATENTS if prior.event.discrete else OF_SYMBOLS):
            raise InputError(f"{objective}: there is no such gradient for latents over {prior.event}")
        if encoder is None and objective != "prior sampling":
            raise InputError(f"{objective}: an encoder q(z | x) is expected, found none")
        self.objective, self.draws = objective, draws
        self.validation = Scoring(
            draws=draws if objective in ON_L_K else 1,
            proposal="prior" if objective == "prior sampling" else "encoder",
        )

    def _loss(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return -OBJECTIVES[self.objective](self, x, self.draws, generator).mean() / self.event.dims


def refuse_unknown(argument: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that is not among those known.

    Raises:
        InputError: names it, and the nearest name.
    """
    known = list(known)
    if name not in known:
        raise InputError(f'unknown {argument} "{name}"{suggestion(name, known)}')
