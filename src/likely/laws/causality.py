"""Causal, one conditional: dependences of conditionals on values, and steps that agree with the parallel pass."""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from likely.density import Autoregressive, run
from likely.distributions.discrete import uniform
from likely.laws.case import Case, picked, repeated
from likely.laws.probability import worst
from likely.laws.table import Measured, NotApplicable

PLACES = 64
BASES = 3
VALUES = 3
WALKERS = 4
REDRAWS = 32


@dataclass
class Influence:
    """The conditionals that moved when a symbol was substituted; rows are all places i, columns the places j tried."""

    name: str
    places: Tensor  # (tried,)
    before: Tensor  # (dims, tried): j is drawn in an earlier step than i
    moved: Tensor  # (dims, tried): some conditional of x_i moved with some substitution of x_j


def no_leak(case: Case) -> Measured:
    """Count pairs (i, j), j not drawn before i, with a conditional of x_i that moves with x_j. Exact, float64."""
    leaks = [(i.name, i.places, i.moved & ~i.before) for i in influences(case)]
    return worst_pair(leaks, "moves with")


def no_blind_spot(case: Case) -> Measured:
    """Count pairs (i, j), j drawn before i, with a conditional of x_i that no substitution of x_j moves.

    Weights are redrawn again while such pairs remain: a unit may be dead by chance, a masked weight is always zero. A
    model that sees less by design has a method `receptive_field`, (dims, dims) of bool: True where p(x_i | x_<i) may
    depend on x_j.
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
    blind = [(i.name, i.places, i.before & ~i.moved & seen[:, i.places]) for i in found]
    for order, (name, places, pairs) in enumerate(blind):
        for column in pairs.any(0).nonzero()[:, 0].tolist():
            redraw_blind(case, order, places[column, None], pairs[:, column])
            if pairs[:, column].any():
                return worst_pair([(name, places, pairs)], "does not move with")
    return worst_pair(blind, "does not move with")


def redraw_blind(case: Case, order: int, place: Tensor, blind: Tensor) -> None:
    """Redraw the weights while a conditional is blind to a place, a limited number of times; sets `blind` (dims,)."""
    for attempt in range(1, REDRAWS):
        if not blind.any():
            return
        model = case.redraw(case.seed + attempt).double()
        blind &= ~moves(case, model, order, place)[:, 0]


def worst_pair(found: list[tuple[str, Tensor, Tensor]], relation: str) -> Measured:
    """Return the largest number of pairs, and the first of them."""
    name, places, pairs = max(found, key=lambda part: int(part[2].sum()))
    if not pairs.any():
        return Measured(0.0, f"{pairs.numel():,} pairs")
    i, j = pairs.nonzero()[0].tolist()
    return Measured(float(pairs.sum()), f"p(x_{i} | …) {relation} x_{int(places[j])}, {name}")


def influences(case: Case) -> list[Influence]:
    """Return the influence of every place (or of some, where they are many) on every conditional; once per case."""
    views = list(case.views(torch.float64))
    return case.once(("influences",), lambda: [influence(case, *view) for view in views])


def influence(case: Case, name: str, model: Autoregressive, order: int) -> Influence:
    """Measure the influence of each place, or of some of them where they are many."""
    step = drawn_in(model, picked(case.context, slice(1)), order)
    places = torch.arange(model.event.dims)
    if len(places) > PLACES:
        shuffled = torch.randperm(len(places), generator=case.generator())
        places = shuffled[:PLACES].sort()[0]
    before = step[places] < step[:, None]
    return Influence(name, places, before, moves(case, model, order, places))


def moves(case: Case, model: Autoregressive, order: int, places: Tensor) -> Tensor:
    """Return True where a conditional moves (dims, places) when a symbol is substituted by others of its alphabet."""
    moved = torch.zeros(model.event.dims, len(places))
    trials = substitutions(case, places)
    if not trials:  # every alphabet is one symbol
        return moved > 0
    columns = torch.tensor(trials, dtype=torch.int64).view(-1, 3).unbind(1)
    for b, k, value in case.chunks(*columns):
        # Both passes have the same shape and rows, so that equal values are equal to the bit.
        x, context = case.x[b], picked(case.context, b)
        place = places[k].to(x.device)[:, None]
        other = x.reshape(len(x), -1).scatter(1, place, value.to(x.device)[:, None])
        other = model.event.filled(other.view_as(x))
        first = model.conditionals(x, context, order=order).log_table()
        second = model.conditionals(other, context, order=order).log_table()
        differs = (first != second).any(-1).reshape(len(x), -1)  # (trials, dims)
        moved.index_add_(1, k, differs.T.float().cpu())
    return moved > 0


def substitutions(case: Case, places: Tensor) -> list[tuple[int, int, int]]:
    """Return substitutions to try: (example, index of the place, symbol)."""
    generator, trials = case.generator(), []
    for b, k in product(range(min(BASES, len(case.x))), range(len(places))):
        old = int(case.x[b].reshape(-1)[places[k]])
        levels = case.event.alphabets[places[k]]
        others = torch.randperm(levels - 1, generator=generator)[:VALUES]
        trials += [(b, k, value) for value in ((old + 1 + others) % levels).tolist()]
    return trials


def drawn_in(model: Autoregressive, context: Tensor | None, order: int) -> Tensor:
    """Return the step in which each place is drawn (dims,); every one exactly once."""
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
    """Return the largest difference between the tables met step by step and those of the parallel pass."""
    x, context = case.x[:WALKERS], picked(case.context, slice(WALKERS))
    found = {}
    for name, model, order in case.views(dtype):
        parallel = model.conditionals(x, context, order=order)
        differences = []

        def choose(where, p, parallel=parallel, differences=differences):
            difference = p.table() - parallel[where].table()
            differences.append(difference.abs().max())
            return x[where]

        run(model.steps(len(x), context, order=order), choose)
        found[name] = float(torch.stack(differences).max())
    return worst(found)


def possible_symbols(case: Case) -> Measured:
    """Count symbols of probability zero that are drawn by the smallest and the largest of uniform numbers."""
    found = {}
    for name, model, order in case.views():
        p = model.conditionals(case.x, case.context, order=order)
        table = p.table()
        for u in (0.0, 1 - torch.finfo(table.dtype).eps / 2):
            drawn = p.quantile(table.new_full(tuple(p.shape), u))
            mass = table.gather(-1, drawn[..., None])
            found[f"u = {u}, {name}"] = float((mass == 0).sum())
    return worst(found)


def same_samples(case: Case, dtype: torch.dtype) -> Measured:
    """Compare samples drawn step by step and by parallel passes from the same uniform numbers u.

    D parallel passes would draw x from u exactly if one pass over x, with the same u, gives x again. Returned is the
    largest distance of u from the nearest edge of the cumulative table where a symbol differs; 0 where none does.
    """
    found, differing = {}, 0
    for name, model, order in case.views(dtype):
        for context in case.contexts[:2]:
            shape = (2 * WALKERS, *model.event.shape)
            u = uniform(shape, case.generator(), torch.zeros((), dtype=dtype)).to(model.device)
            steps = model.steps(len(u), context, order=order)
            x = run(steps, lambda where, p, u=u: p.quantile(u[where]))
            p = model.conditionals(x, repeated(context, len(x)), order=order)
            differs = p.quantile(u) != x
            differing += int(differs.sum())
            distance = (p.table().cumsum(-1) - u[..., None]).abs().amin(-1)
            largest = float((distance * differs).max())
            found[name] = max(found.get(name, 0.0), largest)
    return worst(found)._replace(remark=f"{differing} symbols differ")
