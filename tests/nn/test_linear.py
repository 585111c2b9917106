"""MaskedLinear: the product it states, its support, its gradients, its cache and its cost."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from likely.nn import Cache, MaskedLinear

REACHES = {
    "a stair per input": torch.arange(9),
    "several inputs per stair": torch.tensor([0, 0, 3, 3, 3, 6, 9, 9]),
    "several outputs per input": torch.arange(9).repeat_interleave(3),
    "nothing is seen": torch.zeros(4, dtype=torch.int64),
    "everything is seen": torch.full((5,), 9),
    "one output": torch.tensor([4]),
}
INPUTS = 9
BATCH = 5


def layer(reach, context=None, orders=1, **options):
    """A layer in float64 whose every weight counts, the masked ones too."""
    generator = torch.Generator().manual_seed(0)
    if orders > 1:
        options["input_orders"] = torch.stack([torch.randperm(INPUTS, generator=generator) for _ in range(orders)])
        options["output_orders"] = torch.stack([torch.randperm(len(reach), generator=generator) for _ in range(orders)])
    made = MaskedLinear(reach, INPUTS, context, **options).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(generator=generator)
    return made


def dense(made, x, context=None, order=0):
    """The formula, all at once."""
    weight, bias = made.weight, made.bias
    if order:
        weight = weight[:, made.input_orders[order]][made.output_orders[order]]
        bias = bias[made.output_orders[order]]
    y = x @ (weight * (torch.arange(INPUTS) < made.reach[:, None])).T + bias
    if context is not None:
        projected = context @ made.project.weight.T
        y = y + (projected[:, made.output_orders[order]] if order else projected)
    return y


def in_steps(made, x, context, order, sizes):
    cache = Cache()
    parts = [made(x[:, :0], context, cache, order)]
    for part in x.split(sizes, 1):
        parts.append(made(part, context, cache, order))
    return parts


@pytest.fixture(params=REACHES.values(), ids=REACHES)
def reach(request):
    return request.param


@pytest.mark.parametrize("blocks", [1, 3, 8])
@pytest.mark.parametrize("context", [None, 2])
@pytest.mark.parametrize("order", [0, 2])
def test_product_and_gradients_are_those_of_the_dense_formula(reach, blocks, context, order):
    made = layer(reach, context, orders=3, blocks=blocks)
    made.reach = reach
    x = torch.randn(BATCH, INPUTS, dtype=torch.float64, requires_grad=True)
    features = None if context is None else torch.randn(BATCH, context, dtype=torch.float64, requires_grad=True)
    sources = [x, *made.parameters()] + ([] if features is None else [features])
    y, expected = made(x, features, None, order), dense(made, x, features, order)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    direction = torch.randn_like(y)
    for found, wanted in zip(
        torch.autograd.grad(y, sources, direction), torch.autograd.grad(expected, sources, direction), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_second_derivatives(reach):
    made = layer(reach, blocks=3)
    x = torch.randn(2, INPUTS, dtype=torch.float64, requires_grad=True)
    weight, bias = made.weight.detach().requires_grad_(), made.bias.detach().requires_grad_()

    def f(x, weight, bias):
        return torch.func.functional_call(made, {"weight": weight, "bias": bias}, (x,)).square()

    assert torch.autograd.gradgradcheck(f, (x, weight, bias))


def test_functional_transforms():
    made = layer(torch.arange(9))
    x = torch.randn(BATCH, INPUTS, dtype=torch.float64)
    torch.testing.assert_close(torch.func.vmap(lambda row: made(row[None])[0])(x), made(x))
    jacobian = torch.func.jacrev(lambda row: made(row[None])[0])(x[0])
    torch.testing.assert_close(jacobian, (made.weight * made.mask).detach())


@pytest.mark.parametrize("order", [0, 1])
def test_an_output_depends_on_its_reach_and_on_nothing_else(reach, order):
    made = layer(reach, orders=2)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: made(x[None], None, None, order)[0], torch.zeros(INPUTS).double()
    )
    assert torch.equal(jacobian != 0, torch.arange(INPUTS) < reach[:, None])


@pytest.mark.parametrize("sizes", [1, 4, [2, 1, 5, 1]])
@pytest.mark.parametrize("context", [None, 2])
@pytest.mark.parametrize("order", [0, 1])
def test_cached_is_parallel(reach, sizes, context, order):
    made = layer(reach, context, orders=2)
    x = torch.randn(BATCH, INPUTS, dtype=torch.float64)
    features = None if context is None else torch.randn(BATCH, context, dtype=torch.float64)
    with torch.no_grad():
        parts = in_steps(made, x, features, order, sizes)
        torch.testing.assert_close(torch.cat(parts, 1), made(x, features, None, order), rtol=0, atol=1e-12)
    known = [0, *torch.tensor([p.shape[1] for p in x.split(sizes, 1)]).cumsum(0).tolist()]
    determined = [int((reach <= k).sum()) for k in known]
    assert [p.shape[1] for p in parts] == [b - a for a, b in zip([0, *determined], determined, strict=False)]


def test_multiply_accumulates():
    size = 64
    made = MaskedLinear(torch.arange(size), size, blocks=8)
    x = torch.randn(3, size)

    def count(f):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            f()
        return counter.get_total_flops()

    whole = 2 * 3 * size * size
    parallel = count(lambda: made(x))
    assert parallel <= 0.57 * whole  # half, and half of a block's stairs: (1 + 1/8) / 2
    cache = Cache()
    assert count(lambda: [made(part, None, cache) for part in (x[:, :0], *x.split(1, 1))]) <= 1.15 * parallel
