"""`Rows`: examples and their context. Slices, selections and shuffles are views that read nothing."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from likely.errors import EntryError, InputError
from likely.rows.forms import columns_of, source_of
from likely.rows.picked import Picked, chosen, numbers_of, read
from likely.rows.sources import AnySize, Arrays, Windows

Batch = tuple[Tensor, Tensor | None]
Prepare = Callable[[Tensor], Tensor]
VALUES = 1 << 24  # of a slice, when all of the data are read slice by slice: 128 MB as int64


class Rows:
    """Examples x, row by row, and the context of each.

    Rows are read by `read`, or in `batches`. A slice, a selection, a shuffle and a preparation read nothing: they are
    noted until then, so that data need not fit into memory.

    Args:
        x: (n, …): a tensor, an array, a memory map, a frame, or a thing with a length and items by number.
        context: (n, …) likewise; None without.

    Attributes:
        source: full name or path of x: "digits:train", "/home/me/mnist.npz:test_images"; None: given in Python.
        note: one line that describes these rows.
        context_source: full name or path of the context.
        reading: how the files were read, where that was chosen, as JSON values.

    Raises:
        InputError: no rows of numbers, or a context that is not one per example.
    """

    source: str | None = None
    note: str = "given in Python"
    context_source: str | None = None
    reading: dict[str, Any] | None = None

    def __init__(self, x: Any, context: Any = None) -> None:
        self._x = source_of(x)
        self._context = None if context is None else source_of(context, "context")
        if not self._x.shape:
            raise InputError("data: expected rows, shape (n, …), found a single value, shape ()")
        n = self._x.shape[0]
        if self._context is not None and self._context.shape[:1] != (n,):
            raise InputError(f"context: {n} values are expected, one per example, found shape {self._context.shape}")
        self._picked: range | Tensor = range(n)
        self._prepare: Prepare | None = None
        self._device: torch.device | None = None

    @classmethod
    def of(cls, data: Any, *, conditional: bool = True) -> "Rows":
        """Return data of any form as rows.

        Args:
            data: rows as they are, an array, a pair with its context, or a torch `Dataset` or `DataLoader`; where its
                items are pairs, the second part is the context.
            conditional: whether the model takes a context; if not, that of a `Dataset` is left out.

        Raises:
            InputError: as of `Rows`.
        """
        if isinstance(data, Rows):
            return data
        return cls(*columns_of(data, conditional))

    def __len__(self) -> int:
        return len(self._picked)

    @property
    def shape(self) -> tuple[Any, ...]:
        """(n, …) of x as it is stored; None stands for sizes that vary from row to row."""
        return (len(self), *self._x.shape[1:])

    @property
    def sizes(self) -> Int[Tensor, "n dimensions"] | None:
        """Shape of every row of x as it is stored, where they vary; else None."""
        if self._x.sizes is None:
            return None
        return self._x.sizes[numbers_of(self._picked)]

    @property
    def read_shape(self) -> tuple[Any, ...]:
        """(n, …) of x as it is read, after its preparation; None stands for sizes that vary."""
        rows = [0, *self._unlike_first()]
        shapes = [self[row : row + 1].x.shape[1:] for row in rows]
        sizes = (set(lengths) for lengths in zip(*shapes, strict=True))
        return (len(self), *(length.pop() if len(length) == 1 else None for length in sizes))

    def _unlike_first(self) -> list[int]:
        """Return a row for every dimension in which sizes vary, of another size there than the first."""
        sizes = self.sizes
        if sizes is None:
            return []
        unlike = sizes != sizes[0]
        return unlike.long().argmax(0)[unlike.any(0)].tolist()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of x as it is stored."""
        return self._x.dtype

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the columns of x, a table; None: they have none."""
        return self._x.names

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The smallest and the largest whole number that x may hold, where that is known without reading."""
        return self._x.bounds

    def identity(self) -> str | None:
        """Return what tells all rows of a source from others, where that is known without reading them."""
        if isinstance(self._picked, Tensor) or self._picked != range(len(self._x)):
            return None
        return self._x.identity()

    @property
    def in_memory(self) -> bool:
        """Whether x is one tensor in memory."""
        return self._x.in_memory

    @property
    def x(self) -> Tensor:
        """All of x, read."""
        return self.read()[0]

    @property
    def context(self) -> Tensor | None:
        """All of the context, read."""
        if self._context is None:
            return None
        return self._moved(read(self._picked, self._context))

    def __getitem__(self, rows: Picked) -> "Rows":
        """Return the rows of a slice, or of a tensor of numbers, in that order."""
        if isinstance(rows, slice):
            return self._with(_picked=self._picked[rows])
        return self._with(_picked=chosen(self._picked, rows))

    def shuffled(self, generator: torch.Generator) -> "Rows":
        """Return all rows in an order drawn from a generator."""
        return self[torch.randperm(len(self), generator=generator)]

    def split(self, fraction: float, seed: int) -> "tuple[Rows, Rows]":
        """Hold out a seeded fraction of the rows.

        Args:
            fraction: of the rows, between 0 and 1; rounded, at least one row on either side.
            seed: of the permutation that decides; torch's own generator is not used.

        Returns:
            The rows that are left, and those held out, each in their order.

        Raises:
            InputError: fewer than 2 rows, or a fraction that is not between 0 and 1.
        """
        n = len(self)
        if n < 2 or not 0 < fraction < 1:
            raise InputError(f"at least 2 rows and a fraction between 0 and 1 are expected, found {n} rows, {fraction}")
        held = min(max(round(fraction * n), 1), n - 1)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        left_rows, held_rows = order[held:].sort().values, order[:held].sort().values
        return self[left_rows], self[held_rows]

    def prepared(self, prepare: Prepare) -> "Rows":
        """Return rows that apply a function to x when it is read, after the functions given before."""
        before = self._prepare
        if before is None:
            return self._with(_prepare=prepare)
        return self._with(_prepare=lambda x: prepare(before(x)))

    def with_x(self, x: Tensor) -> "Rows":
        """Return rows with another x and the same context."""
        return Rows(x, self.context)

    def without_context(self) -> "Rows":
        """Return these rows without their context."""
        return self._with(_context=None)

    def to(self, device: torch.device | str) -> "Rows":
        """Return rows that are moved to a device when they are read."""
        return self._with(_device=torch.device(device))

    def read(self) -> Batch:
        """Read all of these rows: x (n, …), and the context (n, …)."""
        x = read(self._picked, self._x)
        if self._prepare is not None:
            with self.named():
                x = self._prepare(x)
        return self._moved(x), self.context

    def held(self) -> "Rows":
        """Return these rows, read and held in memory."""
        if self.sizes is None:
            return Rows(*self.read())
        arrays = [self[row : row + 1].x[0] for row in range(len(self))]
        return Rows(Arrays(arrays), self.context)

    def columns(self) -> tuple["Rows", "Rows | None"]:
        """Return x as it is stored, and the context, each as rows by itself."""
        x = Rows(self._x)._with(_picked=self._picked)
        if self._context is None:
            return x, None
        return x, Rows(self._context)._with(_picked=self._picked)

    def of_any_size(self, dimensions: Sequence[int]) -> "Rows":
        """Return these rows, declared to be of sizes that vary in some dimensions of one row."""
        return self._with(_x=AnySize(self._x, dimensions))

    def windows(self, size: Sequence[int], generator: torch.Generator) -> "Rows":
        """Return a window of each row, at a place that is drawn; rows of one size as they are.

        Args:
            size: of a window in each dimension that varies; a row that is smaller is taken whole there.
            generator: of the places.

        Raises:
            InputError: not one size for each dimension that varies.
        """
        if self._x.sizes is None:
            return self
        return self._with(_x=Windows(self._x, size, generator))

    def batches(self, size: int) -> "Iterator[Rows]":
        """Yield the rows, at most `size` at a time, in their order; where sizes vary, those of one size together."""
        for places in self.places(size):
            yield self[places]

    def places(self, size: int) -> Iterator[Picked]:
        """Yield the places of the rows of each of `batches` among these rows."""
        sizes = self.sizes
        if sizes is None:
            yield from (slice(start, start + size) for start in range(0, len(self), size))
            return
        kind = sizes.unique(dim=0, return_inverse=True)[1]
        of_one_size = kind.argsort(stable=True).split(kind.bincount().tolist())
        for places in of_one_size:
            yield from places.split(size)

    def slices(self) -> "Iterator[Rows]":
        """Yield the rows as `batches` does, as many at a time as go well into memory."""
        sizes = self.sizes
        if sizes is None:
            largest = math.prod(self.shape[1:])
        else:
            largest = int(sizes.prod(1).max())
        return self.batches(max(1, VALUES // max(1, largest)))

    @contextmanager
    def named(self) -> Iterator[None]:
        """Number the row in an error inside, if it names an entry, as in the data that were given."""
        try:
            yield
        except EntryError as error:
            raise error.in_row(lambda row: int(self._picked[row])) from None

    def _moved(self, values: Tensor) -> Tensor:
        if self._device is None:
            return values
        return values.to(self._device)

    def _with(self, **changes: Any) -> "Rows":
        other = copy.copy(self)
        vars(other).update(changes)
        return other
