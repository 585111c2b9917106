"""Linear layers, plain, and masked over units that are sorted by what they may see."""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Int, Real
from torch import Tensor, nn
from torch.nn.functional import pad

from likely.nn.cache import Cache
from likely.nn.exact import LinearLeaf
from likely.nn.leaf import without_child

Block = tuple[slice, slice, slice]  # rows; the columns that any of them sees, and that only some of them see


class Linear(LinearLeaf, nn.Linear):  # pyrefly: ignore[inconsistent-inheritance]
    """y = b + W x, over the last dimension."""

    forward = nn.Linear.forward


class _Staircase(torch.autograd.Function):
    """x Wᵀ + b under the staircase mask, by blocks of rows.

    Neither the product nor a gradient touches what lies right of the stairs, and gradients are written in place:
    assembling a weight's from those of its blocks costs as much as the multiplications that the blocks save.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, blocks: list[Block]) -> Tensor:
        products = [
            torch.addmm(bias[rows], x[:, seen], (weight[rows, seen] * mask[rows, seen]).T) for rows, seen, _ in blocks
        ]
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
            parts = [dy[:, rows] @ (weight[rows, seen] * mask[rows, seen]) for rows, seen, _ in reversed(ctx.blocks)]
            dx = pad(parts[0], (0, x.shape[1] - parts[0].shape[1]))  # the widest first
            for part in parts[1:]:
                dx[:, : part.shape[1]].add_(part)
        if to_weight:
            dweight = dy.new_zeros(weight.shape)
            for rows, seen, stairs in ctx.blocks:
                dweight[rows, seen].addmm_(dy[:, rows].T, x[:, seen])
                dweight[rows, stairs].mul_(mask[rows, stairs])
        return dx, dweight, dy.sum(0), None, None


class _State:
    """The inputs so far, and how far a masked layer has come.

    Numbers lie unit by unit, (units, n): the examples of a unit are neighbours in memory, and a step reads rows.
    """

    def __init__(self, weight: Tensor, bias: Tensor, projected: Tensor | None, like: Tensor) -> None:
        self.weight = weight  # (outputs, inputs), masked
        self.bias = bias  # (outputs, 1)
        self.projected = projected  # (outputs, n), with context
        self.inputs = like.new_empty(weight.shape[1], len(like))  # (inputs, n), filled from the top
        self.known, self.done = 0, 0

    def remember(self, x: Tensor) -> Tensor:
        """Take in the newest inputs (n, ·) and return all of them, (known, n)."""
        before, self.known = self.known, self.known + x.shape[1]
        if torch.is_grad_enabled():  # written in place, earlier products could not be differentiated
            self.inputs = torch.cat([self.inputs[:before], x.T])
            return self.inputs
        self.inputs[before : self.known] = x.T
        return self.inputs[: self.known]

    def determine(self, inputs: Tensor, done: int) -> Tensor:
        """Return the outputs (·, n) from the last one on, up to `done`."""
        rows = slice(self.done, done)
        self.done = done
        y = torch.addmm(self.bias[rows], self.weight[rows, : self.known], inputs)
        return y if self.projected is None else y + self.projected[rows]


class MaskedLinear(LinearLeaf):
    """y_j = b_j + Σ_{i < reach_j} W_ji x_i + V_j · features, with outputs sorted by reach.

    Sorted, the mask is a staircase:

            inputs →
        #. . . . . . .      The rows are cut into blocks. Right of a block's stairs (the columns between its smallest
        ###. . . . . .      and its largest reach) nothing is multiplied: training skips nearly all of the masked half
        #####. . . . .      of the arithmetic.
        #######. . . .

    Cached, it is handed the newest inputs and returns the outputs whose reach is met: every weight is used once.

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
        self.project = Linear(features, outputs, bias=False) if features else None
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)
        self.register_buffer("input_orders", input_orders, persistent=False)
        self.register_buffer("output_orders", output_orders, persistent=False)
        self.determined = torch.searchsorted(reach, torch.arange(inputs + 1), right=True).tolist()
        blocks = min(max(min(inputs, outputs) // 128, 1), 8) if blocks is None else blocks
        edges = sorted({round(outputs * k / blocks) for k in range(blocks + 1)})
        self.blocks = [_block(start, stop, int(reach[start]), int(reach[stop - 1])) for start, stop in pairwise(edges)]

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
        return y if self.project is None else y + self._projected(features, order)

    def seen_weight(self) -> Tensor:
        """Return the weights under the mask; with several orders each masks others, and all are returned."""
        return self.weight if self._orders() else self.weight * self.mask

    def without_context(self) -> "MaskedLinear":
        """Return a copy that adds no context features."""
        return without_child(self, "project")

    def quantize(self, largest: float) -> dict[str, Tensor]:
        """Return weights on grids, and the orders."""
        return super().quantize(largest) | self._orders()

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
        return y[:, self.output_orders[order]] if order and self.output_orders is not None else y

    def _advance(self, x: Tensor, features: Tensor | None, cache: Cache, order: int) -> Tensor:
        state = cache.of(self, lambda: self._begin(x, features, order))
        inputs = state.remember(x)
        return state.determine(inputs, self.determined[state.known]).T

    def _begin(self, x: Tensor, features: Tensor | None, order: int) -> _State:
        weight, bias = self._arranged(order)
        projected = None if self.project is None else self._projected(features, order).T
        return _State(weight * self.mask, bias[:, None], projected, x)


def _block(start: int, stop: int, low: int, high: int) -> Block:
    return slice(start, stop), slice(high), slice(low, high)
