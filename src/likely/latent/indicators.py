"""Symbols z as indicator vectors, which have derivatives: the first layer of decoders of discrete latents."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from likely.errors import InputError
from likely.event import Event
from likely.nn import Leaf
from likely.nn.network import NetworkSpec, Places, Size


class Indicators(Leaf):
    """z (n, *shape) → one-hot vectors (n, *shape, levels); vectors are returned as they are."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.register_buffer("identity", torch.eye(levels), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """As above."""
        if z.is_floating_point():
            return z
        return nn.functional.embedding(z, self.identity)


@dataclass(frozen=True)
class OnIndicators(NetworkSpec):
    """Networks from symbols of one alphabet, with indicators in place of real values.

    Args:
        network: specification of the rest.
    """

    network: NetworkSpec

    def build(self, inputs: Size, outputs: Size, features: int | None = None) -> nn.Module:
        """Return the network from indicators on."""
        return self.network.build(inputs, outputs, features)

    def of_event(self, given: Event, places: Places, outputs: int) -> nn.Sequential:
        """Return the network, for symbols of one alphabet and any places."""
        levels = given.one_alphabet
        if levels is None:
            raise InputError(f"indicators stand for symbols of one alphabet, found {given}")
        built = self.network.of_event(Event((*given.shape, levels)), places, outputs)
        built[0] = Indicators(levels)  # in place of values that are standardised
        return built
