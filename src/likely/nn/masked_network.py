"""Masked multilayer perceptrons: the output for a place sees the inputs of the places before it, and no others."""

from collections.abc import Callable
from dataclasses import dataclass
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
        self.groups = _groups(steps)

    @property
    def _stack(self) -> list[MaskedLinear]:
        return list(self.layers)  # pyrefly: ignore[bad-return]

    def forward(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        """x (n, dims) → θ (n, dims, outputs)."""
        *hidden, last = self._stack
        for layer in hidden:
            x = layer(x, features).relu_()
        return last(x, features).unflatten(1, (-1, self.outputs))

    def in_order(self, n: int, features: Tensor | None, choose: Callable[[Tensor], Tensor]) -> None:
        """Go through the places in order: `choose` is handed their θ and returns their x.

        Several places at once, as many as `sizes` says at each step, where no unit tells them apart.

        Args:
            n: number of examples.
            features: of their contexts.
            choose: θ (places, n, outputs) → x (places, n); it may be differentiable.
        """
        *hidden, last = self._stack
        units = [_Units(layer, n, features) for layer in hidden] + [_Units(last, n, features, self.outputs)]
        activate = torch.relu if torch.is_grad_enabled() else torch.relu_
        x = last.weight.new_empty(0, n)
        for group in self.groups:
            for layer, part in zip(units, group, strict=True):
                layer.begin(part)
            chosen = []
            for step in range(len(group[0].inputs)):
                chosen.append(x)
                values = units[0].add(step, x)
                for layer in units[1:]:
                    values = layer.add(step, activate(values))
                x = choose(values)
            values = torch.cat(chosen)
            for layer, part in zip(units, group, strict=True):
                layer.end(part, values)
                values = layer.here.relu()


@dataclass(frozen=True)
class _Part:
    """A layer's part in a group of steps, which are taken one by one among themselves and added up for all later ones.

    Attributes:
        rows: the units that the group determines.
        columns: the inputs that become known in it.
        inputs: how many at each step.
        outputs: how many units are determined by each step.
    """

    rows: slice
    columns: slice
    inputs: list[int]
    outputs: list[int]


class _Units:
    """The units of a layer while places become known, and what each of them has been given so far.

    Where no gradients are wanted, sums are written in place: a step is a few operations that take microseconds each.
    """

    def __init__(self, layer: MaskedLinear, n: int, features: Tensor | None, width: int | None = None) -> None:
        self.weight, self.width = layer.weight * layer.mask, width
        self.plus = torch.addmm if torch.is_grad_enabled() else Tensor.addmm_
        bias = layer.bias[:, None]
        if layer.project is None:
            self.later = bias.repeat(1, n)  # (units, n)
        else:
            assert features is not None
            self.later = torch.addmm(bias, layer.project.weight, features.T)

    def begin(self, part: _Part) -> None:
        """Turn to the units of the next group."""
        self.blocks = self.weight[part.rows, part.columns].split(part.inputs, 1)
        self.here, self.later = self.later.split([sum(part.outputs), len(self.later) - sum(part.outputs)])
        self.sizes = part.outputs
        self.parts = self._split(self.here)

    def add(self, step: int, values: Tensor) -> Tensor:
        """Give the group's units what a step brings; return those that it determines."""
        here = self.plus(self.here, self.blocks[step], values)
        if here is not self.here:
            self.here, self.parts = here, self._split(here)
        return self.parts[step]

    def end(self, part: _Part, values: Tensor) -> None:
        """Give the later units what the group brought."""
        self.later = self.plus(self.later, self.weight[part.rows.stop :, part.columns], values)

    def _split(self, here: Tensor) -> tuple[Tensor, ...]:
        if self.width is None:
            return here.split(self.sizes)
        here = here.unflatten(0, (-1, self.width)).transpose(1, 2)
        return here.split([size // self.width for size in self.sizes])


def _groups(steps: Places) -> list[list[_Part]]:
    """Steps in groups, a part of each for every layer."""
    size = max(1, min(STEPS_PER_GROUP, len(steps) // GROUPS))
    starts = [[0] * len(steps[0]), *steps]
    groups = []
    for k in range(0, len(steps), size):
        levels = list(zip(*starts[k : k + size + 1], strict=True))
        spans = [slice(level[0], level[-1]) for level in levels]
        sizes = [[b - a for a, b in pairwise(level)] for level in levels]
        groups.append([_Part(*each) for each in zip(spans[1:], spans, sizes, sizes[1:], strict=False)])
    return groups


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
