"""Exact arithmetic, shared by the exact twins of leaf layers.

A linear leaf snaps its inputs and its weights to grids of powers of two, so coarse that every partial sum is a multiple
of one unit and below 2⁵³ units. A float64 product is then exact in any order of summation, by any library, on any
processor. Non-linear functions are looked up in tables. Between the leaves there are single elementwise IEEE
operations, the same everywhere. A network's own code, parallel or cached, runs unchanged.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from likely.errors import ExactnessError, FormatError
from likely.nn.leaf import Leaf, shallow_copy

BITS = 16  # of weights and of activations, sign included
HALF = 1 << (BITS - 1)
ROOM = 1 << 53  # units that a float64 counts without a gap
BIAS_ROOM = 51  # bits that a bias takes at most, beside which a row has 2²² weights
HEADROOM = 1.25  # over the largest input seen in calibration; values beyond are clamped
FARTHEST = 256  # of exponents in a file


class ExactLeaf(nn.Module):
    """A twin that returns the same bits on every machine, however it computes them."""

    def test(self, generator: torch.Generator) -> None:
        """Hold products of extreme inputs against integer arithmetic, if the twin makes any.

        Raises:
            ExactnessError: they differ on this machine.
        """


class LinearLeaf(Leaf):
    """A leaf that returns sums of products: y = b + Σ W x over its taps.

    A subclass has `weight` (outputs, …) and `bias` (outputs,) or None. It computes with whole numbers too, if
    those are its weights.
    """

    weight: Tensor
    bias: Tensor

    def seen_weight(self) -> Tensor:
        """Return the weights that are multiplied with anything."""
        return self.weight

    def probe_shape(self) -> tuple[int, ...]:
        """Return the shape of a small input that reaches every weight."""
        return (2, self.weight.shape[1])

    def quantize(self, largest: float) -> dict[str, Tensor]:
        """Return weights on grids: weight = integers · 2^−exponent for each output, inputs on a grid of 2^−grid."""
        weight = self.seen_weight().detach().double()
        bias = weight.new_zeros(len(weight))
        if self.bias is not None:
            bias = self.bias.detach().double()
        grid = grid_of(largest)
        size = weight.abs().flatten(1).amax(1)
        room = BIAS_ROOM - grid - exponent_of(bias)
        exponent = torch.where(size == 0, room, BITS - 1 - exponent_of(size))
        exponent = torch.where(bias == 0, exponent, torch.minimum(exponent, room))
        whole = (weight * powers(by_row(exponent, weight))).round()
        return {
            "weight": whole.clamp(1 - HALF, HALF - 1).to(torch.int16),
            "bias": (bias * powers(exponent + grid)).round().to(torch.int64),
            "exponent": exponent.to(torch.int16),
            "grid": grid,
        }

    def blank(self) -> dict[str, Tensor]:
        """Return tensors like the numbers on grids, without values."""
        shape = self.weight.shape
        whole = {"weight": (shape, torch.int16), "bias": (shape[:1], torch.int64)}
        exponents = {"exponent": (shape[:1], torch.int16), "grid": ((), torch.int16)}
        return {
            name: torch.empty(size, dtype=dtype, device="meta") for name, (size, dtype) in (whole | exponents).items()
        }

    def exact(self, stored: dict[str, Tensor]) -> "ExactLinear":
        """Return the twin on grids.

        Raises:
            FormatError: exponents that no weight has.
            ExactnessError: a partial sum could reach 2⁵³ units.
        """
        if max(int(stored[name].long().abs().max()) for name in ("exponent", "grid")) > FARTHEST:
            raise FormatError(f"an exponent or a grid is beyond {FARTHEST}")
        return ExactLinear(self, stored)

    def with_weights(self, weight: Tensor, bias: Tensor, stored: dict[str, Tensor]) -> "LinearLeaf":
        """Return a copy with other weights, of any dtype; its mask follows, its children are the same."""
        leaf = shallow_copy(self)
        leaf._parameters = {"weight": nn.Parameter(weight, requires_grad=False)}
        leaf._parameters["bias"] = nn.Parameter(bias, requires_grad=False)
        for name, buffer in self._buffers.items():
            if name in stored:
                leaf._buffers[name] = stored[name]
            elif name == "mask" and buffer is not None:
                leaf._buffers[name] = buffer.to(weight.dtype)
        return leaf

    def without_context(self) -> "LinearLeaf":
        """Return the leaf without the context features that it adds to its outputs, if it does."""
        return self


class ExactLinear(ExactLeaf):
    """A linear leaf on grids.

    Args:
        leaf: the leaf; its weights are replaced.
        stored: as its `quantize` returned them.

    Raises:
        ExactnessError: a partial sum could reach 2⁵³ units.
    """

    def __init__(self, leaf: LinearLeaf, stored: dict[str, Tensor]) -> None:
        super().__init__()
        self.stored = stored
        self.grid = int(stored["grid"])
        exponent = stored["exponent"].long()
        self.scale, self.unit = 2.0**self.grid, 2.0**-self.grid
        self.bound = int(bound(stored).max())
        if self.bound >= ROOM:
            raise ExactnessError(f"partial sums of {type(leaf).__name__} could reach {self.bound} units, 2^53 or more")
        weight = stored["weight"].double() * powers(by_row(-exponent, stored["weight"]))
        bias = stored["bias"].double() * powers(-exponent - self.grid)
        self.leaf = leaf.with_weights(weight, bias, stored)

    def forward(self, x: Tensor, *rest: Any, **options: Any) -> Tensor:
        """Return the leaf's output for the snapped input."""
        return self.leaf(self.snap(x), *rest, **options)

    def snap(self, x: Tensor) -> Tensor:
        """Return x on the input grid, within its ends."""
        return on_input_grid(x, self.scale).mul_(self.unit)

    @torch.no_grad()
    def test(self, generator: torch.Generator) -> None:
        """Hold random extreme inputs against the same layer in integers.

        Raises:
            ExactnessError: they differ.
        """
        x = extreme_inputs(self.leaf.probe_shape(), generator)
        integer_leaf = self.leaf.with_weights(self.stored["weight"].long(), self.stored["bias"], self.stored)
        y = self.leaf.without_context()(x.double() * self.unit)
        y = y * powers(self.stored["exponent"].long() + self.grid)
        expected = integer_leaf.without_context()(x)
        if not torch.equal(y.long(), expected) or not torch.equal(y, y.round()):
            wrong = int((y != expected).sum())
            raise ExactnessError(
                f"this machine's float64 products are not exact: {wrong} of {expected.numel()} sums of a "
                f"{type(self.leaf).__name__} differ from integer arithmetic (TF32, bfloat16 or a broken library?)"
            )


def extreme_inputs(shape: tuple[int, ...], generator: torch.Generator) -> Int[Tensor, "..."]:
    """Return whole numbers at either end of an input grid, or up to two beside it."""
    x = (torch.randint(2, shape, generator=generator) * 2 - 1) * HALF
    return x - x.sign() * torch.randint(3, shape, generator=generator)


def bound(stored: dict[str, Tensor]) -> Int[Tensor, " outputs"]:
    """Return the largest |partial sum| that any input can bring about, in units, for each output."""
    bias = stored["bias"].clamp(-ROOM, ROOM).abs()  # |−2⁶³| is no int64
    return (stored["weight"].long().abs().flatten(1).sum(1) << (BITS - 1)) + bias


def by_row(exponent: Int[Tensor, " outputs"], weight: Tensor) -> Int[Tensor, "..."]:
    """Return the exponents in a shape that broadcasts with the weights of each output."""
    return exponent.view(-1, *[1] * (weight.ndim - 1))


def powers(exponents: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return 2^exponent in float64, exactly; torch.pow and torch.ldexp do not promise that."""
    values = [math.ldexp(1.0, exponent) for exponent in exponents.flatten().tolist()]
    return torch.tensor(values, dtype=torch.float64).view(exponents.shape)


def exponent_of(x: Tensor) -> Int[Tensor, "..."]:
    """Return the smallest e with |x| ≤ 2^e, within ±64."""
    mantissa, exponent = torch.frexp(x)
    return (exponent - (mantissa == 0.5).int()).clamp(-64, 64)


def grid_of(largest: float) -> Int[Tensor, ""]:
    """Return the exponent of a grid of 16 bits that holds inputs up to `largest`, with headroom."""
    grid = BITS - 1 - exponent_of(torch.tensor(HEADROOM * largest, dtype=torch.float64))
    return grid.to(torch.int16)


def on_input_grid(x: Tensor, scale: float) -> Tensor:
    """Return inputs as whole numbers of 1 / scale, in 16 bits, of the dtype of x."""
    return (x * scale).round_().clamp_(-HALF, HALF)


def on_grid(x: Tensor, steps: int, reach: int) -> Int[Tensor, "..."]:
    """Return x in whole units of 1 / steps, clamped to ±reach."""
    return (x * steps).round_().clamp_(-reach * steps, reach * steps).long()
