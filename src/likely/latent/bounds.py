"""Estimates of ln p(x) = ln ∫ p(x | z) p(z) dz, as functions of a latent-variable model.

All of them are made of the log-weights ln w_k = ln p(x | z_k) + ln p(z_k) − ln q(z_k | x) of draws z_k ~ q. The mean
of w is an unbiased estimate of p(x), and so its logarithm is a lower bound of ln p(x) in expectation.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from likely.density import Density
from likely.errors import InputError, require_sizes
from likely.latent.latent import (
    LatentVariable,
    Terms,
    draw_terms,
    latent_variable,
    refuse_infinite,
    require_draws,
)

CHUNK = 4096  # pairs of an example and a latent at once
TAIL = 0.2  # of the weights that the Pareto distribution is fitted to, at most
RELIABLE = 0.7  # k-hat above which an estimate cannot be trusted
MOST_UNRELIABLE = 0.05  # part of the examples that may be so without a warning
FEW = 10  # effective draws, of twice as many at least, that say nothing


class UnreliableEstimate(UserWarning):
    """An estimate of ln p(x) rests on so few of its draws that it says nothing but a lower bound."""


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """L_K = ln 1/K Σ_k w_k, (K, n) → (n,): at most ln p(x) in expectation, and rising with K.

    Paper: Importance Weighted Autoencoders (Burda, Grosse, Salakhutdinov, 2016), https://arxiv.org/abs/1509.00519

    Raises:
        InputError: no draws.
    """
    require_draws(len(log_weights))
    return log_weights.logsumexp(0) - math.log(len(log_weights))


@dataclass(frozen=True)
class Estimate:
    """An estimate of ln p(x) for every example.

    Attributes:
        value: nats (n,).
        standard_error: of every value, from the spread of its weights (n,); zeros where it is exact.
        effective_sample_size: (Σ w)² / Σ w², between 1 and `draws` (n,).
        k_hat: shape of the Pareto distribution of the largest weights (n,); above 0.7 the estimate is not to be
            trusted, as its variance is infinite or nearly so. NaN where there are too few draws to tell, or the largest
            weights are all the same.
        draws: K.
        kind: "exact"; "lower bound" in expectation.
        terms: means over the draws of the named parts of ln w, nats (n,) each: "reconstruction", an estimate of
            E[ln p(x | z)], and "KL", one of KL(q(z | x) ‖ p(z)). Their difference is the evidence lower bound. Where z
            has layers, also the KL of every layer. None where nothing was drawn.
    """

    value: Tensor
    standard_error: Tensor
    effective_sample_size: Tensor
    k_hat: Tensor
    draws: int
    kind: Literal["exact", "lower bound"]
    terms: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def joined(cls, parts: Sequence["Estimate"]) -> "Estimate":
        """One after the other, of as many draws each."""
        columns = [(part.value, part.standard_error, part.effective_sample_size, part.k_hat) for part in parts]
        value, error, size, k_hat = (torch.cat(column) for column in zip(*columns, strict=True))
        terms = {name: torch.cat([part.terms[name] for part in parts]) for name in parts[0].terms}
        return cls(value, error, size, k_hat, parts[0].draws, parts[0].kind, terms)


@torch.no_grad()
def importance_sampling(
    model: LatentVariable,
    x: Tensor,
    draws: int,
    *,
    proposal: Density | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """L_K with K = `draws`, in memory that does not grow with K.

    The encoder's network runs once for an example and up to 4,096 draws, where the encoder makes use of that.

    Args:
        model: prior, decoder and encoder.
        x: examples (n, *event.shape).
        draws: K.
        proposal: q(z | x), or q(z), over the prior's event; None: the encoder. With `model.prior` this is prior
            sampling, of little use where the posterior is much narrower than the prior: see k_hat.
        generator: of z.

    Raises:
        InputError: another kind of model, data that are not the model's, K < 1, nothing to draw z from, or a proposal
            that is not over z, or known by a bound only.
    """
    x = latent_variable(model).check(x)
    require_draws(draws)
    found = []
    for rows in x.split(max(1, CHUNK // draws)):
        weights = _Weights(draws, len(rows))
        for part in _parts(draws, len(rows)):
            weights.add(draw_terms(model, rows, part, generator, proposal))
        found.append(weights.estimate())
    estimate = Estimate.joined(found)
    refuse_infinite(estimate.value, model)
    return estimate


def prior_sampling(
    model: LatentVariable, x: Tensor, draws: int, *, generator: torch.Generator | None = None
) -> Estimate:
    """ln 1/K Σ_k p(x | z_k), z_k ~ p(z): `importance_sampling` from the prior.

    Warns:
        UnreliableEstimate: of half the examples or more, hardly a draw explains them.
    """
    estimate = importance_sampling(model, x, draws, proposal=model.prior, generator=generator)
    warn_of_few(estimate, "prior sampling")
    return estimate


def warn_of_few(estimate: Estimate, name: str) -> None:
    """Warn where the median effective sample size is below ten, and below half the draws."""
    median = float(estimate.effective_sample_size.median())
    if not median >= min(FEW, estimate.draws / 2):
        warnings.warn(
            f"{name}: in the median, {median:.1f} of {estimate.draws:,} draws count; the estimate is a bound that may "
            "be far below ln p(x), and its standard error says nothing; draw z from an encoder, or far more often",
            UnreliableEstimate,
            stacklevel=3,
        )


def warn_of_tails(estimate: Estimate) -> None:
    """Warn where k-hat is above 0.7 for more than one example in twenty."""
    part = above_reliable(estimate)
    if part is not None and part > MOST_UNRELIABLE:
        warnings.warn(
            f"k-hat is above {RELIABLE} for {part:.1%} of the examples: a few draws carry most of the weight, so that "
            "the bound is loose and its error unknown; take more draws, or fit a better encoder",
            UnreliableEstimate,
            stacklevel=3,
        )


def above_reliable(estimate: Estimate) -> float | None:
    """The part of the examples with a k-hat above 0.7; None where there are too few draws to tell."""
    known = estimate.k_hat[~estimate.k_hat.isnan()]
    if len(known):
        return float((known > RELIABLE).double().mean())
    return None


@torch.no_grad()
def enumeration(
    model: LatentVariable, x: Tensor, *, limit: int = 2**16, generator: torch.Generator | None = None
) -> Estimate:
    """ln Σ_z p(x | z) p(z) over all states of a discrete latent.

    Exact where prior and decoder are; a lower bound in expectation where one of them is a bound.

    Args:
        model: prior and decoder.
        x: examples (n, *event.shape).
        limit: number of states at most.
        generator: of the draws of a prior or decoder that is a bound.

    Raises:
        InputError: another kind of model, a real latent, or more states than `limit`.
    """
    x, event = latent_variable(model).check(x), model.prior.event
    require_sizes(limit=limit)
    if not event.discrete or math.prod(event.alphabets) > limit:
        raise InputError(f"enumeration takes at most {limit:,} states of z, found a latent over {event}")
    states = torch.cartesian_prod(*(torch.arange(levels) for levels in event.alphabets)).view(-1, *event.shape)
    states = states.to(x.device)
    total = x.new_full((len(x),), -math.inf, dtype=torch.float64)
    for part in states.split(max(1, CHUNK // len(x))):
        z = part.repeat_interleave(len(x), 0)
        rows = x.repeat(len(part), *[1] * (x.ndim - 1))
        joint = model.decoder._log_prob(rows, z, generator) + model.prior._log_prob(z, None, generator)
        total = torch.logaddexp(total, joint.view(len(part), len(x)).double().logsumexp(0))
    ones = torch.ones_like(total)
    kind = "exact" if model.decoder.kind == model.prior.kind == "exact" else "lower bound"
    return Estimate(total, 0 * ones, ones * len(states), -math.inf * ones, len(states), kind)


def _parts(draws: int, n: int) -> Iterator[int]:
    size = max(1, CHUNK // n)
    for start in range(0, draws, size):
        yield min(size, draws - start)


class _Weights:
    """Running sums of w, w² and the terms, and the largest of the log-weights, of every example."""

    def __init__(self, draws: int, n: int) -> None:
        self.draws = draws
        self.kept = min(math.ceil(TAIL * draws), math.ceil(3 * math.sqrt(draws))) + 1
        self.log_sum, self.log_square = torch.full((2, n), -math.inf, dtype=torch.float64)
        self.largest = self.log_sum[None][:0]
        self.terms: dict[str, Tensor] = {}

    def add(self, terms: Terms) -> None:
        for name, part in terms.by_name().items():
            self.terms[name] = self.terms.get(name, 0) + part.double().cpu().sum(0)
        log_weights = terms.log_weight.double().cpu()
        self.log_sum = self.log_sum.logaddexp(log_weights.logsumexp(0))
        self.log_square = self.log_square.logaddexp((2 * log_weights).logsumexp(0))
        together = torch.cat([self.largest, log_weights])
        self.largest = together.topk(min(self.kept, len(together)), 0)[0]

    def estimate(self) -> Estimate:
        size = (2 * self.log_sum - self.log_square).exp()
        variance = (self.draws / size - 1).clamp_min(0) / max(1, self.draws - 1)  # of mean w, in units of (mean w)²
        if self.draws > 1:
            error = variance.sqrt()
        else:
            error = torch.full_like(variance, math.nan)
        value = self.log_sum - math.log(self.draws)
        terms = {name: total / self.draws for name, total in self.terms.items()}
        return Estimate(value, error, size, pareto_shape(self.largest), self.draws, "lower bound", terms)


def pareto_shape(log_weights: Tensor) -> Tensor:
    """k-hat (n,): the shape of the generalised Pareto distribution that fits the largest weights, in descending order.

    The smallest of them (m + 1, n) is the threshold. NaN for fewer than five above it, or where a quarter of them equal
    it.

    Papers: Pareto Smoothed Importance Sampling (Vehtari, Simpson, Gelman, Yao, Gabry, 2024),
    https://arxiv.org/abs/1507.02646; the fit: A New and Efficient Estimation Method for the Generalized Pareto
    Distribution (Zhang, Stephens, 2009), https://doi.org/10.1198/tech.2009.08017
    """
    m = len(log_weights) - 1
    if m < 5:
        return log_weights.new_full(log_weights.shape[1:], math.nan)
    weights = (log_weights - log_weights[0]).exp()
    excess = (weights[:-1] - weights[-1]).flip(0)  # ascending (m, n)
    quartile = excess[int(m / 4 + 0.5) - 1]
    largest = excess[-1]
    grid = 30 + int(math.sqrt(m))
    points = torch.arange(1, grid + 1, dtype=excess.dtype, device=excess.device)
    theta = 1 / largest + (1 - (grid / (points - 0.5)).sqrt())[:, None] / (3 * quartile)  # (grid, n)
    k = (-theta[:, None] * excess).log1p().mean(1)  # (grid, n)
    profile = m * ((-theta / k).log() - k - 1)
    theta = (theta * profile.softmax(0)).sum(0)
    k = (-theta * excess).log1p().mean(0)
    return k * m / (m + 10) + 0.5 * 10 / (m + 10)  # drawn towards ½, as few values say little
