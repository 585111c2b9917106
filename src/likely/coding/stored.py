"""The array that is compressed: its rows as they are stored, read a part at a time.

A chunk of a file needs no other rows than its own, so that an array on disk is never in memory as a whole.
"""

import math
from abc import ABC, abstractmethod
from functools import singledispatch
from typing import Any

import numpy as np
import torch

from likely.coding.layout import Items, ManySizes, OneSize, Sizes
from likely.data import Preparation
from likely.errors import EntryError, InputError
from likely.rows import FileSource, Rows
from likely.rows.sources import file_of


class Stored(ABC):
    """Rows (n, …) in their stored dtype.

    Attributes:
        shape: (n, *shape of one row); None stands for sizes that vary from row to row.
        dtype: with its byte order.
    """

    shape: tuple[Any, ...]
    dtype: np.dtype

    @abstractmethod
    def read(self, start: int, stop: int) -> Items:
        """Read the rows from `start` to before `stop`."""

    @property
    def sizes(self) -> Sizes:
        """The sizes of these rows, for a file."""
        return OneSize(self.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def dims(self) -> int | float:
        """Number of values in one row, or their mean."""
        return math.prod(self.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.dtype.itemsize * round(len(self) * self.dims)


class InMemory(Stored):
    """Rows of an array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows."""
        return np.ascontiguousarray(self.array[start:stop])


class InFile(Stored):
    """Rows that are read by their offset in a file.

    A memory map of a file that shrinks ends the process; here it is an error.
    """

    def __init__(self, source: FileSource) -> None:
        self.source, self.shape, self.dtype = source, source.shape, source.stored

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows.

        Raises:
            InputError: the file is gone, or shorter than it was.
        """
        return self.source.as_stored(start, stop)


class InRows(Stored):
    """Rows of one size that are read when they are asked for, such as the many pictures of a folder."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.shape = rows, rows.shape
        self.dtype = np.dtype(str(rows.dtype).removeprefix("torch."))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows."""
        return self.rows[start:stop].x.numpy()


class OfSeveralSizes(Stored):
    """Rows of several sizes, such as the pictures of a folder."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.shape = rows, rows.shape
        self.dtype = np.dtype(str(rows.dtype).removeprefix("torch."))

    def read(self, start: int, stop: int) -> list[np.ndarray]:
        """Read rows, each an array."""
        return [self.rows[row : row + 1].x[0].numpy() for row in range(start, stop)]

    @property
    def sizes(self) -> Sizes:
        """The shape that all have, and how large the sizes are that vary."""
        assert self.rows.sizes is not None
        return ManySizes.of_all(self.shape[1:], self.rows.sizes)

    @property
    def dims(self) -> float:
        """Mean number of values in one row."""
        assert self.rows.sizes is not None
        return int(self.rows.sizes.prod(1).sum()) / len(self)


class Prepared(Stored):
    """Rows that are binarised when they are read, in the layout that they had.

    Draws depend on the seed and the row alone.

    Args:
        rows: the raw ones.
        preparation: of the model.
        seed: of a stochastic binarisation.
    """

    def __init__(self, rows: Stored, preparation: Preparation, seed: int) -> None:
        self.rows, self.preparation, self.seed = rows, preparation, seed
        self.event = preparation.event_of(rows)
        self._restart()
        self.shape = rows.shape
        self.dtype = np.dtype(np.uint8)
        if len(rows):
            self.dtype = self._applied(rows.read(0, 1))[0].dtype
        self._restart()

    def read(self, start: int, stop: int) -> Items:
        """Read and prepare rows.

        Raises:
            InputError: as `Preparation.apply` and `Event.check`; names the row.
        """
        self._draw_up_to(start)
        try:
            found = self._applied(self.rows.read(start, stop))
        except EntryError as error:
            raise error.in_row(lambda row: start + row) from None
        self.drawn = stop
        return found

    @property
    def sizes(self) -> Sizes:
        """Those of the raw rows."""
        return self.rows.sizes

    @property
    def dims(self) -> int | float:
        """Number of values in one row, or their mean."""
        return self.rows.dims

    def _applied(self, raw: Items) -> Items:
        if isinstance(raw, list):
            return [self._applied(item[None])[0] for item in raw]
        native = torch.from_numpy(np.array(raw, raw.dtype.newbyteorder("="), order="C"))
        symbols = self.preparation.apply(native, self.generator)
        self.event.check(symbols)
        return self.preparation.restore(symbols).numpy()

    def _draw_up_to(self, row: int) -> None:
        """Bring the generator to where it is after all rows before this one."""
        if not self.preparation.random or row == self.drawn:
            return
        if row < self.drawn:
            self._restart()
        for start in range(self.drawn, row, 1000):
            self._applied(self.rows.read(start, min(start + 1000, row)))

    def _restart(self) -> None:
        self.generator, self.drawn = torch.Generator().manual_seed(self.seed), 0


@singledispatch
def stored(data: object) -> Stored:
    """Return data's rows as they are read: a memory map's from its file, arrays of several sizes one by one.

    Raises:
        InputError: no array, or one of a single number.
    """
    raise InputError(f"data: a numpy array is expected, found {type(data).__name__}")


@stored.register
def _(data: Stored) -> Stored:
    return data


@stored.register
def _(data: np.ndarray) -> Stored:
    if data.ndim == 0:
        raise InputError("data: at least one dimension is expected, found a single number")
    source = file_of(data)
    if source is None:
        return InMemory(data)
    return InFile(source)


@stored.register
def _(data: Rows) -> Stored:
    if data.dtype == torch.bfloat16:
        raise InputError("data: numbers that numpy knows are expected, found dtype torch.bfloat16")
    if data.sizes is not None:
        return OfSeveralSizes(_as_read(data))
    if data.in_memory:
        return stored(data.x.numpy())
    return InRows(_as_read(data))


@stored.register
def _(data: list) -> Stored:
    if not data or not all(isinstance(item, np.ndarray) for item in data):
        raise InputError("data: a numpy array is expected, or a list of arrays, found another list")
    return stored(Rows(data))


def _as_read(rows: Rows) -> Rows:
    """Return rows that are stored as they are read, after their preparation."""
    same = rows.read_shape == rows.shape and rows[:1].x.dtype == rows.dtype
    return rows if same else rows.held()
