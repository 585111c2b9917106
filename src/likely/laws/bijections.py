"""Flows: transforms against their inverses, and log-determinants against those of the Jacobian."""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress

import torch
from torch import Tensor

from likely.errors import Error
from likely.event import Interval
from likely.flows import Composition, Flow, Transform
from likely.flows.transforms.transform import vectors
from likely.laws.case import Case, inside
from likely.laws.probability import worst
from likely.laws.table import Measured, NotApplicable

DIMS = 8  # at most, where log-determinants are compared
ENTRIES = 2**20  # of the Jacobians of a batch
SUMMED = 1024  # times the error of the result: the most that rounding within a transform may cost
LOST = 1e-3  # relative change at which first-order bounds hold no more
SIZES = (1e-30, 1e-3, 1.0, 30.0, 1e3, 1e6)


def invertible(case: Case, dtype: torch.dtype) -> Measured:
    """|f⁻¹(f(x)) − x| over what rounding may do to it, for x of sizes from 1e-30 to 1e6; the largest.

    It is held for every transform f by itself, where x is what the transforms before it make of such values, and for
    all of them together. z = f(x) is rounded, and so are what it is a sum of and the parameters of f. With the Jacobian
    G this moves x by eps |x| + |G⁻¹| e to first order, where e is eps u, u = |z| + |G| |x|, or the error that is seen
    in float32, in units of eps (1 + u), where that is larger (and up to 1024 times); together, what z has been moved by
    later is added to e. A transform that is solved to a stated `tolerance` t may be out by 10 t (1 + |z|) beside that.
    Whatever is refused is not wrong. What noise was added to must come back.
    """
    found, compared, tried = {}, 0, 0
    for name, model in flows(case, dtype).items():
        first, bijection = parts(model)
        (_, rough), (_, exact) = (parts(case.models(other)[name]) for other in (torch.float32, torch.float64))
        entered, features = enter(case, model)
        if first.stochastic:
            off = first.inverse(entered, features)[0] != case.x[: len(entered)]
            found[f"noise off, {name}"] = math.inf if off.any() else 0.0
        t = torch.randn(entered.shape, generator=case.generator(), dtype=dtype).to(entered.device)
        started = {f"size {size:g}": inside(size * t, bijection.domain) for size in SIZES}
        for kind, x in {"examples": entered, **started}.items():
            for part, ratio in round_trips(bijection, rough, exact, x, features).items():
                compared, tried = compared + len(ratio), tried + len(x)
                found[f"{part}, {kind}, {name}"] = float(ratio.max()) if len(ratio) else 0.0
    value, remark = worst(found)
    return Measured(value, f"{compared} of {tried} round trips can tell, {remark}")


def round_trips(
    bijection: Composition, rough: Composition, exact: Composition, x: Tensor, features: Tensor | None
) -> dict[str, Tensor]:
    """The largest error in each f⁻¹(f(x)), over what is allowed: of each transform, and of all together.

    Examples that are refused are left out, and those that rounding alone may carry so far that nothing can be said.

    Args:
        bijection: f.
        rough, exact: the same in float32 and in float64.
        x: values (n, …).
        features: that f is conditioned on (n, features).
    """

    def there_and_back(x: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        z, _ = bijection(x, features)
        exact(x.double(), as_type(features, torch.float64))
        return z, bijection.inverse(z, features)[0]

    rows, (_, back) = accepted(there_and_back, x, features)
    if not len(rows):
        return {}
    x, features = x[rows], None if features is None else features[rows]
    eps, found, steps, start = torch.finfo(x.dtype).eps, {}, [], x
    for k, (part, roughly, exactly) in enumerate(zip(*map(leaves, (bijection, rough, exact)), strict=True)):
        z, _ = part(x, features)
        size, wide = vectors(x.double().abs()), as_type(features, torch.float64)
        own = jacobian(exactly, x.double(), wide)
        inverse = torch.linalg.inv_ex(own)[0].abs()
        least = vectors(z.double().abs()) + times(own.abs(), size)
        summed = (rounding(roughly, exactly, x.double(), wide) / (1 + least)).amax(0).clamp_max(SUMMED)
        error = eps * least.maximum(summed * (1 + least))
        slack = 10 * tolerance(part) * (1 + vectors(z.double().abs()))
        steps.append((size, inverse, error, slack))
        with suppress(Error):
            moved = eps * size + times(inverse, error)
            trip = ratios(x, part.inverse(z, features)[0], moved, times(inverse, slack))
            found[f"transform {k} ({type(part).__name__})"] = trip[told(moved, size)]
        x = z
    moved = slack = torch.zeros_like(vectors(x.double()))
    tells = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for size, inverse, error, late in reversed(steps):
        moved, slack = eps * size + times(inverse, error + moved), times(inverse, late + slack)
        tells &= told(moved, size)
    found["all transforms"] = ratios(start, back, moved, slack)[tells]
    return found


def times(matrices: Tensor, values: Tensor) -> Tensor:
    """(n, dims, dims) · (n, dims) → (n, dims), where what is not a number is infinite."""
    return (matrices @ values[..., None])[..., 0].nan_to_num(math.inf, math.inf)


def told(moved: Tensor, size: Tensor) -> Tensor:
    """Which examples (n,) rounding moves so little that first order holds."""
    return moved.amax(1) <= LOST * size.amax(1).clamp_min(1)


def ratios(x: Tensor, back: Tensor, moved: Tensor, slack: Tensor) -> Tensor:
    """The largest error of each example (n,), over what is allowed."""
    error = (vectors((back.double() - x.double()).abs()) - slack).clamp_min(0)
    return (error / (moved + torch.finfo(x.dtype).tiny)).amax(1).nan_to_num(math.inf, math.inf)


def rounding(rough: Transform, exact: Transform, x: Tensor, features: Tensor | None) -> Tensor:
    """|z in float32 − z in float64| / eps of float32 (n, dims), at x or near it: what is rounded on the way to z."""
    given = as_type(features, torch.float32)
    beside = x + LOST * x.abs().clamp_min(1) * torch.arange(1.0, x.numel() + 1).cos().view_as(x).to(x)
    beside = torch.where((beside > exact.domain.low) & (beside < exact.domain.high), beside, x)
    seen = torch.zeros_like(vectors(x))
    for near in (x.float(), beside.float()):
        with suppress(Error):  # float32 may not reach as far
            error = rough(near, given)[0].double() - exact(near.double(), as_type(given, torch.float64))[0]
            seen = seen.maximum(vectors(error.abs()).nan_to_num(0.0, 0.0) / torch.finfo(torch.float32).eps)
    return seen


def log_determinant(case: Case, dtype: torch.dtype) -> Measured:
    """|ln|det| − that of the Jacobian by automatic differentiation|, and of ln p(x) − ln p_base(z); the largest.

    The Jacobian's is the sum over the transforms, each in the precision that is tried and in both of its directions.
    Ten times the stated tolerance of a solver is taken off.
    """
    if case.event.dims > DIMS:
        raise NotApplicable(f"{case.event.dims} dimensions, Jacobians of up to {DIMS} are compared")
    found = {}
    for name, model in flows(case, dtype).items():
        first, bijection = parts(model)
        entered, features = enter(case, model)
        t = torch.randn(entered.shape, generator=case.generator(), dtype=dtype).to(entered.device)
        for kind, x in {"examples": entered, "drawn": inside(t, values(first, bijection))}.items():
            rows, _ = accepted(bijection, x, features)
            given = None if features is None else features[rows]
            for key, value in determinants(bijection, x[rows], given) if len(rows) else ():
                found[f"{key}, {kind}, {name}"] = max(value, found.get(f"{key}, {kind}, {name}", 0.0))
        if model.kind == "exact":
            found[f"ln p, {name}"] = composed(case, model)
    return worst(found)


def determinants(bijection: Composition, x: Tensor, features: Tensor | None) -> Iterator[tuple[str, float]]:
    """Errors of the log-determinants of each transform, of its inverse, and of all together."""
    whole, total, slack = bijection(x, features)[1], x.new_zeros(len(x)).double(), 0.0
    for k, part in enumerate(leaves(bijection)):
        name = f"transform {k} ({type(part).__name__})"
        (z, ladj), expected = part(x, features), slogdet(part, x, features)
        own = 10 * tolerance(part) * (1 + expected.abs())
        yield name, beyond(ladj - expected, own)
        back, ladj = part.inverse(z, features)
        yield f"inverse of {name}", beyond(ladj + slogdet(part, back, features), own)
        x, total, slack = z, total + expected, slack + own
    yield "all transforms", beyond(whole - total, slack)


def beyond(error: Tensor, slack: Tensor | float) -> float:
    """How far the largest error is beyond what is allowed; NaN is infinitely far."""
    return float((error.abs() - slack).nan_to_num(math.inf).max().clamp(min=0))


def composed(case: Case, model: Flow) -> float:
    """|ln p(x) − (ln p_base(z) + ln|det ∂z/∂x|)| / max(1, |ln p(x)|), the largest."""
    x, context = model.check(case.x), case.context
    log_prob = model.log_prob(x, context)
    z, ladj = model.transform(x, model.encoded(context))
    expected = model.base.log_prob(z, context if model.base.context else None) + ladj
    return beyond((log_prob - expected) / log_prob.abs().clamp(min=1), 0.0)


def flows(case: Case, dtype: torch.dtype) -> dict[str, Flow]:
    """The models in a precision, if they are flows."""
    if not isinstance(case.given, Flow):
        raise NotApplicable("no flow")
    return case.models(dtype)


def leaves(transform: Transform) -> Iterator[Transform]:
    """The transforms that compositions are made of, in order."""
    if isinstance(transform, Composition):
        for part in transform:
            yield from leaves(part)
    else:
        yield transform


def parts(model: Flow) -> tuple[Composition, Composition]:
    """The transforms up to the last that draws, and the bijections after it."""
    transforms = list(leaves(model.transform))
    after = max((k + 1 for k, part in enumerate(transforms) if part.stochastic), default=0)
    return Composition(transforms[:after]), Composition(transforms[after:])


def values(first: Composition, bijection: Composition) -> Interval:
    """Where what is handed to the bijections lies: no further out than noise takes it, if any was added."""
    return first.codomain if first.stochastic else bijection.domain


def enter(case: Case, model: Flow) -> tuple[Tensor, Tensor | None]:
    """The case's examples as the bijections are handed them, and features of their contexts."""
    first, _ = parts(model)
    dims = case.event.dims
    if dims**2 > ENTRIES:
        raise NotApplicable(f"{dims:,} dimensions, Jacobians of up to {math.isqrt(ENTRIES):,} are computed")
    n = min(len(case.x), ENTRIES // dims**2)
    features = model.encoded(None if case.context is None else case.context[:n])
    noise = (case.generator(),) if first.stochastic else ()
    return first(model.check(case.x[:n]), features, *noise)[0], features


def as_type(features: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Features, if there are any, in another precision."""
    return None if features is None else features.to(dtype)


def tolerance(transform: Transform) -> float:
    """What a transform that is solved numerically says of its precision."""
    return getattr(transform, "tolerance", 0.0)


def slogdet(transform: Transform, x: Tensor, features: Tensor | None) -> Tensor:
    """ln|det ∂z/∂x| (n,), float64, from the Jacobian in the precision of x."""
    return torch.linalg.slogdet(jacobian(transform, x, features).double())[1]


def jacobian(transform: Transform, x: Tensor, features: Tensor | None) -> Tensor:
    """∂z/∂x (n, dims, dims) by automatic differentiation: one copy of an example for every row of it."""
    n, dims = len(x), x[0].numel()
    with torch.enable_grad():
        copies = x.detach().repeat_interleave(dims, 0).requires_grad_()
        z, _ = transform(copies, None if features is None else features.repeat_interleave(dims, 0))
        picked = z.reshape(n, dims, dims).diagonal(dim1=1, dim2=2).sum()
        return torch.autograd.grad(picked, copies)[0].reshape(n, dims, dims)


def accepted(
    call: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]], x: Tensor, features: Tensor | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The rows that a call does not refuse, by their numbers, and what it returns for them."""
    rows, left = [], [torch.arange(len(x), device=x.device)]
    found: list[tuple[Tensor, Tensor]] = []
    while left:
        tried = left.pop()
        try:
            found.append(call(x[tried], None if features is None else features[tried]))
            rows.append(tried)
        except Error:
            left += [half for half in tried.tensor_split(2) if len(tried) > 1]
    if not rows:
        return torch.zeros(0, dtype=torch.int64), (x[:0], x[:0])
    first, second = zip(*found, strict=True)
    return torch.cat(rows), (torch.cat(first), torch.cat(second))
