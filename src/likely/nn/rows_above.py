"""Features of each pixel from the rows above it: vertical stacks, shifted down by a row."""

import torch
from torch import Tensor, nn

from likely.nn.cache import Cache
from likely.nn.convolution import Image, of_row, zeros_before
from likely.nn.linear import Linear


class RowsAbove(nn.Module):
    """Features of each pixel from the rows above it: a vertical stack, shifted down by one row.

    Handed everything, it runs the stack on the image and moves its results down, so that row i gets features
    of rows < i (zeros for the first row). Each result then receives the features of its own pixel. Cached, it is handed
    pixels (by channel groups), starting from nothing. It runs the stack whenever a row is complete and returns the next
    pixel's share.

    Args:
        stack: module (x, features, cache) → list of images, given whole rows.
        widths: channels of each of those images.
        groups: channel groups that pixels come in.
        features: number of context features, if any.
    """

    def __init__(self, stack: nn.Module, widths: list[int], groups: int = 1, features: int | None = None) -> None:
        super().__init__()
        self.stack = stack
        self.groups = groups
        self.widths = widths
        if features:
            self.project = nn.ModuleList([Linear(features, width, bias=False) for width in widths])
        else:
            self.project = None

    def forward(self, x: Image, features: Image | None = None, cache: Cache | None = None) -> list[Image]:
        """Return one image (or the next pixel of it) per result of the stack."""
        if cache is not None:
            return self._advance(x, features, cache)
        shifted = [zeros_before(y[:, :-1], 1, 1) for y in self.stack(x, features, None)]
        return added(shifted, self._projected(features))

    def _projected(self, features: Tensor | None) -> list[Tensor] | None:
        if self.project is None:
            return None
        return [project(features) for project in self.project]

    def _advance(self, x: Tensor, features: Tensor | None, cache: Cache) -> list[Tensor]:
        rows = cache.of(self, lambda: self._begin(x, features, cache.width))
        if x.shape[1]:
            rows.newest.append(x)
        if len(rows.newest) == cache.width * self.groups:
            rows.hand_out(self.stack(rows.take_row(cache.width), features, cache))
        return rows.next()

    def _begin(self, x: Tensor, features: Tensor | None, width: int) -> "_Rows":
        rows = _Rows(self.groups, self._projected(features))
        rows.hand_out([x.new_zeros(len(x), 1, width, channels) for channels in self.widths])
        return rows


class _Rows:
    """The pixels of the row that is drawn, and the shares of its pixels from the rows above."""

    def __init__(self, groups: int, projected: list[Tensor] | None) -> None:
        self.groups, self.projected = groups, projected
        self.newest: list[Tensor] = []
        self.row, self.place = 0, 0
        self.shares: list[tuple[Tensor, ...]] = []

    def take_row(self, width: int) -> Tensor:
        """Return the row that is complete, (n, 1, w, channels), and begin another."""
        row = torch.cat(self.newest, -1).view(len(self.newest[0]), 1, width, -1)
        self.newest = []
        return row

    def hand_out(self, results: list[Tensor]) -> None:
        """Cut the results for the next row into pixels and channel groups, each (n, 1, 1, channels / groups)."""
        if self.projected is None:
            projected = None
        else:
            projected = [of_row(c, self.row) for c in self.projected]
        results = added(results, projected)
        cut = []
        for y in results:
            y = y.unflatten(-1, (self.groups, -1))  # (n, 1, width, groups, ·)
            y = y.permute(2, 3, 0, 1, 4).flatten(0, 1)  # (width · groups, n, 1, ·)
            cut.append(y.contiguous()[:, :, None].unbind(0))
        self.shares = list(zip(*cut, strict=True))
        self.row += 1
        self.place = 0

    def next(self) -> list[Tensor]:
        """Return the shares of the next pixel's channel group."""
        self.place += 1
        return list(self.shares[self.place - 1])


def added(images: list[Image], others: list[Image] | None) -> list[Image]:
    """Return the sums of pairs of images, or the images where there are no others."""
    if others is None:
        return images
    return [a + b for a, b in zip(images, others, strict=True)]
