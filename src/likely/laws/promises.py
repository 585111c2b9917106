"""The other laws: one by one, repeatable, saved = loaded, units, refusal of bad input, cost, not below the limit."""

import math
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from likely.errors import Error
from likely.event import Event
from likely.jobs.evaluate import evaluate, negative_log_likelihood
from likely.laws.case import Case, picked, repeated
from likely.laws.probability import joint, worst
from likely.laws.table import Measured, NotApplicable
from likely.runs import store

BATCH = 2
FRESH = 2_000


def saved_is_loaded(case: Case) -> Measured:
    """Count examples with another score, to the bit, after save and load."""
    found = {}
    for name, model in case.models().items():
        with tempfile.TemporaryDirectory() as folder:
            store.save(model, Path(folder) / "run")
            loaded = store.load(Path(folder) / "run").to(model.device)
        before = model.log_prob(case.x, case.context, generator=case.generator())
        after = loaded.log_prob(case.x, case.context, generator=case.generator())
        found[name] = float((before != after).sum())
    return worst(found)


def one_by_one(case: Case) -> Measured:
    """Return the largest difference of log p between an example in a batch and alone, relative to |log p| (at least 1).

    Densities of real values are tried in float64: they may be steep, so that rounding shows.
    """
    found = {}
    dtype = None if case.event.discrete else torch.float64
    for name, model in case.models(dtype).items():
        if model.kind != "exact":
            raise NotApplicable("a bound draws, and draws otherwise in a batch")
        together = model.log_prob(case.x, case.context)
        alone = scored_alone(model, case.x, case.context)
        differ = (together != alone) & ~(together.isnan() & alone.isnan())
        relative_to = together.abs().clamp(min=1)
        errors = ((together - alone).abs() / relative_to)[differ]
        found[name] = max(errors.nan_to_num(math.inf).tolist(), default=0.0)
    return worst(found)


def one_by_one_beyond(case: Case) -> Measured:
    """Return the largest difference of log p, in float32, between an example in a batch and alone.

    Real contexts are tried as they are, and half as far out again as the furthest that the model was tried with: huge
    weights that cancel one another show there. Relative to |log p|, at least 1.
    """
    event = case.given.context
    if event is None or event.discrete:
        raise NotApplicable("no context of real values")
    model = case.models(torch.float32)["as given"]
    if model.kind != "exact":
        raise NotApplicable("a bound draws, and draws otherwise in a batch")
    assert case.context is not None
    found = {}
    for name, context in ("as seen", case.context), ("beyond", 1.5 * case.context):
        together = model.log_prob(case.x, context)
        alone = scored_alone(model, case.x, context)
        errors = (together - alone).abs() / together.abs().clamp(min=1)
        found[name] = float(errors.nan_to_num(math.inf).max())
    return worst(found)


def scored_alone(model: Any, x: Tensor, context: Tensor | None) -> Tensor:
    """Return log p of examples (n,), each scored by itself."""
    rows = [slice(i, i + 1) for i in range(len(x))]
    return torch.cat([model.log_prob(x[row], picked(context, row)) for row in rows])


def repeatable(case: Case) -> Measured:
    """Count samples, of 16, that differ between two generators with the same seed."""
    found = {}
    context = picked(case.context, 0)
    for name, model in case.models().items():
        first = model.sample(16, context, generator=case.generator())
        second = model.sample(16, context, generator=case.generator())
        found[name] = float((first != second).reshape(16, -1).any(1).sum())
    return worst(found)


def samples_fit(case: Case) -> Measured:
    """Count samples, of 16, that are not of the event, outside of the support, or impossible under the model itself."""
    found = {}
    for name, model in case.models().items():
        expected = {torch.int64} if case.event.discrete else {model.dtype, torch.float64}
        for c, context in enumerate(case.contexts):
            x = model.sample(16, context, generator=case.generator())
            if x.dtype not in expected:
                raise TypeError(f"samples are {x.dtype}")
            log_prob = model.log_prob(x, repeated(context, 16), generator=case.generator())
            wrong = ~(log_prob > -math.inf)
            if not case.event.discrete:
                within = (x > model.support.low) & (x < model.support.high)
                wrong |= ~within.reshape(16, -1).all(1)
            found[f"{name}, context {c}"] = float(wrong.sum())
    return worst(found)


def units(case: Case) -> Measured:
    """Return the relative error of evaluate's nats, nats/dim and bits/dim, and of log_prob against its factors."""
    found = {}
    for name, model in case.models().items():
        log_prob = model.log_prob(case.x, case.context, generator=case.generator()).double()
        finite = log_prob.isfinite()
        if not finite.any():
            raise NotApplicable("log p(x) is -inf at every example tried")
        x, context, log_prob = case.x[finite], picked(case.context, finite), log_prob[finite]
        report = evaluate(model, (x, context), generator=case.generator())
        nats = -float(log_prob.mean())
        dims = float(model.event.count(x).double().mean())
        found[f"nats, {name}"] = relative(report.nats, nats)
        found[f"nats/dim, {name}"] = relative(report.nats_per_dim, nats / dims)
        found[f"bits/dim, {name}"] = relative(report.bits_per_dim, nats / dims / math.log(2))
        if case.orders and case.event.discrete:
            joints = [joint(model.conditionals(x, context, order=k), x) for k in range(case.orders)]
            factors = torch.stack(joints).double().logsumexp(0) - math.log(case.orders)
            pairs = zip(log_prob.tolist(), factors.tolist(), strict=True)
            found[f"log p against its factors, {name}"] = max(relative(*pair) for pair in pairs)
    return worst(found)


def relative(found: float, expected: float) -> float:
    """Return |found / expected − 1|; of an expected 0 (log p of a certain event) 0 or infinity."""
    if expected:
        return abs(found / expected - 1)
    return math.inf if found else 0.0


def refuse(case: Case) -> Measured:
    """Count the kinds of bad input that are not refused with one of the library's errors."""
    accepted = []
    for name, call in bad_calls(case):
        try:
            call()
            accepted.append(f"{name} accepted")
        except Error:
            pass
        except Exception as error:
            accepted.append(f"{name} raised {type(error).__name__}")
    return Measured(float(len(accepted)), ", ".join(accepted))


def bad_calls(case: Case) -> Iterator[tuple[str, Callable]]:
    """Yield calls that must be refused, with the name of their fault."""
    yield from bad_values(case)
    yield from bad_shapes(case)
    if case.given.context is None:
        yield "context not wanted", scored(case, case.x, torch.zeros(len(case.x)))
        yield "context not wanted by sample", partial(case.given.sample, 1, torch.zeros(1))
    else:
        yield from bad_contexts(case, case.given.context)


def bad_values(case: Case) -> Iterator[tuple[str, Callable]]:
    """Yield calls with values that are not of the event."""
    x, event = case.x, case.event

    def first(value: float | int, dtype: torch.dtype = torch.float64) -> Callable:
        wrong = x.to(dtype).reshape(-1).clone()
        wrong[0] = value
        return scored(case, wrong.view(x.shape), case.context)

    yield "NaN", first(math.nan)
    yield "infinity", first(math.inf)
    if event.discrete:
        yield "one half", first(0.5)
        yield "symbol = levels", first(event.alphabets[0], x.dtype)
        yield "symbol -1", first(-1, x.dtype)
    else:
        yield "whole numbers", scored(case, torch.ones_like(x, dtype=torch.int64), case.context)
    yield "complex numbers", scored(case, x.to(torch.complex64), case.context)


def bad_shapes(case: Case) -> Iterator[tuple[str, Callable]]:
    """Yield calls with examples of a wrong shape or number."""
    x, context = case.x, case.context
    yield "one dimension too many", scored(case, x[..., None], context)
    yield "another shape", scored(case, x.reshape(1, -1), picked(context, slice(1)))
    yield "no examples", scored(case, x[:0], picked(context, slice(0)))
    yield "0 samples", partial(case.given.sample, 0, picked(context, 0))


def bad_contexts(case: Case, event: Event) -> Iterator[tuple[str, Callable]]:
    """Yield calls of a conditional model with a context that is missing or not of its event."""
    x, context = case.x, case.context
    assert context is not None
    yield "context missing", scored(case, x, None)
    yield "context missing from sample", partial(case.given.sample, 1)
    yield "context for fewer examples", scored(case, x, context[:-1])
    yield "context of another shape", scored(case, x, context[..., None])
    bad = event.alphabets[0] if event.discrete else math.nan
    yield "context out of range", scored(case, x, torch.full_like(context, bad))


def scored(case: Case, x: Tensor, context: Tensor | None) -> Callable:
    """Return a call of the model's log_prob."""
    return partial(case.given.log_prob, x, context)


def cost(case: Case) -> Measured:
    """Return multiply-accumulates of drawing over those of one parallel pass of the same batch."""
    case.require_conditionals()
    model: Any = case.given
    context = picked(case.context, slice(BATCH))
    parallel = multiplications(lambda: model.conditionals(case.x[:BATCH], context))
    if not parallel:
        raise NotApplicable("no multiplications")
    drawing = multiplications(lambda: model.sample(BATCH, context, generator=case.generator()))
    return Measured(drawing / parallel, f"{drawing // BATCH:,} per draw")


def _product(first: tuple, second: tuple, *_: object, **__: object) -> int:
    columns = second[-1] if len(second) > 1 else 1
    return 2 * math.prod(first) * columns


def _added_product(_: tuple, first: tuple, second: tuple, *__: object, **___: object) -> int:
    return _product(first, second)


aten = torch.ops.aten
ALSO_COUNTED = {  # torch's counter knows the products of matrices out of place only
    **dict.fromkeys([aten.mv, aten.dot, aten.vdot], _product),
    **dict.fromkeys([aten.addmm_, aten.baddbmm_, aten.addmv, aten.addmv_], _added_product),
}


def multiplications(call: Callable) -> int:
    """Count multiply-accumulates of a call: of all products of matrices and vectors, and of convolutions."""
    with FlopCounterMode(display=False, custom_mapping=ALSO_COUNTED) as counter:
        call()
    return counter.get_total_flops() // 2


def not_below_the_limit(case: Case) -> Measured:
    """Return the mean of ln p_source(x) − ln p(x) over fresh data, in standard errors; far below zero means a leak."""
    if case.source is None:
        raise NotApplicable("no source given")
    context = picked(case.context, torch.arange(FRESH) % len(case.x))
    given = context if case.source.context is not None else None
    generator = torch.Generator().manual_seed(case.seed + 2**32)
    x = case.source.sample(FRESH, given, generator=generator)
    source = negative_log_likelihood(case.source, (x, given))
    gap = negative_log_likelihood(case.given, (x, context)) - source
    mean = float(gap.mean())
    error = float(gap.std()) / math.sqrt(FRESH)
    remark = f"gap {mean:.4f} nats"
    if error == 0 or math.isinf(mean):  # the same gap everywhere, or log p = −inf somewhere
        return Measured(math.copysign(math.inf if mean else 0, mean), remark)
    return Measured(mean / error, remark)
