"""Flows: transforms against their inverses, and log-determinants against those of the Jacobian."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from likely.errors import Error
from likely.event import Interval
from likely.flows import Composition, Flow, Transform
from likely.flows.transforms.transform import Pair, vectors
from likely.laws.case import Case, inside, picked
from likely.laws.probability import worst
from likely.laws.table import Measured, NotApplicable

DIMS = 8  # at most, where log-determinants are compared
ENTRIES = 2**20  # of the Jacobians of a batch
SUMMED = 1024  # times the error of the result: the most that rounding within a transform may cost
LOST = 1e-3  # relative change at which first-order bounds hold no more
SIZES = (1e-30, 1e-3, 1.0, 30.0, 1e3, 1e6)


def invertible(case: Case, dtype: torch.dtype) -> Measured:
    """Return the largest ratio of |f⁻¹(f(x)) − x| to a bound of its rounding error, for x of sizes 1e-30 to 1e6.

    It is measured for every transform f by itself, at x = the output of the transforms before it, and for all of them
    together. Rounding changes z = f(x), the terms of its sums and the parameters of f. With the Jacobian G this moves x
    by eps |x| + |G⁻¹| e to first order. Here e is eps u, u = |z| + |G| |x|, or the error that is seen in float32, in
    units of eps (1 + u), where that is larger (up to 1024 times). For all transforms together, e includes the errors of
    those after f. A transform that is solved to a stated `tolerance` t may be out by a further 10 t (1 + |z|). Refused
    values are not counted as wrong. Noise added to symbols must come off again.
    """
    found, compared, tried = {}, 0, 0
    for name, model in flows(case, dtype).items():
        first, bijection = parts(model)
        _, rough = parts(case.models(torch.float32)[name])
        _, exact = parts(case.models(torch.float64)[name])
        entered, features = enter(case, model)
        if first.stochastic:
            off = first.inverse(entered, features)[0] != case.x[: len(entered)]
            found[f"noise off, {name}"] = math.inf if off.any() else 0.0
        t = normal_like(entered, dtype, case)
        started = {f"size {size:g}": inside(size * t, bijection.domain) for size in SIZES}
        for kinds, x in together({"examples": entered, **started}):
            of = torch.arange(len(kinds), device=x.device).repeat_interleave(len(entered))
            given = None if features is None else features.repeat(len(kinds), 1)
            for part, trips in round_trips(bijection, rough, exact, x, given, of).items():
                compared += len(trips.ratio)
                tried += len(x)
                for k, kind in enumerate(kinds):
                    found[f"{part}, {kind}, {name}"] = max(trips.ratio[trips.of == k].tolist(), default=0.0)
    value, remark = worst(found)
    return Measured(value, f"{compared} of {tried} round trips can tell, {remark}")


def normal_like(x: Tensor, dtype: torch.dtype, case: Case) -> Tensor:
    """Draw standard normal numbers in the shape of x."""
    t = torch.randn(x.shape, generator=case.generator(), dtype=dtype)
    return t.to(x.device)


def together(sets: dict[str, Tensor]) -> Iterator[tuple[list[str], Tensor]]:
    """Yield names of sets of examples, and the sets one after the other: as many as Jacobians may be computed of."""
    entries = sum(x[0].numel() ** 2 * len(x) for x in sets.values()) / len(sets)
    size = max(1, int(ENTRIES / entries))
    names = list(sets)
    for start in range(0, len(names), size):
        kinds = names[start : start + size]
        yield kinds, torch.cat([sets[kind] for kind in kinds])


class Trips(NamedTuple):
    """Examples that came back through a transform."""

    ratio: Tensor  # (n,): of error to allowed error
    of: Tensor  # (n,): the set that an example belongs to


def round_trips(
    bijection: Composition, rough: Composition, exact: Composition, x: Tensor, features: Tensor | None, of: Tensor
) -> dict[str, Trips]:
    """Return the ratio of error to allowed error in each f⁻¹(f(x)): of each transform, and of all together.

    Refused examples are left out, and examples that rounding alone may move too far for a judgement.

    Args:
        bijection: f.
        rough, exact: the same in float32 and in float64.
        x: values (n, …).
        features: that f is conditioned on (n, features).
        of: the set that an example belongs to (n,), from 0 on: rounding is looked for within a set.
    """

    def there_and_back(x: Tensor, features: Tensor | None) -> Pair:
        z, _ = bijection(x, features)
        exact(x.double(), as_type(features, torch.float64))
        return z, bijection.inverse(z, features)[0]

    rows, (end, back) = accepted(there_and_back, x, features, of)
    if not len(rows):
        return {}
    x, features, of = x[rows], picked(features, rows), of[rows]
    eps, found, steps, start = coarser(x, end), {}, [], x
    for k, (part, roughly, exactly) in enumerate(zip(*map(leaves, (bijection, rough, exact)), strict=True)):
        z, _ = part(x, features)
        step = errors_of(part, roughly, exactly, x, z, features, of)
        steps.append(step)
        moved, allowance = eps * step.size + times(step.inverse, step.error), times(step.inverse, step.slack)
        kept, (back_again, _) = accepted_sets(part.inverse, z, features, of)
        if len(kept):
            trip = ratios(x[kept], back_again, moved[kept], allowance[kept])
            tells = told(moved, step.size)[kept]
            found[f"transform {k} ({type(part).__name__})"] = Trips(trip[tells], of[kept][tells])
        x = z
    moved = slack = torch.zeros_like(vectors(x.double()))
    tells = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for step in reversed(steps):
        moved = eps * step.size + times(step.inverse, step.error + moved)
        slack = times(step.inverse, step.slack + slack)
        tells &= told(moved, step.size)
    found["all transforms"] = Trips(ratios(start, back, moved, slack)[tells], of[tells])
    return found


class Errors(NamedTuple):
    """Errors of one transform at x, to first order."""

    size: Tensor  # (n, dims): |x|
    inverse: Tensor  # (n, dims, dims): |G⁻¹|
    error: Tensor  # (n, dims): e, of z
    slack: Tensor  # (n, dims): of z, of a solver


def errors_of(
    part: Transform, rough: Transform, exact: Transform, x: Tensor, z: Tensor, features: Tensor | None, of: Tensor
) -> Errors:
    """Return bounds of the errors of a transform, also given in float32 and float64, at x with z = f(x)."""
    wide, features = x.double(), as_type(features, torch.float64)
    size, size_of_z = vectors(wide.abs()), vectors(z.double().abs())
    own = jacobian(exact, wide, features)
    inverse = torch.linalg.inv_ex(own)[0].abs()
    least = size_of_z + times(own.abs(), size)
    relative = rounding(rough, exact, wide, features, of) / (1 + least)
    summed = largest_of_set(relative, of).clamp_max(SUMMED)
    error = coarser(x, z) * least.maximum(summed * (1 + least))
    slack = 10 * tolerance(part) * (1 + size_of_z)
    return Errors(size, inverse, error, slack)


def coarser(x: Tensor, z: Tensor) -> float:
    """Return eps of the lower of two precisions: values as given may have more than a model."""
    return max(torch.finfo(x.dtype).eps, torch.finfo(z.dtype).eps)


def largest_of_set(values: Tensor, of: Tensor) -> Tensor:
    """Return the largest of each column (n, dims), at least 0, among the examples of the same set (n,)."""
    column = of[:, None].expand_as(values)
    largest = values.new_zeros(int(of.max()) + 1, values.shape[1])
    return largest.scatter_reduce(0, column, values, "amax").gather(0, column)


def times(matrices: Tensor, values: Tensor) -> Tensor:
    """Return matrices (n, dims, dims) times values (n, dims), with infinity in place of NaN: (n, dims)."""
    product = (matrices @ values[..., None])[..., 0]
    return product.nan_to_num(math.inf, math.inf)


def told(moved: Tensor, size: Tensor) -> Tensor:
    """Return True for examples (n,) that rounding moves so little that first order holds."""
    return moved.amax(1) <= LOST * size.amax(1).clamp_min(1)


def ratios(x: Tensor, back: Tensor, moved: Tensor, slack: Tensor) -> Tensor:
    """Return the largest ratio of error to allowed error in each example (n,)."""
    difference = vectors((back.double() - x.double()).abs())
    error = (difference - slack).clamp_min(0)
    allowed = moved + torch.finfo(x.dtype).tiny
    return (error / allowed).amax(1).nan_to_num(math.inf, math.inf)


def rounding(rough: Transform, exact: Transform, x: Tensor, features: Tensor | None, of: Tensor) -> Tensor:
    """Return |z in float32 − z in float64| / eps of float32 (n, dims), at x or near it: the rounding within f."""
    given = as_type(features, torch.float32)
    direction = torch.arange(1.0, x.numel() + 1).cos().view_as(x).to(x)
    beside = x + LOST * x.abs().clamp_min(1) * direction
    within = (beside > exact.domain.low) & (beside < exact.domain.high)
    beside = torch.where(within, beside, x)

    def compared(near: Tensor, given: Tensor | None) -> Pair:
        z, _ = rough(near, given)
        return z.double(), exact(near.double(), as_type(given, torch.float64))[0]

    seen = torch.zeros_like(vectors(x))
    for near in (x.float(), beside.float()):
        rows, (z, expected) = accepted_sets(compared, near, given, of)  # float32 may not reach as far
        if not len(rows):
            continue
        error = vectors((z - expected).abs()).nan_to_num(0.0, 0.0)
        seen[rows] = seen[rows].maximum(error / torch.finfo(torch.float32).eps)
    return seen


def log_determinant(case: Case, dtype: torch.dtype) -> Measured:
    """Return the largest error of a log-determinant against autodiff, and of ln p(x) against ln p_base(z) + ln|det|.

    The Jacobian's log-determinant is the sum over the transforms, each in the precision that is tried and in both of
    its directions. Ten times the stated tolerance of a solver is taken off.
    """
    if case.event.dims > DIMS:
        raise NotApplicable(f"{case.event.dims} dimensions, Jacobians of up to {DIMS} are compared")
    found = {}
    for name, model in flows(case, dtype).items():
        first, bijection = parts(model)
        entered, features = enter(case, model)
        drawn = inside(normal_like(entered, dtype, case), values(first, bijection))
        for kind, x in {"examples": entered, "drawn": drawn}.items():
            rows, _ = accepted(bijection, x, features)
            if not len(rows):
                continue
            for part, value in determinants(bijection, x[rows], picked(features, rows)):
                key = f"{part}, {kind}, {name}"
                found[key] = max(value, found.get(key, 0.0))
        if model.kind == "exact":
            found[f"ln p, {name}"] = composed(case, model)
    return worst(found)


def determinants(bijection: Composition, x: Tensor, features: Tensor | None) -> Iterator[tuple[str, float]]:
    """Yield the errors of the log-determinants of each transform, of its inverse, and of all together."""
    _, whole = bijection(x, features)
    total, slack = x.new_zeros(len(x)).double(), 0.0
    for k, part in enumerate(leaves(bijection)):
        name = f"transform {k} ({type(part).__name__})"
        z, ladj = part(x, features)
        expected = slogdet(part, x, features)
        own = 10 * tolerance(part) * (1 + expected.abs())
        yield name, beyond(ladj - expected, own)
        back, ladj = part.inverse(z, features)
        yield f"inverse of {name}", beyond(ladj + slogdet(part, back, features), own)
        x, total, slack = z, total + expected, slack + own
    yield "all transforms", beyond(whole - total, slack)


def beyond(error: Tensor, slack: Tensor | float) -> float:
    """Return the largest excess of an error over the allowed one, at least 0; NaN counts as infinite."""
    excess = (error.abs() - slack).nan_to_num(math.inf)
    return float(excess.max().clamp(min=0))


def composed(case: Case, model: Flow) -> float:
    """Return |ln p(x) − (ln p_base(z) + ln|det ∂z/∂x|)| / max(1, |ln p(x)|), the largest."""
    x, context = model.check(case.x), case.context
    log_prob = model.log_prob(x, context)
    z, ladj = model.transform(x, model.encoded(context))
    if not model.base.context:
        context = None
    expected = model.base.log_prob(z, context) + ladj
    return beyond((log_prob - expected) / log_prob.abs().clamp(min=1), 0.0)


def flows(case: Case, dtype: torch.dtype) -> dict[str, Flow]:
    """Return the models in a precision, if they are flows."""
    if not isinstance(case.given, Flow):
        raise NotApplicable("no flow")
    return case.models(dtype)


def leaves(transform: Transform) -> Iterator[Transform]:
    """Yield the transforms of nested compositions, in order."""
    if isinstance(transform, Composition):
        for part in transform:
            yield from leaves(part)
    else:
        yield transform


def parts(model: Flow) -> tuple[Composition, Composition]:
    """Return the transforms up to the last that draws, and the bijections after it."""
    transforms = list(leaves(model.transform))
    after = max((k + 1 for k, part in enumerate(transforms) if part.stochastic), default=0)
    return Composition(transforms[:after]), Composition(transforms[after:])


def values(first: Composition, bijection: Composition) -> Interval:
    """Return the interval of the bijections' inputs: that of the noise, if any was added."""
    return first.codomain if first.stochastic else bijection.domain


def enter(case: Case, model: Flow) -> tuple[Tensor, Tensor | None]:
    """Return the inputs of the bijections for the case's examples, and features of their contexts."""
    first, _ = parts(model)
    dims = case.event.dims
    if dims**2 > ENTRIES:
        raise NotApplicable(f"{dims:,} dimensions, Jacobians of up to {math.isqrt(ENTRIES):,} are computed")
    n = min(len(case.x), ENTRIES // dims**2)
    features = model.encoded(picked(case.context, slice(n)))
    noise = (case.generator(),) if first.stochastic else ()
    entered, _ = first(model.check(case.x[:n]), features, *noise)
    return entered, features


def as_type(features: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return features, if there are any, in another precision."""
    if features is None:
        return None
    return features.to(dtype)


def tolerance(transform: Transform) -> float:
    """Return the stated precision of a transform that is solved numerically, 0 of another."""
    return getattr(transform, "tolerance", 0.0)


def slogdet(transform: Transform, x: Tensor, features: Tensor | None) -> Tensor:
    """Return ln|det ∂z/∂x| (n,), float64, from the Jacobian in the precision of x."""
    return torch.linalg.slogdet(jacobian(transform, x, features).double())[1]


def jacobian(transform: Transform, x: Tensor, features: Tensor | None) -> Tensor:
    """Return ∂z/∂x (n, dims, dims) by automatic differentiation: one copy of an example for every row of it."""
    n, dims = len(x), x[0].numel()
    if features is not None:
        features = features.repeat_interleave(dims, 0)
    with torch.enable_grad():
        copies = x.detach().repeat_interleave(dims, 0).requires_grad_()
        z, _ = transform(copies, features)
        diagonals = z.reshape(n, dims, dims).diagonal(dim1=1, dim2=2)
        (rows,) = torch.autograd.grad(diagonals.sum(), copies)
    return rows.reshape(n, dims, dims)


Call = Callable[[Tensor, Tensor | None], Pair]


def accepted(call: Call, x: Tensor, features: Tensor | None, of: Tensor | None = None) -> tuple[Tensor, Pair]:
    """Return the numbers of the rows that a call does not refuse, and its results for them.

    All are tried at once, then the sets that they belong to, by their numbers `of` (n,), then quarters.
    """

    def smaller(tried: Tensor) -> list[Tensor]:
        if of is not None and len(tried) == len(x) > len(sets(of)[0]):
            return sets(of)
        return [part for part in tried.tensor_split(4) if 0 < len(part) < len(tried)]

    return tried_by_parts(call, x, features, smaller)


def accepted_sets(call: Call, x: Tensor, features: Tensor | None, of: Tensor) -> tuple[Tensor, Pair]:
    """Return the same of whole sets: one that has a refused example is left out."""

    def smaller(tried: Tensor) -> list[Tensor]:
        return [part for part in sets(of) if len(part) < len(tried) == len(x)]

    return tried_by_parts(call, x, features, smaller)


def sets(of: Tensor) -> list[Tensor]:
    """Return the numbers of the examples of each set."""
    return [(of == k).nonzero()[:, 0] for k in of.unique()]


def tried_by_parts(
    call: Call, x: Tensor, features: Tensor | None, smaller: Callable[[Tensor], list[Tensor]]
) -> tuple[Tensor, Pair]:
    """Call for all examples, and in place of those that are refused for smaller parts of them."""
    rows, left = [], [torch.arange(len(x), device=x.device)]
    found: list[Pair] = []
    while left:
        tried = left.pop()
        try:
            found.append(call(x[tried], picked(features, tried)))
            rows.append(tried)
        except Error:
            left += smaller(tried)
    if not rows:
        return torch.zeros(0, dtype=torch.int64, device=x.device), (x[:0], x[:0])
    first, second = zip(*found, strict=True)
    return torch.cat(rows), (torch.cat(first), torch.cat(second))
