"""Causal convolutions: what each output sees, cached = parallel, and the multiply-accumulates of both."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from likely.nn import Cache, Gate, MaskedConv2d, RowsAbove, VerticalConv2d

N, H, W = 2, 4, 5
KERNELS = [(1, 1), (1, 3), (1, 5), (3, 3), (5, 3), (3, 7), (1, 11)]
MASKED = [
    pytest.param(kernel, kind, groups, id=f"{kernel[0]}x{kernel[1]}{kind}{groups}")
    for kernel, kind, groups in product(KERNELS, "AB", (1, 3))
    if (kernel, kind, groups) != ((1, 1), "A", 1)  # it sees nothing at all
]


def redrawn(module):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.normal_(generator=generator)
    return module


def image(channels, height=H, width=W):
    return torch.randn(N, height, width, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def support(f, channels, width=W):
    """Which inputs each output depends on: bool (h, w, outputs, h, w, channels)."""
    return torch.autograd.functional.jacobian(lambda x: f(x[None])[0], image(channels, width=width)[0]) != 0


def groups_in_order(x, groups):
    """The channel groups of x's pixels in raster order, each (n, 1, 1, channels / groups)."""
    parts = x.unflatten(-1, (groups, -1))
    for i, j, g in product(range(x.shape[1]), range(x.shape[2]), range(groups)):
        yield parts[:, i : i + 1, j : j + 1, g]


def macs(f):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        f()
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(("kernel", "kind", "groups"), MASKED)
def test_a_masked_convolution_sees_the_past_inside_its_kernel(kernel, kind, groups):
    inputs, outputs = 2 * groups, groups
    found = support(redrawn(MaskedConv2d(inputs, outputs, kernel, kind, groups)), inputs)
    for i, j, o, k, m, c in product(range(H), range(W), range(outputs), range(H), range(W), range(inputs)):
        inside = i - kernel[0] // 2 <= k <= i and abs(m - j) <= kernel[1] // 2
        own = (c // 2 < o) if kind == "A" else (c // 2 <= o)
        past = k < i or (k == i and m < j) or ((k, m) == (i, j) and own)
        assert found[i, j, o, k, m, c] == (inside and past), (i, j, o, k, m, c)


@pytest.mark.parametrize(("kernel", "kind", "groups"), MASKED)
@pytest.mark.parametrize("width", [1, W])
def test_masked_convolution_cached_is_parallel(kernel, kind, groups, width):
    layer, cache = redrawn(MaskedConv2d(2 * groups, 3 * groups, kernel, kind, groups)), Cache(width)
    x = image(2 * groups, width=width)
    with torch.no_grad():
        expected = list(groups_in_order(layer(x), groups))
        known = list(groups_in_order(x, groups))
        if kind == "A":
            known = [x[:, :0, :0, :2], *known[:-1]]
        for part, wanted in zip(known, expected, strict=True):
            torch.testing.assert_close(layer(part, None, cache), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("context", [None, "vector", "map"])
def test_vertical_convolution(kernel, context):
    layer, x = redrawn(VerticalConv2d(2, 3, kernel, None if context is None else 4)), image(2)
    c = {None: None, "vector": image(4, 1, 1), "map": image(4)}[context]
    found = support(lambda x: layer(x, None if c is None else c[:1]), 2)
    for i, j, k, m in product(range(H), range(W), range(H), range(W)):
        assert (found[i, j, :, k, m] == (i - kernel // 2 <= k <= i and abs(m - j) <= kernel // 2)).all()
    with torch.no_grad():
        cache = Cache()
        rows = [layer(x[:, i : i + 1], c, cache) for i in range(H)]
        torch.testing.assert_close(torch.cat(rows, 1), layer(x, c), rtol=0, atol=1e-12)


class Stack(nn.Module):
    """Two vertical layers, each with a result of its own width."""

    def __init__(self, features):
        super().__init__()
        self.layers = nn.ModuleList([VerticalConv2d(3, 6, 3, features), VerticalConv2d(6, 12, 3, features)])

    def forward(self, x, context, cache):
        results = []
        for layer in self.layers:
            x = layer(x, context, cache)
            results.append(x)
        return results


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("context", [None, "vector", "map"])
def test_rows_above(groups, context):
    features = None if context is None else 4
    above, x = redrawn(RowsAbove(Stack(features), [6, 12], groups, features)), image(3)
    c = {None: None, "vector": image(4, 1, 1), "map": image(4)}[context]
    for result in range(2):
        found = support(lambda x, result=result: above(x, None if c is None else c[:1])[result], 3)
        for i, k in product(range(H), range(H)):
            assert found[i, :, :, k].any() == (i - 2 - result <= k < i)
    with torch.no_grad():
        expected = [list(groups_in_order(y, groups)) for y in above(x, c)]
        cache, known = Cache(W), [x[:, :0, :0, : 3 // groups], *groups_in_order(x, groups)]
        for step, part in enumerate(known[:-1]):
            for y, wanted in zip(above(part, c, cache), expected, strict=True):
                torch.testing.assert_close(y, wanted[step], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kernel", "kind", "groups"), [((1, 5), "A", 1), ((1, 3), "B", 1), ((1, 1), "B", 1)])
def test_a_cached_image_costs_one_pass(kernel, kind, groups):
    layer, x, cache = redrawn(MaskedConv2d(6, 12, kernel, kind, groups)), image(6, 12, 12), Cache(12)
    known = list(groups_in_order(x, groups))
    if kind == "A":
        known = [x[:, :0, :0], *known[:-1]]
    assert macs(lambda: [layer(part, None, cache) for part in known]) <= 1.15 * macs(lambda: layer(x))


def test_a_gate_halves_each_group():
    x = image(12)
    for width in (1, 2, 3, 6):
        a, b = x.reshape(N, H, W, -1, 2, width).unbind(-2)
        expected = (a.tanh() / (1 + (-b).exp())).reshape(N, H, W, 6)
        torch.testing.assert_close(Gate(width)(x), expected)
