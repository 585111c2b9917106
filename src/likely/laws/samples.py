"""True samples: the draws of `sample` come from p."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from likely.event import Interval
from likely.laws.case import Case, repeated
from likely.laws.probability import cells
from likely.laws.table import Measured, NotApplicable

SAMPLES = 10_000
BINS = 200
PLACED = 1_000
PLACES = 8
SCALES = (2.0**-1, 2.0**-3, 2.0**-5)


def true_samples(case: Case) -> Measured:
    """Return the smallest p-value of G-tests that samples come from p, corrected for the number of tests.

    On an enumerable space counts are compared with N p(x), with states grouped in three ways. On a larger one the
    conditionals transform the samples into uniform numbers, F(x_i − 1) + v p(x_i). Real values in one or two dimensions
    are counted in cells and compared with N ∫ p. In more dimensions the place of a sample on a line through it, along
    the line and by p, is transformed into a uniform number.
    """
    case.require_exact()
    test = _values
    if case.event.discrete:
        test = _symbols(case)
    found = {
        f"{name}, context {c}, {grouping}": p
        for name in case.models()
        for c in range(min(2, len(case.contexts)))
        for grouping, p in test(case, name, c)
    }
    name = min(found, key=found.__getitem__)
    return Measured(min(1.0, found[name] * len(found)), f"{len(found)} tests, smallest p: {name}")


def _symbols(case: Case) -> Callable[[Case, str, int], Iterator[tuple[str, float]]]:
    try:
        _ = case.states
    except NotApplicable:
        if case.orders != 1:
            raise
        return _transformed
    return _enumerated


def _enumerated(case: Case, name: str, context: int) -> Iterator[tuple[str, float]]:
    event, states = case.event, case.states
    model = case.models(torch.float32)[name]
    drawn = model.sample(SAMPLES, case.contexts[context], generator=case.generator())
    index = torch.zeros(SAMPLES, dtype=torch.int64)
    columns = event.check(drawn).reshape(SAMPLES, -1).cpu().T
    for symbol, levels in zip(columns, event.alphabets, strict=True):
        index = index * levels + symbol
    counts = index.bincount(minlength=len(states)).double()
    p = case.enumerated(name, torch.float32, context).exp().cpu()
    places = torch.arange(len(states)).view(event.alphabets)
    backwards = places.permute(*reversed(range(event.dims))).flatten()
    for grouping, order in {"in order": slice(None), "last first": backwards, "by p": p.argsort()}.items():
        yield grouping, g_test(counts[order], p[order] * SAMPLES / p.sum())


def _transformed(case: Case, name: str, context: int) -> Iterator[tuple[str, float]]:
    model, given, generator = case.models()[name], case.contexts[context], case.generator()
    n = max(16, SAMPLES // model.event.dims)
    drawn = model.event.check(model.sample(n, given, generator=generator))
    numbers = []
    for (x,) in case.chunks(drawn):
        table = model.conditionals(x, repeated(given, len(x))).table().double().cpu()
        numbers.append(_uniform_numbers(table, x.cpu(), generator).flatten())
    yield "transformed to uniform", uniform_test(torch.cat(numbers))


def _uniform_numbers(table: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return F(x − 1) + v p(x), v uniform, of symbols x (…) drawn from probabilities (…, symbols)."""
    above = table.cumsum(-1).gather(-1, x[..., None])[..., 0]
    p = table.gather(-1, x[..., None])[..., 0]
    return above - p * torch.rand(p.shape, generator=generator, dtype=torch.float64)


def _values(case: Case, name: str, context: int) -> Iterator[tuple[str, float]]:
    if case.event.dims <= 2:
        tried = cells(case, name, context)
        if tried.resolved:
            scale = tried.counts.sum() / tried.mass.sum()
            yield "cells", g_test(tried.counts, tried.mass * scale + 1e-6)
            return
    generator = case.generator()
    x, one, other = case.drawn(3 * PLACED, name, context, generator).split(PLACED)
    away = torch.where(one[:, :1] < other[:, :1], one - other, other - one)
    for scale in SCALES:
        points, place = _line(x, scale * away, generator)
        log_p = _supported(case.density(name, context), case.given.support, points)
        chance = torch.rand(PLACED, generator=generator, dtype=torch.float64)
        for order, key in {"along": torch.arange(PLACES).expand(PLACED, PLACES), "by p": log_p.argsort(1)}.items():
            table = log_p.gather(1, key).softmax(1)
            mine = (key == place).long().argmax(1)[:, None]
            above = table.cumsum(1).gather(1, mine)[:, 0]
            p = table.gather(1, mine)[:, 0]
            yield f"places on a line, {order}, scale {scale:.3g}", uniform_test(above - p * chance)


def _line(x: Tensor, v: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Put each x at a random place J among the points x + (j − J) v; return them (n, places, dims) and J (n, 1).

    Given only the set of points, J = j has probability p(x_j) / Σ_k p(x_k) if x comes from p, for any p and v: no
    integral is needed.
    """
    place = torch.randint(PLACES, (len(x), 1), generator=generator)
    steps = torch.arange(PLACES) - place
    points = x[:, None] + steps[..., None] * v[:, None]
    points[torch.arange(len(x)), place[:, 0]] = x
    return points, place


def _supported(log_prob: Callable[[Tensor], Tensor], support: Interval, points: Tensor) -> Tensor:
    """Return ln p (n, places) of points (n, places, dims), −∞ outside of the support."""
    inside = ((points > support.low) & (points < support.high)).all(2)
    found = torch.full(points.shape[:2], -math.inf, dtype=torch.float64)
    found[inside] = log_prob(points[inside])
    return found


def uniform_test(u: Tensor) -> float:
    """Return the p-value of a G-test that numbers are uniform on (0, 1)."""
    counts = (u * 20).long().clamp(0, 19).bincount(minlength=20).double()
    return g_test(counts, counts.mean().expand(len(counts)))


def g_test(counts: Tensor, expected: Tensor) -> float:
    """Return the p-value of G = 2 Σ O ln(O/E), with neighbouring cells merged into at most `BINS` with E ≥ 10."""
    if (counts[expected == 0] > 0).any():
        return 0.0
    observed, expected = _merged(counts, expected)
    if len(observed) == 1:
        return 1.0
    g = 2 * torch.xlogy(observed, observed / expected).sum()
    freedom = torch.tensor(len(observed) - 1, dtype=g.dtype)
    return float(torch.special.gammaincc(freedom / 2, g.clamp(min=0) / 2))


def _merged(counts: Tensor, expected: Tensor) -> Tensor:
    """Merge neighbouring cells into at most `BINS`, each with an expected count of at least 10: (2, cells)."""
    middles = expected.cumsum(0) - expected / 2
    bins = (middles * BINS / expected.sum()).long().clamp(0, BINS - 1)
    both = torch.stack([counts, expected]).double()
    merged = torch.zeros(2, BINS, dtype=torch.float64).index_add_(1, bins, both)
    large: list[Tensor] = []
    for cell in merged.T:
        if large and (large[-1][1] < 10 or cell[1] < 10):
            large[-1] = large[-1] + cell
        else:
            large.append(cell)
    return torch.stack(large, 1)
