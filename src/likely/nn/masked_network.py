"""Masked multilayer perceptrons: the output for a place sees the inputs of the places before it, and no others."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.nn.cache import Cache
from likely.nn.elementwise import ReLU
from likely.nn.linear import MaskedLinear


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
    from 1); the output for place i sees the hidden units of degree < i. Units are sorted by degree, so that the
    masks are staircases.

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
    degrees = torch.arange(1, dims + 1).repeat_interleave(inputs)
    arranged = _spread(ordering, inputs)
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
    if ordering is None:
        return None
    return (ordering[..., None] * width + torch.arange(width)).flatten(1)


@torch.no_grad()
def spread_biases(layers: Iterable[nn.Module]) -> None:
    """Draw the biases b ~ U(±1/√n) of masked layers, n the number of inputs that a unit sees.

    With biases of zero every unit of the first layer that sees one input bends at x = 0.
    """
    for layer in layers:
        assert isinstance(layer, MaskedLinear)
        bound = layer.get_buffer("mask").sum(1).clamp(min=1).rsqrt()
        layer.bias.copy_((2 * torch.rand(len(bound)) - 1) * bound)


class MaskedNetwork(nn.Module):
    """θ_i = f_i(x_<i, features): `outputs` real numbers for each of `dims` real inputs, from one masked perceptron.

    Without a cache every θ_i is computed in one parallel pass, with one they are computed one after the other, in the
    arithmetic of one pass (see `Walk`). The output layer starts at zero, the others with spread biases.

    Args:
        dims: number of places.
        outputs: numbers for each of them.
        hidden: units of each hidden layer.
        features: number of context features, if it takes them.
    """

    def __init__(self, dims: int, outputs: int, hidden: tuple[int, ...], features: int | None = None) -> None:
        super().__init__()
        self.dims, self.outputs = dims, outputs
        before, last = masked_layers(dims, 1, hidden, outputs, features)
        self.layers = nn.ModuleList([*before, last])
        self.activation = ReLU()
        spread_biases(before)
        nn.init.zeros_(last.weight)
        if last.project is not None:
            nn.init.zeros_(last.project.weight)

    def forward(
        self, x: Float[Tensor, "n inputs"], features: Tensor | None = None, cache: Cache | None = None
    ) -> Float[Tensor, "n places outputs"]:
        """Return every θ, or with a cache those that the newest inputs determine."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x, features, cache))
        return last(x, features, cache).unflatten(1, (-1, self.outputs))
