"""The list of laws with their limits, and the check that runs them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from likely.density import Array, Density, seeded
from likely.laws.bijections import invertible, log_determinant
from likely.laws.bounds import bounds_in_order
from likely.laws.case import Case
from likely.laws.causality import no_blind_spot, no_leak, one_conditional, possible_symbols, same_samples
from likely.laws.probability import bound_within_one, integrates_to_one, proper, proper_tables
from likely.laws.promises import (
    cost,
    not_below_the_limit,
    one_by_one,
    one_by_one_beyond,
    refuse,
    repeatable,
    samples_fit,
    saved_is_loaded,
    units,
)
from likely.laws.samples import true_samples
from likely.laws.table import LawRow, LawsBroken, LawTable, Measured, NotApplicable
from likely.laws.units import any_units


@dataclass(frozen=True)
class Law:
    """A measurement and its limit."""

    name: str
    measure: Callable[[Case], Measured]
    limit: float
    at_least: bool = False

    def apply(self, case: Case) -> LawRow:
        """Measure; a law that cannot be measured because the model fails is broken."""
        try:
            value, remark = self.measure(case)
        except NotApplicable as reason:
            return LawRow(self.name, None, self.limit, self.at_least, "not applicable", str(reason))
        except Exception as error:
            remark = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return LawRow(self.name, None, self.limit, self.at_least, "broken", remark)
        kept = value >= self.limit if self.at_least else value <= self.limit
        return LawRow(self.name, value, self.limit, self.at_least, "kept" if kept else "broken", remark)


def _both(name: str, measure: Callable, single: float, double: float) -> tuple[Law, Law]:
    return (
        Law(f"{name}, float32", partial(measure, dtype=torch.float32), single),
        Law(f"{name}, float64", partial(measure, dtype=torch.float64), double),
    )


LAWS = (
    *_both("proper", proper, 1e-5, 1e-12),
    Law("integrates to one", integrates_to_one, 1e-3),
    Law("bound within one", bound_within_one, 4.0),
    Law("bounds in order", bounds_in_order, 4.0),
    *_both("proper tables", proper_tables, 1e-5, 1e-12),
    Law("no leak", no_leak, 0.0),
    Law("no blind spot", no_blind_spot, 0.0),
    *_both("one conditional", one_conditional, 1e-5, 1e-12),
    *_both("same samples", same_samples, 1e-5, 0.0),
    Law("possible symbols", possible_symbols, 0.0),
    *_both("invertible", invertible, 16.0, 16.0),
    *_both("log-determinant", log_determinant, 1e-5, 1e-9),
    Law("samples fit", samples_fit, 0.0),
    Law("true samples", true_samples, 1e-4, at_least=True),
    Law("one by one", one_by_one, 1e-5),
    Law("one by one, beyond", one_by_one_beyond, 1e-3),
    Law("repeatable", repeatable, 0.0),
    Law("saved = loaded", saved_is_loaded, 0.0),
    Law("units", units, 1e-5),
    Law("any units", any_units, 1e-3),
    Law("refuse", refuse, 0.0),
    Law("cost", cost, 1.15),
    Law("not below the limit", not_below_the_limit, -3.0, at_least=True),
)


def check_model(
    model: Density, x: Array | Density | None = None, *, context: Array | None = None, seed: int = 0
) -> LawTable:
    """Check a model against the laws of densities; the model itself is not changed.

    Laws are tried on the model as given and on a copy with every weight redrawn, with every ordering and several
    contexts. Spaces of up to 2^17 states are enumerated; one and two dimensions of real values are integrated over.

    Args:
        model: any density.
        x: examples to try it on (the first 16 are used), or the density that it was fitted to: log p of the model must
            not exceed that density's. None: symbols drawn evenly, real values drawn from the model.
        context: contexts to try (n, *context.shape), the first three of them. None: every label, or drawn evenly.
        seed: of all draws; the caller's generators are left alone.

    Returns:
        A table: for every law the measured value and its limit, or the reason why it does not apply.

    Raises:
        LawsBroken: a law is broken; it carries the table.
        InputError: x or context is not of the model's event.
    """
    source = None
    if isinstance(x, Density):
        source, x = x, None
    with seeded(seed), torch.no_grad():
        case = Case(model, x, context, source, seed)
        table = LawTable(type(model).__name__, tuple(law.apply(case) for law in LAWS))
    if table.broken:
        raise LawsBroken(table)
    return table
