"""Proper: p sums to one over symbols, or integrates to one over real values; a bound stays below."""

import math

import torch
from torch import Tensor

from likely.density import Autoregressive
from likely.distributions.discrete import Discrete
from likely.laws.case import Case, repeated
from likely.laws.quadrature import Cells, integrate
from likely.laws.table import Measured, NotApplicable

ROUNDS = 32
DRAWN_STATES = 2**12
PILOT = 32_000
COUNTED = 10_000


def proper(case: Case, dtype: torch.dtype) -> Measured:
    """|Σ_x p(x) − 1| by enumeration, for every ordering, their mixture, and every context tried; the largest."""
    found = {}
    for name, model in case.models(dtype).items():
        for c, context in enumerate(case.contexts):
            total = case.enumerated(name, dtype, c).exp().sum()
            found[f"{name}, context {c}"] = abs(float(total) - 1)
            for k in range(model.orders) if isinstance(model, Autoregressive) and model.orders > 1 else ():
                batches = ((x, repeated(context, len(x))) for (x,) in case.chunks(case.states))
                total = sum(float(joint(model.conditionals(x, c, order=k), x).double().exp().sum()) for x, c in batches)
                found[f"{name}, ordering {k}, context {c}"] = abs(total - 1)
    return worst(found)


def integrates_to_one(case: Case) -> Measured:
    """|∫ p(x) dx − 1| by adaptive quadrature over the support in float64, for every context tried; the largest."""
    case.require_exact()
    tried = {f"{name}, context {c}": cells(case, name, c) for name in case.models() for c in range(len(case.contexts))}
    rough = [name for name, part in tried.items() if not part.resolved]
    found = {name: abs(float(part.mass.sum()) - 1) for name, part in tried.items() if part.resolved}
    if not found:
        raise NotApplicable("p is too rough to be integrated over")
    value, remark = worst(found)
    return Measured(value, remark + (f"; too rough: {', '.join(rough)}" if rough else ""))


def cells(case: Case, name: str, context: int) -> Cells:
    """One or two dimensions cut into cells, with ∫ p over each and the number of samples in it; computed once."""
    if case.event.discrete:
        raise NotApplicable("symbols")
    if case.event.dims > 2:
        raise NotApplicable(f"{case.event.dims} dimensions, one or two can be integrated over")
    density = case.density(name, context)

    def compute() -> Cells:
        pilot, counted = case.drawn(PILOT + COUNTED, name, context, case.generator()).split([PILOT, COUNTED])
        return integrate(lambda x: density(x).exp(), case.given.support, pilot, counted)

    return case.once(("cells", name, context), compute)


def bound_within_one(case: Case) -> Measured:
    """How far Σ_x E[p̂(x)] is above one in standard errors, p̂ being exp of a bound that draws; the largest."""
    if case.given.kind == "exact":
        raise NotApplicable("log_prob is exact")
    if len(case.states) > DRAWN_STATES:
        raise NotApplicable(f"{len(case.states):,} states, {DRAWN_STATES:,} can be drawn for")
    found = {}
    for name, model in case.models().items():
        for c, context in enumerate(case.contexts):
            generator, given = case.generator(), repeated(context, len(case.states))
            rounds = [model.log_prob(case.states, given, generator=generator) for _ in range(ROUNDS)]
            sums = torch.stack(rounds).double().exp().sum(1)
            above, error = float(sums.mean()) - 1, float(sums.std()) / math.sqrt(ROUNDS)
            found[f"Σ = {1 + above:.4g}, {name}, context {c}"] = above / max(error, 1e-6)
    return worst(found)


def joint(p: Discrete, x: Tensor) -> Tensor:
    """Σ_i ln p(x_i | x_<i), (n,)."""
    return p.log_prob(x).reshape(len(x), -1).sum(1)


def proper_tables(case: Case, dtype: torch.dtype) -> Measured:
    """Every conditional's table sums to one and holds the probability that is scored; the largest deviation."""
    found = {}
    for name, model, order in case.views(dtype):
        p = model.conditionals(case.x, case.context, order=order)
        table = p.table().double()
        scored = p.log_prob(case.x).double().exp()
        held = table.gather(-1, case.x[..., None])[..., 0]
        found[name] = max(float((table.sum(-1) - 1).abs().max()), float((held - scored).abs().max()))
    return worst(found)


def worst(found: dict[str, float]) -> Measured:
    """The largest value (a NaN before all) and whose it is."""
    name = max(found, key=lambda name: (found[name] != found[name], found[name]))
    return Measured(found[name], name if len(found) > 1 else "")
