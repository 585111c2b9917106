"""Sources of rows: in memory, in a file, or in a data set. They are read when they are asked for."""

import math
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from likely.errors import InputError
from likely.event import as_tensor
from likely.rows.picked import Picked, each_of, spans_of


class Source(ABC):
    """Rows (n, …) that are read when they are asked for, by an index as of a tensor.

    Attributes:
        shape: (n, *shape of one row); None stands for sizes that vary from row to row.
        sizes: shape of every row (n, dimensions), where they vary; else None.
        dtype: of the rows when they are read.
        in_memory: whether all rows are one tensor in memory.
        names: of the columns of a table; None: they have none.
        bounds: the smallest and the largest whole number that any row may hold, where that is known without reading.
    """

    shape: tuple[Any, ...]
    sizes: Int[Tensor, "n dimensions"] | None = None
    dtype: torch.dtype
    in_memory: bool = False
    names: tuple[str, ...] | None = None
    bounds: tuple[int, int] | None = None

    @abstractmethod
    def __getitem__(self, rows: Picked) -> Tensor:
        """Read the rows of a slice without a step, or of a tensor of numbers; they must be of one size."""

    def __len__(self) -> int:
        return self.shape[0]

    def identity(self) -> str | None:
        """Return what tells these rows from others, where that is known without reading all of them."""
        return None

    def numbers(self, rows: Picked) -> Sequence[int]:
        """Return the numbers of the rows of a slice or a tensor."""
        return each_of(rows, len(self))

    def of_sizes(self, sizes: Int[Tensor, "n dimensions"]) -> None:
        """Set `shape` and `sizes` from the shape of every row."""
        smallest, largest = sizes.amin(0).tolist(), sizes.amax(0).tolist()
        ends = zip(smallest, largest, strict=True)
        self.shape = (len(sizes), *(low if low == high else None for low, high in ends))
        self.sizes = sizes if None in self.shape else None


def stacked(rows: Sequence[Tensor]) -> Tensor:
    """Return rows as one tensor.

    Raises:
        InputError: they are of several sizes.
    """
    for row in rows:
        if row.shape != rows[0].shape:
            raise InputError(
                f"examples of several sizes do not go into one array: {tuple(rows[0].shape)} and {tuple(row.shape)}; "
                "read those of one size together, as `Rows.batches` does"
            )
    return torch.stack(list(rows))


class TensorSource(Source):
    """Rows in memory as one tensor; slices of them share its storage."""

    in_memory = True

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.shape, self.dtype = rows, tuple(rows.shape), rows.dtype

    def __getitem__(self, rows: Picked) -> Tensor:
        return self.rows[rows]


class SparseSource(Source):
    """Rows of a sparse matrix of scipy; they are filled with zeros when they are read.

    Raises:
        InputError: no real numbers.
    """

    def __init__(self, matrix: Any, name: str = "data") -> None:
        self.matrix, self.name = matrix.tocsr(), name
        self.shape = tuple(self.matrix.shape)
        self.dtype = as_tensor(np.empty(0, self.matrix.dtype), name).dtype

    def __getitem__(self, rows: Picked) -> Tensor:
        chosen = self.matrix[rows if isinstance(rows, slice) else rows.numpy()]
        return as_tensor(chosen.toarray(), self.name)


class Arrays(Source):
    """Rows in memory, each an array of its own size.

    Args:
        arrays: of one dtype and as many dimensions.

    Raises:
        InputError: none, or of several kinds.
    """

    def __init__(self, arrays: Sequence[Tensor | np.ndarray]) -> None:
        if not len(arrays):
            raise InputError("data: empty, at least one example is expected")
        self.arrays = [as_tensor(array, f"item {k}") for k, array in enumerate(arrays)]
        self.dtype = self.arrays[0].dtype
        for k, array in enumerate(self.arrays):
            if array.dtype != self.dtype or array.ndim != self.arrays[0].ndim:
                raise InputError(
                    f"item {k} is {array.dtype} of {array.ndim} dimensions; {self.dtype} of {self.arrays[0].ndim}, "
                    "like item 0, is expected"
                )
        self.of_sizes(torch.tensor([array.shape for array in self.arrays]))

    def __getitem__(self, rows: Picked) -> Tensor:
        return stacked([self.arrays[number] for number in self.numbers(rows)])


class AnySize(Source):
    """Rows of one size in some dimensions, declared to be of sizes that vary there.

    Args:
        rows: some, of which others may vary already.
        dimensions: of one row, declared to vary.
    """

    def __init__(self, rows: Source, dimensions: Sequence[int]) -> None:
        n, *size = rows.shape
        self.rows, self.dtype = rows, rows.dtype
        self.sizes = torch.tensor(size).expand(n, len(size)) if rows.sizes is None else rows.sizes
        self.shape = (n, *(None if place in dimensions else length for place, length in enumerate(size)))

    def __getitem__(self, rows: Picked) -> Tensor:
        return self.rows[rows]


class Windows(Source):
    """Windows of rows, each at a place of its own: crops of pictures, stretches of strings.

    Args:
        rows: of sizes that vary.
        size: of a window in each dimension that varies; a row that is smaller is taken whole there.
        generator: of the places.

    Raises:
        InputError: not one size for each dimension that varies.
    """

    def __init__(self, rows: Source, size: Sequence[int], generator: torch.Generator) -> None:
        assert rows.sizes is not None
        varying = [dimension for dimension, length in enumerate(rows.shape[1:]) if length is None]
        if len(size) != len(varying) or min(size) < 1:
            raise InputError(f"a window of {len(varying)} sizes, each at least 1, is expected, found {tuple(size)}")
        sizes = rows.sizes.clone()
        sizes[:, varying] = torch.minimum(sizes[:, varying], torch.tensor(size))
        places = torch.rand(sizes.shape, dtype=torch.float64, generator=generator)
        self.rows, self.dtype = rows, rows.dtype
        self.first = (places * (rows.sizes - sizes + 1)).long()
        self.last = self.first + sizes
        self.of_sizes(sizes)

    def __getitem__(self, rows: Picked) -> Tensor:
        return stacked([self._window(number) for number in self.numbers(rows)])

    def _window(self, number: int) -> Tensor:
        row = self.rows[number : number + 1][0]
        ends = zip(self.first[number].tolist(), self.last[number].tolist(), strict=True)
        return row[tuple(slice(first, last) for first, last in ends)]


class FileSource(Source):
    """Rows of an array in a file, in C order.

    They are read by offset and not through a memory map: pages of a map count as the process's memory, and a file that
    shrinks under a map ends the process.

    Args:
        path: the file.
        offset: of the first row, in bytes.
        shape: (n, *shape of one row).
        stored: dtype in the file.
        wanted: dtype to read them as; None: as they are stored.
    """

    def __init__(
        self, path: str | Path, offset: int, shape: tuple[int, ...], stored: np.dtype, wanted: str | None = None
    ) -> None:
        self.path, self.offset, self.shape, self.stored = Path(path), offset, tuple(shape), stored
        self.wanted = np.dtype(wanted or stored)
        self.row = math.prod(self.shape[1:])
        self.kept: Any = None  # what the file goes with, if it is temporary
        self.dtype = as_tensor(np.empty(0, self.wanted)).dtype

    def __getitem__(self, rows: Picked) -> Tensor:
        stored = self._rows(spans_of(rows, len(self)))
        return as_tensor(stored.astype(self.wanted, copy=False))

    def as_stored(self, start: int, stop: int) -> np.ndarray:
        """Read the rows from `start` to before `stop` in the dtype that they have in the file.

        Raises:
            InputError: the file is gone, or shorter than it was.
        """
        return self._rows([(start, stop)])

    def _rows(self, spans: list[tuple[int, int]]) -> np.ndarray:
        n = sum(stop - start for start, stop in spans)
        found, filled = np.empty((n, *self.shape[1:]), self.stored), 0
        with self._opened() as file:
            for start, stop in spans:
                self._read(file, start, found[filled : filled + stop - start])
                filled += stop - start
        return found

    def _opened(self) -> Any:
        try:
            return open(self.path, "rb", buffering=0)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read any more: {error.strerror}") from error

    def _read(self, file: Any, start: int, into: np.ndarray) -> None:
        """Fill an array with rows from `start` on."""
        file.seek(self.offset + start * self.row * self.stored.itemsize)
        place = into.reshape(-1).view(np.uint8).data
        while len(place):
            try:
                count = file.readinto(place)
            except OSError as error:
                raise InputError(f"{self.path}: cannot be read any more: {error.strerror}") from error
            if not count:
                raise InputError(
                    f"{self.path}: row {start} and those after it cannot be read: the file is shorter than it was"
                )
            place = place[count:]


class ItemSource(Source):
    """Rows that are got one by one by their number, as from a torch `Dataset`.

    Args:
        items: a thing with a length, and an item for every number below it.
        part: number of the part of each item that is taken; None: the item as it is.
    """

    def __init__(self, items: Any, part: int | None = None) -> None:
        self.items, self.part = items, part
        if not len(items):
            raise InputError("data: empty, at least one example is expected")
        first = self._item(0)
        self.shape, self.dtype = (len(items), *first.shape), first.dtype

    def __getitem__(self, rows: Picked) -> Tensor:
        numbers = self.numbers(rows)
        found = [self._item(number) for number in numbers]
        for number, item in zip(numbers, found, strict=True):
            if item.shape != self.shape[1:] or item.dtype != self.dtype:
                expected = f"{self.dtype} {self.shape[1:]}"
                raise InputError(
                    f"item {number} is {item.dtype} {tuple(item.shape)}; {expected}, like item 0, is expected; "
                    "examples of several sizes are given as a list of arrays"
                )
        if not found:
            return torch.empty(0, *self.shape[1:], dtype=self.dtype)
        return torch.stack(found)

    def _item(self, number: int) -> Tensor:
        item = self.items[number]
        if self.part is not None:
            item = item[self.part]
        if isinstance(item, Tensor):
            return item
        return as_tensor(np.asarray(item), f"item {number}")


def file_of(array: Tensor | np.ndarray, wanted: str | None = None) -> FileSource | None:
    """Return the rows of a memory map as they lie in its file; None: no file, not in C order, or no numbers."""
    if not isinstance(array, np.memmap) or array.filename is None or array.ndim == 0:
        return None
    if array.mode == "c" or not array.flags.c_contiguous or array.dtype.kind not in "biuf":
        return None
    mapped = np.frombuffer(vars(array)["_mmap"], np.uint8)
    place = array.ctypes.data - mapped.ctypes.data  # of the array in the map, which begins at a page of the file
    page = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    source = FileSource(os.fspath(array.filename), page + place, array.shape, array.dtype, wanted)
    source.kept = array
    return source
