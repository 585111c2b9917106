"""Leaves that add a learnt vector for every place."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.nn.cache import Cache
from likely.nn.leaf import Leaf


class Positions(Leaf):
    """x_i + e_i, with a learnt vector e_i for every place i. They start at zero.

    Args:
        places: number of places.
        width: of a vector.
    """

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(places, width))

    def forward(
        self, x: Float[Tensor, "n places width"], features: None = None, cache: Cache | None = None
    ) -> Float[Tensor, "n places width"]:
        """Add to all places, or with a cache to the next ones."""
        if cache is None:
            first = 0
        else:
            first = cache.of(self, Counter).advance(x.shape[1])
        return x + self.weight[first : first + x.shape[1]]


class ImagePositions(Leaf):
    """x + e, with a learnt vector e_ij for every pixel of an image. They start at zero.

    Args:
        channels, height, width: of the image.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, height, width))

    def forward(self, x: Float[Tensor, "n height width channels"]) -> Float[Tensor, "n height width channels"]:
        """Add to every pixel."""
        return x + self.weight.movedim(0, -1)


class Counter:
    """How many places have come."""

    def __init__(self) -> None:
        self.count = 0

    def advance(self, places: int) -> int:
        """Count more places, and return how many came before."""
        before, self.count = self.count, self.count + places
        return before
