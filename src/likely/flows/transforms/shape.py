"""Transforms of the shape: squeezed images, values that leave early, vectors."""

import math

import torch
from torch import Tensor

from likely.errors import InputError
from likely.event import Event
from likely.flows.transforms.transform import Pair, Transform, named


class Squeeze(Transform):
    """(c, h, w) → (4 c, h / 2, w / 2): squares of 2×2 pixels become channels; ln|det| = 0.

    Channel k of x becomes channels 4 k … 4 k + 3: top left, top right, bottom left, bottom right.

    Paper: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio, 2017), https://arxiv.org/abs/1605.08803

    Args:
        shape: of one example.

    Raises:
        InputError: no images, or of odd height or width.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        if len(shape) != 3 or shape[1] % 2 or shape[2] % 2:
            raise InputError(f"a squeeze takes images (channels, even height, even width), found shape {self.shape}")
        c, h, w = self.shape
        self.squares = (c, h // 2, 2, w // 2, 2)
        self.after = (4 * c, h // 2, w // 2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """(n, c, h, w) → (n, 4 c, h / 2, w / 2)."""
        squares = x.reshape(-1, *self.squares).permute(0, 1, 3, 5, 2, 4)  # (n, c, 2, 2, h / 2, w / 2)
        return squares.reshape(-1, *self.after), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """(n, 4 c, h / 2, w / 2) → (n, c, h, w)."""
        c, h, _, w, _ = self.squares
        squares = z.reshape(-1, c, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
        return squares.reshape(-1, *self.shape), z.new_zeros(len(z))

    def event_after(self, before: Event) -> Event:
        """Return the event of smaller images with four times as many channels; of symbols too."""
        self._require_shape(before)
        return Event(self.after, before.levels)

    def event_before(self, after: Event) -> Event:
        """Return the event of larger images with a quarter of the channels."""
        return Event(self.shape, after.levels)


class Multiscale(Transform):
    """The first half of the channels is done; the others go through `inner`. z is the vector of both.

    Paper: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio, 2017), https://arxiv.org/abs/1605.08803

    Args:
        inner: for events of the channels that go on, (channels − channels // 2, …).
        shape: of one example, channels first.

    Raises:
        InputError: fewer than two channels.
    """

    def __init__(self, inner: Transform, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.inner, self.shape = inner, tuple(shape)
        if not self.shape or self.shape[0] < 2:
            raise InputError(f"at least two channels are expected, of which half go on, found shape {self.shape}")
        if inner.stochastic or inner.domain != inner.codomain or not inner.onto:
            raise InputError(f"{named(inner)} leads to other values than those that do not go through it")
        self.features, self.domain, self.codomain = inner.features, inner.domain, inner.codomain
        self.done = self.shape[0] // 2
        self.going = (self.shape[0] - self.done, *self.shape[1:])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """(n, *shape) → (n, values)."""
        done, going = x[:, : self.done], x[:, self.done :]
        z, ladj = self.inner.forward(going, context)
        return torch.cat([done.flatten(1), z.flatten(1)], 1), ladj

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """(n, values) → (n, *shape)."""
        size = math.prod(self.shape) - math.prod(self.going)
        done, going = z.tensor_split([size], 1)
        x, ladj = self.inner.inverse(going.view(-1, *self._inner_after), context)
        first = done.view(-1, self.done, *self.shape[1:])
        return torch.cat([first, x], 1), ladj

    @property
    def _inner_after(self) -> tuple[int, ...]:
        return self.inner.event_after(Event(self.going)).shape

    def event_after(self, before: Event) -> Event:
        """Return the event of a vector."""
        self.inner.event_after(Event(self.going))
        return Event((super().event_after(before).dims,))

    def event_before(self, after: Event) -> Event:
        """Return an event of the given shape."""
        return Event(self.shape)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Initialise the inner transform, from the channels that go through it."""
        self.inner.initialize(x[:, self.done :], context)
