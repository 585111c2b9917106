"""The state of one draw, and the two ways to walk through it: place by place, and pixel by pixel.

Without a cache a causal layer is handed everything and returns everything. With one it is handed the inputs that have
just become known, returns the outputs that these determine, and remembers the inputs that later outputs will need.
Networks hand the cache on and never ask whether they are drawing.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from likely.density import Steps, Where
from likely.distributions import Discrete
from likely.errors import InputError
from likely.event import Event

State = TypeVar("State")


class Cache:
    """The memory of the layers of a network during one draw.

    Args:
        width: of the image that is drawn, in pixels, for layers over images.
    """

    def __init__(self, width: int = 1) -> None:
        self.width = width
        self._states: dict[object, Any] = {}

    def of(self, layer: object, begin: Callable[[], State]) -> State:
        """Return a layer's state, made by `begin` when it is first asked for."""
        if layer not in self._states:
            self._states[layer] = begin()
        return self._states[layer]


Network = Callable[[Tensor, Tensor | None, Cache | None], Tensor]  # x, features, cache → parameters


class Walk:
    """Walk through the places of a network in order.

    Iterating yields `(places, theta)`: the next places as a slice, and their θ (n, places, outputs). Before the next
    iteration `newest` must be set to their inputs (n, inputs of the places). Several places come at once where no unit
    of the network tells them apart.

    Args:
        network: over places: inputs (n, ·), features → θ (n, places, outputs), each from the inputs before it.
        dims: number of places.
        nothing: inputs of no place, (n, 0).
        features: of the context.

    Raises:
        InputError: the network determines no further place from those before it.
    """

    def __init__(self, network: Network, dims: int, nothing: Tensor, features: Tensor | None = None) -> None:
        self.network = network
        self.dims = dims
        self.newest = nothing
        self.features = features

    def __iter__(self) -> Iterator[tuple[slice, Float[Tensor, "n places outputs"]]]:
        cache, known = Cache(), 0
        while known < self.dims:
            theta = self.network(self.newest, self.features, cache)
            if not theta.shape[1]:
                raise InputError(f"the network determines no place after {known} of {self.dims}: does one see itself?")
            places = slice(known, known + theta.shape[1])
            known = places.stop
            yield places, theta


def raster_steps(
    network: Network,
    to_distribution: Callable[[Tensor, Tensor, slice], Discrete],
    event: Event,
    groups: int,
    n: int,
    features: Tensor | None,
    device: torch.device,
) -> Steps:
    """Walk through n images in raster order; see `Autoregressive.steps`.

    Args:
        network: over images: symbols (n, h, w, channels), features → parameters (n, h, w, ·). With a cache it gives
            those of a pixel's channel group when it is handed the group before.
        to_distribution: a head, from parameters, the pixel's channels so far and the group's channels.
        event: an image (channels, height, width).
        groups: channel groups of a pixel, each drawn from one pass of the network.
        n: number of images.
        features: of their contexts.
        device: of the images.
    """
    channels, height, width = event.shape
    size = channels // groups
    cache = Cache(width)
    x = torch.zeros(n, *event.shape, dtype=torch.int64, device=device)
    pixels = x.movedim(1, -1)
    newest = pixels[:, :0, :0, :size]
    for i, j, first in product(range(height), range(width), range(0, channels, size)):
        parameters = network(newest, features, cache)
        newest = pixels[:, i : i + 1, j : j + 1, first : first + size]
        values = newest.movedim(-1, 1)
        for c in range(size):
            p = to_distribution(parameters, values, slice(first, first + size))
            values[:, c, 0, 0] = yield (slice(None), first + c, i, j), p[:, c, 0, 0]
    return x


def raster_places(event: Event) -> list[Where]:
    """Return where the values of each of `raster_steps` lie."""
    channels, height, width = event.sizes
    return [(slice(None), c, i, j) for i, j, c in product(range(height), range(width), range(channels))]
