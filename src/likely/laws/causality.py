"""Causal, one conditional: what may depend on what, and steps that agree with the parallel pass."""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from likely.density import Autoregressive, run
from likely.distributions.discrete import uniform
from likely.laws.case import Case, repeated
from likely.laws.probability import worst
from likely.laws.table import Measured, NotApplicable

PLACES = 64
BASES = 3
VALUES = 3
WALKERS = 4
REDRAWS = 32


@dataclass
class Influence:
    """Which conditionals moved when a symbol was substituted; rows are all places i, columns the places j tried."""

    name: str
    places: Tensor  # (tried,)
    before: Tensor  # (dims, tried): j is drawn in an earlier step than i
    moved: Tensor  # (dims, tried): some conditional of x_i moved with some substitution of x_j


def no_leak(case: Case) -> Measured:
    """How many pairs (i, j), j not drawn before i, have a conditional of x_i that moves with x_j. Exact, float64."""
    return worst_pair([(i.name, i.places, i.moved & ~i.before) for i in influences(case)], "moves with")


def no_blind_spot(case: Case) -> Measured:
    """How many pairs (i, j), j drawn before i, have a conditional of x_i that no substitution of x_j moves.

    Weights are redrawn again while such pairs remain: a unit may be dead by chance, a mask is dead for good. A model
    that means to see less says so in a method `receptive_field`, (dims, dims) of bool: whether p(x_i | x_<i) may depend
    on x_j.
    """
    case.require_conditionals()
    if case.redrawn is None:
        raise NotApplicable("no weights to redraw")
    found = [i for i in influences(case) if i.name.startswith("redrawn")]
    if not any(i.before.any() for i in found):
        raise NotApplicable("no value is drawn before another")
    varies = torch.tensor(case.event.alphabets) > 1
    seen = varies[:, None] & varies
    if hasattr(case.redrawn, "receptive_field"):
        seen &= case.redrawn.receptive_field().cpu()
    blind = [i.before & ~i.moved & seen[:, i.places] for i in found]
    for order, (i, pairs) in enumerate(zip(found, blind, strict=True)):
        for column in pairs.any(0).nonzero()[:, 0].tolist():
            for attempt in range(1, REDRAWS):
                if not pairs[:, column].any():
                    break
                model = case.redraw(case.seed + attempt).double()
                pairs[:, column] &= ~moves(case, model, order, i.places[column, None])[:, 0]
            if pairs[:, column].any():
                return worst_pair([(i.name, i.places, pairs)], "does not move with")
    return worst_pair([(i.name, i.places, pairs) for i, pairs in zip(found, blind, strict=True)], "does not move with")


def worst_pair(found: list[tuple[str, Tensor, Tensor]], relation: str) -> Measured:
    """The largest number of pairs, and the first of them."""
    name, places, pairs = max(found, key=lambda part: int(part[2].sum()))
    if not pairs.any():
        return Measured(0.0, f"{pairs.numel():,} pairs")
    i, j = pairs.nonzero()[0].tolist()
    return Measured(float(pairs.sum()), f"p(x_{i} | …) {relation} x_{int(places[j])}, {name}")


def influences(case: Case) -> list[Influence]:
    """The influence of every place (or of some, where they are many) on every conditional; measured once per case."""
    views = list(case.views(torch.float64))
    return case.once(("influences",), lambda: [influence(case, *view) for view in views])


def influence(case: Case, name: str, model: Autoregressive, order: int) -> Influence:
    """What moves with each place, or with some of them where they are many."""
    step = drawn_in(model, None if case.context is None else case.context[:1], order)
    places = torch.arange(model.event.dims)
    if len(places) > PLACES:
        places = torch.randperm(len(places), generator=case.generator())[:PLACES].sort()[0]
    return Influence(name, places, step[places] < step[:, None], moves(case, model, order, places))


def moves(case: Case, model: Autoregressive, order: int, places: Tensor) -> Tensor:
    """Substitute symbols by every other value (some, of a large alphabet): which conditionals move, (dims, places)."""
    generator, trials = case.generator(), []
    for b, k in product(range(min(BASES, len(case.x))), range(len(places))):
        old, levels = int(case.x[b].reshape(-1)[places[k]]), model.event.alphabets[places[k]]
        others = (old + 1 + torch.randperm(levels - 1, generator=generator)[:VALUES]) % levels
        trials += [(b, k, value) for value in others.tolist()]
    moved = torch.zeros(model.event.dims, len(places))
    if not trials:  # every alphabet is one symbol
        return moved > 0
    for b, k, value in case.chunks(*torch.tensor(trials, dtype=torch.int64).view(-1, 3).unbind(1)):
        # Both passes have the same shape and rows, so that equal values are equal to the bit.
        x, place, value = case.x[b], places[k].to(case.x.device)[:, None], value.to(case.x.device)[:, None]
        context = None if case.context is None else case.context[b]
        other = x.reshape(len(x), -1).scatter(1, place, value).view_as(x)
        other = model.event.filled(other)
        first, second = (model.conditionals(t, context, order=order).log_table() for t in (x, other))
        differs = (first != second).any(-1).reshape(len(x), -1).cpu()  # (trials, dims)
        moved.index_add_(1, k, differs.T.float())
    return moved > 0


def drawn_in(model: Autoregressive, context: Tensor | None, order: int) -> Tensor:
    """The step in which each place is drawn (dims,); every one exactly once."""
    places = torch.arange(model.event.dims).view(1, *model.event.shape)
    visits: list[list[int]] = []

    def choose(where, p):
        visits.append(places[where].flatten().tolist())
        return p.sample(torch.Generator().manual_seed(0))

    run(model.steps(1, context, order=order), choose)
    seen = [place for part in visits for place in part]
    if sorted(seen) != list(range(model.event.dims)):
        raise ValueError(f"steps must yield each of {model.event.dims} places once, yielded {len(seen)}: {seen[:20]}")
    step = torch.empty(model.event.dims, dtype=torch.int64)
    for k, part in enumerate(visits):
        step[part] = k
    return step


def one_conditional(case: Case, dtype: torch.dtype) -> Measured:
    """Largest difference between the tables met step by step and those of the parallel pass."""
    x = case.x[:WALKERS]
    context = None if case.context is None else case.context[:WALKERS]
    found = {}
    for name, model, order in case.views(dtype):
        parallel = model.conditionals(x, context, order=order)
        differences = []

        def choose(where, p, parallel=parallel, differences=differences):
            differences.append((p.table() - parallel[where].table()).abs().max())
            return x[where]

        run(model.steps(len(x), context, order=order), choose)
        found[name] = float(torch.stack(differences).max())
    return worst(found)


def possible_symbols(case: Case) -> Measured:
    """How many symbols of probability zero are drawn by the smallest and the largest of uniform numbers."""
    found = {}
    for name, model, order in case.views():
        p = model.conditionals(case.x, case.context, order=order)
        table = p.table()
        for u in (0.0, 1 - torch.finfo(table.dtype).eps / 2):
            drawn = p.quantile(torch.full(tuple(p.shape), u, dtype=table.dtype, device=table.device))
            found[f"u = {u}, {name}"] = float((table.gather(-1, drawn[..., None]) == 0).sum())
    return worst(found)


def same_samples(case: Case, dtype: torch.dtype) -> Measured:
    """Samples drawn step by step and by parallel passes from the same uniform numbers.

    x is what D parallel passes would draw from u exactly if one pass over x, with the same u, gives x again. Where a
    symbol differs, how far u is from the nearest edge of the cumulative table; the largest, 0 where none differs.
    """
    found, differing = {}, 0
    for name, model, order in case.views(dtype):
        for context in case.contexts[:2]:
            u = uniform((2 * WALKERS, *model.event.shape), case.generator(), torch.zeros((), dtype=dtype)).to(
                model.device
            )
            steps = model.steps(len(u), context, order=order)
            x = run(steps, lambda where, p, u=u: p.quantile(u[where]))
            p = model.conditionals(x, repeated(context, len(x)), order=order)
            differs = p.quantile(u) != x
            edges = (p.table().cumsum(-1) - u[..., None]).abs().amin(-1)
            differing += int(differs.sum())
            found[name] = max(found.get(name, 0.0), float((edges * differs).max()))
    return worst(found)._replace(remark=f"{differing} symbols differ")
