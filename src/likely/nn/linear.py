"""Linear layers: plain, and masked over units that are sorted by the inputs they may see."""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Int, Real
from torch import Tensor, nn
from torch.nn.functional import pad

from likely.nn.cache import Cache
from likely.nn.exact import LinearLeaf
from likely.nn.leaf import without_child

STEPS_PER_GROUP, GROUPS = 16, 4  # at most, and at least, so that few products are made that the mask hides
Block = tuple[slice, slice, slice]  # rows; the columns that any of them sees, and that only some of them see


class Linear(LinearLeaf, nn.Linear):  # pyrefly: ignore[inconsistent-inheritance]
    """y = b + W x, over the last dimension."""

    forward = nn.Linear.forward


class _Staircase(torch.autograd.Function):
    """x Wᵀ + b under the staircase mask, by blocks of rows.

    Neither the product nor a gradient touches the zeros right of the stairs, and gradients are written in place:
    assembling a weight's from those of its blocks costs as much as the multiplications that the blocks save.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, blocks: list[Block]) -> Tensor:
        products = []
        for rows, seen, _ in blocks:
            block = weight[rows, seen] * mask[rows, seen]
            products.append(torch.addmm(bias[rows], x[:, seen], block.T))
        return torch.cat(products, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, weight, _, mask, ctx.blocks = inputs
        ctx.save_for_backward(x, weight, mask)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        x, weight, mask = ctx.saved_tensors
        to_x, to_weight = ctx.needs_input_grad[:2]
        dx = dweight = None
        if to_x:
            parts = []
            for rows, seen, _ in reversed(ctx.blocks):
                block = weight[rows, seen] * mask[rows, seen]
                parts.append(dy[:, rows] @ block)
            dx = pad(parts[0], (0, x.shape[1] - parts[0].shape[1]))  # the widest first
            for part in parts[1:]:
                dx[:, : part.shape[1]].add_(part)
        if to_weight:
            dweight = dy.new_zeros(weight.shape)
            for rows, seen, stairs in ctx.blocks:
                dweight[rows, seen].addmm_(dy[:, rows].T, x[:, seen])
                dweight[rows, stairs].mul_(mask[rows, stairs])
        return dx, dweight, dy.sum(0), None, None


class _Sums:
    """The sums of a masked layer so far in a draw, and how far it has come.

    Inputs come in groups. Those of a group are added one by one to the outputs that the group determines, and all at
    once to later ones. Sums are (n, outputs), the examples of an output being neighbours in memory.
    """

    def __init__(self, layer: "MaskedLinear", weight: Tensor, bias: Tensor, projected: Tensor | None, n: int) -> None:
        self.determined = layer.determined
        self.ends = iter(layer.ends)
        self.weight, self.projected = weight.T, projected  # (inputs, outputs), masked; (n, outputs)
        self.plus = torch.addmm if torch.is_grad_enabled() else Tensor.addmm_
        self.later = bias[:, None].repeat(1, n).T
        self.known, self.done = 0, 0
        self._open()

    def _open(self) -> None:
        """Begin a group with the outputs that it determines."""
        self.first, self.start, self.end = self.done, self.known, next(self.ends)
        count = self.determined[self.end] - self.first
        self.here, self.later = self.later[:, :count], self.later[:, count:]
        self.rows = self.weight[self.start : self.end, self.first : self.first + count]
        self.inputs = []

    def _close(self) -> None:
        """Add the products of the group to the later outputs."""
        later = self.first + self.here.shape[1]
        inputs = torch.cat([x.T for x in self.inputs]).T  # across their memory it would take longer than all products
        self.later = self.plus(self.later, inputs, self.weight[self.start : self.end, later:])

    def take(self, x: Tensor) -> Tensor:
        """Take in newest inputs (n, ·) and return the outputs (n, ·) that they determine."""
        count = x.shape[1]
        if count and self.known == self.end:
            self._close()
            self._open()
        left = self.end - self.known
        if count > left:
            of_this_group, of_later_groups = self.take(x[:, :left]), self.take(x[:, left:])
            return torch.cat([of_this_group, of_later_groups], 1)
        if count:
            self.here = self.plus(self.here, x, self.rows.narrow(0, self.known - self.start, count))
            self.inputs.append(x)
            self.known += count
        first, self.done = self.done, self.determined[self.known]
        y = self.here.narrow(1, first - self.first, self.done - first)
        if self.projected is None:
            return y
        return y + self.projected[:, first : self.done]


class MaskedLinear(LinearLeaf):
    """y_j = b_j + Σ_{i < reach_j} W_ji x_i + V_j · features, with outputs sorted by reach.

    Sorted, the mask is a staircase:

            inputs →
        #. . . . . . .      The rows are cut into blocks. Right of a block's stairs (the columns between its smallest
        ###. . . . . .      and its largest reach) nothing is multiplied: training skips nearly all of the masked half
        #####. . . . .      of the arithmetic.
        #######. . . .

    Cached, it is handed the newest inputs and returns the outputs that wait for no others: every weight is used once.

    Args:
        reach: how many of the inputs each output sees, ascending (outputs,).
        inputs: number of inputs.
        features: number of context features, if the layer takes them.
        input_orders: other arrangements of the inputs (orders, inputs); weights belong to the inputs of the first.
        output_orders: the same for outputs.
        blocks: how many blocks of rows the staircase is cut into; None: at most eight, and one for every 128 rows and
            columns, as smaller products gain nothing.
    """

    def __init__(
        self,
        reach: Int[Tensor, " outputs"],
        inputs: int,
        features: int | None = None,
        *,
        input_orders: Int[Tensor, "orders inputs"] | None = None,
        output_orders: Int[Tensor, "orders outputs"] | None = None,
        blocks: int | None = None,
    ) -> None:
        super().__init__()
        outputs = len(reach)
        mask = torch.arange(inputs) < reach[:, None]
        bound = reach.clamp(min=1).rsqrt()[:, None]
        self.weight = nn.Parameter((torch.rand(outputs, inputs) * 2 - 1) * bound * mask)
        self.bias = nn.Parameter(torch.zeros(outputs))
        if features:
            self.project = Linear(features, outputs, bias=False)
        else:
            self.project = None
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)
        self.register_buffer("input_orders", input_orders, persistent=False)
        self.register_buffer("output_orders", output_orders, persistent=False)
        self.determined = torch.searchsorted(reach, torch.arange(inputs + 1), right=True).tolist()
        self.ends = group_ends(reach, inputs)
        if blocks is None:
            blocks = min(max(min(inputs, outputs) // 128, 1), 8)
        edges = sorted({round(outputs * k / blocks) for k in range(blocks + 1)})
        self.blocks = []
        for start, stop in pairwise(edges):
            self.blocks.append(_block(start, stop, int(reach[start]), int(reach[stop - 1])))

    def forward(
        self,
        x: Real[Tensor, "n known"],
        features: Real[Tensor, "n features"] | None = None,
        cache: Cache | None = None,
        order: int = 0,
    ) -> Real[Tensor, "n determined"]:
        """Apply the layer to everything, or with a cache to the newest inputs."""
        if cache is not None:
            return self._advance(x, features, cache, order)
        weight, bias = self._arranged(order)
        with torch.autocast(x.device.type, enabled=False):  # whose casts the gradients written by hand do not know
            x = x.to(weight.dtype)
            if len(self.blocks) > 1:
                y = _Staircase.apply(x, weight, bias, self.mask, self.blocks)
            else:
                y = nn.functional.linear(x, weight * self.mask, bias)
        if self.project is None:
            return y
        return y + self._projected(features, order)

    def seen_weight(self) -> Tensor:
        """Return the weights under the mask; with several orders each masks others, and all are returned."""
        if self._orders():
            return self.weight
        return self.weight * self.mask

    def without_context(self) -> "MaskedLinear":
        """Return a copy that adds no context features."""
        return without_child(self, "project")

    def quantize(self, largest: float) -> dict[str, Tensor]:
        """Return weights on grids, and the orders."""
        return super().quantize(largest) | self._orders()

    def blank(self) -> dict[str, Tensor]:
        """Return tensors like the numbers on grids, and the orders."""
        return super().blank() | self._orders()

    def _orders(self) -> dict[str, Tensor]:
        orders = {"input_orders": self.input_orders, "output_orders": self.output_orders}
        return {name: order for name, order in orders.items() if order is not None}

    def _arranged(self, order: int) -> tuple[Tensor, Tensor]:
        weight, bias = self.weight, self.bias
        if order and self.input_orders is not None:
            weight = weight[:, self.input_orders[order]]
        if order and self.output_orders is not None:
            weight, bias = weight[self.output_orders[order]], bias[self.output_orders[order]]
        return weight, bias

    def _projected(self, features: Tensor | None, order: int) -> Tensor:
        assert self.project is not None
        y = self.project(features)
        if order and self.output_orders is not None:
            return y[:, self.output_orders[order]]
        return y

    def _advance(self, x: Tensor, features: Tensor | None, cache: Cache, order: int) -> Tensor:
        return cache.of(self, lambda: self._begin(len(x), features, order)).take(x)

    def _begin(self, n: int, features: Tensor | None, order: int) -> _Sums:
        weight, bias = self._arranged(order)
        if self.project is None:
            projected = None
        else:
            projected = self._projected(features, order)
        return _Sums(self, weight * self.mask, bias, projected, n)


def _block(start: int, stop: int, low: int, high: int) -> Block:
    return slice(start, stop), slice(high), slice(low, high)


def group_ends(reach: Int[Tensor, " outputs"], inputs: int) -> list[int]:
    """Return how many inputs are known at the end of every group of steps, an output being determined at each step."""
    steps = reach.unique().tolist()
    size = max(1, min(STEPS_PER_GROUP, len(steps) // GROUPS))
    ends = {end for end in steps[size - 1 :: size] if end}
    return sorted(ends | {inputs})
