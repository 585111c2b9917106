"""Convolutions that see earlier pixels in raster order."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likely.nn.cache import Cache
from likely.nn.convolution import ConvolutionLeaf, Image, convolve, initial_weights, zeros_before

Kind = Literal["A", "B"]


class MaskedConv2d(ConvolutionLeaf):
    """Convolution that sees earlier pixels in raster order and, of its own pixel, earlier channel groups.

        1 1 1      rows above: the kernel's whole width
        1 o 0      own row: the pixels to the left; o, the pixel itself, sees the channel groups before its own
        0 0 0      (type A: the first layer of a network, R → G → B) or its own too (type B: every later layer)

    Channels are cut into equal consecutive groups, both of the input and of the output. Taken alone, a stack of such
    layers with more than one row has a blind spot to the upper right; a kernel of height 1 is the horizontal stack of a
    network that has none.

    There is no stride. The pixels of a 2×2 block do not follow one another in raster order: an output that stands for
    the block would be known only after pixels to its right in the upper row, and these could not see it. Models over
    blocks make channel groups of their pixels.

    Cached, it is handed one channel group of one pixel, (n, 1, 1, inputs / groups), in raster order. Type B returns
    that group's output; type A lags by one: it starts from nothing, (n, 0, 0, inputs / groups), and returns the
    next's.

    Paper: Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner, Kavukcuoglu, 2016), https://arxiv.org/abs/1601.06759

    Args:
        inputs, outputs: channels.
        kernel: odd height and width of the unmasked kernel.
        kind: "A" or "B".
        groups: channel groups.
        dilation: distance between the pixels that neighbouring weights see.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], kind: Kind, groups: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.kind = kind
        self.groups = groups
        self.dilation = dilation
        self.rows_above = kernel[0] // 2
        self.side = kernel[1] // 2
        sees_own_pixel = kind == "B" or groups > 1
        self.taps = self.side + sees_own_pixel  # of the own row
        self.pointwise = kernel == (1, 1) and kind == "B" and groups == 1
        self.weight = initial_weights(outputs, inputs, self.rows_above + 1, kernel[1])
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mask", _raster_mask(self.weight.shape, self.side, kind, groups), persistent=False)

    def seen_weight(self) -> Tensor:
        """Return the weights under the mask."""
        return self.weight * self.mask

    def probe_shape(self) -> tuple[int, ...]:
        """Return that of an image a little larger than the dilated kernel."""
        _, inputs, rows, columns = self.weight.shape
        return (1, self.dilation * (rows - 1) + 2, self.dilation * (columns - 1) + 3, inputs)

    def forward(self, x: Image, features: None = None, cache: Cache | None = None) -> Image:
        """Apply the layer to everything, or with a cache to the newest channel group."""
        if self.pointwise:
            return F.linear(x, self.weight.flatten(1), self.bias)
        if cache is not None:
            return self._advance(x, cache)
        weight = self.weight * self.mask
        far = self.dilation * self.side
        if self.rows_above:
            x = zeros_before(x, 1, self.dilation * self.rows_above)
            return convolve(x, weight, self.bias, far, self.dilation)
        width = x.shape[2]
        seen = max(0, width + (self.taps - self.side - 1) * self.dilation)
        x = zeros_before(x[:, :, :seen], 2, width + (self.taps - 1) * self.dilation - seen)
        return convolve(x, weight[..., : self.taps], self.bias, 0, self.dilation)

    def _advance(self, x: Tensor, cache: Cache) -> Tensor:
        window = cache.of(self, lambda: _Window(self, x, cache.width))
        if x.shape[1]:
            window.remember(x)
        return window.output(window.position - (self.kind == "B"))


class _Window:
    """The part of an image that the kernel still reads, during a draw."""

    def __init__(self, layer: MaskedConv2d, x: Tensor, width: int) -> None:
        _, inputs, rows, columns = layer.weight.shape
        self.layer, self.width, self.position = layer, width, 0
        self.weights = self._by_group(layer)
        self.biases = list(layer.bias.chunk(layer.groups))
        far = layer.dilation * layer.side
        dilation = layer.dilation
        self.pixels = x.new_zeros(len(x), dilation * (rows - 1) + 1, width + 2 * far, inputs)
        row, size = self.pixels[:, -1:], inputs // layer.groups
        self.written = []
        for pixel in row[:, :, far:].unbind(2):
            self.written += pixel.split(size, -1)
        reach = dilation * (layer.taps - 1) + 1
        self.own = [row[:, 0, j : j + reach : dilation] for j in range(width)]  # (n, taps, inputs)
        self.above = [
            self.pixels[:, :, j : j + dilation * (columns - 1) + 1 : dilation] if layer.rows_above else None
            for j in range(width)
        ]

    @staticmethod
    def _by_group(layer: MaskedConv2d) -> list[Tensor]:
        """Return one matrix (taps · inputs, outputs / groups) per channel group."""
        weight = (layer.weight * layer.mask).permute(0, 2, 3, 1)  # (outputs, rows, columns, inputs)
        above = weight[:, :-1].flatten(1)
        own = weight[:, -1, : layer.taps].flatten(1)
        return [matrix.T for matrix in torch.cat([above, own], 1).chunk(layer.groups)]

    def remember(self, x: Tensor) -> None:
        """Write the newest channel group into the window; move the window down when a row begins."""
        row, place = divmod(self.position, self.width * self.layer.groups)
        if self.layer.rows_above and row and place == 0:
            self.pixels[:, :-1] = self.pixels[:, 1:].clone()
        self.written[place].copy_(x[:, :, 0])
        self.position += 1

    def output(self, position: int) -> Tensor:
        """Return the output at a position, from the pixels in the window."""
        pixel, group = divmod(position, self.layer.groups)
        row, column = divmod(pixel, self.width)
        taps = self.own[column].flatten(1)
        above = self.above[column]
        if above is not None:
            # Type A asks for a row's first output before that row's first pixel has moved the window down.
            lag = int(self.layer.kind == "A" and column == group == 0 and row > 0)
            rows = above[:, lag : above.shape[1] - 1 + lag : self.layer.dilation]
            taps = torch.cat([rows.flatten(1), taps], 1)
        return torch.addmm(self.biases[group], taps, self.weights[group])[:, None, None]


def _raster_mask(shape: torch.Size, side: int, kind: Kind, groups: int) -> Tensor:
    outputs, inputs, _, _ = shape
    mask = torch.ones(shape)
    mask[:, :, -1, side + 1 :] = 0
    group_out = torch.arange(outputs)[:, None] * groups // outputs
    group_in = torch.arange(inputs) * groups // inputs
    seen = group_in < group_out if kind == "A" else group_in <= group_out
    mask[:, :, -1, side] = seen.float()
    return mask
