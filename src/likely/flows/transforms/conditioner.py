"""Networks that couplings take their parameters from, each to be built for a mask.

A built network takes x (n, *shape) and context features, looks at x only where the mask says so, and gives the
parameters (n, values, count) of the other values, in raster order. Its last layer starts at zero.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from likely.errors import InputError, require_hidden, require_sizes
from likely.event import Configured

Layer = TypeVar("Layer", bound=nn.Module)


class Conditioner(Configured, ABC):
    """A kind of network; a subclass says how it is built."""

    @abstractmethod
    def build(self, mask: Tensor, count: int, features: int | None) -> nn.Module:
        """The network for one coupling.

        Args:
            mask: where it may look (*shape), bool.
            count: parameters for each of the other values.
            features: number of context features, if there are any.
        """


@dataclass(frozen=True)
class Perceptron(Conditioner):
    """Linear layers with SiLU between, over the values as a vector.

    Args:
        hidden: units of the hidden layers.
    """

    hidden: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        require_hidden(self.hidden)
        object.__setattr__(self, "hidden", tuple(self.hidden))

    def build(self, mask: Tensor, count: int, features: int | None) -> nn.Module:
        """For an event of any shape."""
        return _Perceptron(self.hidden, mask, count, features)


@dataclass(frozen=True)
class ResidualNetwork(Conditioner):
    """Residual blocks of two 3×3 convolutions, over images.

    Paper: Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, 2016), https://arxiv.org/abs/1512.03385

    Args:
        channels: of every layer.
        blocks: number of blocks.
    """

    channels: int = 64
    blocks: int = 2

    def __post_init__(self) -> None:
        require_sizes(channels=self.channels)
        require_sizes(0, blocks=self.blocks)

    def build(self, mask: Tensor, count: int, features: int | None) -> nn.Module:
        """For an event of shape (channels, height, width)."""
        body = nn.Sequential(*(_Block(self.channels) for _ in range(self.blocks)))
        return _ImageNetwork(self.channels, body, mask, count, features)


@dataclass(frozen=True)
class AttentionNetwork(Conditioner):
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
        require_sizes(channels=self.channels, heads=self.heads)
        require_sizes(0, blocks=self.blocks)
        if self.channels % self.heads:
            raise InputError(f"{self.heads} heads do not divide {self.channels} channels")

    def build(self, mask: Tensor, count: int, features: int | None) -> nn.Module:
        """For an event of shape (channels, height, width)."""
        parts = [
            part for _ in range(self.blocks) for part in (_Gated(self.channels), _Attention(self.channels, self.heads))
        ]
        return _ImageNetwork(self.channels, nn.Sequential(*parts), mask, count, features)


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether convolutions make sense: (channels, height, width), more than a line."""
    return len(shape) == 3 and min(shape[1:]) > 1


def network_for(shape: tuple[int, ...], width: int, depth: int) -> Conditioner:
    """What suits an event: `depth` hidden layers of the same width, for images in residual blocks of two."""
    return ResidualNetwork(width, (depth + 1) // 2) if is_image(shape) else Perceptron((width,) * depth)


class _Perceptron(nn.Module):
    def __init__(self, hidden: tuple[int, ...], mask: Tensor, count: int, features: int | None) -> None:
        super().__init__()
        self.count, self.features = count, features
        self.register_buffer("seen", mask.flatten().nonzero()[:, 0], persistent=False)
        widths = [len(self.seen) + (features or 0), *hidden]
        layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*layers, _zero(nn.Linear(widths[-1], int((~mask).sum()) * count)))

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        x = x.flatten(1).index_select(1, self.seen)
        if self.features is not None:
            assert context is not None
            x = torch.cat([x, context], 1)
        return self.layers(x).unflatten(1, (-1, self.count))


class _ImageNetwork(nn.Module):
    """x → channels → body → parameters; a mask that takes whole channels is not convolved with what it hides."""

    def __init__(self, channels: int, body: nn.Module, mask: Tensor, count: int, features: int | None) -> None:
        super().__init__()
        if mask.ndim != 3:
            raise InputError(f"networks over images take events (channels, height, width), found {tuple(mask.shape)}")
        self.count = count
        seen, changed = mask.flatten(1).any(1), (~mask).flatten(1).any(1)  # channels that are, in part at least
        self.whole = not (seen & changed).any()
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("seen", seen.nonzero()[:, 0], persistent=False)
        self.register_buffer("wanted", (~mask)[changed].flatten().nonzero()[:, 0], persistent=False)
        self.first = nn.Conv2d(len(self.seen), channels, 3, padding=1)
        self.places = nn.Parameter(torch.zeros(channels, *mask.shape[1:]))
        self.project = None if features is None else nn.Conv2d(features, channels, 1, bias=False)
        self.body = body
        self.last = _zero(nn.Conv2d(channels, int(changed.sum()) * count, 1))

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        x = (x if self.whole else x * self.mask).index_select(1, self.seen)
        hidden = self.first(x) + self.places
        if self.project is not None:
            assert context is not None
            hidden = hidden + self.project(context if context.ndim == 4 else context[..., None, None])
        theta = self.last(functional.silu(self.body(hidden)))  # (n, outputs · count, h, w)
        theta = theta.unflatten(1, (-1, self.count)).movedim(2, -1).flatten(1, 3)  # (n, outputs · h · w, count)
        return theta if self.whole else theta.index_select(1, self.wanted)


class _Block(nn.Module):
    """x + convolutions of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            _zero(nn.Conv2d(channels, channels, 3, padding=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class _Gated(nn.Module):
    """Norm(x + gated convolution of it), the norm over the channels of every place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, 2 * channels, 1)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        change = functional.glu(self.second(functional.silu(self.first(functional.silu(x)))), 1)
        return self.norm((x + change).movedim(1, -1)).movedim(-1, 1)


class _Attention(nn.Module):
    """Norm(x + self-attention among all places, gated)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first = nn.Linear(channels, 3 * channels)
        self.second = nn.Linear(channels, 2 * channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        places = x.flatten(2).mT  # (n, h · w, channels)
        three = self.first(places).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*three)  # (n, heads, h · w, channels / heads)
        change = functional.glu(self.second(mixed.transpose(1, 2).flatten(2)), 2)
        return self.norm(places + change).mT.view(x.shape)


def _zero(layer: Layer) -> Layer:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
