"""The parts of networks over images, channels-last."""

from collections.abc import Callable

from torch import Tensor, nn

from likely.nn.attention import Attention
from likely.nn.convolution import Conv2d
from likely.nn.elementwise import GLU, ReLU, SiLU
from likely.nn.linear import Linear
from likely.nn.norm import LayerNorm
from likely.nn.positions import ImagePositions

Draw = Callable[[Conv2d], None] | None  # how a convolution's initial weights are drawn


class ResidualBlock(nn.Module):
    """x + convolution(activation(convolution(activation(x)))).

    Paper: Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, 2016), https://arxiv.org/abs/1512.03385
    """

    def __init__(self, channels: int, activation: Callable[[], nn.Module] = ReLU, draw: Draw = None) -> None:
        super().__init__()
        first, second = (Conv2d(channels, channels, 3, draw=draw) for _ in range(2))
        self.layers = nn.Sequential(activation(), first, activation(), zeroed(second))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x + self.layers(x)


class GatedBlock(nn.Module):
    """Norm(x + gated convolution of it), the norm over the channels of every place."""

    def __init__(self, channels: int, draw: Draw = None) -> None:
        super().__init__()
        self.first = Conv2d(channels, channels, 3, draw=draw)
        self.second = Conv2d(channels, 2 * channels, 1, draw=draw)
        self.norm = LayerNorm(channels)
        self.activation = SiLU()
        self.gate = GLU()

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        hidden = self.activation(self.first(self.activation(x)))
        return self.norm(x + self.gate(self.second(hidden)))


class AttentionBlock(nn.Module):
    """Norm(x + self-attention among all places, gated)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.first = Linear(channels, 3 * channels)
        self.second = Linear(channels, 2 * channels)
        self.norm = LayerNorm(channels)
        self.attention = Attention(heads, causal=False)
        self.gate = GLU()

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        places = x.flatten(1, 2)  # (n, h · w, channels)
        mixed = self.attention(self.first(places))
        return self.norm(places + self.gate(self.second(mixed))).view(x.shape)


class ImageNetwork(nn.Module):
    """A convolution, biases for the place and the context, blocks, and a convolution to the outputs.

    Args:
        inputs: (height, width, channels) of x.
        channels: of every block.
        blocks: (n, h, w, channels) → the same shape.
        outputs: channels of the outputs.
        features: number of context features, if it takes them.
        draw: how the initial weights of convolutions are drawn.
    """

    renamed = {"places": "places.weight"}  # noqa: RUF012

    def __init__(
        self,
        inputs: tuple[int, ...],
        channels: int,
        blocks: list[nn.Module],
        outputs: int,
        features: int | None = None,
        draw: Draw = None,
    ) -> None:
        super().__init__()
        height, width, seen = inputs
        self.places = ImagePositions(channels, height, width)
        self.first = Conv2d(seen, channels, 3, draw=draw)
        if features is None:
            self.project = None
        else:
            self.project = Conv2d(features, channels, 1, bias=False, draw=draw)
        self.body = nn.Sequential(*blocks)
        self.activation = SiLU()
        self.last = Conv2d(channels, outputs, 1, draw=draw)

    def forward(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        """x (n, h, w, inputs) and features (n, h, w, ·) or (n, ·) → (n, h, w, outputs)."""
        hidden = self.places(self.first(x))
        if self.project is not None:
            assert features is not None
            hidden = hidden + self.project(features if features.ndim == 4 else features[:, None, None])
        return self.last(self.activation(self.body(hidden)))


def zeroed(layer: Conv2d) -> Conv2d:
    """Return the layer with zeros for its weights and biases."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
