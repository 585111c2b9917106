"""Proper: p sums to one over symbols, or integrates to one over real values; a bound stays below."""

import math
from itertools import product

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
    """Return the largest |Σ_x p(x) − 1| by enumeration, over every ordering, their mixture, and every context tried."""
    found = {}
    for name, model in case.models(dtype).items():
        for c, context in enumerate(case.contexts):
            total = case.enumerated(name, dtype, c).exp().sum()
            found[f"{name}, context {c}"] = abs(float(total) - 1)
            if case.orders > 1:
                for k in range(case.orders):
                    total = sum_of_ordering(case, model, context, k)
                    found[f"{name}, ordering {k}, context {c}"] = abs(total - 1)
    return worst(found)


def sum_of_ordering(case: Case, model: Autoregressive, context: Tensor | None, order: int) -> float:
    """Return Σ_x p(x) under one ordering."""
    total = 0.0
    for (x,) in case.chunks(case.states):
        p = model.conditionals(x, repeated(context, len(x)), order=order)
        total += float(joint(p, x).double().exp().sum())
    return total


def integrates_to_one(case: Case) -> Measured:
    """Return the largest |∫ p(x) dx − 1| over the contexts tried, by adaptive quadrature in float64."""
    case.require_exact()
    pairs = list(product(case.models(), range(len(case.contexts))))
    tried = {f"{name}, context {c}": cells(case, name, c) for name, c in pairs}
    rough = [name for name, part in tried.items() if not part.resolved]
    found = {name: abs(float(part.mass.sum()) - 1) for name, part in tried.items() if part.resolved}
    if not found:
        raise NotApplicable("p is too rough to be integrated over")
    value, remark = worst(found)
    if rough:
        remark += f"; too rough: {', '.join(rough)}"
    return Measured(value, remark)


def cells(case: Case, name: str, context: int) -> Cells:
    """Return cells of one or two dimensions, with ∫ p over each and the number of samples in it; computed once."""
    if case.event.discrete:
        raise NotApplicable("symbols")
    if case.event.dims > 2:
        raise NotApplicable(f"{case.event.dims} dimensions, one or two can be integrated over")
    density = case.density(name, context)

    def compute() -> Cells:
        samples = case.drawn(PILOT + COUNTED, name, context, case.generator())
        pilot, counted = samples.split([PILOT, COUNTED])
        return integrate(lambda x: density(x).exp(), case.given.support, pilot, counted)

    return case.once(("cells", name, context), compute)


def bound_within_one(case: Case) -> Measured:
    """Return the largest excess of Σ_x E[p̂(x)] over one, in standard errors; p̂ is exp of a bound that draws."""
    if case.given.kind == "exact":
        raise NotApplicable("log_prob is exact")
    if len(case.states) > DRAWN_STATES:
        raise NotApplicable(f"{len(case.states):,} states, {DRAWN_STATES:,} can be drawn for")
    found = {}
    for name, model in case.models().items():
        for c, context in enumerate(case.contexts):
            generator = case.generator()
            given = repeated(context, len(case.states))
            rounds = [model.log_prob(case.states, given, generator=generator) for _ in range(ROUNDS)]
            sums = torch.stack(rounds).double().exp().sum(1)
            above = float(sums.mean()) - 1
            error = float(sums.std()) / math.sqrt(ROUNDS)
            found[f"Σ = {1 + above:.4g}, {name}, context {c}"] = above / max(error, 1e-6)
    return worst(found)


def joint(p: Discrete, x: Tensor) -> Tensor:
    """Return Σ_i ln p(x_i | x_<i), (n,)."""
    return p.log_prob(x).reshape(len(x), -1).sum(1)


def proper_tables(case: Case, dtype: torch.dtype) -> Measured:
    """Return the largest deviation of a table's sum from one, or of its entry from the scored probability."""
    found = {}
    for name, model, order in case.views(dtype):
        p = model.conditionals(case.x, case.context, order=order)
        table = p.table().double()
        scored = p.log_prob(case.x).double().exp()
        held = table.gather(-1, case.x[..., None])[..., 0]
        off_one = (table.sum(-1) - 1).abs().max()
        off_score = (held - scored).abs().max()
        found[name] = max(float(off_one), float(off_score))
    return worst(found)


def worst(found: dict[str, float]) -> Measured:
    """Return the largest value (a NaN before all) and its name."""
    name = max(found, key=lambda name: (math.isnan(found[name]), found[name]))
    if len(found) == 1:
        return Measured(found[name])
    return Measured(found[name], name)
