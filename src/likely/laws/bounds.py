"""Bounds in order: of latent-variable models small enough for ln p(x) by enumeration or quadrature over z."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from likely.density import Density
from likely.latent.bounds import enumeration, importance_sampling
from likely.latent.latent import LatentVariable, draw_latents
from likely.laws.case import Case
from likely.laws.probability import worst
from likely.laws.quadrature import integrate
from likely.laws.table import Measured, NotApplicable

STATES = 2**12  # of z, enumerated
INTEGRATED = 4  # examples, where z is real
DRAWS = (2, 8, 32)
ROUNDS = 64
ROUNDING, QUADRATURE = 1e-6, 2.5e-4  # the least standard errors, nats
PARTICLES = 2048
MOVES = 4
SHORTEST = 1e-9  # step in the power of p(x | z): where p(x | z) = 0 for most z, none is short enough


def bounds_in_order(case: Case) -> Measured:
    """Return the largest excess of a bound over a tighter one, or over ln p(x), in standard errors.

    The bounds are the model's log_prob, if it is one, and L_2, L_8, L_32 of its prior, decoder and encoder, each a mean
    over the examples and 64 independent rounds. ln p(x) = ln Σ_z p(x | z) p(z) over all states of a discrete z, or that
    integral over the one or two values of a real one.
    """
    _require_bounds(case.given)
    found = {}
    for name, model in case.models(torch.float64).items():
        x, log_p = exact(case, model)
        if len(x):
            found |= {f"{pair}, {name}": value for pair, value in excesses(case, model, x, log_p).items()}
    if not found:
        raise NotApplicable("p(x | z) is too rough to be integrated over z")
    return worst(found)


def _require_bounds(model: Density) -> None:
    if not isinstance(model, LatentVariable):
        raise NotApplicable("no latent variables")
    if model.encoder is None:
        raise NotApplicable("no encoder")
    prior = model.prior
    if not prior.event.discrete and prior.event.dims > 2:
        raise NotApplicable(f"{prior.event.dims} latent values, one or two can be integrated over")
    if prior.kind != "exact" or model.decoder.kind != "exact":
        raise NotApplicable("the prior or the decoder is a bound itself")


def excesses(case: Case, model: LatentVariable, x: Tensor, log_p: Tensor) -> dict[str, float]:
    """Return the excess of every bound over the next one and over ln p, in standard errors."""
    generator = case.generator()
    rows = x.repeat(ROUNDS, *[1] * (x.ndim - 1))
    reported = model.log_prob(rows, generator=generator)
    bounds = {}
    if model.kind == "lower bound":
        bounds["log_prob"] = reported
    bounds |= {f"L_{k}": importance_sampling(model, rows, k, generator=generator).value for k in DRAWS}
    rounds = {name: bound.double().cpu().view(ROUNDS, -1).mean(1) for name, bound in bounds.items()}
    names = list(rounds)
    rounds["ln p"] = log_p.double().cpu().mean().expand(ROUNDS)
    least = ROUNDING if model.prior.event.discrete else QUADRATURE
    found = {}
    for lower, upper in [*pairwise(names), *((name, "ln p") for name in names)]:
        a, b = rounds[lower], rounds[upper]
        error = math.sqrt(float(a.var() + b.var()) / ROUNDS)
        found[f"{lower} over {upper}"] = float(a.mean() - b.mean()) / max(error, least)
    return found


def exact(case: Case, model: LatentVariable) -> tuple[Tensor, Tensor]:
    """Return the examples with a known ln p(x), and these."""
    event = model.prior.event
    if event.discrete:
        states = math.prod(event.alphabets)
        if states > STATES:
            raise NotApplicable(f"{states:,} states of z, {STATES:,} can be enumerated")
        return case.x, enumeration(model, model.check(case.x)).value
    x = model.check(case.x[:INTEGRATED])
    found = {k: integrated(case, model, row[None]) for k, row in enumerate(x)}
    known = {k: value for k, value in found.items() if value is not None}
    log_p = torch.tensor(list(known.values()), dtype=torch.float64)
    return case.x[list(known)], log_p


def integrated(case: Case, model: LatentVariable, x: Tensor) -> float | None:
    """Integrate p(x | z) p(z) of an example x (1, *event.shape) by quadrature around p(z | x): ln p(x), or None.

    It is None where p(x | z) is too rough in z.
    """
    generator, scores = case.generator(), scores_of(model, x)
    prior = flat(model.prior.sample(PARTICLES, generator=generator))
    if scores(prior)[0].isinf().all():
        return None
    posterior, log_scale = tempered(scores, prior, generator)
    encoded, *_ = draw_latents(model, x, PARTICLES // 8, generator)
    if len(posterior.unique(dim=0)) < PARTICLES / 2:
        return None
    pilot, counted = posterior.split(PARTICLES // 2)
    pilot = torch.cat([pilot, flat(encoded)])

    def scaled(z: Tensor) -> Tensor:
        return (scores(z).sum(0) - log_scale).exp()

    cells = integrate(scaled, model.prior.support, pilot, counted)
    if not cells.resolved:
        return None
    return log_scale + math.log(float(cells.mass.sum()))


def flat(z: Tensor) -> Tensor:
    """Return latents (n, *shape) as (n, dims), float64, on the CPU."""
    return z.reshape(len(z), -1).double().cpu()


def scores_of(model: LatentVariable, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function from latents to ln p(x | z) and ln p(z), of one example x (1, *event.shape)."""
    support = model.prior.support

    def scores(z: Tensor) -> Tensor:
        """Return ln p(x | z) and ln p(z) of z (m, dims), (2, m); both −∞ outside of the prior's support."""
        known = torch.full((2, len(z)), -math.inf, dtype=torch.float64)
        inside = ((z > support.low) & (z < support.high)).all(1)
        latents = z[inside].view(-1, *model.prior.event.shape).to(model.device)
        if len(latents):
            rows = x.expand(len(latents), *x.shape[1:])
            likelihood = model.decoder._log_prob(rows, latents, None)
            prior = model.prior._log_prob(latents, None, None)
            known[:, inside] = torch.stack([likelihood, prior]).double().cpu()
        return known

    return scores


def tempered(scores: Callable[[Tensor], Tensor], z: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """Return approximate draws from p(z | x), and an estimate of ln p(x), from draws z of the prior.

    The power t of p(x | z)^t p(z) grows from 0 to 1 in steps: draws are resampled by weight, then moved by Metropolis
    steps.

    Paper: Sequential Monte Carlo samplers (Del Moral, Doucet, Jasra, 2006),
    https://doi.org/10.1111/j.1467-9868.2006.00553.x
    """
    n, dims = z.shape
    t, log_p, (likelihood, prior) = 0.0, 0.0, scores(z)
    while t < 1:
        step = longest(likelihood, 1 - t)
        weights = step * likelihood
        t, log_p = t + step, log_p + float(weights.logsumexp(0)) - math.log(n)
        chosen = torch.multinomial(weights.softmax(0), n, True, generator=generator)
        z, likelihood, prior = z[chosen], likelihood[chosen], prior[chosen]
        reach = z.std(0) * 2 / math.sqrt(dims)
        for move in range(MOVES):
            drawn = torch.randn(n, dims, generator=generator, dtype=z.dtype)
            moved = z + reach / 4 ** (move % 3) * drawn
            there, beside = scores(moved)
            gain = t * (there - likelihood) + beside - prior
            taken = gain.exp() > torch.rand(n, generator=generator, dtype=z.dtype)
            z = torch.where(taken[:, None], moved, z)
            likelihood = torch.where(taken, there, likelihood)
            prior = torch.where(taken, beside, prior)
    return z, log_p


def longest(likelihood: Tensor, rest: float) -> float:
    """Return the longest step in t, up to the rest, that leaves half the draws effective, if there is one."""

    def effective(step: float) -> float:
        weights = (step * likelihood).softmax(0)
        return float(1 / weights.square().sum()) / len(likelihood)

    if effective(rest) >= 0.5:
        return rest
    low, high = 0.0, rest
    while high - low > 1e-3 * low and high > SHORTEST:
        middle = (low + high) / 2
        if effective(middle) >= 0.5:
            low = middle
        else:
            high = middle
    return low or high
