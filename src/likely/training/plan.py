"""`plan`: data → preparation → event → model; the data decide all that is left open."""

import inspect
from dataclasses import dataclass
from typing import Any, Literal

from likely.data import Preparation, source_of
from likely.density import Density
from likely.errors import InputError, suggestion
from likely.event import Event
from likely.rows import Rows

CHOSEN = {"event", "context", "seed"}  # arguments of models that are not among a plan's


@dataclass(frozen=True)
class Plan:
    """A model that suits data, and their preparation.

    Attributes:
        model: built, with its first weights.
        preparation: the steps from raw data to examples of `event`.
        event: the space of one example.
        context: the space of its context; None: the data have none.
    """

    model: Density
    preparation: Preparation
    event: Event
    context: Event | None


def plan(
    model: type[Density],
    data: Any,
    *,
    levels: int | tuple[int, ...] | None = None,
    binarize: float | Literal["stochastic"] | None = None,
    real: bool = False,
    any_size: bool = False,
    seed: int | None = None,
    **arguments: Any,
) -> Plan:
    """Choose from training data all that is left open, and build a model for them.

    The preparation is inferred (`Preparation.infer`); data that are drawn from a source of known density have its
    alphabet. A context of whole numbers is one of symbols, 0 to its largest.

        planned = likely.plan(likely.MADE, x, hidden=(64,))
        likely.fit(planned.model, x, preparation=planned.preparation)

    Args:
        model: class of the model.
        data: training data as stored, in any form that `fit` takes.
        levels: size of the alphabet, one for all or one per column.
        binarize: threshold, "stochastic" or None.
        real: whether whole numbers are measurements, that is real values.
        any_size: whether examples may be of other sizes than these data.
        seed: of the model's first weights; models without any take none.
        arguments: the model's own.

    Raises:
        InputError: data, or an argument, are not as expected, or there is a context for a model that takes none.
    """
    taken = inspect.signature(model).parameters
    _refuse_unknown(model, arguments, set(taken) - CHOSEN)
    rows = Rows.of(data, conditional="context" in taken)
    context = _context_of(rows)
    if context is not None and "context" not in taken:
        raise InputError(f"context: {model.__name__} takes no context; leave it out")
    if levels is None and binarize is None and not real:
        levels = _levels_of_source(rows)
    preparation = Preparation.infer(rows, binarize=binarize, levels=levels, real=real)
    if any_size:
        rows = rows.of_any_size(preparation.places(rows))
    event = preparation.event_of(rows)
    if "context" in taken:
        arguments["context"] = context
    if "seed" in taken and seed is not None:
        arguments["seed"] = seed
    return Plan(model(event, **arguments), preparation, event, context)


def _refuse_unknown(model: type[Density], arguments: dict[str, Any], known: set[str]) -> None:
    for name in arguments:
        if name not in known:
            raise InputError(f'{model.__name__} has no argument "{name}"{suggestion(name, known)}')


def _levels_of_source(rows: Rows) -> int | tuple[int, ...] | None:
    """Return the alphabet of the density that data are drawn from: rare symbols may be missing in them."""
    source = source_of(rows.source)
    if source is None:
        return None
    return source.event.levels


def _context_of(rows: Rows) -> Event | None:
    """Return the event of a context: whole numbers in one column are labels, images and tables keep their shape."""
    context = rows.context
    if context is None:
        return None
    shape = tuple(context.shape[1:])
    if context.is_floating_point():
        return Event(shape)
    return Event(shape, int(context.max()) + 1)
