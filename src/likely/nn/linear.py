"""Masked linear layer over units sorted by what they may see."""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

Cache = dict


@dataclass
class _State:
    weight: Tensor
    bias: Tensor  # (outputs,), or (n, outputs) with context
    inputs: Tensor  # (n, inputs), filled from the left
    known: int = 0
    done: int = 0


class MaskedLinear(nn.Module):
    """y_j = b_j + Σ_{i < reach_j} W_ji x_i + V_j · context, with outputs sorted by reach.

    Sorted, the mask is a staircase:

            inputs →
        #. . . . . . .      The rows are cut into blocks. Left of a block's stairs the product is a plain one, on its
        ###. . . . . .      stairs (the columns between its smallest and largest reach) the weights are masked, and
        #####. . . . .      right of them nothing is multiplied: training skips the masked half of the arithmetic.
        #######. . . .

    Cached, it is handed the newest inputs and returns the outputs whose reach is met: every weight is used once.

    Args:
        reach: how many of the inputs each output sees, ascending (outputs,).
        inputs: number of inputs.
        context: number of context features, if the layer takes them.
        input_orders: alternative arrangements of the inputs (orders, inputs); weights belong to the inputs of the first.
        output_orders: the same for outputs.
        blocks: how many blocks of rows the staircase is cut into.
    """

    def __init__(
        self,
        reach: Int[Tensor, " outputs"],
        inputs: int,
        context: int | None = None,
        *,
        input_orders: Int[Tensor, "orders inputs"] | None = None,
        output_orders: Int[Tensor, "orders outputs"] | None = None,
        blocks: int = 8,
    ) -> None:
        super().__init__()
        outputs = len(reach)
        mask = torch.arange(inputs) < reach[:, None]
        bound = reach.clamp(min=1).rsqrt()[:, None]
        self.weight = nn.Parameter((torch.rand(outputs, inputs) * 2 - 1) * bound * mask)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.project = nn.Linear(context, outputs, bias=False) if context else None
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("input_orders", input_orders, persistent=False)
        self.register_buffer("output_orders", output_orders, persistent=False)
        edges = sorted({round(outputs * k / blocks) for k in range(blocks + 1)})
        self.blocks = [(rows, int(reach[rows[0]]), int(reach[rows[1] - 1])) for rows in pairwise(edges)]
        self.determined = torch.searchsorted(reach, torch.arange(inputs + 1), right=True).tolist()

    def forward(
        self,
        x: Float[Tensor, "n known"],
        context: Float[Tensor, "n features"] | None = None,
        cache: Cache | None = None,
        order: int = 0,
    ) -> Float[Tensor, "n determined"]:
        """Apply the layer to everything, or with a cache to the newest inputs."""
        if cache is not None:
            return self._advance(x, context, cache, order)
        weight, bias = self._arranged(order)
        outputs = []
        for ((start, stop), low, high), rows in zip(self.blocks, self._rows(weight), strict=True):
            left, stairs, _ = rows.split([low, high - low, rows.shape[1] - high], 1)
            y = F.linear(x[:, :low], left, bias[start:stop])
            if high > low:
                y = torch.addmm(y, x[:, low:high], (stairs * self.mask[start:stop, low:high]).T)
            outputs.append(y)
        y = torch.cat(outputs, 1)
        return y if self.project is None else y + self._projected(context, order)

    def _rows(self, weight: Tensor) -> tuple[Tensor, ...]:
        return weight.split([stop - start for (start, stop), _, _ in self.blocks])

    def _arranged(self, order: int) -> tuple[Tensor, Tensor]:
        weight, bias = self.weight, self.bias
        if order and self.input_orders is not None:
            weight = weight[:, self.input_orders[order]]
        if order and self.output_orders is not None:
            weight, bias = weight[self.output_orders[order]], bias[self.output_orders[order]]
        return weight, bias

    def _projected(self, context: Tensor | None, order: int) -> Tensor:
        y = self.project(context)
        return y[:, self.output_orders[order]] if order and self.output_orders is not None else y

    def _advance(self, x: Tensor, context: Tensor | None, cache: Cache, order: int) -> Tensor:
        state = cache.get(self)
        if state is None:
            state = cache[self] = self._begin(x, context, order)
        known = state.known + x.shape[1]
        state.inputs[:, state.known : known] = x
        first, last = state.done, self.determined[known]
        state.known, state.done = known, last
        bias = state.bias[..., first:last]
        if bias.ndim == 1:
            return F.linear(state.inputs[:, :known], state.weight[first:last, :known], bias)
        return torch.addmm(bias, state.inputs[:, :known], state.weight[first:last, :known].T)

    def _begin(self, x: Tensor, context: Tensor | None, order: int) -> _State:
        weight, bias = self._arranged(order)
        if self.project is not None:
            bias = bias + self._projected(context, order)
        return _State(weight * self.mask, bias, x.new_zeros(len(x), weight.shape[1]))
