"""Masked multilayer perceptrons: the output for a place sees the inputs of the places before it, and no others."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from likely.nn.linear import MaskedLinear

Places = list[list[int]]  # step by step: how many inputs are known, and how many units of each layer are determined
STEPS_PER_GROUP, GROUPS = 16, 4  # at most, and at least, so that little is multiplied that the mask hides


def masked_layers(
    dims: int,
    inputs: int,
    hidden: tuple[int, ...],
    outputs: int,
    features: int | None = None,
    ordering: Tensor | None = None,
) -> tuple[nn.ModuleList, MaskedLinear]:
    """The hidden layers and the output layer over `dims` places, an activation going between them.

    Each hidden unit has a degree d, and sees the units of degree ≤ d below it (an input's degree is its place, counted
    from 1); the output for place i sees the hidden units of degree < i. Units are sorted by degree, which makes the
    masks staircases.

    Paper: MADE: Masked Autoencoder for Distribution Estimation (Germain, Gregor, Murray, Larochelle, 2015),
    https://arxiv.org/abs/1502.03509

    Args:
        dims: number of places.
        inputs: numbers that go in for each of them.
        hidden: units of each hidden layer.
        outputs: numbers that come out for each of them.
        features: number of context features, if every layer takes them.
        ordering: other orders of the places (orders, dims), the first of them 0 … dims − 1.
    """
    layers = nn.ModuleList()
    degrees, arranged = torch.arange(1, dims + 1).repeat_interleave(inputs), _spread(ordering, inputs)
    for units in hidden:
        above = torch.arange(units) * max(dims - 1, 1) // units + 1  # 1 … dims − 1, spread evenly
        layers.append(MaskedLinear(_reach(degrees, above), len(degrees), features, input_orders=arranged))
        degrees, arranged = above, None
    reach = _reach(degrees, torch.arange(dims).repeat_interleave(outputs))
    last = MaskedLinear(reach, len(degrees), features, input_orders=arranged, output_orders=_spread(ordering, outputs))
    return layers, last


def _reach(inputs: Tensor, outputs: Tensor) -> Tensor:
    """How many inputs, sorted by degree, each output of degree d sees: those of degree ≤ d."""
    return torch.searchsorted(inputs, outputs, right=True)


def _spread(ordering: Tensor | None, width: int) -> Tensor | None:
    """Each ordering over groups of `width` units, (orders, dims · width)."""
    return None if ordering is None else (ordering[..., None] * width + torch.arange(width)).flatten(1)


class MaskedNetwork(nn.Module):
    """θ_i = f_i(x_<i, context): `outputs` real numbers for each of `dims` real inputs, from one masked perceptron.

    `forward` computes every θ_i in one parallel pass. `in_order` computes them one after the other, each x_i being
    chosen when θ_i is known, in the arithmetic of one pass. The output layer starts at zero.

    Args:
        dims: number of places.
        outputs: numbers for each of them.
        hidden: units of each hidden layer.
        features: number of context features, if it takes them.
    """

    def __init__(self, dims: int, outputs: int, hidden: tuple[int, ...], features: int | None = None) -> None:
        super().__init__()
        self.outputs = outputs
        before, last = masked_layers(dims, 1, hidden, outputs, features)
        self.layers = nn.ModuleList([*before, last])
        nn.init.zeros_(last.weight)
        if last.project is not None:
            nn.init.zeros_(last.project.weight)
        steps = _steps(self._stack, dims, outputs)
        self.sizes = [step[-1] // outputs - step[0] for step in steps]
        size = max(1, min(STEPS_PER_GROUP, len(steps) // GROUPS))
        starts = [[0] * len(steps[0]), *steps]
        self.groups = [_Group(starts[k : k + size + 1]) for k in range(0, len(steps), size)]

    @property
    def _stack(self) -> list[MaskedLinear]:
        return list(self.layers)  # pyrefly: ignore[bad-return]

    def forward(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        """x (n, dims) → θ (n, dims, outputs)."""
        *hidden, last = self._stack
        for layer in hidden:
            x = layer(x, features).relu()
        return last(x, features).unflatten(1, (-1, self.outputs))

    def in_order(self, n: int, features: Tensor | None, choose: Callable[[Tensor], Tensor]) -> None:
        """Go through the places in order: `choose` is handed their θ and returns their x.

        Several places at once, as many as `sizes` says at each step, where no unit tells them apart.

        Args:
            n: number of examples.
            features: of their contexts.
            choose: θ (places, n, outputs) → x (places, n); it may be differentiable.
        """
        stack = self._stack
        weights = [layer.weight * layer.mask for layer in stack]
        sums = [_constant(layer, n, features) for layer in stack]  # (units that are to come, n), as far as is known
        add = torch.addmm if torch.is_grad_enabled() else Tensor.addmm_
        x = weights[0].new_empty(0, n)
        for group in self.groups:
            columns = [
                weight[rows, seen].split(sizes, 1)
                for weight, rows, seen, sizes in zip(weights, group.rows, group.columns, group.sizes, strict=True)
            ]
            here = [total[:count] for total, count in zip(sums, group.counts, strict=True)]
            chosen = []
            for blocks, determined in zip(zip(*columns, strict=True), group.determined, strict=True):
                chosen.append(x)
                values = x
                for k, block in enumerate(blocks):
                    if k:
                        values = values.relu()
                    here[k] = total = add(here[k], block, values)
                    values = total[determined[k]]
                x = choose(values.view(-1, self.outputs, n).transpose(1, 2))
            inputs = [torch.cat(chosen), *(total.relu() for total in here[:-1])]
            sums = [
                add(total[count:], weight[rows.stop :, seen], values)
                for total, count, weight, rows, seen, values in zip(
                    sums, group.counts, weights, group.rows, group.columns, inputs, strict=True
                )
            ]


class _Group:
    """Steps that are taken one by one among themselves, their effect on all that comes later being added up at once.

    For each layer: the `rows` that become determined, the `columns` of inputs that they have been waiting for, how many
    columns each step brings, and which of the group's rows each step determines.
    """

    def __init__(self, steps: Places) -> None:
        levels = list(zip(*steps, strict=True))
        inputs, outputs = levels[:-1], levels[1:]
        self.rows = [slice(level[0], level[-1]) for level in outputs]
        self.columns = [slice(level[0], level[-1]) for level in inputs]
        self.counts = [level[-1] - level[0] for level in outputs]
        self.sizes = [[b - a for a, b in pairwise(level)] for level in inputs]
        ends = [[slice(a - level[0], b - level[0]) for a, b in pairwise(level)] for level in outputs]
        self.determined = list(zip(*ends, strict=True))


def _steps(stack: list[MaskedLinear], dims: int, outputs: int) -> Places:
    """What is known and determined at each step, every step taking all places whose outputs are determined."""
    steps, known = [], 0
    while known < dims:
        counts = [known]
        for layer in stack:
            counts.append(layer.determined[counts[-1]])
        steps.append(counts)
        known = counts[-1] // outputs
    return steps


def _constant(layer: MaskedLinear, n: int, features: Tensor | None) -> Tensor:
    """What the units get whatever the inputs are, (units, n)."""
    bias = layer.bias[:, None]
    if layer.project is None:
        return bias.repeat(1, n)
    assert features is not None
    return torch.addmm(bias, layer.project.weight, features.T)
