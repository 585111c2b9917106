"""The other laws: one by one, repeatable, saved = loaded, units, refusal of bad input, cost, not below the limit."""

import math
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from likely.density import Autoregressive
from likely.errors import Error
from likely.jobs.evaluate import evaluate, negative_log_likelihood
from likely.laws.case import Case, repeated
from likely.laws.probability import joint, worst
from likely.laws.table import Measured, NotApplicable
from likely.runs import store

BATCH = 2
FRESH = 2_000


def saved_is_loaded(case: Case) -> Measured:
    """How many examples score differently, to the bit, after save and load."""
    found = {}
    for name, model in case.models().items():
        with tempfile.TemporaryDirectory() as folder:
            store.save(model, Path(folder) / "run")
            loaded = store.load(Path(folder) / "run").to(model.device)
        before, after = (m.log_prob(case.x, case.context, generator=case.generator()) for m in (model, loaded))
        found[name] = float((before != after).sum())
    return worst(found)


def one_by_one(case: Case) -> Measured:
    """Largest difference of log p between an example in a batch and the same one alone, of |log p| (at least 1).

    Densities of real values are tried in float64: they may be steep, so that rounding shows.
    """
    found = {}
    for name, model in case.models(None if case.event.discrete else torch.float64).items():
        if model.kind != "exact":
            raise NotApplicable("a bound draws, and draws otherwise in a batch")
        together = model.log_prob(case.x, case.context)
        rows = [slice(i, i + 1) for i in range(len(case.x))]
        alone = torch.cat(
            [model.log_prob(case.x[row], None if case.context is None else case.context[row]) for row in rows]
        )
        differ = (together != alone) & ~(together.isnan() & alone.isnan())
        relative_to = together.abs().clamp(min=1)
        found[name] = (
            float(((together - alone).abs() / relative_to)[differ].nan_to_num(math.inf).max()) if differ.any() else 0.0
        )
    return worst(found)


def repeatable(case: Case) -> Measured:
    """How many of 16 samples differ between two generators that are seeded alike."""
    found = {}
    context = None if case.context is None else case.context[0]
    for name, model in case.models().items():
        first, second = (model.sample(16, context, generator=case.generator()) for _ in range(2))
        found[name] = float((first != second).reshape(16, -1).any(1).sum())
    return worst(found)


def samples_fit(case: Case) -> Measured:
    """How many of 16 samples are not of the event, outside of the support, or impossible under the model itself."""
    found = {}
    for name, model in case.models().items():
        for c, context in enumerate(case.contexts):
            x = model.sample(16, context, generator=case.generator())
            if x.dtype != (torch.int64 if case.event.discrete else model.dtype):
                raise TypeError(f"samples are {x.dtype}")
            log_prob = model.log_prob(x, repeated(context, 16), generator=case.generator())
            wrong = ~(log_prob > -math.inf)
            if not case.event.discrete:
                wrong |= ~((x > model.support.low) & (x < model.support.high)).reshape(16, -1).all(1)
            found[f"{name}, context {c}"] = float(wrong.sum())
    return worst(found)


def units(case: Case) -> Measured:
    """Relative error of evaluate's nats, nats/dim and bits/dim against −ln p(x); of log_prob against its factors."""
    found = {}
    for name, model in case.models().items():
        log_prob = model.log_prob(case.x, case.context, generator=case.generator()).double()
        finite = log_prob.isfinite()
        if not finite.any():
            raise NotApplicable("log p(x) is -inf at every example tried")
        x, context = case.x[finite], None if case.context is None else case.context[finite]
        report = evaluate(model, (x, context), generator=case.generator())
        nats, dims = -float(log_prob[finite].mean()), float(model.event.count(x).double().mean())
        found[f"nats, {name}"] = relative(report.nats, nats)
        found[f"nats/dim, {name}"] = relative(report.nats_per_dim, nats / dims)
        found[f"bits/dim, {name}"] = relative(report.bits_per_dim, nats / dims / math.log(2))
        if isinstance(model, Autoregressive) and model.event.discrete:
            joints = [joint(model.conditionals(x, context, order=k), x) for k in range(model.orders)]
            factors = torch.stack(joints).double().logsumexp(0) - math.log(model.orders)
            pairs = zip(log_prob[finite].tolist(), factors.tolist(), strict=True)
            found[f"log p against its factors, {name}"] = max(relative(*pair) for pair in pairs)
    return worst(found)


def relative(found: float, expected: float) -> float:
    """|found / expected − 1|; what is certain has log p = 0, which only 0 agrees with."""
    if expected:
        return abs(found / expected - 1)
    return math.inf if found else 0.0


def refuse(case: Case) -> Measured:
    """How many kinds of bad input are not refused with one of the library's errors."""
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
    """Calls that must be refused, by what is wrong with them."""
    model, x, context = case.given, case.x, case.context
    event = model.event

    def scored(x, context=context):
        return partial(model.log_prob, x, context)

    def first(value: float | int) -> Callable:
        wrong = x.to(torch.float64 if isinstance(value, float) else x.dtype).reshape(-1).clone()
        wrong[0] = value
        return scored(wrong.view(x.shape))

    for name, value in {"NaN": math.nan, "infinity": math.inf}.items():
        yield name, first(value)
    if event.discrete:
        for name, value in {"one half": 0.5, "symbol = levels": event.alphabets[0], "symbol -1": -1}.items():
            yield name, first(value)
    else:
        yield "whole numbers", scored(torch.ones_like(x, dtype=torch.int64))
    yield "complex numbers", scored(x.to(torch.complex64))
    yield "one dimension too many", scored(x[..., None])
    yield "another shape", scored(x.reshape(1, -1), None if context is None else context[:1])
    yield "no examples", scored(x[:0], None if context is None else context[:0])
    yield "0 samples", partial(model.sample, 0, None if context is None else context[0])
    if context is None:
        yield "context not wanted", scored(x, torch.zeros(len(x)))
        yield "context not wanted by sample", partial(model.sample, 1, torch.zeros(1))
        return
    yield "context missing", scored(x, None)
    yield "context missing from sample", partial(model.sample, 1)
    yield "context for fewer examples", scored(x, context[:-1])
    yield "context of another shape", scored(x, context[..., None])
    assert model.context is not None
    bad = model.context.alphabets[0] if model.context.discrete else math.nan
    yield "context out of range", scored(x, torch.full_like(context, bad))


def cost(case: Case) -> Measured:
    """Multiply-accumulates of drawing over those of one parallel pass of the same batch."""
    case.require_conditionals()
    model: Any = case.given
    context = None if case.context is None else case.context[:BATCH]
    parallel = multiplications(lambda: model.conditionals(case.x[:BATCH], context))
    if not parallel:
        raise NotApplicable("no multiplications")
    drawing = multiplications(lambda: model.sample(BATCH, context, generator=case.generator()))
    return Measured(drawing / parallel, f"{drawing // BATCH:,} per draw")


def _product(first: tuple, second: tuple, *_: object, **__: object) -> int:
    return 2 * math.prod(first) * (second[-1] if len(second) > 1 else 1)


def _added_product(_: tuple, first: tuple, second: tuple, *__: object, **___: object) -> int:
    return _product(first, second)


aten = torch.ops.aten
ALSO_COUNTED = {  # torch's counter knows the products of matrices out of place only
    **dict.fromkeys([aten.mv, aten.dot, aten.vdot], _product),
    **dict.fromkeys([aten.addmm_, aten.baddbmm_, aten.addmv, aten.addmv_], _added_product),
}


def multiplications(call: Callable) -> int:
    """Multiply-accumulates of a call: of all products of matrices and vectors, and of convolutions."""
    with FlopCounterMode(display=False, custom_mapping=ALSO_COUNTED) as counter:
        call()
    return counter.get_total_flops() // 2


def not_below_the_limit(case: Case) -> Measured:
    """Mean of ln p_source(x) − ln p(x) over fresh data, in standard errors; clearly negative means a leak."""
    if case.source is None:
        raise NotApplicable("no source given")
    context = None
    if case.context is not None:
        context = case.context.repeat(FRESH // len(case.context) + 1, *[1] * (case.context.ndim - 1))[:FRESH]
    given = context if case.source.context is not None else None
    x = case.source.sample(FRESH, given, generator=torch.Generator().manual_seed(case.seed + 2**32))
    source = negative_log_likelihood(case.source, (x, given))
    gap = negative_log_likelihood(case.given, (x, context)) - source
    mean, error = float(gap.mean()), float(gap.std()) / math.sqrt(FRESH)
    certain = error == 0 or math.isinf(mean)  # the same gap everywhere, or log p = −inf somewhere
    return Measured(math.copysign(math.inf if mean else 0, mean) if certain else mean / error, f"gap {mean:.4f} nats")
