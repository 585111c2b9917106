"""Compare: several models on the same data, each difference with the standard error of a paired one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from likely.density import Density
from likely.errors import InputError
from likely.jobs.evaluate import Report, report_of, score
from likely.rows import Rows
from likely.scoring import Scored, standard_error
from likely.tables import html_table, text_table


@dataclass(frozen=True)
class Compared:
    """One model of a comparison.

    Attributes:
        name: of the model.
        report: its likelihood.
        above: bits/dim above the best model, 0 for the best itself.
        above_standard_error: of that difference, over examples that both have scored: far smaller than those of the
            two likelihoods, where the same examples are easy for both.
    """

    name: str
    report: Report
    above: float
    above_standard_error: float


@dataclass(frozen=True, repr=False)
class Comparison:
    """Models on the same data, the best first; prints as a table."""

    models: tuple[Compared, ...]

    def table(self) -> list[dict[str, Any]]:
        """Return a row for every model."""
        rows = []
        for model in self.models:
            report = model.report
            row = {
                "model": model.name,
                "bits/dim": report.bits_per_dim,
                "±": report.bits_per_dim_standard_error,
                "nats": report.nats,
                "kind": report.kind,
                "above the best": model.above,
                "± paired": model.above_standard_error,
            }
            rows.append(row)
        return rows

    def __repr__(self) -> str:
        return text_table(self.table())

    def _repr_html_(self) -> str:
        return html_table(self.table())

    def to_json(self) -> list[dict[str, Any]]:
        """Return plain JSON values."""
        return [
            {"name": m.name, **m.report.to_json(), "above": m.above, "above_standard_error": m.above_standard_error}
            for m in self.models
        ]


def compare(
    models: Mapping[str, Density], data: Any, *, importance_samples: int = 1, batch_size: int = 128, seed: int = 0
) -> Comparison:
    """Score the same examples under several models.

    A lower bound stands beside exact likelihoods as a bound: its model may be better than it says.

    Args:
        models: densities of one event, by name.
        data: as for `evaluate`.
        importance_samples: draws that each lower bound is averaged over.
        batch_size: examples per pass.
        seed: of what bounds draw.

    Raises:
        InputError: no models, models of different events, or data that are not of the event.
    """
    if not models:
        raise InputError("models: at least one is expected, found none")
    events = {name: model.event for name, model in models.items()}
    first, *others = events
    for name in others:
        if events[name] != events[first]:
            raise InputError(f"models of one event are expected; {first} has {events[first]}, {name} {events[name]}")
    rows = Rows.of(data, conditional=any(model.context is not None for model in models.values()))
    scored = {}
    for name, model in models.items():
        suited = _suited(rows, model)
        scored[name] = model, scored_by(model, suited, importance_samples, batch_size, seed)
    return comparison(scored)


def scored_by(model: Density, rows: Rows, importance_samples: int, batch_size: int, seed: int) -> Scored:
    """Score rows under one model of a comparison; the draws are for a bound."""
    draws = 1 if model.kind == "exact" else importance_samples
    generator = torch.Generator(model.device).manual_seed(seed)
    return score(model, rows, batch_size=batch_size, generator=generator, importance_samples=draws)


def _suited(rows: Rows, model: Density) -> Rows:
    """Return rows with a context only for a model that takes one."""
    if model.context is None:
        return rows.without_context()
    return rows


def comparison(scored: Mapping[str, tuple[Density, Scored]]) -> Comparison:
    """Return the comparison of models that have scored the same examples."""
    reports = {name: report_of(found, model) for name, (model, found) in scored.items()}
    order = sorted(reports, key=lambda name: reports[name].nats)
    best = scored[order[0]][1].nats
    rows = []
    for name in order:
        gaps = scored[name][1].nats - best
        bits = 1 / (reports[name].dims * math.log(2))
        error = 0.0 if name == order[0] else standard_error(gaps) * bits
        rows.append(Compared(name, reports[name], float(gaps.mean()) * bits, error))
    return Comparison(tuple(rows))
