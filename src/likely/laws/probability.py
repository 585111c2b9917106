"""Proper and true samples: p sums to one, and is what `sample` draws from."""

from collections.abc import Iterator

import torch
from torch import Tensor

from likely.density import Autoregressive
from likely.distributions.discrete import Discrete
from likely.laws.case import Case, repeated
from likely.laws.table import Measured, NotApplicable

SAMPLES = 10_000
BINS = 200


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


def true_samples(case: Case) -> Measured:
    """p-value of a G-test that samples come from p, corrected for the number of tests; the smallest.

    On an enumerable space counts are compared with N p(x), states being grouped in three ways. On a larger one the
    samples are turned by their own conditionals into uniform numbers, F(x_i − 1) + v p(x_i).
    """
    case.require_discrete()
    test = _enumerated
    try:
        _ = case.states
    except NotApplicable:
        if not isinstance(case.given, Autoregressive) or case.given.orders > 1:
            raise
        test = _transformed
    found = {
        f"{name}, context {c}, {grouping}": p
        for name in case.models()
        for c in range(min(2, len(case.contexts)))
        for grouping, p in test(case, name, c)
    }
    name = min(found, key=found.__getitem__)
    return Measured(min(1.0, found[name] * len(found)), f"{len(found)} tests, smallest p: {name}")


def _enumerated(case: Case, name: str, context: int) -> Iterator[tuple[str, float]]:
    event, states = case.event, case.states
    drawn = case.models(torch.float32)[name].sample(SAMPLES, case.contexts[context], generator=case.generator())
    index = torch.zeros(SAMPLES, dtype=torch.int64)
    for symbol, levels in zip(event.check(drawn).reshape(SAMPLES, -1).cpu().T, event.alphabets, strict=True):
        index = index * levels + symbol
    counts = index.bincount(minlength=len(states)).double()
    p = case.enumerated(name, torch.float32, context).exp().cpu()
    backwards = torch.arange(len(states)).view(event.alphabets).permute(*reversed(range(event.dims))).flatten()
    for grouping, order in {"in order": slice(None), "last first": backwards, "by p": p.argsort()}.items():
        yield grouping, g_test(counts[order], p[order] * SAMPLES / p.sum())


def _transformed(case: Case, name: str, context: int) -> Iterator[tuple[str, float]]:
    model, given, generator = case.models()[name], case.contexts[context], case.generator()
    n = max(16, SAMPLES // model.event.dims)
    drawn = model.event.check(model.sample(n, given, generator=generator))
    counts = torch.zeros(20, dtype=torch.float64)
    for (x,) in case.chunks(drawn):
        table = model.conditionals(x, repeated(given, len(x))).table().double().cpu()
        above, p = (t.gather(-1, x.cpu()[..., None])[..., 0] for t in (table.cumsum(-1), table))
        u = above - p * torch.rand(p.shape, generator=generator, dtype=torch.float64)
        counts += (u * len(counts)).long().clamp(0, len(counts) - 1).flatten().bincount(minlength=len(counts))
    yield "transformed to uniform", g_test(counts, counts.mean().expand(len(counts)))


def g_test(counts: Tensor, expected: Tensor) -> float:
    """p-value of G = 2 Σ O ln(O/E), neighbouring cells being merged into at most `BINS` with E ≥ 10."""
    if (counts[expected == 0] > 0).any():
        return 0.0
    bins = ((expected.cumsum(0) - expected / 2) * BINS / expected.sum()).long().clamp(0, BINS - 1)
    merged = torch.zeros(2, BINS, dtype=torch.float64).index_add_(1, bins, torch.stack([counts, expected]).double())
    cells = []
    for cell in merged.T:
        if cells and (cells[-1][1] < 10 or cell[1] < 10):
            cells[-1] = cells[-1] + cell
        else:
            cells.append(cell)
    observed, expected = torch.stack(cells, 1)
    if len(observed) == 1:
        return 1.0
    g = 2 * torch.xlogy(observed, observed / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(observed) - 1) / 2, dtype=g.dtype), g.clamp(min=0) / 2))


def worst(found: dict[str, float]) -> Measured:
    """The largest value (a NaN before all) and whose it is."""
    name = max(found, key=lambda name: (found[name] != found[name], found[name]))
    return Measured(found[name], name if len(found) > 1 else "")
