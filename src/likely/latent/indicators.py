"""Symbols z as indicator vectors, which have derivatives: what decoders of discrete latents begin with."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from likely.errors import InputError
from likely.event import Event
from likely.nn.network import Network, Places


class Indicators(nn.Module):
    """z (n, *shape) → one-hot vectors (n, *shape, levels); what are vectors already stay as they are."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.register_buffer("identity", torch.eye(levels), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """As above."""
        return z if z.is_floating_point() else nn.functional.embedding(z, self.identity)


@dataclass(frozen=True)
class OnIndicators(Network):
    """A network from symbols of one alphabet, which takes their indicators for real values.

    Args:
        network: what it is but for that.
    """

    network: Network

    def build(self, given: Event, places: Places, outputs: int) -> nn.Module:
        """For symbols of one alphabet and any places."""
        if not isinstance(given.levels, int):
            raise InputError(f"indicators stand for symbols of one alphabet, found {given}")
        built = self.network.build(Event((*given.shape, given.levels)), places, outputs)
        assert isinstance(built, nn.Sequential)
        built[0] = Indicators(given.levels)  # in place of values that are standardised
        return built
