"""Specifications of networks: each builds networks for given sizes, made of leaf layers alone.

A specification is data: it is saved as configuration, and says nothing about the sizes of inputs and outputs.
Conditioners of flows, encoders, decoders and priors are built from the same ones. A built network takes x and, if it
was built for them, context features: vectors (n, channels), or images channels-last (n, height, width, channels).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from likely.arguments import plain
from likely.errors import InputError, require_choice, require_hidden, require_sizes
from likely.event import Configured, Event
from likely.nn.blocks import AttentionBlock, GatedBlock, ImageNetwork, ResidualBlock
from likely.nn.convolution import Conv2d
from likely.nn.elementwise import GELU, ReLU, SiLU
from likely.nn.linear import Linear
from likely.nn.values import ChannelsLast, DepthToSpace, SpaceToDepth, Values

HALVINGS = 2  # of an image's sides, at most

Size = tuple[int, ...]  # (channels,) of vectors, (height, width, channels) of images
Places = tuple[int, int] | tuple[()]
Activation = Literal["relu", "silu", "gelu"]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": ReLU, "silu": SiLU, "gelu": GELU}


def is_image(shape: tuple[int, ...]) -> bool:
    """Return whether convolutions make sense: (channels, height, width), more than a line."""
    return len(shape) == 3 and min(shape[1:]) > 1


def places_of(event: Event) -> Places:
    """Return (height, width) of an image, else ()."""
    if is_image(event.shape):
        return (event.shape[1], event.shape[2])
    return ()


class NetworkSpec(Configured, ABC):
    """A specification of networks: a frozen dataclass that says how they are built."""

    over_images = True  # whether images go in as images, not as vectors
    starts_at_zero = True  # whether a coupling sets its last layer to zero

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            object.__setattr__(self, name, plain(value))

    @abstractmethod
    def build(self, inputs: Size, outputs: Size, features: int | None = None) -> nn.Module:
        """Return a network (x, features) → outputs.

        Args:
            inputs: size of x.
            outputs: size of the outputs.
            features: number of context features, if it takes them.

        Raises:
            InputError: sizes that it does not lead between.
        """

    def layers(self, inputs: Size, outputs: Size) -> list[nn.Module]:
        """Return modules that lead from inputs to outputs, applied one after the other."""
        return [self.build(inputs, outputs)]

    def of_event(self, given: Event, places: Places, outputs: int) -> nn.Sequential:
        """Return a network from examples of an event to so many outputs at every place.

        Args:
            given: the event; its examples go in as they are.
            places: (height, width) of an image of outputs, or () for one vector.
            outputs: numbers at each place.
        """
        values, to = Values(given), (*places, outputs)
        if self.over_images and is_image(given.shape[:3]):  # of numbers, or of vectors
            channels, height, width, *vector = given.shape
            inputs = (height, width, channels * values.width * math.prod(vector))
            return nn.Sequential(values, ChannelsLast(), *self.layers(inputs, to))
        inputs = (given.dims * values.width,)
        return nn.Sequential(values, nn.Flatten(), *self.layers(inputs, to))


class ChainSpec(NetworkSpec):
    """A specification of networks with layers that follow one another; a subclass lists them."""

    @abstractmethod
    def layers(self, inputs: Size, outputs: Size) -> list[nn.Module]:
        """Return the layers."""

    def build(self, inputs: Size, outputs: Size, features: int | None = None) -> "Chain":
        """Return the layers as one network; features are appended to x."""
        *places, channels = inputs
        return Chain(self.layers((*places, channels + (features or 0)), outputs), features)


class Chain(nn.Module):
    """Layers one after the other, from x and, if it takes them, the context features beside it."""

    def __init__(self, layers: list[nn.Module], features: int | None) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.features = features

    def forward(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        """Apply them."""
        if self.features is not None:
            assert features is not None
            x = torch.cat([x, features], -1)
        return self.layers(x)


@dataclass(frozen=True)
class Perceptron(ChainSpec):
    """Linear layers with an activation between, over vectors and over images as vectors.

    Args:
        hidden: units of the hidden layers.
        activation: "relu", "silu" or "gelu".
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: Activation = "silu"

    over_images = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_hidden(self.hidden)
        require_choice(tuple(ACTIVATIONS), activation=self.activation)
        object.__setattr__(self, "hidden", tuple(self.hidden))

    def layers(self, inputs: Size, outputs: Size) -> list[nn.Module]:
        """Return the layers, for any sizes."""
        hidden = glorot if self.activation == "relu" else Linear
        widths = [math.prod(inputs), *self.hidden]
        pairs = [(hidden(a, b), ACTIVATIONS[self.activation]()) for a, b in pairwise(widths)]
        layers = [layer for pair in pairs for layer in pair]
        layers.append(Linear(widths[-1], math.prod(outputs)))
        if len(outputs) > 1:
            layers.append(nn.Unflatten(1, outputs))
        return layers


@dataclass(frozen=True)
class ConvolutionalNetwork(ChainSpec):
    """Convolutions over images, halving (or doubling) both sides up to twice; between, one hidden vector.

    Args:
        channels: of the largest images; twice as many after each halving.
        blocks: residual blocks of two convolutions at every size.
        hidden: units between convolutions and vectors.
    """

    channels: int = 32
    blocks: int = 1
    hidden: int = 256

    def layers(self, inputs: Size, outputs: Size) -> list[nn.Module]:
        """Return the layers, where inputs, outputs, or both are images."""
        if len(inputs) == len(outputs) == 1:
            raise InputError(f"convolutions lead from or to images, found vectors of sizes {inputs} and {outputs}")
        if len(inputs) == 3:
            into = self._from_image(*inputs)
        else:
            into = [glorot(inputs[0], self.hidden)]
        if len(outputs) == 3:
            out = self._to_image(*outputs)
        else:
            out = [Linear(self.hidden, outputs[0])]
        return [*into, ReLU(), *out]

    def _from_image(self, height: int, width: int, inputs: int) -> list[nn.Module]:
        channels = self.channels
        parts: list[nn.Module] = [Conv2d(inputs, channels, 3)]
        for _ in range(halvings(height, width)):
            parts += residual(channels, self.blocks)
            parts += [SpaceToDepth(), Conv2d(4 * channels, 2 * channels, 1)]
            channels, height, width = 2 * channels, height // 2, width // 2
        parts += residual(channels, self.blocks)
        return [*parts, ReLU(), nn.Flatten(), glorot(height * width * channels, self.hidden)]

    def _to_image(self, height: int, width: int, outputs: int) -> list[nn.Module]:
        times = halvings(height, width)
        channels, height, width = self.channels << times, height >> times, width >> times
        size = (height, width, channels)
        parts: list[nn.Module] = [glorot(self.hidden, math.prod(size)), nn.Unflatten(1, size)]
        for _ in range(times):
            parts += residual(channels, self.blocks)
            parts += [Conv2d(channels, 2 * channels, 1), DepthToSpace()]
            channels //= 2
        return [*parts, *residual(channels, self.blocks), ReLU(), Conv2d(channels, outputs, 3)]


@dataclass(frozen=True)
class Rescaling(ChainSpec):
    """Convolutions from an image to one of other sides: residual blocks at every size, and a step between sizes.

    Args:
        channels: of all layers.
        blocks: residual blocks at every size.
    """

    channels: int
    blocks: int

    last_kernel: ClassVar[int]  # of the last convolution

    @abstractmethod
    def step(self) -> list[nn.Module]:
        """Return the layers that halve both sides, or double them."""

    def layers(self, inputs: Size, outputs: Size) -> list[nn.Module]:
        """Return the layers, between images with sides that differ by a power of two."""
        parts: list[nn.Module] = [Conv2d(inputs[-1], self.channels, 3)]
        for _ in range(steps_between(inputs[:-1], outputs[:-1])):
            parts += [*residual(self.channels, self.blocks), *self.step()]
        last = Conv2d(self.channels, outputs[-1], self.last_kernel)
        return [*parts, *residual(self.channels, self.blocks), ReLU(), last]


class Downscaling(Rescaling):
    """Convolutions from an image to a map with the sides of the image, halved some times."""

    last_kernel = 1

    def step(self) -> list[nn.Module]:
        """Return the layers that halve both sides."""
        return [SpaceToDepth(), Conv2d(4 * self.channels, self.channels, 1)]


class Upscaling(Rescaling):
    """Convolutions from a map to an image with the sides of the map, doubled some times."""

    last_kernel = 3

    def step(self) -> list[nn.Module]:
        """Return the layers that double both sides."""
        return [Conv2d(self.channels, 4 * self.channels, 1), DepthToSpace()]


@dataclass(frozen=True)
class ResidualNetwork(NetworkSpec):
    """Residual blocks of two 3×3 convolutions, over images.

    Paper: Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, 2016), https://arxiv.org/abs/1512.03385

    Args:
        channels: of every layer.
        blocks: number of blocks.
    """

    channels: int = 64
    blocks: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sizes(channels=self.channels)
        require_sizes(0, blocks=self.blocks)

    def build(self, inputs: Size, outputs: Size, features: int | None = None) -> ImageNetwork:
        """Return the network, between images of the same sides."""
        require_same_sides(inputs, outputs)
        blocks: list[nn.Module] = [ResidualBlock(self.channels, SiLU, as_torch_draws) for _ in range(self.blocks)]
        return ImageNetwork(inputs, self.channels, blocks, outputs[-1], features, as_torch_draws)


@dataclass(frozen=True)
class AttentionNetwork(NetworkSpec):
    """Gated convolutions and self-attention in turn, over images.

    Paper: Flow++: Improving Flow-Based Generative Models with Variational Dequantization and Architecture Design
    (Ho, Chen, Srinivas, Duan, Abbeel, 2019), https://arxiv.org/abs/1902.00275

    Args:
        channels: of every layer, a multiple of the number of heads.
        blocks: number of pairs of a convolution and an attention.
        heads: of each attention.
    """

    channels: int = 64
    blocks: int = 2
    heads: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sizes(channels=self.channels, heads=self.heads)
        require_sizes(0, blocks=self.blocks)
        if self.channels % self.heads:
            raise InputError(f"{self.heads} heads do not divide {self.channels} channels")

    def build(self, inputs: Size, outputs: Size, features: int | None = None) -> ImageNetwork:
        """Return the network, between images of the same sides."""
        require_same_sides(inputs, outputs)
        blocks: list[nn.Module] = []
        for _ in range(self.blocks):
            blocks += [GatedBlock(self.channels, as_torch_draws), AttentionBlock(self.channels, self.heads)]
        return ImageNetwork(inputs, self.channels, blocks, outputs[-1], features, as_torch_draws)


def require_same_sides(inputs: Size, outputs: Size) -> None:
    """Refuse all but images of the same height and width.

    Raises:
        InputError: names both sizes.
    """
    if len(inputs) != 3 or inputs[:-1] != outputs[:-1]:
        raise InputError(
            f"this network leads from images (height, width, channels) to images of the same sides, found sizes "
            f"{inputs} and {outputs}"
        )


def conditioner_for(shape: tuple[int, ...], width: int, depth: int) -> NetworkSpec:
    """Return the specification that suits values of a shape: `depth` hidden layers, for images in residual blocks."""
    if is_image(shape):
        return ResidualNetwork(width, (depth + 1) // 2)
    return Perceptron((width,) * depth)


def network_for(given: Event, places: Places, width: int) -> NetworkSpec:
    """Return the specification that suits an event and places: convolutions where one is an image."""
    if is_image(given.shape) or places:
        return ConvolutionalNetwork(max(1, width // 8), hidden=width)
    return Perceptron((width, width), "relu")


def glorot(inputs: int, outputs: int) -> Linear:
    """Return a hidden layer with weights that keep the variance, forwards and backwards.

    Smaller weights leave a latent hardly seen in the first steps, so that its KL divergence may drop to zero.

    Paper: Understanding the difficulty of training deep feedforward neural networks (Glorot, Bengio, 2010),
    https://proceedings.mlr.press/v9/glorot10a.html
    """
    layer = Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def as_torch_draws(layer: Conv2d) -> None:
    """Draw weights and biases uniformly within ±1 / √inputs, as torch's own convolutions do."""
    nn.init.kaiming_uniform_(layer.weight, a=5**0.5)
    if layer.bias is not None:
        bound = layer.weight[0].numel() ** -0.5
        nn.init.uniform_(layer.bias, -bound, bound)


def residual(channels: int, blocks: int) -> list[nn.Module]:
    """Return so many residual blocks."""
    return [ResidualBlock(channels) for _ in range(blocks)]


def halvings(height: int, width: int) -> int:
    """Return how often both sides can be halved, at most `HALVINGS` times, so that two pixels are left."""
    times = 0
    while times < HALVINGS and height % 2 == width % 2 == 0 and min(height, width) >= 4:
        times, height, width = times + 1, height // 2, width // 2
    return times


def steps_between(sides: tuple[int, ...], others: tuple[int, ...]) -> int:
    """Return how often both sides of the larger of two maps are halved to those of the smaller one."""
    return abs(round(math.log(math.prod(sides) / math.prod(others), 4)))
