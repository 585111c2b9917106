"""The laws of transforms, over the table of instances: inverses, log-determinants, and values far out."""

import copy

import pytest
import torch
from transform_instances import INSTANCES, examples, redrawn

import likely
from likely.densities.bases import Normal
from likely.flows import Composition, Flow
from likely.runs import store

DTYPES = [torch.float32, torch.float64]


def jacobians(transform, x, context):
    """∂z/∂x of every example (n, dims, dims), by automatic differentiation."""

    def z(row, c):
        return transform(row[None], c[None])[0].flatten()

    rows = [torch.autograd.functional.jacobian(lambda row, c=c: z(row, c), r) for r, c in zip(x, context, strict=True)]
    return torch.stack(rows).reshape(len(x), -1, x[0].numel())


def rows(x):
    """The sizes of the values of every example (n, dims)."""
    return x.abs().reshape(len(x), -1)


def invert_error(transform, x, context, z, back):
    """|back − x| in units of eps · (|x| + |J⁻¹| (|z| + r)): what rounding x, z and the terms of z may do. The largest.

    r is how far z is off in float32 in units of eps, at most four times |z|, on average over the examples.
    """
    rough = copy.deepcopy(transform).float()
    near, given = x.float(), context.float()
    exact = copy.deepcopy(rough).double()
    off = rows(rough(near, given)[0].double() - exact(near.double(), given.double())[0]).mean(0)
    size = rows(z.double())
    size = size + torch.minimum(off / torch.finfo(torch.float32).eps, 4 * size.mean(0))
    inverse = torch.linalg.inv(jacobians(exact, x.double(), context.double())).abs()
    unit = torch.finfo(x.dtype).eps * (rows(x.double()) + (inverse @ size[..., None])[..., 0])
    error = rows((back - x).double()) / unit.clamp_min(torch.finfo(x.dtype).tiny)
    return error.max().item()


def moved(f, x):
    """By how much f(x) moves with the last bit of x: rounding may move it as much."""
    last = torch.finfo(x.dtype).eps * x
    return torch.maximum((f(x + last) - f(x)).abs(), (f(x - last) - f(x)).abs())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", INSTANCES)
def test_the_inverse_gives_back_what_went_in(name, dtype):
    transform, (x, context) = redrawn(name, dtype), examples(name, 64, dtype)
    z, ladj = transform(x, context)
    back, inverse_ladj = transform.inverse(z, context)
    assert z.dtype == ladj.dtype == back.dtype == dtype
    assert ladj.shape == (64,)
    assert invert_error(transform, x, context, z, back) <= 16 * x[0].numel()
    there = -transform(back, context)[1]  # not at x, which rounding z may have moved
    limit = (1e-4 if dtype == torch.float32 else 1e-9) + 1e-4 * there.abs()
    assert ((inverse_ladj - there).abs() <= limit + 64 * moved(lambda x: transform(x, context)[1], back)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", INSTANCES)
def test_the_log_determinant_is_that_of_the_jacobian(name, dtype):
    transform, (x, context) = redrawn(name, dtype), examples(name, 16, dtype)
    ladj = transform(x, context)[1].double()
    expected = torch.linalg.slogdet(jacobians(transform.double(), x.double(), context.double()))[1]
    limit = 1e-5 if dtype == torch.float32 else 1e-9
    assert (ladj - expected).abs().max().item() <= limit * max(1, x[0].numel())


@pytest.mark.parametrize("name", INSTANCES)
def test_one_example_and_a_thousand(name):
    transform = redrawn(name, torch.float32)
    x, context = examples(name, 1000, torch.float32)
    z, ladj = transform(x, context)
    alone, ladj_alone = transform(x[:1], context[:1])
    torch.testing.assert_close(alone, z[:1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ladj_alone, ladj[:1], atol=1e-4, rtol=1e-4)
    back, _ = transform.inverse(z, context)
    limit = 1e-4 + 1e-4 * back[:1].abs() + 64 * moved(lambda z: transform.inverse(z, context[:1])[0], z[:1])
    assert ((transform.inverse(z[:1], context[:1])[0] - back[:1]).abs() <= limit).all()


@pytest.mark.parametrize("size", [1e-30, 1e-3, 30.0, 1e3, 1e6])
@pytest.mark.parametrize("name", INSTANCES)
def test_values_far_out_are_right_or_refused(name, size):
    transform, (x, context) = redrawn(name, torch.float32), examples(name, 8, torch.float32)
    x = x * size
    try:
        z, ladj = transform(x, context)
        back, _ = transform.inverse(z, context)
    except likely.Error:
        return
    assert z.isfinite().all()
    assert ladj.isfinite().all()
    assert back.isfinite().all()
    jacobian = jacobians(copy.deepcopy(transform).double(), x.double(), context.double())
    if float(torch.linalg.cond(jacobian).max()) < 1e6:
        assert invert_error(transform, x, context, z, back) <= 64 * x[0].numel()


@pytest.mark.parametrize("name", INSTANCES)
def test_saved_and_built_again(name):
    transform = redrawn(name, torch.float32)
    again = store.build(store.configuration(transform))
    again.load_state_dict(transform.state_dict())
    x, context = examples(name, 4, torch.float32)
    for ours, theirs in zip(transform(x, context), again.eval()(x, context), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", INSTANCES)
def test_the_events_before_and_after_belong_together(name):
    build, shape = INSTANCES[name]
    transform = build()
    event = likely.Event(shape)
    after = transform.event_after(event)
    assert transform.event_before(after) == event
    x, context = examples(name, 2, torch.float32)
    assert tuple(transform(x, context)[0].shape[1:]) == after.shape


def test_a_flow_without_transforms_is_its_base():
    event = likely.Event((3,))
    x = torch.randn(5, 3)
    assert torch.equal(Flow(Normal(event), []).log_prob(x), Normal(event).log_prob(x))


def test_log_determinants_add_up():
    parts = [redrawn(name, torch.float64) for name in ("affine", "shift", "inverse")]
    x, context = examples("affine", 8, torch.float64)
    z, total = Composition(parts)(x, context)
    by_hand, value = 0, x
    for part in parts:
        value, ladj = part(value, context)
        by_hand = by_hand + ladj
    assert torch.equal(z, value)
    torch.testing.assert_close(total, by_hand)
