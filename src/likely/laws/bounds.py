"""Bounds in order: of latent-variable models whose ln p(x) can be had by enumeration or quadrature over z."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

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
    """By how many standard errors a bound is above a tighter one, or above ln p(x); the largest.

    The bounds are what the model reports as log_prob and L_2, L_8, L_32 of its prior, decoder and encoder, each a mean
    over the examples and 64 independent rounds. ln p(x) = ln Σ_z p(x | z) p(z) over all states of a discrete z, or that
    integral over the one or two values of a real one.
    """
    if not isinstance(case.given, LatentVariable):
        raise NotApplicable("no latent variables")
    if case.given.encoder is None:
        raise NotApplicable("no encoder")
    if not case.given.prior.event.discrete and case.given.prior.event.dims > 2:
        raise NotApplicable(f"{case.given.prior.event.dims} latent values, one or two can be integrated over")
    if case.given.prior.kind != "exact" or case.given.decoder.kind != "exact":
        raise NotApplicable("the prior or the decoder is a bound itself")
    found = {}
    for name, model in case.models(torch.float64).items():
        x, log_p = exact(case, model)
        if len(x):
            found |= {f"{pair}, {name}": value for pair, value in excesses(case, model, x, log_p).items()}
    if not found:
        raise NotApplicable("p(x | z) is too rough to be integrated over z")
    return worst(found)


def excesses(case: Case, model: LatentVariable, x: Tensor, log_p: Tensor) -> dict[str, float]:
    """Of every bound over the next one and over ln p, in standard errors."""
    generator, rows = case.generator(), x.repeat(ROUNDS, *[1] * (x.ndim - 1))
    reported = model.log_prob(rows, generator=generator)
    bounds = {"log_prob": reported} if model.kind == "lower bound" else {}
    bounds |= {f"L_{k}": importance_sampling(model, rows, k, generator=generator).value for k in DRAWS}
    rounds = {name: bound.double().cpu().view(ROUNDS, -1).mean(1) for name, bound in bounds.items()}
    least = ROUNDING if model.prior.event.discrete else QUADRATURE
    truth = log_p.double().cpu().mean().expand(ROUNDS)
    pairs = [*zip(rounds, list(rounds)[1:], strict=False), *((name, "ln p") for name in rounds)]
    found = {}
    for lower, upper in pairs:
        a, b = rounds[lower], truth if upper == "ln p" else rounds[upper]
        error = math.sqrt(float(a.var() + b.var()) / ROUNDS)
        found[f"{lower} over {upper}"] = float(a.mean() - b.mean()) / max(error, least)
    return found


def exact(case: Case, model: LatentVariable) -> tuple[Tensor, Tensor]:
    """Those of the examples whose ln p(x) can be had, and it."""
    event = model.prior.event
    if event.discrete:
        states = math.prod(event.alphabets)
        if states > STATES:
            raise NotApplicable(f"{states:,} states of z, {STATES:,} can be enumerated")
        return case.x, enumeration(model, model.check(case.x)).value
    found = {k: integrated(case, model, x[None]) for k, x in enumerate(model.check(case.x[:INTEGRATED]))}
    known = {k: value for k, value in found.items() if value is not None}
    return case.x[list(known)], torch.tensor(list(known.values()), dtype=torch.float64)


def integrated(case: Case, model: LatentVariable, x: Tensor) -> float | None:
    """ln ∫ p(x | z) p(z) dz for one example (1, *event.shape), by quadrature around p(z | x); None if too rough."""
    generator, support = case.generator(), model.prior.support

    def scores(z: Tensor) -> Tensor:
        """ln p(x | z) and ln p(z) of z (m, dims), (2, m); both −∞ outside of the prior's support."""
        known = torch.full((2, len(z)), -math.inf, dtype=torch.float64)
        inside = ((z > support.low) & (z < support.high)).all(1)
        latents = z[inside].view(-1, *model.prior.event.shape).to(model.device)
        if len(latents):
            rows = x.expand(len(latents), *x.shape[1:])
            pair = model.decoder._log_prob(rows, latents, None), model.prior._log_prob(latents, None, None)
            known[:, inside] = torch.stack(pair).double().cpu()
        return known

    prior = model.prior.sample(PARTICLES, generator=generator).reshape(PARTICLES, -1).double().cpu()
    if scores(prior)[0].isinf().all():
        return None
    posterior, log_scale = tempered(scores, prior, generator)
    encoded = draw_latents(model, x, PARTICLES // 8, generator)[0].reshape(PARTICLES // 8, -1).double().cpu()
    if len(posterior.unique(dim=0)) < PARTICLES / 2:
        return None
    pilot, counted = posterior.split(PARTICLES // 2)
    cells = integrate(lambda z: (scores(z).sum(0) - log_scale).exp(), support, torch.cat([pilot, encoded]), counted)
    return log_scale + math.log(float(cells.mass.sum())) if cells.resolved else None


def tempered(scores: Callable[[Tensor], Tensor], z: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """Draws from p(z | x), about, and an estimate of ln p(x): from the prior's z, p(x | z)^t is let in by degrees.

    Paper: Sequential Monte Carlo samplers (Del Moral, Doucet, Jasra, 2006),
    https://doi.org/10.1111/j.1467-9868.2006.00553.x
    """
    n, dims = z.shape
    t, log_p, (likelihood, prior) = 0.0, 0.0, scores(z)
    while t < 1:
        step = longest(likelihood, 1 - t)
        t, log_p = t + step, log_p + float((step * likelihood).logsumexp(0)) - math.log(n)
        chosen = torch.multinomial((step * likelihood).softmax(0), n, True, generator=generator)
        z, likelihood, prior = z[chosen], likelihood[chosen], prior[chosen]
        reach = z.std(0) * 2 / math.sqrt(dims)
        for move in range(MOVES):
            drawn = torch.randn(n, dims, generator=generator, dtype=z.dtype)
            moved = z + reach / 4 ** (move % 3) * drawn
            there, beside = scores(moved)
            gain = t * (there - likelihood) + beside - prior
            taken = gain.exp() > torch.rand(n, generator=generator, dtype=z.dtype)
            z = torch.where(taken[:, None], moved, z)
            likelihood, prior = torch.where(taken, there, likelihood), torch.where(taken, beside, prior)
    return z, log_p


def longest(likelihood: Tensor, rest: float) -> float:
    """The longest step in t, up to the rest, that leaves half the draws effective, if there is one."""

    def effective(step: float) -> float:
        return float(1 / (step * likelihood).softmax(0).square().sum()) / len(likelihood)

    if effective(rest) >= 0.5:
        return rest
    low, high = 0.0, rest
    while high - low > 1e-3 * low and high > SHORTEST:
        middle = (low + high) / 2
        low, high = (middle, high) if effective(middle) >= 0.5 else (low, middle)
    return low or high
