"""The law of any units: real values and real contexts may be of any size, far from zero or close together."""

import copy
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from likely.density import Density
from likely.event import REAL, Event
from likely.laws.case import Case, examples, move_weights, picked
from likely.laws.table import Measured, NotApplicable
from likely.runs.configuration import build, configuration

ROWS = 512  # that a model starts from
UNITS = ((1e-9, 1.0), (1.0, -1e9), (60.0, 1.7e9), (1e9, 1e18))  # a, b


class Given(NamedTuple):
    """Examples and contexts, and by how much their units scale and move those that they were made from."""

    x: Tensor
    context: Tensor | None
    scale: float = 1.0
    offset: float = 0.0

    def first(self, n: int) -> "Given":
        """Return the first n."""
        return self._replace(x=self.x[:n], context=picked(self.context, slice(n)))


def any_units(case: Case) -> Measured:
    """Return the largest change of log p + D ln a, in nats, as x becomes a x + b in training and afterwards.

    It is relative to |log p|, at least 1. Draws must change as x does; real contexts may become a c + b, and nothing
    changes. Of draws, the change is counted in units of the plain ones.
    """
    found: dict[str, float] = {}
    reference = _plain(case)
    fresh = build(configuration(case.given)).to(case.given.device).eval()
    expected = _answers(_started(fresh, reference, case), reference, case)
    for name, given in _in_other_units(case, reference):
        log_prob, drawn = _answers(_started(fresh, given, case), given, case)
        change = (log_prob - expected[0]).abs() / expected[0].abs().clamp(min=1)
        found[f"log p, {name}"] = float(change.max())
        found[f"draws, {name}"] = float((drawn - expected[1]).abs().max())
    return _worst(found)


def _worst(found: dict[str, float]) -> Measured:
    name = max(found, key=lambda name: math.inf if math.isnan(found[name]) else found[name])
    return Measured(found[name], name)


def _plain(case: Case) -> Given:
    """Return examples and contexts of ordinary size, in float64 where they are real."""
    chance = torch.Generator().manual_seed(case.seed)
    event, context = case.event, case.given.context
    x = examples(event, ROWS, chance, case.given.support)
    return Given(_precise(x, event), None if context is None else _precise(examples(context, ROWS, chance), context))


def _precise(x: Tensor, event: Event) -> Tensor:
    if event.discrete:
        return x
    return x.double()


def _in_other_units(case: Case, plain: Given) -> Iterator[tuple[str, Given]]:
    """Yield the same examples, and the same contexts, in other units, with their name.

    Raises:
        NotApplicable: none has units.
    """
    context = case.given.context
    measured = not case.event.discrete and case.given.precise and case.given.support == REAL
    if measured:
        for a, b in UNITS:
            yield f"{a:g} x + {b:g}", plain._replace(x=a * plain.x + b, scale=a, offset=b)
    if context is not None and not context.discrete:
        for a, b in UNITS:
            assert plain.context is not None
            yield f"{a:g} c + {b:g}", plain._replace(context=a * plain.context + b)
    elif not measured:
        raise NotApplicable("neither values nor contexts are taken from data's own units")


def _started(fresh: Density, given: Given, case: Case) -> Any:
    """Return a copy that was started from data, with weights that were moved since."""
    model: Any = copy.deepcopy(fresh)
    if model.estimable:
        model.estimate((given.x, given.context), generator=case.generator())
    model.initialize(given.x, given.context, generator=case.generator())
    move_weights(model, case.seed)
    return model


def _answers(model: Density, given: Given, case: Case) -> tuple[Tensor, Tensor]:
    """Return log p of a few examples and a few draws, both brought back to plain units."""
    few = given.first(16)
    log_prob = model.log_prob(few.x, few.context, generator=case.generator()).double()
    drawn = model.sample(16, few.context, generator=case.generator()).double()
    dims = case.event.dims if not case.event.discrete else 0
    return log_prob + dims * math.log(given.scale), (drawn - given.offset) / given.scale
