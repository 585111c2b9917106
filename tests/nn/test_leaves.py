"""Leaves with three lives: the newest part gives what everything gives, and whole numbers what Python's give."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from likely.distributions import integers
from likely.errors import ExactnessError, InputError
from likely.nn import (
    GELU,
    GLU,
    GRU,
    LSTM,
    Attention,
    Cache,
    LayerNorm,
    Linear,
    MaskedConv1d,
    MaskedConv2d,
    Positions,
    RMSNorm,
    Sigmoid,
    SiLU,
    Tanh,
)
from likely.nn.exact import HALF, ExactLeaf, extreme_inputs
from likely.nn.foreign import as_leaf

N, PLACES, WIDTH = 3, 9, 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def redrawn(leaf: nn.Module) -> nn.Module:
    generator = seeded()
    for parameter in leaf.parameters():
        nn.init.normal_(parameter, std=0.7, generator=generator)
    return leaf.double()


def frozen(leaf: nn.Module, largest: float = 3.0) -> nn.Module:
    return leaf.exact(leaf.quantize(largest))


class Recurrent(nn.Module):
    """A recurrent leaf from zero."""

    def __init__(self, leaf: nn.Module) -> None:
        super().__init__()
        self.leaf = leaf

    def forward(self, x: Tensor, features: None = None, cache: Cache | None = None) -> Tensor:
        return self.leaf(x, x.new_zeros(len(x), 5), cache)

    def quantize(self, largest: float) -> dict[str, Tensor]:
        return self.leaf.quantize(largest)

    def exact(self, stored: dict[str, Tensor]) -> nn.Module:
        return Recurrent(self.leaf.exact(stored))


SEQUENCES = {
    **{
        f"convolution {kind}, kernel {kernel}, dilation {dilation}": (
            lambda kind=kind, kernel=kernel, dilation=dilation: MaskedConv1d(
                3 * WIDTH, 5, kernel, kind, dilation=dilation
            )
        )
        for kind in "AB"
        for kernel, dilation in ((1, 1), (2, 1), (3, 2), (2, 4))
    },
    "attention": lambda: Attention(2, causal=True),
    **{
        f"{cell.__name__} {kind}": lambda cell=cell, kind=kind: Recurrent(cell(3 * WIDTH, 5, kind))
        for cell in (GRU, LSTM)
        for kind in "AB"
    },
    "positions": lambda: Positions(PLACES, 3 * WIDTH),
}
LAGGING = {name for name in SEQUENCES if " A" in name}


def sequence(seed: int = 0) -> Tensor:
    return torch.randn(N, PLACES, 3 * WIDTH, dtype=torch.float64, generator=seeded(seed))


def by_parts(leaf: nn.Module, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    cache = Cache()
    return torch.cat([leaf(part, None, cache) for part in x.split(sizes, 1)], 1)


@pytest.mark.parametrize("exact", [False, True], ids=["float", "exact"])
@pytest.mark.parametrize("name", SEQUENCES)
def test_the_newest_part_gives_what_everything_gives(name, exact):
    leaf, x = redrawn(SEQUENCES[name]()), sequence()
    leaf = frozen(leaf) if exact else leaf
    expected = leaf(x)
    for sizes in ((1,) * PLACES, (2, 3, 4)):
        found = by_parts(leaf, x, (0, *sizes) if name in LAGGING else sizes)[:, :PLACES]
        if exact:
            assert torch.equal(found, expected)
        else:
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_place_sees_those_before_it(name):
    leaf, x = redrawn(SEQUENCES[name]()), sequence().requires_grad_()
    for place in (0, 3, PLACES - 1):
        (seen,) = torch.autograd.grad(leaf(x)[:, place].square().sum(), x, retain_graph=True, allow_unused=True)
        last = place - 1 if name in LAGGING else place
        assert (seen[:, last + 1 :] == 0).all()
        if last >= 0:
            assert (seen[:, last] != 0).any()


STRIDED = [(kind, kernel, dilation, stride) for kind in "AB" for kernel, dilation, stride in ((2, 1, 2), (3, 2, 3))]


@pytest.mark.parametrize(("kind", "kernel", "dilation", "stride"), STRIDED)
def test_a_stride_keeps_some_outputs_of_the_dense_layer(kind, kernel, dilation, stride):
    """Output j of kind B is the dense output at the last of its places, of kind A at the last place before them."""
    strided = redrawn(MaskedConv1d(3 * WIDTH, 5, kernel, kind, dilation=dilation, stride=stride))
    dense = redrawn(MaskedConv1d(3 * WIDTH, 5, kernel, "B", dilation=dilation))
    x = sequence()
    ends = torch.arange(PLACES // stride) * stride + (stride - 1 if kind == "B" else -1)
    every = torch.cat([dense(torch.zeros_like(x)), dense(x)], 1)  # beyond the beginning there are zeros
    torch.testing.assert_close(strided(x), every[:, ends + PLACES], rtol=0, atol=1e-12)
    first = (0,) if kind == "A" else ()
    parts = by_parts(strided, x, (*first, *(1,) * PLACES))
    torch.testing.assert_close(parts[:, : PLACES // stride], strided(x), rtol=0, atol=1e-12)


def test_a_stride_that_leaves_places_unseen_is_refused():
    with pytest.raises(InputError, match="a stride of 3 leaves places unseen by a kernel of 2"):
        MaskedConv1d(1, 1, 2, "B", stride=3)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", ["A", "B"])
@pytest.mark.parametrize("kernel", [(1, 3), (3, 3), (3, 5)])
@pytest.mark.parametrize("dilation", [2, 3, 7])
@pytest.mark.parametrize("exact", [False, True], ids=["float", "exact"])
def test_a_dilated_convolution_pixel_by_pixel(kernel, kind, groups, dilation, exact):
    height, width = 5, 6
    leaf = redrawn(MaskedConv2d(2 * groups, 3 * groups, kernel, kind, groups, dilation))
    leaf = frozen(leaf) if exact else leaf
    x = torch.randn(N, height, width, 2 * groups, dtype=torch.float64, generator=seeded())
    known = list(x.reshape(N, -1, 1, 2).unbind(1))
    known = [x[:, :0, :0, :2], *(part[:, None] for part in known)]
    known = known[:-1] if kind == "A" else known[1:]
    cache = Cache(width)
    found = torch.cat([leaf(part, None, cache) for part in known], -1).view(N, height, width, -1)
    torch.testing.assert_close(found, leaf(x), rtol=0, atol=0 if exact else 1e-12)


def test_a_dilated_convolution_is_that_of_a_kernel_with_holes():
    leaf, holes = MaskedConv2d(2, 3, (3, 3), "B", dilation=2), MaskedConv2d(2, 3, (5, 5), "B")
    with torch.no_grad():
        holes.weight.zero_()
        holes.weight[:, :, ::2, ::2] = leaf.weight
    x = torch.randn(N, 6, 7, 2, generator=seeded())
    torch.testing.assert_close(leaf(x), holes(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("leaf", [MaskedConv1d(3, 5, 3, "B", dilation=2), MaskedConv2d(2, 4, (3, 3), "A", 2, 2)])
def test_masked_convolutions_pass_the_test_of_the_machine(leaf):
    redrawn(leaf)
    frozen(leaf).test(seeded())


# In whole numbers.

ELEMENTWISE = {"sigmoid": Sigmoid, "tanh": Tanh, "silu": SiLU, "gelu": GELU, "glu": GLU}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_tables_are_close_to_the_functions(name):
    leaf = ELEMENTWISE[name]()
    x = torch.randn(2000, 2, dtype=torch.float64, generator=seeded()) * torch.logspace(-4, 1, 2000).double()[:, None]
    difference = (frozen(leaf)(x) - leaf(x)).abs()
    assert (difference <= 2.0**-12 * x.abs().amax(1).clamp_min(1)[:, None]).all()


@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_far_out_a_share_is_all_or_nothing(name):
    x = torch.tensor([-1e300, -100.0, 100.0, 1e300], dtype=torch.float64)
    leaf = frozen(ELEMENTWISE[name]())
    torch.testing.assert_close(leaf(x), x.clamp_min(0), rtol=1e-5, atol=0)


def whole(x: Tensor) -> np.ndarray:
    """Whole numbers of any size."""
    return np.array([int(value) for value in x.flatten().tolist()], object).reshape(tuple(x.shape))


def grid(leaf: nn.Module, largest: float = 3.0) -> float:
    return math.ldexp(1.0, int(leaf.quantize(largest)["grid"]))


@pytest.mark.parametrize("channels", [1, 5, 300])
@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_norms_of_extreme_inputs_are_those_of_pythons_integers(kind, channels):
    leaf = redrawn(kind(channels))
    scale = grid(leaf)
    x = extreme_inputs((4, channels), seeded())
    found = frozen(leaf)(x.double() / scale)
    for row, y in zip(whole(x), found, strict=True):
        mean = float(sum(row)) / channels if kind is LayerNorm else 0.0
        centred = [round(float(value) - mean) for value in row]
        square = float(sum(value * value for value in centred)) / channels
        root = math.sqrt(square + 1e-5 * scale * scale)
        weight, bias = leaf.weight.tolist(), [0.0] * channels if kind is RMSNorm else leaf.bias.tolist()
        expected = [c / root * w + b for c, w, b in zip(centred, weight, bias, strict=True)]
        assert y.tolist() == expected


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_exact_norms_are_close(kind):
    leaf = redrawn(kind(6))
    x = torch.randn(50, 6, dtype=torch.float64, generator=seeded())
    torch.testing.assert_close(frozen(leaf, float(x.abs().max()))(x), leaf(x), rtol=0, atol=2e-3)


def test_a_norm_of_too_many_channels_is_refused():
    numbers = {"weight": torch.ones(1).expand(1 << 21), "bias": torch.zeros(1).expand(1 << 21)}
    with pytest.raises(ExactnessError, match="2097152 channels could reach"):
        LayerNorm(1).exact(numbers | {"grid": torch.tensor(3).short()})


@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_extreme_inputs_is_that_of_pythons_integers(causal):
    leaf = Attention(1, causal)
    scale = grid(leaf, 0.01)
    qkv = extreme_inputs((2, 5, 9), seeded())
    found = frozen(leaf, 0.01)(qkv.double() / scale)
    unit = integers.STEPS / (scale * scale * math.sqrt(3))
    for example, y in zip(whole(qkv), found, strict=True):
        q, k, v = example[:, :3], example[:, 3:6], example[:, 6:]
        for i in range(5):
            places = range(i + 1) if causal else range(5)
            scores = [max(-(1 << 20), min(1 << 20, round(float(q[i].dot(k[j])) * unit))) for j in places]
            weights = [exponential(max(scores) - score) for score in scores]
            shares = [round(float(weight << 15) / sum(weights)) for weight in weights]
            expected = [sum(share * v[j, c] for j, share in zip(places, shares, strict=True)) for c in range(3)]
            assert [Fraction(value) * Fraction(scale) * (1 << 15) for value in y[i].tolist()] == expected


def exponential(below: int) -> int:
    """e^(−below / 1024), in units of 2⁻²⁰."""
    return int(integers.exponential()[min(below, integers.REACH * integers.STEPS)]) >> 10


@pytest.mark.parametrize("causal", [False, True])
def test_exact_attention_is_close(causal):
    leaf, x = Attention(2, causal), sequence()
    torch.testing.assert_close(frozen(leaf, float(x.abs().max()))(x), leaf(x), rtol=0, atol=5e-3)


def test_attention_that_could_pass_the_bound_is_refused():
    leaf = frozen(Attention(1, causal=False))
    with pytest.raises(ExactnessError, match="attention over"):
        leaf(torch.zeros(1, 1, 1, dtype=torch.float64).expand(1, 1, 3 * (1 << 23)))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(InputError, match="3 heads do not divide queries, keys and values of width 12"):
        Attention(3, causal=True)(torch.zeros(1, 2, 12))


@pytest.mark.parametrize("cell", [GRU, LSTM])
def test_exact_cells_are_close(cell):
    leaf, x = Recurrent(redrawn(cell(3 * WIDTH, 5, "A"))), sequence()
    torch.testing.assert_close(frozen(leaf, float(x.abs().max()))(x), leaf(x), rtol=0, atol=2e-3)


@pytest.mark.parametrize("cell", [GRU, LSTM])
def test_exact_cells_pass_the_test_of_the_machine(cell):
    twins = [part for part in frozen(redrawn(cell(3, 5))).modules() if isinstance(part, ExactLeaf)]
    assert len([part.test(seeded()) for part in twins]) >= 3


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("kind", ["A", "B"])
def test_sequence_convolutions_of_extreme_inputs_are_those_of_pythons_integers(kernel, kind):
    leaf = redrawn(MaskedConv1d(3, 2, kernel, kind, dilation=2))
    twin = frozen(leaf)
    x = extreme_inputs((N, PLACES, 3), seeded())
    weight, bias, inputs = (whole(t) for t in (twin.stored["weight"], twin.stored["bias"], x))
    found = twin(x.double() * twin.unit)
    units = [Fraction(2) ** (e + int(twin.stored["grid"])) for e in twin.stored["exponent"].tolist()]
    for i in range(PLACES):
        expected = np.zeros((N, 2), object) + bias
        for tap in range(kernel):
            place = i - 2 * (kernel - 1 - tap) - (kind == "A")
            if place >= 0:
                expected += inputs[:, place].dot(weight[:, :, tap].T)
        assert [[Fraction(v) * u for v, u in zip(row, units, strict=True)] for row in found[:, i].tolist()] == [
            list(row) for row in expected
        ]
    assert HALF == 1 << 15


def test_layers_of_torch_are_leaves():
    leaf = as_leaf(nn.Linear(3, 2))
    assert isinstance(leaf, Linear)
    assert as_leaf(leaf) is leaf
    assert isinstance(as_leaf(nn.SiLU()), SiLU)
    assert as_leaf(nn.BatchNorm1d(3)) is None
