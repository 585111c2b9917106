"""The values that data hold: their range, and of each column of a table whether it holds symbols or measurements."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from likely.errors import InputError
from likely.event import refuse
from likely.rows import Rows

LEVELS = 2**20  # more are hardly symbols, and networks and tables of them do not fit in memory
DIGITS = {torch.float32: 6, torch.float64: 12}  # after the point, at most; numbers with more are written in full
MANY = 99
FIRST = 1000  # rows that are looked at first
LOOK = 64  # of images


@dataclass
class Columns:
    """The values of the columns of a table, each (columns,).

    Attributes:
        smallest, largest: of each.
        whole: whether all are whole.
        decimals: digits after the point that suffice; `MANY` stands for all of them.
    """

    smallest: Tensor
    largest: Tensor
    whole: Tensor
    decimals: list[int]


@dataclass
class Range:
    """The values of data: the smallest and the largest, and whether all are whole.

    Attributes:
        columns: of a table; None: the data are none.
    """

    smallest: int | float
    largest: int | float
    whole: bool
    columns: Columns | None = None

    def alphabet(self, names: Sequence[str] | None) -> int | tuple[int, ...] | None:
        """Return the size of the alphabet of whole numbers from 0 on, of each column where they have names; else None.

        Raises:
            InputError: negative numbers of an integer type, an alphabet that is too large, or columns of symbols
                beside columns of real values.
        """
        negative = self.smallest < 0
        if negative and isinstance(self.smallest, int):
            raise InputError(
                f"data: found {self.smallest}; symbols are the whole numbers 0, 1, 2, …: number them so, "
                "or take the data as measurements (real=True)"
            )
        if negative or not self.whole:
            self._refuse_mixed(names)
            return None
        if self.largest >= LEVELS:
            raise InputError(
                f"data: found {self.largest:,}: an alphabet of at most {LEVELS:,} symbols is expected; "
                "number the symbols 0, 1, 2, …"
            )
        if names is None or self.columns is None:
            return int(self.largest) + 1
        each = tuple(max(2, int(value) + 1) for value in self.columns.largest.tolist())
        return each[0] if len(set(each)) == 1 else each

    @property
    def decimals(self) -> tuple[int | None, ...] | None:
        """Digits after the point that suffice for each column; None: all of them, or the data are no table."""
        if self.columns is None:
            return None
        return tuple(None if count == MANY else count for count in self.columns.decimals)

    def _refuse_mixed(self, names: Sequence[str] | None) -> None:
        if self.columns is None or not self.columns.whole.any() or self.columns.whole.all():
            return
        kinds = self.columns.whole.tolist()
        known = [f'"{name}"' for name in names or ()] or [str(k) for k in range(len(kinds))]
        parts = {kind: [name for name, own in zip(known, kinds, strict=True) if own == kind] for kind in (True, False)}
        whole, real = (f"{', '.join(part[:4])}{' …' * (len(part) > 4)}" for part in parts.values())
        raise InputError(
            f"data: columns of whole numbers ({whole}) beside columns of real values ({real}): a density is of symbols "
            "or of real values; take all as measurements (real=True), or some of the columns"
        )


def range_of(raw: Rows, *, images: bool) -> Range:
    """Find the range of all of the data.

    Of images of bytes no more is read once a value is above 127: they have 256 levels.

    Raises:
        InputError: a number that is not finite; names the first.
    """
    ranges: list[Range] = []
    few = [raw[:LOOK]] if raw.sizes is None else []
    for part in itertools.chain(few, raw.slices()):
        x = part.x
        if x.is_floating_point():
            with part.named():
                refuse(~x.isfinite(), x, "data", "finite numbers are expected")
        ranges.append(_range(x, ranges[-1].columns if ranges else None))
        if images and x.dtype == torch.uint8 and ranges[-1].largest > 127:
            break
    smallest, largest = min(one.smallest for one in ranges), max(one.largest for one in ranges)
    return Range(smallest, largest, all(one.whole for one in ranges), ranges[-1].columns)


def _range(x: Tensor, before: Columns | None) -> Range:
    """Return the range of some rows; that of columns goes on from the one before."""
    smallest, largest = x.aminmax()
    whole = not x.is_floating_point() or bool((x == x.round()).all())
    columns = _columns(x, before) if x.ndim == 2 else None
    return Range(smallest.item(), largest.item(), whole, columns)


def _columns(x: Tensor, before: Columns | None) -> Columns:
    low, high = x.amin(0), x.amax(0)
    whole = torch.ones(x.shape[1], dtype=torch.bool)
    if x.is_floating_point():
        whole = (x == x.round()).all(0)
    least = [0] * x.shape[1]
    if before is not None:
        low, high = torch.minimum(low, before.smallest), torch.maximum(high, before.largest)
        whole, least = whole & before.whole, before.decimals
    return Columns(low, high, whole, [_decimals(column, k) for column, k in zip(x.T, least, strict=True)])


def _decimals(column: Tensor, least: int) -> int:
    """Return how many digits after the point a column needs, at least so many; `MANY`: all of them."""
    if not column.is_floating_point():
        return least
    most = DIGITS.get(column.dtype, 3)
    for part in (column[:FIRST], column):
        while least <= most and not _has_digits(part, least):
            least += 1
    return least if least <= most else MANY


def _has_digits(column: Tensor, digits: int) -> bool:
    return torch.equal(column.round(decimals=digits), column)
