"""Examples of an event as numbers, and movements of their pixels."""

import torch
from torch import Tensor, nn

from likely.event import Event
from likely.nn.symbols import Symbols
from likely.nn.units import ContextUnits, InUnits


class Values(InUnits):
    """Examples as numbers: symbols by learnt features, channels side by side, real values standardised.

    Mean and deviation of real values are taken from data by `initialize`; until then values stay as they are.

    Args:
        given: the event; features follow the last dimension, (n, *shape, width), of real values width is 1.
    """

    def __init__(self, given: Event) -> None:
        super().__init__()
        self.given = given
        self.symbols = None
        if given.levels is not None:
            levels = given.most_levels
            self.symbols = Symbols(levels, max(1, min(levels - 1, 4)))
        self.width = 1 if self.symbols is None else self.symbols.width
        self.hold_units(given.shape, torch.float32 if given.discrete else torch.float64)

    def initialize(self, x: Tensor) -> None:
        """Take mean and deviation of real values from examples (n, *shape), the first time."""
        if self.symbols is None:
            self.set_units(x)

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) → (n, *shape, width)."""
        if self.symbols is None:
            return self.standardized(x)[..., None]
        return self.symbols(x[..., None])


def take_units(network: nn.Module, given: Tensor | None) -> None:
    """Let what is in a network take location and scale of real values that it is given from examples (n, …), once."""
    if given is None:
        return
    for part in network.modules():
        if isinstance(part, Values | ContextUnits):
            part.initialize(given)


class ChannelsLast(nn.Module):
    """(n, channels, h, w, width) → (n, h, w, channels · width)."""

    def forward(self, x: Tensor) -> Tensor:
        """Move channels beside the features of a value."""
        return x.movedim(1, -2).flatten(-2)


class SpaceToDepth(nn.Module):
    """Squares of 2×2 pixels become channels: (n, h, w, c) → (n, h/2, w/2, 4c)."""

    def forward(self, x: Tensor) -> Tensor:
        """Halve both sides."""
        return x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3).flatten(3)


class DepthToSpace(nn.Module):
    """Channels become squares of 2×2 pixels: (n, h, w, 4c) → (n, 2h, 2w, c)."""

    def forward(self, x: Tensor) -> Tensor:
        """Double both sides."""
        return x.unflatten(3, (2, 2, -1)).transpose(2, 3).flatten(1, 2).flatten(2, 3)
