"""Gated PixelCNN: a convolutional network without a blind spot."""

from typing import Literal

import torch
from torch import Tensor, nn

from likely.density import Array, Autoregressive, Steps, Where, seeded
from likely.distributions import Discrete
from likely.errors import InputError, require_sizes
from likely.event import Event, shown
from likely.nn import (
    Cache,
    ContextEncoder,
    Gate,
    Linear,
    MaskedConv2d,
    ReLU,
    RowsAbove,
    Symbols,
    VerticalConv2d,
    raster_places,
    raster_steps,
)
from likely.nn.heads import Head, head_of_symbols
from likely.nn.start import start_at_marginals
from likely.nn.values import take_units


class GatedPixelCNN(Autoregressive):
    """p(x) = ∏ p(x_ijc | every earlier pixel, earlier channels of this one), in raster order.

    A vertical stack of convolutions sees the rows above. A horizontal stack sees the pixels to the left, and the
    vertical stack's features one row further down. Each layer is gated, tanh(a) · σ(b), and both stacks are residual.
    The horizontal stack is twice as wide, because it alone leads to the head. Under the categorical head the channels
    of a pixel are coupled by masks on channel groups (R → G → B); under the logistics head by the head itself, as in
    PixelCNN++.

    Paper: Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), https://arxiv.org/abs/1606.05328

    Args:
        event: an image (channels, height, width) of symbols; height and width may vary (None).
        context: the event that it is conditioned on, if any; an image is resized to the event's size.
        channels: width of the stacks (rounded up to a multiple of the channel groups).
        layers: number of gated layers.
        kernel: odd side of the kernels after the first. It and `layers` set the receptive field of a pixel (see
            `receptive_field`); dependences over longer distances are not modelled.
        first_kernel: odd side of the first layer's kernel.
        head: "categorical" (any alphabet) or "logistics" (a mixture of discretised logistics, for ordered levels).
        components: number of logistics in the mixture.
        features: number of context features.
        seed: of the initial weights.
    """

    varies = True

    def __init__(
        self,
        event: Event,
        context: Event | None = None,
        *,
        channels: int = 32,
        layers: int = 5,
        kernel: int = 5,
        first_kernel: int = 7,
        head: Head = "categorical",
        components: int = 5,
        features: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(event, context)
        require_picture("GatedPixelCNN", event)
        if event.varies and context is not None and len(context.shape) == 3:
            raise InputError(f"pictures given pictures must be of one size, found shape {shown(event.shape)}")
        if kernel % 2 == 0 or first_kernel % 2 == 0 or min(kernel, first_kernel) < 3:
            raise InputError(f"kernels must be odd and at least 3, found kernel={kernel}, first_kernel={first_kernel}")
        require_sizes(channels=channels, layers=layers, components=components, features=features)
        self.channels, self.layers, self.kernel, self.first_kernel = channels, layers, kernel, first_kernel
        self.components, self.features, self.seed = components, features, seed
        self.head: Head = head
        with seeded(seed):
            self._build()

    def _build(self) -> None:
        colours, height, width = self.event.shape
        categorical = self.head == "categorical"
        self.groups = colours if categorical else 1
        hidden = -(-self.channels // self.groups) * self.groups
        features = self.encode = None
        if self.context is not None:
            features = self.features
            self.encode = ContextEncoder(self.context, features, (height, width))
        levels = self.event.most_levels
        self.symbols = Symbols(levels)
        self.to_distribution = head_of_symbols(self.head, (levels,) * colours, self.components)
        inputs = colours * self.symbols.width
        kernels = [self.first_kernel] + [self.kernel] * (self.layers - 1)
        stack = VerticalStack(inputs, hidden, kernels, features)
        self.above = RowsAbove(stack, [2 * hidden] * self.layers, self.groups, features)
        self.first = HorizontalLayer(inputs, hidden, self.first_kernel, "A", self.groups)
        wide = 2 * hidden
        self.rest = nn.ModuleList(HorizontalLayer(wide, hidden, k, "B", self.groups) for k in kernels[1:])
        self.mix = MaskedConv2d(wide, wide, (1, 1), "B", self.groups)
        outputs = round(colours * self.to_distribution.width)
        self.output = MaskedConv2d(wide, outputs, (1, 1), "B", self.groups)
        self.activation = ReLU()

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """Let the conditionals start at the marginals of every channel, and a real context at its units, once."""
        start_at_marginals(self.to_distribution, self.output, self.check(x))
        take_units(self, self.check_context(context, len(x)))

    def receptive_field(self) -> Tensor:
        """Return True where a conditional (first index) depends on an earlier value (second), (dims, dims).

        With S = Σ kernel // 2, a pixel sees S pixels to the left in its own row; in the S + 1 rows above it sees S
        columns to either side.
        """
        colours, height, width = self.event.sizes
        reach = self.first_kernel // 2 + (self.layers - 1) * (self.kernel // 2)
        places = torch.cartesian_prod(torch.arange(height), torch.arange(width))  # (pixels, 2)
        up, left = (places[:, None] - places).unbind(-1)
        above = (up >= 1) & (up <= reach + 1) & (left.abs() <= reach)
        beside = (up == 0) & (left >= 0) & (left <= reach)
        return (above | beside).repeat(colours, colours)

    def network(self, x: Tensor, features: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Return parameters of the conditionals (n, h, w, ·), from symbols channels-last (n, h, w, c)."""
        x = self.symbols(x)
        above = self.above(x, features, cache)
        h = self.first(x, above[0], cache)
        for layer, a in zip(self.rest, above[1:], strict=True):
            h = h + layer(h, a, cache)
        h = self.mix(self.activation(h), None, cache)
        return self.output(self.activation(h), None, cache)

    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete:
        return self.to_distribution(self.network(x.movedim(1, -1), self._features(context)), x)

    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps:
        features = self._features(context)
        return raster_steps(self.network, self.to_distribution, self.event, self.groups, n, features, self.device)

    def _places(self, order: int) -> list[Where]:
        return raster_places(self.event)

    def _features(self, context: Tensor | None) -> Tensor | None:
        if self.encode is None:
            return None
        return self.encode(context)


class VerticalStack(nn.Module):
    """Gated convolutions over rows; a layer's features, before the gate, also go to the horizontal stack."""

    def __init__(self, inputs: int, hidden: int, kernels: list[int], features: int | None) -> None:
        super().__init__()
        widths = [inputs] + [hidden] * (len(kernels) - 1)
        self.layers = nn.ModuleList(
            VerticalConv2d(c, 2 * hidden, k, features) for c, k in zip(widths, kernels, strict=True)
        )
        self.links = nn.ModuleList(Linear(2 * hidden, 2 * hidden) for _ in kernels)
        self.gate = Gate(hidden)

    def forward(self, x: Tensor, features: Tensor | None, cache: Cache | None) -> list[Tensor]:
        """Rows (n, h, w, c) → one (n, h, w, 2 · hidden) per layer."""
        links = []
        for i, (layer, link) in enumerate(zip(self.layers, self.links, strict=True)):
            v = layer(x, features, cache)
            links.append(link(v))
            gated = self.gate(v)
            x = x + gated if i else gated
        return links


class HorizontalLayer(nn.Module):
    """Gated convolution over the pixels to the left, with features of the rows above added."""

    def __init__(self, inputs: int, hidden: int, kernel: int, kind: Literal["A", "B"], groups: int) -> None:
        super().__init__()
        self.convolution = MaskedConv2d(inputs, 2 * hidden, (1, kernel), kind, groups)
        self.gate = Gate(hidden // groups)
        self.mix = MaskedConv2d(hidden, 2 * hidden, (1, 1), "B", groups)

    def forward(self, x: Tensor, above: Tensor, cache: Cache | None) -> Tensor:
        """(n, h, w, inputs) → (n, h, w, 2 · hidden)."""
        left = self.convolution(x, None, cache)
        return self.mix(self.gate(left + above), None, cache)


def require_picture(model: str, event: Event) -> None:
    """Require an image (channels, height, width) of one alphabet of at least 2 symbols.

    Raises:
        InputError: another event; the error names the model.
    """
    image = len(event.shape) == 3 and event.shape[0] is not None
    if not image or (event.one_alphabet or 0) < 2:
        raise InputError(f"{model} models images (channels, height, width) of at least 2 levels, found {event}")
