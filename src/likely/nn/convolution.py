"""Causal convolutions over images in raster order, channels-last."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Real
from torch import Tensor, nn

from likely.nn.exact import LinearLeaf
from likely.nn.leaf import without_child
from likely.nn.linear import Cache, Linear

Image = Real[
    Tensor, "_ _ _ _"
]  # (n, h, w, c), which differ from input to output; integers too: what exactness is held against


def convolve(x: Image, weight: Real[Tensor, "o c kh kw"], bias: Tensor, side: int = 0) -> Image:
    """Cross-correlate channels-last images, zero-padded by `side` columns left and right.

    In float64 the taps are gathered and multiplied: twice as fast there as torch's convolution, and a plain sum of
    products, which numbers on a grid get through without rounding.
    """
    if x.dtype in (torch.float32, torch.bfloat16, torch.float16):
        return F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=(0, side)).permute(0, 2, 3, 1)
    rows, columns = weight.shape[2:]
    x = F.pad(x, (0, 0, side, side))
    height, width = x.shape[1] - rows + 1, x.shape[2] - columns + 1
    taps = [x[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
    return F.linear(torch.cat(taps, -1), weight.permute(0, 2, 3, 1).flatten(1), bias)


def _zeros_before(x: Image, dim: int, size: int) -> Image:
    """Rows (dim 1) or columns (dim 2) of zeros, then x."""
    shape = list(x.shape)
    shape[dim] = size
    return torch.cat([x.new_zeros(shape), x], dim)  # F.pad would write everything twice


def _weights(outputs: int, inputs: int, height: int, width: int) -> nn.Parameter:
    bound = (3 / max(1, inputs * height * width)) ** 0.5  # keeps the variance
    return nn.Parameter((torch.rand(outputs, inputs, height, width) * 2 - 1) * bound)


class ConvolutionLeaf(LinearLeaf):
    """A leaf whose weights are (outputs, inputs, rows, columns)."""

    def probe_shape(self) -> tuple[int, ...]:
        """Return that of an image a little larger than the kernel."""
        _, inputs, rows, columns = self.weight.shape
        return (1, rows + 1, columns + 2, inputs)


class Conv2d(ConvolutionLeaf):
    """Convolution of a whole channels-last image, which keeps its size (zeros beyond its edges).

    Args:
        inputs, outputs: channels.
        kernel: odd side of the kernel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.side = kernel // 2
        self.weight = _weights(outputs, inputs, kernel, kernel)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Image) -> Image:
        """(n, h, w, inputs) → (n, h, w, outputs)."""
        x = F.pad(x, (0, 0, 0, 0, self.side, self.side))
        return convolve(x, self.weight, self.bias, self.side)


@dataclass
class _Window:
    taps: Tensor  # (n, rows, (width + padding) · inputs): the part of the image the kernel still reads
    weights: list[Tensor]  # one (taps · inputs, outputs / groups) matrix per channel group
    biases: list[Tensor]
    written: list[Tensor]  # per channel group of the own row, where it is written: (n, 1, 1, inputs / groups)
    read: list[Tensor]  # per pixel, the part of the own row that it reads: (n, own taps · inputs)
    position: int = 0


class MaskedConv2d(ConvolutionLeaf):
    """Convolution that sees earlier pixels in raster order and, of its own pixel, earlier channel groups.

        1 1 1      rows above: the kernel's whole width
        1 o 0      own row: the pixels to the left; o, the pixel itself, sees the channel groups before its own
        0 0 0      (type A: the first layer of a network, R → G → B) or its own too (type B: every later layer)

    Channels are cut into equal consecutive groups, both of the input and of the output. Taken alone, a stack of such
    layers with more than one row has a blind spot to the upper right; a kernel of height 1 is the horizontal stack of a
    network that has none.

    Cached, it is handed one channel group of one pixel, (n, 1, 1, inputs / groups), in raster order. Type B returns
    that group's output; type A, which lags by one, starts from nothing, (n, 0, 0, inputs / groups), and returns the
    next's.

    Paper: Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner, Kavukcuoglu, 2016), https://arxiv.org/abs/1601.06759

    Args:
        inputs, outputs: channels.
        kernel: odd height and width of the unmasked kernel.
        kind: "A" or "B".
        groups: channel groups.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], kind: Literal["A", "B"], groups: int = 1
    ) -> None:
        super().__init__()
        self.kind = kind
        self.groups = groups
        self.rows_above, self.side = kernel[0] // 2, kernel[1] // 2
        self.taps = self.side + (
            kind == "B" or groups > 1
        )  # of the own row: up to the pixel itself, if any of it is seen
        self.pointwise = kernel == (1, 1) and kind == "B" and groups == 1
        self.weight = _weights(outputs, inputs, self.rows_above + 1, kernel[1])
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mask", _raster_mask(self.weight.shape, self.side, kind, groups), persistent=False)

    def seen_weight(self) -> Tensor:
        """Return the weights under the mask."""
        return self.weight * self.mask

    def forward(self, x: Image, cache: Cache | None = None) -> Image:
        """Apply the layer to everything, or with a cache to the newest channel group."""
        if self.pointwise:
            return F.linear(x, self.weight.flatten(1), self.bias)
        if cache is not None:
            return self._advance(x, cache)
        weight = self.weight * self.mask
        if self.rows_above:
            return convolve(_zeros_before(x, 1, self.rows_above), weight, self.bias, self.side)
        x = _zeros_before(x[:, :, : x.shape[2] + self.taps - self.side - 1], 2, self.side)
        return convolve(x, weight[..., : self.taps], self.bias)

    def _advance(self, x: Tensor, cache: Cache) -> Tensor:
        window = cache.get(self)
        if window is None:
            window = cache[self] = self._begin(x, cache["width"])
        if x.shape[1]:
            self._remember(window, x)
        return self._at(window, window.position - (self.kind == "B"))

    def _begin(self, x: Tensor, width: int) -> _Window:
        outputs, inputs, height, kernel_width = self.weight.shape
        weight = (self.weight * self.mask).permute(0, 2, 3, 1)  # (outputs, rows, columns, inputs)
        above = weight[:, :-1].reshape(outputs, -1)
        own = weight[:, -1, : self.taps].reshape(outputs, -1)
        weights = [w.T for w in torch.cat([above, own], 1).chunk(self.groups)]
        taps = x.new_zeros(len(x), height, (width + kernel_width - 1) * inputs)
        row, size = taps[:, -1], inputs // self.groups
        written = [part[:, None, None] for part in row[:, self.side * inputs :].split(size, 1)]
        read = [row[:, j * inputs : (j + self.taps) * inputs] for j in range(width)]
        return _Window(taps, weights, list(self.bias.chunk(self.groups)), written, read)

    def _remember(self, window: _Window, x: Tensor) -> None:
        """Write the newest channel group into the window, which moves down when a row begins."""
        row, place = divmod(window.position, len(window.read) * self.groups)
        if self.rows_above and row and place == 0:
            window.taps[:, :-1] = window.taps[:, 1:].clone()
        window.written[place].copy_(x)
        window.position += 1

    def _at(self, window: _Window, position: int) -> Tensor:
        """The output at a position, from the taps in the window."""
        pixel, group = divmod(position, self.groups)
        row, column = divmod(pixel, len(window.read))
        taps = window.read[column]
        if self.rows_above:
            # Type A asks for a row's first output before that row's first pixel has moved the window down.
            lag = int(self.kind == "A" and column == group == 0 and row > 0)
            inputs, columns = self.weight.shape[1], self.weight.shape[3]
            above = window.taps[:, lag : self.rows_above + lag, column * inputs : (column + columns) * inputs]
            taps = torch.cat([above.flatten(1), taps], 1)
        return torch.addmm(window.biases[group], taps, window.weights[group]).view(len(taps), 1, 1, -1)


def _raster_mask(shape: torch.Size, side: int, kind: str, groups: int) -> Tensor:
    outputs, inputs, _, _ = shape
    mask = torch.ones(shape)
    mask[:, :, -1, side + 1 :] = 0
    group_out = torch.arange(outputs)[:, None] * groups // outputs
    group_in = torch.arange(inputs) * groups // inputs
    mask[:, :, -1, side] = (group_in < group_out if kind == "A" else group_in <= group_out).float()
    return mask


class VerticalConv2d(ConvolutionLeaf):
    """Convolution over the pixel's own row and the rows above it, whole rows at a time.

    Args:
        inputs, outputs: channels.
        kernel: odd side of the full kernel; kernel // 2 rows above are seen, and kernel columns.
        context: number of context features, if the layer takes them.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, context: int | None = None) -> None:
        super().__init__()
        self.side = kernel // 2
        self.weight = _weights(outputs, inputs, self.side + 1, kernel)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.project = Linear(context, outputs, bias=False) if context else None

    def without_context(self) -> "VerticalConv2d":
        """Return a copy that adds no context features."""
        return without_child(self, "project")

    def forward(self, x: Image, context: Image | None = None, cache: Cache | None = None) -> Image:
        """Apply the layer to all rows, or with a cache to the newest row (n, 1, w, inputs)."""
        if cache is not None:
            return self._advance(x, context, cache)
        y = convolve(_zeros_before(x, 1, self.side), self.weight, self.bias, self.side)
        return y if self.project is None else y + self.project(context)

    def _advance(self, x: Tensor, context: Tensor | None, cache: Cache) -> Tensor:
        if self not in cache:
            projected = None if self.project is None else self.project(context)
            cache[self] = x.new_zeros(len(x), self.side, *x.shape[2:]), projected, 0
        above, projected, row = cache[self]
        rows = torch.cat([above, x], 1)
        cache[self] = rows[:, 1:], projected, row + 1
        y = convolve(rows, self.weight, self.bias, self.side)
        return y if projected is None else y + projected[:, row : row + 1] if projected.shape[1] > 1 else y + projected


class RowsAbove(nn.Module):
    """What the rows above determine for each pixel: a vertical stack, shifted down by one row.

    Handed everything, it runs the stack on the image and moves its results down, so that row i gets what rows < i
    determine (zeros for the first row); each result then receives the context of its own pixel. Cached, it is handed
    pixels (by channel groups), starting from nothing; it runs the stack whenever a row is complete and returns the next
    pixel's part.

    Args:
        stack: module (x, context, cache) → list of images, given whole rows.
        widths: channels of each of those images.
        groups: channel groups that pixels come in.
        context: number of context features, if any.
    """

    def __init__(self, stack: nn.Module, widths: list[int], groups: int = 1, context: int | None = None) -> None:
        super().__init__()
        self.stack = stack
        self.groups = groups
        self.widths = widths
        self.project = nn.ModuleList(Linear(context, width, bias=False) for width in widths) if context else None

    def forward(self, x: Image, context: Image | None = None, cache: Cache | None = None) -> list[Image]:
        """One image (or the next pixel of it) per result of the stack."""
        if cache is not None:
            return self._advance(x, context, cache)
        shifted = [_zeros_before(y[:, :-1], 1, 1) for y in self.stack(x, context, None)]
        return [y + c for y, c in zip(shifted, self._projected(context), strict=True)] if self.project else shifted

    def _projected(self, context: Tensor | None) -> list[Tensor]:
        return [project(context) for project in self.project or ()]

    def _advance(self, x: Tensor, context: Tensor | None, cache: Cache) -> list[Tensor]:
        state = cache.get(self)
        if state is None:
            state = cache[self] = _Rows(self._projected(context) if self.project else None)
            zeros = [x.new_zeros(len(x), 1, cache["width"], width) for width in self.widths]
            state.hand_out(zeros, self.groups)
        if x.shape[1]:
            state.newest.append(x)
        if len(state.newest) == cache["width"] * self.groups:
            row = torch.cat(state.newest, -1).view(len(x), 1, cache["width"], -1)
            state.newest = []
            state.hand_out(self.stack(row, context, cache), self.groups)
        return state.next()


class _Rows:
    def __init__(self, projected: list[Tensor] | None) -> None:
        self.projected = projected
        self.newest: list[Tensor] = []
        self.row = 0
        self.column = 0
        self.parts: list[tuple[Tensor, ...]] = []

    def hand_out(self, results: list[Tensor], groups: int) -> None:
        """Cut the results for the next row into pixels and channel groups, each (n, 1, 1, channels / groups)."""
        if self.projected is not None:
            maps = [c[:, self.row : self.row + 1] if c.shape[1] > 1 else c for c in self.projected]
            results = [y + c for y, c in zip(results, maps, strict=True)]
        cut = [y.unflatten(-1, (groups, -1)).permute(2, 3, 0, 1, 4).flatten(0, 1) for y in results]
        self.parts = list(zip(*(y.contiguous()[:, :, None].unbind(0) for y in cut), strict=True))
        self.row, self.column = self.row + 1, 0

    def next(self) -> list[Tensor]:
        self.column += 1
        return list(self.parts[self.column - 1])
