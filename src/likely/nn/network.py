"""Networks from examples of an event to parameters at places, each kind to be built for the two.

A built network takes examples (n, *given.shape) and returns (n, h, w, outputs), where the places are an image's pixels,
or (n, outputs) where there are none.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from likely.errors import InputError
from likely.event import Configured, Event
from likely.nn.convolution import Conv2d
from likely.nn.elementwise import ReLU
from likely.nn.linear import Linear
from likely.nn.moments import mean_and_deviation
from likely.nn.symbols import Symbols

HALVINGS = 2  # of an image's sides, at most


Places = tuple[int, int] | tuple[()]


def is_image(event: Event) -> bool:
    """Whether convolutions make sense: (channels, height, width), more than a line."""
    return len(event.shape) == 3 and min(event.shape[1:]) > 1


def places_of(event: Event) -> Places:
    """(height, width) of an image, else ()."""
    return (event.shape[1], event.shape[2]) if is_image(event) else ()


class Network(Configured, ABC):
    """A kind of network; a subclass says how it is built."""

    @abstractmethod
    def build(self, given: Event, places: Places, outputs: int) -> nn.Module:
        """The network from examples of `given` to `outputs` parameters at every place."""


@dataclass(frozen=True)
class MultilayerPerceptron(Network):
    """Linear layers with ReLU between, over vectors and over images as vectors.

    Args:
        hidden: units of the hidden layers.
    """

    hidden: tuple[int, ...] = (200, 200)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))

    def build(self, given: Event, places: Places, outputs: int) -> nn.Module:
        """For any event and places."""
        values = Values(given)
        widths = [given.dims * values.width, *self.hidden]
        layers = [part for a, b in pairwise(widths) for part in (linear(a, b), ReLU())]
        placed = [nn.Unflatten(1, (*places, outputs))] if places else []
        return nn.Sequential(values, nn.Flatten(), *layers, Linear(widths[-1], math.prod(places) * outputs), *placed)


@dataclass(frozen=True)
class ConvolutionalNetwork(Network):
    """Convolutions over images, whose sides are halved (or doubled) up to twice; between, one hidden vector.

    Args:
        channels: of the largest images; twice as many after each halving.
        blocks: residual blocks of two convolutions at every size.
        hidden: units between convolutions and vectors.
    """

    channels: int = 32
    blocks: int = 1
    hidden: int = 256

    def build(self, given: Event, places: Places, outputs: int) -> nn.Module:
        """Where the event, the places, or both are an image's."""
        if not (is_image(given) or places):
            raise InputError(f"convolutions lead from or to images (channels, height, width), found {given}")
        into = self._from_image(given) if is_image(given) else self._from_vector(given)
        out = self._to_image(*places, outputs) if places else [Linear(self.hidden, outputs)]
        return nn.Sequential(*into, ReLU(), *out)

    def _from_vector(self, given: Event) -> list[nn.Module]:
        values = Values(given)
        return [values, nn.Flatten(), linear(given.dims * values.width, self.hidden)]

    def _from_image(self, given: Event) -> list[nn.Module]:
        values, (colours, height, width) = Values(given), given.shape
        parts: list[nn.Module] = [values, ChannelsLast(), Conv2d(colours * values.width, self.channels, 3)]
        channels = self.channels
        for _ in range(halvings(height, width)):
            parts += [*residual(channels, self.blocks), SpaceToDepth(), Conv2d(4 * channels, 2 * channels, 1)]
            channels, height, width = 2 * channels, height // 2, width // 2
        return [
            *parts,
            *residual(channels, self.blocks),
            ReLU(),
            nn.Flatten(),
            linear(height * width * channels, self.hidden),
        ]

    def _to_image(self, height: int, width: int, outputs: int) -> list[nn.Module]:
        times = halvings(height, width)
        channels, height, width = self.channels << times, height >> times, width >> times
        size = (height, width, channels)
        parts: list[nn.Module] = [linear(self.hidden, math.prod(size)), nn.Unflatten(1, size)]
        for _ in range(times):
            parts += [*residual(channels, self.blocks), Conv2d(channels, 2 * channels, 1), DepthToSpace()]
            channels //= 2
        return [*parts, *residual(channels, self.blocks), ReLU(), Conv2d(channels, outputs, 3)]


def linear(inputs: int, outputs: int) -> Linear:
    """A hidden layer whose weights keep the variance of what passes, forwards and backwards.

    Smaller weights leave a latent hardly seen in the first steps, in which its KL divergence may then drop to zero.

    Paper: Understanding the difficulty of training deep feedforward neural networks (Glorot, Bengio, 2010),
    https://proceedings.mlr.press/v9/glorot10a.html
    """
    layer = Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def network_for(given: Event, places: Places, width: int) -> Network:
    """What suits an event and places: convolutions where one is an image, else a perceptron of two layers."""
    if is_image(given) or places:
        return ConvolutionalNetwork(max(1, width // 8), hidden=width)
    return MultilayerPerceptron((width, width))


def halvings(height: int, width: int) -> int:
    """How often both sides can be halved, at most `HALVINGS` times, so that two pixels are left."""
    times = 0
    while times < HALVINGS and height % 2 == width % 2 == 0 and min(height, width) >= 4:
        times, height, width = times + 1, height // 2, width // 2
    return times


class Values(nn.Module):
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
            levels = max(given.alphabets)
            self.symbols = Symbols(levels, max(1, min(levels - 1, 4)))
        self.width = 1 if self.symbols is None else self.symbols.width
        self.register_buffer("mean", torch.zeros(given.shape))
        self.register_buffer("deviation", torch.ones(given.shape))

    def initialize(self, x: Tensor) -> None:
        """Take mean and deviation of real values from examples (n, *shape)."""
        if self.symbols is None:
            for statistic, found in zip((self.mean, self.deviation), mean_and_deviation(x), strict=True):
                statistic.copy_(found)

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) → (n, *shape, width)."""
        if self.symbols is None:
            return ((x - self.mean) / self.deviation)[..., None]
        return self.symbols(x[..., None])


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


class ResidualBlock(nn.Module):
    """x + convolution(ReLU(convolution(ReLU(x)))), channels-last.

    Paper: Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, 2016), https://arxiv.org/abs/1512.03385
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(ReLU(), Conv2d(channels, channels, 3), ReLU(), Conv2d(channels, channels, 3))
        nn.init.zeros_(self.layers[-1].weight)  # pyrefly: ignore[bad-argument-type]

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x + self.layers(x)


def residual(channels: int, blocks: int) -> list[nn.Module]:
    """So many residual blocks."""
    return [ResidualBlock(channels) for _ in range(blocks)]
