"""Exact arithmetic: leaf layers whose results are the same bits on every machine.

A leaf snaps its inputs and its weights to grids of powers of two, so coarse that every partial sum is a multiple of one
unit and below 2⁵³ units: a float64 product is then exact in whatever order it is summed, by any library, on any
processor. Non-linearities are looked up. What remains between the leaves are single elementwise IEEE operations, which
are the same everywhere. A network's own code, parallel or cached, runs unchanged.
"""

import copy
import math
from functools import singledispatch
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from likely.coding import integers
from likely.coding.frequencies import Cumulative, Frequencies, LogisticFrequencies, NormalFrequencies, softmax
from likely.conditional import Normals
from likely.errors import Error
from likely.latent.hierarchical_vae import Product
from likely.latent.vq_vae import Codebook
from likely.nn import (
    CategoricalHead,
    Conv2d,
    CountsHead,
    Gate,
    LogisticsHead,
    MaskedConv2d,
    MaskedLinear,
    NormalHead,
    VerticalConv2d,
)

LINEAR = (nn.Linear, MaskedLinear, Conv2d, MaskedConv2d, VerticalConv2d)
BITS = 16  # of weights and of activations, sign included
ROOM = 1 << 53  # units that a float64 counts without a gap
HEADROOM = 1.25  # over the largest input seen in calibration; what lies beyond is clamped
FINE = 4096  # grid points per unit of a gate's argument
LOWEST, HIGHEST = -7, 7  # of the logarithm of a normal variable's scale
FAR = 1 << 10  # beyond which no mean lies


class ExactnessError(Error, ArithmeticError):
    """This machine's arithmetic, or a layer's, is not exact where it must be; nothing can be coded with it."""

    exit_code = 1


def to_integers(leaf: nn.Module, largest: float) -> dict[str, Tensor]:
    """A linear leaf's weights on grids: weight = integers · 2^−exponent per output, input grid 2^−grid.

    Args:
        leaf: one of LINEAR.
        largest: the largest |input| it has been seen to take.
    """
    weight, mask = leaf.get_parameter("weight").detach().double(), getattr(leaf, "mask", None)
    if mask is not None and not orders(leaf):  # what one order masks, another uses
        weight = weight * mask
    bias = leaf.bias.detach().double() if isinstance(leaf.bias, Tensor) else weight.new_zeros(len(weight))
    half = 1 << (BITS - 1)
    grid = BITS - 1 - _exponent(torch.tensor(HEADROOM * largest, dtype=torch.float64))
    size = weight.abs().flatten(1).amax(1)
    room = 51 - grid - _exponent(bias)  # a bias takes 2⁵¹ units at most, beside which a row has 2²² weights
    exponent = torch.where(size == 0, room, BITS - 1 - _exponent(size))
    exponent = torch.where(bias == 0, exponent, torch.minimum(exponent, room))
    rows = exponent.view(-1, *[1] * (weight.ndim - 1))
    return {
        "weight": (weight * powers(rows)).round().clamp(1 - half, half - 1).to(torch.int16),
        "bias": (bias * powers(exponent + grid)).round().to(torch.int64),
        "exponent": exponent.to(torch.int16),
        "grid": grid.to(torch.int16),
    } | {name: leaf.get_buffer(name) for name in orders(leaf)}


def orders(leaf: nn.Module) -> list[str]:
    """The buffers in which a leaf keeps other arrangements of its weights."""
    return [name for name in ("input_orders", "output_orders") if isinstance(getattr(leaf, name, None), Tensor)]


def of_training(module: nn.Module) -> set[str]:
    """The buffers that nothing but training reads."""
    return {"counts", "sums", "idle"} if isinstance(module, Codebook) else set()


def powers(exponents: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """2^exponent in float64, exactly (which torch.pow and torch.ldexp do not promise)."""
    found = [math.ldexp(1.0, exponent) for exponent in exponents.flatten().tolist()]
    return torch.tensor(found, dtype=torch.float64).view(exponents.shape)


def _exponent(x: Tensor) -> Tensor:
    """The smallest e with |x| ≤ 2^e, within ±64."""
    mantissa, exponent = torch.frexp(x)
    return (exponent - (mantissa == 0.5).int()).clamp(-64, 64)


class Exact(nn.Module):
    """A linear leaf on grids.

    Args:
        leaf: the leaf, whose weights are replaced.
        stored: what `to_integers` gave.

    Raises:
        ExactnessError: a partial sum could reach 2⁵³ units.
    """

    def __init__(self, leaf: nn.Module, stored: dict[str, Tensor]) -> None:
        super().__init__()
        self.stored = stored
        grid, exponent = int(stored["grid"]), stored["exponent"].long()
        self.scale, self.unit, self.most = 2.0**grid, 2.0**-grid, float(1 << (BITS - 1))
        self.bound = int(bound(stored).max())
        if self.bound >= ROOM:
            raise ExactnessError(f"partial sums of {type(leaf).__name__} could reach {self.bound} units, 2^53 or more")
        rows = exponent.view(-1, *[1] * (stored["weight"].ndim - 1))
        self.leaf = _with_weights(
            leaf,
            stored["weight"].double() * powers(-rows),
            stored["bias"].double() * powers(-exponent - grid),
            stored,
        )

    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        """As the leaf, of the snapped input."""
        return self.leaf((x * self.scale).round_().clamp_(-self.most, self.most).mul_(self.unit), *rest)

    @torch.no_grad()
    def test(self, generator: torch.Generator) -> None:
        """Hold random extreme inputs against the same layer in integers.

        Raises:
            ExactnessError: they differ.
        """
        half = int(self.most)
        x = (torch.randint(2, _input_shape(self.leaf), generator=generator) * 2 - 1) * half
        x -= x.sign() * torch.randint(3, x.shape, generator=generator)
        reference = _with_weights(self.leaf, self.stored["weight"].long(), self.stored["bias"], self.stored)
        found = _without_context(self.leaf)(x.double() * self.unit)
        found = found * powers(self.stored["exponent"].long() + int(self.stored["grid"]))
        expected = _without_context(reference)(x)
        if not torch.equal(found.long(), expected) or not torch.equal(found, found.round()):
            wrong = int((found != expected).sum())
            raise ExactnessError(
                f"this machine's float64 products are not exact: {wrong} of {expected.numel()} sums of a "
                f"{type(self.leaf).__name__} differ from integer arithmetic (TF32, bfloat16 or a broken library?)"
            )


def bound(stored: dict[str, Tensor]) -> Int[Tensor, " outputs"]:
    """The largest |partial sum| that any input can bring about, in units, for each output."""
    bias = stored["bias"].clamp(-ROOM, ROOM).abs()  # |−2⁶³| is no int64
    return (stored["weight"].long().abs().flatten(1).sum(1) << (BITS - 1)) + bias


def _with_weights(leaf: nn.Module, weight: Tensor, bias: Tensor, stored: dict[str, Tensor]) -> nn.Module:
    """A copy of a leaf with other weights, of whatever dtype; its masks follow, its children are the same."""
    leaf = copy.copy(leaf)
    leaf._parameters, leaf._buffers, leaf._modules = {}, dict(leaf._buffers), dict(leaf._modules)
    leaf.weight, leaf.bias = (nn.Parameter(t, requires_grad=False) for t in (weight, bias))
    for name, buffer in leaf._buffers.items():
        if name in stored:
            leaf._buffers[name] = stored[name]
        elif name == "mask" and buffer is not None:
            leaf._buffers[name] = buffer.to(weight.dtype)
    return leaf


def _without_context(leaf: nn.Module) -> nn.Module:
    if getattr(leaf, "project", None) is not None:
        leaf = copy.copy(leaf)
        leaf._modules = {**leaf._modules, "project": None}
    return leaf


def _input_shape(leaf: nn.Module) -> tuple[int, ...]:
    """Two examples, or an image a little larger than the kernel."""
    weight = leaf.get_parameter("weight")
    return (2, weight.shape[1]) if weight.ndim == 2 else (1, weight.shape[2] + 1, weight.shape[3] + 2, weight.shape[1])


class ExactGate(nn.Module):
    """tanh(a) · σ(b), looked up on a grid of 2⁻¹² within ±12, in units of 2⁻²² each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.reach = float(12 * FINE)
        self.register_buffer("tanh", _refined(integers.tangent()), persistent=False)
        middle = 12 * integers.STEPS
        self.register_buffer("sigmoid", _refined(integers.logistic()[middle:-middle]), persistent=False)

    def forward(self, x: Float[Tensor, "*batch two_c"]) -> Float[Tensor, "*batch c"]:
        """Halve the channels."""
        index = (x * FINE).round_().clamp_(-self.reach, self.reach).add_(self.reach).int()
        if x.shape[-1] == 2 * self.width:
            a, b = index.chunk(2, -1)
            return self._product(a, b)
        a, b = index.unflatten(-1, (-1, 2, self.width)).unbind(-2)
        return self._product(a, b).flatten(-2)

    def _product(self, a: Int[Tensor, "*batch"], b: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return integers.look_up(self.tanh, a).mul_(integers.look_up(self.sigmoid, b))


def _refined(table: Int[Tensor, " steps"]) -> Float[Tensor, " refined"]:
    """Four points for one by linear interpolation, from units of 2⁻³⁰ to values in units of 2⁻²²."""
    parts = torch.arange(FINE // integers.STEPS)
    between = table[:-1, None] + (table.diff()[:, None] * parts >> 2)
    return (torch.cat([between.flatten(), table[-1:]]) >> 8).double() * 2.0**-22


class ExactCategoricalHead(nn.Module):
    """Logits on a grid of 2⁻¹⁰, then integers."""

    def __init__(self, head: CategoricalHead) -> None:
        super().__init__()
        self.levels, self.width, self.binary, self.forbidden = head.levels, head.width, head.binary, head.forbidden

    def forward(
        self, parameters: Float[Tensor, "n *places p"], x: Tensor | None = None, part: slice = slice(None)
    ) -> Frequencies:
        """As `CategoricalHead`, in units of 2⁻²⁴."""
        logits = _on_grid(parameters, integers.STEPS, 1 << 20)
        bits = min(integers.UNIT, 38 - math.ceil(math.log2(self.levels)))
        if self.binary:
            logits = logits.movedim(-1, 1)[..., None]
            return Cumulative.of_weights(softmax(torch.cat([torch.zeros_like(logits), logits], -1), bits))
        logits, allowed = logits.unflatten(-1, (-1, self.width)), None
        if self.forbidden is not None:
            forbidden = self.forbidden[part]
            logits, allowed = logits.masked_fill(forbidden, -(1 << 40)), (~forbidden).long()
        return Cumulative.of_weights(softmax(logits, bits), allowed).map(lambda edges: edges.movedim(-2, 1))


class ExactLogisticsHead(nn.Module):
    """Weights, means and scales on grids, then integers."""

    def __init__(self, head: LogisticsHead) -> None:
        super().__init__()
        self.levels, self.channels, self.components, self.parts = (
            head.levels,
            head.channels,
            head.components,
            head.parts,
        )

    def forward(
        self, parameters: Float[Tensor, "n *places p"], x: Int[Tensor, "n c *places"], part: slice = slice(None)
    ) -> Frequencies:
        """As `LogisticsHead`, in units of 2⁻²⁴."""
        parameters = parameters.unflatten(-1, (sum(self.parts), self.components)).movedim(-2, 1)
        logits, means, log_scales, couplings = parameters.split(self.parts, 1)  # (n, ·, *places, k)
        weights = [softmax(_on_grid(logits[:, 0], integers.STEPS, 1 << 20), 20 - math.ceil(math.log2(self.components)))]
        positions = (_on_grid(means, 1 << 20, 64) * (self.levels - 1)) >> 4
        table = integers.inverse_scale(-7, 8, self.levels - 1, 28).to(parameters.device)
        inverses = table[_on_grid(log_scales, integers.STEPS, 8).clamp(min=-7 * integers.STEPS) + 7 * integers.STEPS]
        reach = 12 * integers.STEPS
        tangents = integers.tangent().to(parameters.device)[_on_grid(couplings, integers.STEPS, 12) + reach]
        coupling, values = iter(tangents.unbind(1)), (2 * x - (self.levels - 1))[..., None]
        shifted = []
        for c in range(self.channels):
            position = positions[:, c]
            for earlier in range(c):
                position = position + ((next(coupling) * values[:, earlier]) >> 14)
            shifted.append(position)
            p = LogisticFrequencies(weights[-1], position, inverses[:, c], self.levels)
            edges = torch.stack([x[:, c], x[:, c] + 1], -1)
            joint = weights[-1] * p.components_below(edges).diff(dim=-2)[..., 0, :].clamp(min=1)
            weights.append(joint // (joint.sum(-1, keepdim=True) >> 20).clamp(min=1))
        return LogisticFrequencies(torch.stack(weights[:-1], 1), torch.stack(shifted, 1), inverses, self.levels)


class ExactNormalHead(nn.Module):
    """Means on a grid of 2⁻¹⁶, logarithms of scales on one of 2⁻¹⁰."""

    def __init__(self, head: NormalHead) -> None:
        super().__init__()
        self.lowest = max(math.ceil(math.log(head.floor) * integers.STEPS), LOWEST * integers.STEPS)

    def forward(self, parameters: Float[Tensor, "n *places c2"]) -> tuple[Tensor, Tensor]:
        """As `NormalHead`."""
        values = parameters.unflatten(-1, (-1, 2)).movedim(-2, 1)
        mu, log_sigma = values.reshape(len(values), -1, 2).unbind(-1)
        highest = HIGHEST * integers.STEPS
        log_sigma = (log_sigma * integers.STEPS).round_().clamp_(self.lowest, highest) / integers.STEPS
        return _means(mu), log_sigma


class ExactProduct(nn.Module):
    """Precisions weigh the means by a table; logarithms of scales stay on their grid of 2⁻¹⁰."""

    def forward(self, a: Normals, b: Normals) -> Normals:
        """As `Product`, of what exact normal heads say."""
        reach = integers.REACH * integers.STEPS
        ratio = (2 * integers.STEPS * (b.log_sigma - a.log_sigma)).clamp_(-reach, reach).long()  # ln of precisions'
        weight = integers.look_up(integers.logistic(), ratio + reach).double() / (1 << integers.UNIT)
        narrower = integers.look_up(integers.narrowing(), ratio.abs()).double() / integers.STEPS
        mu = b.mu + weight * (a.mu - b.mu)
        return Normals(mu, torch.minimum(a.log_sigma, b.log_sigma) - narrower, None)


def standardized(q: Normals, p: Normals) -> tuple[Tensor, Tensor]:
    """Mean and logarithm of the scale of (z − μ_p) / σ_p under q, on their grids."""
    log_sigma = (q.log_sigma - p.log_sigma).clamp(LOWEST, HIGHEST)
    return _means((q.mu - p.mu) / scale(p.log_sigma)), log_sigma


def scale(log_sigma: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """σ, of logarithms on their grid, in units of 2⁻³⁰."""
    place = HIGHEST * integers.STEPS - (log_sigma * integers.STEPS).long()
    return integers.look_up(integers.inverse_scale(-HIGHEST, -LOWEST, 1, 30), place).double() / (1 << 30)


def normal_frequencies(
    mu: Float[Tensor, "*batch"], log_sigma: Float[Tensor, "*batch"], edges: Int[Tensor, " edges"]
) -> NormalFrequencies:
    """What an exact normal head says, as whole numbers, over the parts between edges in units of 2⁻¹⁶."""
    inverses = integers.inverse_scale(LOWEST, HIGHEST, 1, 16)
    place = (log_sigma * integers.STEPS).long() - LOWEST * integers.STEPS
    return NormalFrequencies((mu * (1 << 16)).long(), integers.look_up(inverses, place), edges)


class ExactCodebook(Codebook):
    """The entries alone; distances are added up value by value, in one order."""

    def __init__(self, codebook: Codebook) -> None:
        nn.Module.__init__(self)
        self.register_buffer("entries", codebook.entries)

    def nearest(self, vectors: Float[Tensor, "*batch size"]) -> Int[Tensor, "*batch"]:
        """Codes of the nearest entries; the first of several."""
        distance = vectors.new_zeros(())
        for x, e in zip(vectors[..., None].unbind(-2), self.entries.unbind(1), strict=True):
            distance = distance + (x - e) * (x - e)
        return distance.argmin(-1)


class ExactCountsHead(nn.Module):
    """Proportions of whole numbers."""

    def forward(self, counts: Int[Tensor, "*batch levels"], allowed: Tensor) -> Frequencies:
        """As `CountsHead`, in units of 2⁻²⁴."""
        allowed = allowed.long()
        counts = torch.where(counts.sum(-1, keepdim=True) > 0, counts, allowed)
        return Cumulative.of_weights(counts, allowed)


def _means(mu: Tensor) -> Tensor:
    """μ on the grid of 2⁻¹⁶, within ±FAR."""
    return (mu * (1 << 16)).round_().clamp_(-FAR << 16, FAR << 16) / (1 << 16)


def _on_grid(x: Tensor, steps: int, reach: int) -> Int[Tensor, "..."]:
    """x in whole units of 1/steps, clamped to ±reach."""
    return (x * steps).round_().clamp_(-reach * steps, reach * steps).long()


LEAVES = (
    Exact,
    ExactGate,
    ExactCategoricalHead,
    ExactLogisticsHead,
    ExactNormalHead,
    ExactProduct,
    ExactCountsHead,
)  # exact, whatever they do inside


@singledispatch
def twin(leaf: nn.Module) -> nn.Module | None:
    """The exact twin of a leaf that holds no weights, None where the leaf is exact as it is or is no leaf."""
    return None


@twin.register
def _(leaf: Gate) -> nn.Module:
    return ExactGate(leaf.width)


@twin.register
def _(leaf: CategoricalHead) -> nn.Module:
    return ExactCategoricalHead(leaf)


@twin.register
def _(leaf: LogisticsHead) -> nn.Module:
    return ExactLogisticsHead(leaf)


@twin.register
def _(leaf: NormalHead) -> nn.Module:
    return ExactNormalHead(leaf)


@twin.register
def _(leaf: Product) -> nn.Module:
    return ExactProduct()


@twin.register
def _(leaf: Codebook) -> nn.Module:
    return ExactCodebook(leaf)


@twin.register
def _(leaf: CountsHead) -> nn.Module:
    return ExactCountsHead()
