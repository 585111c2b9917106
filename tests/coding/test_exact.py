"""Exact leaves: the same integers as Python's, in both views, on inputs made to break them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likely.errors import ExactnessError
from likely.nn import (
    Cache,
    Conv2d,
    Gate,
    Leaf,
    Linear,
    LinearLeaf,
    MaskedConv2d,
    MaskedLinear,
    ReLU,
    VerticalConv2d,
    exact,
)
from likely.nn.elementwise import FINE, ExactGate
from likely.nn.exact import ExactLinear, bound, powers

HALF = 1 << 15
N = 3
Integers = np.ndarray  # of Python's integers, dtype object: they cannot overflow


@dataclass
class Kind:
    """A leaf, its input's shape, and what it computes in each view."""

    build: Callable[[], LinearLeaf]
    shape: tuple[int, ...]
    reference: Callable[[Integers, Integers, Integers], Integers]  # weight, bias, x
    parallel: Callable[[nn.Module, Tensor], Tensor]
    cached: Callable[[nn.Module, Tensor], Tensor] | None = None


# Linear layers: y_j = b_j + Σ_i W_ji x_i over the inputs that output j may see.

REACH = torch.tensor([0, 0, 2, 3, 3, 5, 6, 6, 6, 7])
INPUTS, OUTPUTS, ORDERS = 7, len(REACH), 3


def arrangements(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.stack([torch.arange(size), *(torch.randperm(size, generator=generator) for _ in range(ORDERS - 1))])


def masked_linear(order: int | None, context: int | None = None) -> Kind:
    inputs, outputs = arrangements(INPUTS), arrangements(OUTPUTS)

    def build() -> LinearLeaf:
        options = {} if order is None else {"input_orders": inputs, "output_orders": outputs}
        return MaskedLinear(REACH, INPUTS, context, blocks=4, **options)

    def reference(weight: Integers, bias: Integers, x: Integers) -> Integers:
        y = np.zeros((len(x), OUTPUTS), object)
        for j in range(OUTPUTS):
            row = j if order is None else int(outputs[order, j])
            for i in range(int(REACH[j])):
                column = i if order is None else int(inputs[order, i])
                y[:, j] += weight[row, column] * x[:, i]
            y[:, j] += bias[row]
        return y

    def cached(leaf: nn.Module, x: Tensor) -> Tensor:
        cache = Cache()
        parts = (x[:, :0], x[:, :1], x[:, 1:4], x[:, 4:5], x[:, 5:])
        return torch.cat([leaf(part, None, cache, order or 0) for part in parts], 1)

    return Kind(build, (INPUTS,), reference, lambda leaf, x: leaf(x, None, None, order or 0), cached)


# Convolutions: y_ij = b + Σ over taps of W[tap] · x at the tap, zero outside the image.

IMAGE = (4, 5)


def convolution(weight: Integers, bias: Integers, x: Integers, above: int, side: int) -> Integers:
    (n, height, width, _), (outputs, _, rows, columns) = x.shape, weight.shape
    y = np.zeros((n, height, width, outputs), object) + bias
    for i in range(height):
        for j in range(width):
            for di in range(rows):
                for dj in range(columns):
                    row, column = i + di - above, j + dj - side
                    if 0 <= row < height and 0 <= column < width:
                        y[:, i, j] += x[:, row, column].dot(weight[:, :, di, dj].T)
    return y


def masked_convolution(kernel: tuple[int, int], kind: str, groups: int, inputs: int = 6, outputs: int = 12) -> Kind:
    above, side = kernel[0] // 2, kernel[1] // 2

    def seen(o: int, c: int, di: int, dj: int) -> bool:
        if (di, dj) != (above, side):
            return di < above or dj < side
        group, own = c // (inputs // groups), o // (outputs // groups)
        return group < own if kind == "A" else group <= own

    def reference(weight: Integers, bias: Integers, x: Integers) -> Integers:
        weight = weight.copy()
        for place in np.ndindex(weight.shape):
            weight[place] *= seen(*place)
        return convolution(weight, bias, x, above, side)

    def cached(leaf: nn.Module, x: Tensor) -> Tensor:
        cache = Cache(IMAGE[1])
        parts = [p.movedim(2, -1).reshape(N, 1, 1, -1) for p in pixels(x, groups)]
        parts = [x[:, :0, :0, : inputs // groups], *parts[:-1]] if kind == "A" else parts
        found = [leaf(part, None, cache) for part in parts]
        return torch.cat(found, -1).view(N, *IMAGE, outputs)

    return Kind(
        lambda: MaskedConv2d(inputs, outputs, kernel, kind, groups),
        (*IMAGE, inputs),
        reference,
        lambda leaf, x: leaf(x),
        cached,
    )


def pixels(x: Tensor, groups: int) -> list[Tensor]:
    """Channel groups of pixels in raster order, (n, 1, channels / groups) each."""
    return list(x.reshape(len(x), -1, 1, x.shape[-1] // groups).unbind(1))


def rows(leaf: nn.Module, x: Tensor) -> Tensor:
    cache = Cache()
    return torch.cat([leaf(row, None, cache) for row in x.split(1, 1)], 1)


KINDS = {
    "linear": Kind(lambda: Linear(INPUTS, OUTPUTS), (INPUTS,), lambda w, b, x: x.dot(w.T) + b, lambda leaf, x: leaf(x)),
    "linear without bias": Kind(
        lambda: Linear(INPUTS, OUTPUTS, bias=False),
        (INPUTS,),
        lambda w, b, x: x.dot(w.T),
        lambda leaf, x: leaf(x),
    ),
    "masked linear": masked_linear(None),
    **{f"masked linear, ordering {order}": masked_linear(order) for order in range(ORDERS)},
    "convolution 3x3": Kind(
        lambda: Conv2d(4, 6, 3), (*IMAGE, 4), lambda w, b, x: convolution(w, b, x, 1, 1), lambda leaf, x: leaf(x)
    ),
    "convolution 1x1": Kind(
        lambda: Conv2d(4, 6, 1), (*IMAGE, 4), lambda w, b, x: convolution(w, b, x, 0, 0), lambda leaf, x: leaf(x)
    ),
    **{
        f"vertical {kernel}x{kernel}": Kind(
            lambda kernel=kernel: VerticalConv2d(4, 6, kernel),
            (*IMAGE, 4),
            lambda w, b, x, kernel=kernel: convolution(w, b, x, kernel // 2, kernel // 2),
            lambda leaf, x: leaf(x, None, None),
            rows,
        )
        for kernel in (3, 5)
    },
    **{
        f"masked {kernel[0]}x{kernel[1]} {kind}, {groups} groups": masked_convolution(kernel, kind, groups)
        for kernel in ((1, 3), (1, 7), (3, 3), (5, 3))
        for kind in "AB"
        for groups in (1, 2, 3)
    },
    **{f"pointwise, {groups} groups": masked_convolution((1, 1), "B", groups) for groups in (1, 3)},
}


def integers(tensor: Tensor) -> Integers:
    return np.array(tensor.tolist(), object).reshape(tuple(tensor.shape))


def made(kind: Kind, seed: int = 0, largest: float = 3.0) -> ExactLinear:
    """An exact leaf with random weights of many magnitudes."""
    leaf, generator = kind.build(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in leaf.parameters():
            parameter.normal_(generator=generator)
            if parameter.ndim > 1:
                size = torch.randint(-12, 5, (len(parameter),), generator=generator).float().exp2()
                parameter.mul_(size.view(-1, *[1] * (parameter.ndim - 1)))
    return leaf.exact(leaf.quantize(largest))


def extremes(kind: Kind, seed: int = 0) -> Tensor:
    """Inputs at either end of their grid, in units of it."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, (N, *kind.shape), generator=generator) * 2 - 1
    return signs * (HALF - torch.randint(3, signs.shape, generator=generator))


def units(leaf: ExactLinear, y: Tensor) -> Integers:
    """An output in the units of its accumulators, which it must be a whole number of."""
    exponents = leaf.stored["exponent"].tolist()
    scaled = np.array([Fraction(v) for v in y.flatten().tolist()], object).reshape(-1, len(exponents))
    scaled = scaled * np.array([Fraction(2) ** (e + int(leaf.stored["grid"])) for e in exponents], object)
    assert all(value.denominator == 1 for value in scaled.flat)
    return np.array([int(value) for value in scaled.flat], object).reshape(tuple(y.shape))


@pytest.mark.parametrize("name", KINDS)
def test_extreme_inputs_give_the_integers_of_python(name):
    """Both views against a triple loop over Python's integers, written from the layer's definition."""
    kind = KINDS[name]
    for seed in range(2):
        leaf, x = made(kind, seed), extremes(kind, seed)
        ordered = in_first_order(leaf, name)
        expected = kind.reference(integers(leaf.stored["weight"]), integers(leaf.stored["bias"]), integers(x))
        for view in (kind.parallel, kind.cached):
            if view is not None:
                y = view(leaf, x.double() * leaf.unit)
                assert y.dtype == torch.float64
                assert (units_of(leaf, y, ordered) == expected).all()


def in_first_order(leaf: ExactLinear, name: str) -> list[int]:
    """Which stored row each output was made from."""
    if not name.startswith("masked linear, ordering"):
        return list(range(len(leaf.stored["bias"])))
    return arrangements(OUTPUTS)[int(name.split()[-1])].tolist()


def units_of(leaf: ExactLinear, y: Tensor, order: list[int]) -> Integers:
    back = np.argsort(order)
    return units(leaf, y[..., back])[..., order]


@pytest.mark.parametrize("name", KINDS)
def test_the_machine_passes_its_test(name):
    made(KINDS[name]).test(torch.Generator().manual_seed(0))


@pytest.mark.parametrize("context", [1, 4])
def test_context_is_added_once_rounded(context):
    """Features on a grid of their own: the sum of two exact numbers, rounded once, as IEEE says."""
    kind = masked_linear(None, context)
    leaf = kind.build()
    with torch.no_grad():
        leaf.weight.normal_()
        leaf.project.weight.normal_().mul_(2.0**-9)
    leaf.project = project = leaf.project.exact(leaf.project.quantize(0.01))
    whole = leaf.exact(leaf.quantize(3.0))
    x = extremes(kind).double() * whole.unit
    features = torch.randint(-HALF, HALF, (N, context)).double() * project.unit
    plain = kind.parallel(ExactLinear(masked_linear(None).build(), whole.stored), x)
    added = project(features)
    expected = [
        float(Fraction(a) + Fraction(b))
        for a, b in zip(plain.flatten().tolist(), added.flatten().tolist(), strict=True)
    ]
    parallel = whole(x, features)
    assert parallel.flatten().tolist() == expected
    cache = Cache()
    steps = [whole(x[:, :0], features, cache), *(whole(part, features, cache) for part in x.split(1, 1))]
    assert torch.equal(torch.cat(steps, 1), parallel)


@pytest.mark.parametrize("name", ["linear", "masked linear, ordering 2", "convolution 3x3", "masked 3x3 A, 3 groups"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inexact_products_are_noticed(name, dtype, monkeypatch):
    """As on a machine that multiplies float64 with fewer bits."""
    leaf = made(KINDS[name])
    linear, addmm = F.linear, torch.addmm

    def narrow_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not x.is_floating_point():
            return linear(x, weight, bias)
        bias = None if bias is None else bias.to(dtype)
        return linear(x.to(dtype), weight.to(dtype), bias).double()

    def narrow_addmm(y: Tensor, a: Tensor, b: Tensor) -> Tensor:
        if not a.is_floating_point():
            return addmm(y, a, b)
        return addmm(y.to(dtype), a.to(dtype), b.to(dtype)).double()

    monkeypatch.setattr(F, "linear", narrow_linear)
    monkeypatch.setattr(torch, "addmm", narrow_addmm)
    with pytest.raises(ExactnessError, match="not exact"):
        leaf.test(torch.Generator().manual_seed(0))


def test_autocast_changes_nothing():
    for name in ("linear", "masked linear", "convolution 3x3"):
        kind = KINDS[name]
        leaf, x = made(kind), extremes(kind).double()
        expected = kind.parallel(leaf, x * leaf.unit)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(kind.parallel(leaf, x * leaf.unit), expected)


# The bound.


def stored(bias: int, inputs: int = 6) -> dict[str, Tensor]:
    """Weights as large as they come, of alternating sign."""
    weight = torch.full((2, inputs), HALF - 1, dtype=torch.int16) * torch.tensor([1, -1] * (inputs // 2)).short()
    biases = torch.tensor([bias, -3])
    return {
        "weight": weight,
        "bias": biases,
        "exponent": torch.tensor([15, 3]).short(),
        "grid": torch.tensor(12).short(),
    }


WEIGHTS = 6 * (HALF - 1) * HALF  # the largest |Σ W x|


def test_the_bound_is_reached_and_not_passed():
    bias = exact.ROOM - 1 - WEIGHTS
    leaf = ExactLinear(Linear(6, 2), stored(bias))
    assert leaf.bound == exact.ROOM - 1 == int(bound(leaf.stored)[0])
    worst = leaf.stored["weight"][:1].double().sign() * HALF * leaf.unit
    assert units(leaf, leaf(worst))[0].tolist() == [exact.ROOM - 1, -WEIGHTS * 1 - 3 + 2 * WEIGHTS]
    assert units(leaf, leaf(-worst))[0, 0] == bias - WEIGHTS
    leaf.test(torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "bias", [exact.ROOM - WEIGHTS, WEIGHTS - exact.ROOM, exact.ROOM, 1 << 62, (1 << 63) - 1, -(1 << 63)]
)
def test_what_could_pass_the_bound_is_refused(bias):
    with pytest.raises(ExactnessError, match="2\\^53"):
        ExactLinear(Linear(6, 2), stored(bias))


def test_many_inputs_that_could_pass_the_bound_are_refused():
    inputs = 1 << 23
    leaf = Linear(inputs, 1, device="meta")
    numbers = {name: value[:1] if value.ndim else value for name, value in stored(1 << 40).items()}
    numbers["weight"] = torch.tensor(HALF - 1).short().expand(1, inputs)
    with pytest.raises(ExactnessError, match=str(inputs * (HALF - 1) * HALF + (1 << 40))):
        ExactLinear(leaf, numbers)


@pytest.mark.parametrize("bias", [exact.ROOM + 1, 3 * exact.ROOM + 5])
def test_a_broken_bound_is_noticed(bias, monkeypatch):
    """The check passed over: random extreme inputs still find it."""
    monkeypatch.setattr(exact, "ROOM", 1 << 62)
    leaf = ExactLinear(Linear(6, 2), stored(bias))
    monkeypatch.undo()
    with pytest.raises(ExactnessError, match="not exact"):
        leaf.test(torch.Generator().manual_seed(0))


# Grids.


@pytest.mark.parametrize("name", KINDS)
def test_weights_are_on_the_grid_within_half_a_unit(name):
    """Half a unit of the grid, but for the largest weight of a row, which the 16 bits may cut by half a unit more."""
    kind = KINDS[name]
    leaf, generator = kind.build(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        leaf.weight.normal_(generator=generator)
        if leaf.bias is not None:
            leaf.bias.normal_(generator=generator)
    numbers = leaf.quantize(3.0)
    mask = getattr(leaf, "mask", None)
    weight = leaf.weight.detach().double()
    if mask is not None and getattr(leaf, "input_orders", None) is None:
        weight = weight * mask
    exponents = powers(-numbers["exponent"].long())
    unit = exponents.view(-1, *[1] * (weight.ndim - 1))
    error = (numbers["weight"].double() * unit - weight).abs() / unit
    assert (error <= torch.where(numbers["weight"].abs() == HALF - 1, 1.0, 0.5)).all()
    largest = weight.abs().flatten(1).amax(1) / exponents  # every row fills its 16 bits
    assert ((largest > HALF / 2) | (largest == 0)).all()
    assert largest.max() <= HALF
    if leaf.bias is not None:
        unit = exponents * 2.0 ** -int(numbers["grid"])
        assert ((numbers["bias"].double() * unit - leaf.bias.detach().double()).abs() <= unit / 2).all()
    assert 2.0 ** -int(numbers["grid"]) * HALF >= 1.25 * 3.0 > 2.0 ** -int(numbers["grid"]) * HALF / 2


@pytest.mark.parametrize("largest", [0.0, 2.0**-40, 1e-9, 1.0, 2.0**20])
@pytest.mark.parametrize("weights", [0.0, 2.0**-50, 1e-9, 1.0, 2.0**30])
@pytest.mark.parametrize("bias", [0.0, 1e-9, 1.0, -1e6])
def test_weights_inputs_and_biases_of_any_size(weights, bias, largest):
    """Every combination freezes, its bound holds, and what comes out is right to the precision of what matters."""
    leaf = Linear(4, 3).double()
    with torch.no_grad():
        leaf.weight.copy_(weights * torch.linspace(-1, 1, 12).view(3, 4).roll(5))
        leaf.weight[1] = 0
        leaf.bias.fill_(bias)
    made = leaf.exact(leaf.quantize(largest))
    made.test(torch.Generator().manual_seed(0))
    x = largest * torch.tensor([[1.0, -0.5, 0.25, -1.0], [0, 0, 0, 0]], dtype=torch.float64)
    expected = F.linear(x, leaf.weight, leaf.bias)
    scale = abs(bias) + 4 * weights * (largest or 1.0)
    assert ((made(x) - expected).abs() <= 2.0**-13 * scale).all()


def test_zero_rows_inputs_and_biases():
    leaf = Linear(3, 2)
    with torch.no_grad():
        leaf.weight.zero_()
        leaf.bias.zero_()
    made = leaf.exact(leaf.quantize(0.0))
    made.test(torch.Generator().manual_seed(0))
    assert torch.equal(made(torch.ones(2, 3, dtype=torch.float64)), torch.zeros(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.cached])
def test_inputs_beyond_calibration_are_clamped_alike_in_both_views(name):
    kind = KINDS[name]
    leaf = made(kind)
    x = extremes(kind).double() * leaf.unit
    ends = x.sign() * HALF * leaf.unit
    expected = kind.parallel(leaf, ends)
    for factor in (1.001, 3.0, 1e9, 1e300):
        beyond = torch.where(x.abs() * factor > HALF * leaf.unit, x * factor, ends)
        assert torch.equal(kind.parallel(leaf, beyond), expected)
        assert torch.equal(kind.cached(leaf, beyond), expected)


def test_inputs_are_rounded_to_the_nearest_even():
    leaf = ExactLinear(Linear(6, 2), stored(0))
    x = torch.zeros(5, 6, dtype=torch.float64)
    x[:, 0] = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5]) * leaf.unit
    assert (units(leaf, leaf(x))[:, 0] == np.array([0, 2, 2, 0, -2], object) * (HALF - 1)).all()


def test_powers_are_exact():
    exponents = torch.arange(-1022, 1024)
    assert [Fraction(p) for p in powers(exponents).tolist()] == [Fraction(2) ** e for e in exponents.tolist()]
    assert powers(torch.zeros(2, 3, dtype=torch.int64)).shape == (2, 3)


# Gates.


def test_the_gate_is_tanh_times_sigmoid():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 8, dtype=torch.float64, generator=generator) * torch.logspace(-4, 2, 1000).double()[:, None]
    difference = (ExactGate(4)(x) - Gate(4)(x)).abs()
    assert difference.max() < 2.0**-12
    fine = (x * FINE).round().div(FINE).clamp(-12, 12)  # on its grid nothing but the table's rounding is left
    assert (ExactGate(4)(fine) - Gate(4)(fine)).abs().max() < 2.0**-19


def test_the_gate_on_its_grid_is_a_product_of_whole_numbers():
    """Products of numbers in units of 2⁻²² have 44 bits: nothing is rounded."""
    x = torch.randn(50, 2, dtype=torch.float64) * 3
    gate = ExactGate(1)
    for a, b, y in zip(*x.T.tolist(), gate(x)[:, 0].tolist(), strict=True):
        index = [max(-12 * FINE, min(12 * FINE, round(v * FINE))) + 12 * FINE for v in (a, b)]
        factors = Fraction(gate.tanh[index[0]].item()), Fraction(gate.sigmoid[index[1]].item())
        assert Fraction(y) == factors[0] * factors[1]
        assert all((factor * 2**22).denominator == 1 for factor in factors)


def test_the_gate_of_groups_is_the_gate_of_each():
    x = torch.randn(5, 12, dtype=torch.float64)
    parts = [ExactGate(2)(part) for part in x.chunk(3, -1)]
    assert torch.equal(ExactGate(2)(x), torch.cat(parts, -1))


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e300, 12.0, -12.0])
def test_the_gate_far_out(value):
    x = torch.tensor([[value, value]], dtype=torch.float64)
    assert abs(ExactGate(1)(x).item() - Gate(1)(x).item()) < 2.0**-15


def test_leaves_without_weights_have_twins_and_portable_ones_none():
    assert isinstance(Gate(3).exact({}), ExactGate)
    assert isinstance(leaf := ReLU(), Leaf)
    assert leaf.exact({}) is leaf
