"""Convolutions over images, channels-last."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Real
from torch import Tensor, nn

from likely.nn.cache import Cache
from likely.nn.exact import LinearLeaf
from likely.nn.leaf import without_child
from likely.nn.linear import Linear

Image = Real[
    Tensor, "_ _ _ _"
]  # (n, h, w, c), which differ from input to output; integers too: what exactness is held against


def convolve(
    x: Image,
    weight: Real[Tensor, "o c kh kw"],
    bias: Tensor | None,
    side: int = 0,
    dilation: int = 1,
    above: int = 0,
) -> Image:
    """Cross-correlate channels-last images, zero-padded by `side` columns left and right, `above` rows on either end.

    In float64 the taps are gathered and multiplied: twice as fast there as torch's convolution, and a plain sum of
    products, exact for numbers on a grid.
    """
    if x.dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = x.permute(0, 3, 1, 2)
        return F.conv2d(x, weight, bias, padding=(above, side), dilation=dilation).permute(0, 2, 3, 1)
    x = F.pad(x, (0, 0, side, side, above, above))
    rows, columns = (range(0, size * dilation, dilation) for size in weight.shape[2:])
    height = x.shape[1] - rows[-1]
    width = x.shape[2] - columns[-1]
    taps = [x[:, i : i + height, j : j + width] for i in rows for j in columns]
    flat = weight.permute(0, 2, 3, 1).flatten(1)  # (outputs, kh · kw · channels)
    return F.linear(torch.cat(taps, -1), flat, bias)


def zeros_before(x: Image, dim: int, size: int) -> Image:
    """Rows (dim 1) or columns (dim 2) of zeros, then x."""
    shape = list(x.shape)
    shape[dim] = size
    return torch.cat([x.new_zeros(shape), x], dim)  # F.pad would write everything twice


def initial_weights(outputs: int, inputs: int, height: int, width: int) -> nn.Parameter:
    """Draw weights that keep the variance."""
    bound = (3 / max(1, inputs * height * width)) ** 0.5
    return nn.Parameter((torch.rand(outputs, inputs, height, width) * 2 - 1) * bound)


class ConvolutionLeaf(LinearLeaf):
    """A leaf with weights (outputs, inputs, rows, columns)."""

    def probe_shape(self) -> tuple[int, ...]:
        """Return that of an image a little larger than the kernel."""
        _, inputs, rows, columns = self.weight.shape
        return (1, rows + 1, columns + 2, inputs)


class Conv2d(ConvolutionLeaf):
    """Convolution of a whole channels-last image to one of the same size (zeros beyond its edges).

    Args:
        inputs, outputs: channels.
        kernel: odd side of the kernel.
        bias: whether there is one.
        draw: how initial weights and biases are drawn; by default weights keep the variance, and biases are zero.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        bias: bool = True,
        draw: Callable[["Conv2d"], None] | None = None,
    ) -> None:
        super().__init__()
        self.side = kernel // 2
        shape = (outputs, inputs, kernel, kernel)
        if draw:
            self.weight = nn.Parameter(torch.empty(shape))
        else:
            self.weight = initial_weights(*shape)
        self.register_parameter("bias", nn.Parameter(torch.zeros(outputs)) if bias else None)
        if draw is not None:
            draw(self)

    def forward(self, x: Image) -> Image:
        """(n, h, w, inputs) → (n, h, w, outputs)."""
        return convolve(x, self.weight, self.bias, self.side, above=self.side)


class VerticalConv2d(ConvolutionLeaf):
    """Convolution over the pixel's own row and the rows above it, whole rows at a time.

    Args:
        inputs, outputs: channels.
        kernel: odd side of the full kernel; kernel // 2 rows above are seen, and kernel columns.
        features: number of context features, if the layer takes them.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, features: int | None = None) -> None:
        super().__init__()
        self.side = kernel // 2
        self.weight = initial_weights(outputs, inputs, self.side + 1, kernel)
        self.bias = nn.Parameter(torch.zeros(outputs))
        if features:
            self.project = Linear(features, outputs, bias=False)
        else:
            self.project = None

    def without_context(self) -> "VerticalConv2d":
        """Return a copy that adds no context features."""
        return without_child(self, "project")

    def forward(self, x: Image, features: Image | None = None, cache: Cache | None = None) -> Image:
        """Apply the layer to all rows, or with a cache to the newest row (n, 1, w, inputs)."""
        if cache is not None:
            return self._advance(x, features, cache)
        y = convolve(zeros_before(x, 1, self.side), self.weight, self.bias, self.side)
        if self.project is None:
            return y
        return y + self.project(features)

    def _advance(self, x: Tensor, features: Tensor | None, cache: Cache) -> Tensor:
        state = cache.of(self, lambda: self._begin(x, features))
        rows = torch.cat([state.above, x], 1)
        state.above = rows[:, 1:]
        y = convolve(rows, self.weight, self.bias, self.side)
        if state.projected is None:
            return y
        return y + state.next_projected()

    def _begin(self, x: Tensor, features: Tensor | None) -> "_RowState":
        projected = None
        if self.project is not None:
            projected = self.project(features)
        return _RowState(x.new_zeros(len(x), self.side, *x.shape[2:]), projected)


class _RowState:
    """The rows that the kernel still reads, and the projected features (n, h or 1, w or 1, outputs)."""

    def __init__(self, above: Tensor, projected: Tensor | None) -> None:
        self.above = above
        self.projected = projected
        self.row = 0

    def next_projected(self) -> Tensor:
        """Return the projected features of the next row."""
        assert self.projected is not None
        self.row += 1
        return of_row(self.projected, self.row - 1)


def of_row(image: Image, row: int) -> Image:
    """Return one row of an image, or the only one that stands for all."""
    if image.shape[1] > 1:
        return image[:, row : row + 1]
    return image
