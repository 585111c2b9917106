"""`Rows`: examples and their context, of which slices, selections and shuffles are views that read nothing."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from likely.errors import EntryError, InputError
from likely.rows.sources import AnySize, Arrays, ItemSource, Picked, Source, Windows, items_of, source_of

Batch = tuple[Tensor, Tensor | None]
Prepare = Callable[[Tensor], Tensor]
VALUES = 1 << 24  # of the slices in which all of the data are gone through: 128 MB as int64


class Rows:
    """Examples x, row by row, and what each is conditioned on.

    Rows are read by `read`, or in `batches`. Until then a slice, a selection, a shuffle or a preparation says only what
    will be read, so that data need not fit into memory.

    Args:
        x: (n, …): a tensor, an array, a memory map, a frame, or what has a length and items by number.
        context: (n, …) likewise; None without.

    Attributes:
        source: where x comes from, in full: "digits:train", "/home/me/mnist.npz:test_images"; None: given in Python.
        note: one line that says which rows these are.
        context_source: where the context comes from, in the same form.

    Raises:
        InputError: no rows of numbers, or a context that is not one per example.
    """

    source: str | None = None
    note: str = "given in Python"
    context_source: str | None = None

    def __init__(self, x: Any, context: Any = None) -> None:
        self._x = source_of(x)
        self._context = None if context is None else source_of(context, "context")
        if not self._x.shape:
            raise InputError(f"data: expected rows, shape (n, …), found a single value, shape {tuple(self._x.shape)}")
        n = self._x.shape[0]
        if self._context is not None and tuple(self._context.shape[:1]) != (n,):
            raise InputError(
                f"context: {n} values are expected, one per example, found shape {tuple(self._context.shape)}"
            )
        self._picked: range | Tensor = range(n)
        self._prepare: Prepare | None = None
        self._device: torch.device | None = None

    @classmethod
    def of(cls, data: Any, *, conditional: bool = True) -> "Rows":
        """Return data of any form as rows.

        Args:
            data: rows as they are, an array, a pair with its context, or a torch `Dataset` or `DataLoader`, of whose
                items that are pairs the second part is the context.
            conditional: whether the model takes a context; where not, that of a `Dataset` is left out.

        Raises:
            InputError: as of `Rows`.
        """
        if isinstance(data, Rows):
            return data
        if isinstance(data, tuple):
            return cls(*data)
        items = items_of(data)
        first = _first_pair(items)
        if first is None:
            return cls(items)
        return cls(ItemSource(items, 0), ItemSource(items, 1) if conditional and len(first) > 1 else None)

    def __len__(self) -> int:
        return len(self._picked)

    @property
    def shape(self) -> tuple[Any, ...]:
        """(n, …) of x as it is stored; None stands for sizes that vary from row to row."""
        return (len(self), *self._x.shape[1:])

    @property
    def sizes(self) -> Int[Tensor, "n dimensions"] | None:
        """Shape of every row of x as it is stored, where they vary; else None."""
        sizes = getattr(self._x, "sizes", None)
        return None if sizes is None else sizes[_numbers(self._picked)]

    @property
    def read_shape(self) -> tuple[Any, ...]:
        """(n, …) of x as it is read, after its preparation; None stands for sizes that vary."""
        first = self[:1].x.shape[1:]
        others = [self[row : row + 1].x.shape[1:] for row in self._unlike_first()]
        return (
            len(self),
            *(size if {*sizes} == {size} else None for size, *sizes in zip(first, first, *others, strict=True)),
        )

    def _unlike_first(self) -> list[int]:
        """A row for every dimension in which sizes vary, that differs there from the first."""
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
    def in_memory(self) -> bool:
        """Whether x is in memory already."""
        return isinstance(self._x, Tensor)

    @property
    def x(self) -> Tensor:
        """All of x, read."""
        return self.read()[0]

    @property
    def context(self) -> Tensor | None:
        """All of the context, read."""
        return None if self._context is None else self._moved(_picked(self._context, self._picked))

    def __getitem__(self, rows: Picked) -> "Rows":
        """Return the rows of a slice, or of a tensor of numbers, in that order."""
        if isinstance(rows, slice) or isinstance(self._picked, Tensor):
            return self._with(_picked=self._picked[rows])
        every = self._picked
        return self._with(_picked=rows.cpu() if every == range(len(every)) else _numbers(every)[rows])

    def shuffled(self, generator: torch.Generator) -> "Rows":
        """Return all rows in an order drawn from a generator."""
        return self[torch.randperm(len(self), generator=generator)]

    def split(self, fraction: float, seed: int) -> "tuple[Rows, Rows]":
        """Hold out a seeded fraction of the rows.

        Args:
            fraction: of the rows, between 0 and 1; rounded, at least one row on either side.
            seed: of the permutation that decides; torch's own generator is left alone.

        Returns:
            What is left, and what is held out, each in the order of the rows.

        Raises:
            InputError: fewer than 2 rows, or a fraction that is not between 0 and 1.
        """
        n = len(self)
        if n < 2 or not 0 < fraction < 1:
            raise InputError(f"at least 2 rows and a fraction between 0 and 1 are expected, found {n} rows, {fraction}")
        held = min(max(round(fraction * n), 1), n - 1)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        return self[order[held:].sort().values], self[order[:held].sort().values]

    def prepared(self, prepare: Prepare) -> "Rows":
        """Return rows whose x goes through a function when it is read, after those given before."""
        before = self._prepare
        return self._with(_prepare=prepare if before is None else lambda x: prepare(before(x)))

    def with_x(self, x: Tensor) -> "Rows":
        """Return rows of which x is another, and the context the same."""
        return Rows(x, self.context)

    def to(self, device: torch.device | str) -> "Rows":
        """Return rows that are brought to a device when they are read."""
        return self._with(_device=torch.device(device))

    def read(self) -> Batch:
        """Read all of these rows: x (n, …), and the context (n, …)."""
        x = _picked(self._x, self._picked)
        with self.named():
            x = x if self._prepare is None else self._prepare(x)
        return self._moved(x), self.context

    def held(self) -> "Rows":
        """Return these rows, read and held in memory."""
        if self.sizes is None:
            return Rows(*self.read())
        return Rows(Arrays([self[row : row + 1].x[0] for row in range(len(self))]), self.context)

    def columns(self) -> tuple["Rows", "Rows | None"]:
        """Return x as it is stored, and the context, each as rows by itself."""
        context = None if self._context is None else Rows(self._context)._with(_picked=self._picked)
        return Rows(self._x)._with(_picked=self._picked), context

    def of_any_size(self, dimensions: Sequence[int]) -> "Rows":
        """Return these rows as some of those whose size varies in some dimensions (of one row), as theirs may not."""
        return self if self.sizes is not None else self._with(_x=AnySize(self._x, dimensions))

    def windows(self, size: Sequence[int], generator: torch.Generator) -> "Rows":
        """Return rows of which each is a window of one of these, at a place that is drawn.

        Args:
            size: of a window in each dimension that varies; a row that is smaller is taken whole there.
            generator: of the places.

        Raises:
            InputError: not one size for each dimension that varies.
        """
        return self._with(_x=Windows(self._x, size, generator)) if isinstance(self._x, Source) else self

    def batches(self, size: int) -> "Iterator[Rows]":
        """Yield the rows, at most `size` at a time, in their order; where sizes vary, those of one size together."""
        for places in self.places(size):
            yield self[places]

    def places(self, size: int) -> Iterator[Picked]:
        """Yield where among these rows those of each of `batches` are."""
        sizes = self.sizes
        if sizes is None:
            yield from (slice(start, start + size) for start in range(0, len(self), size))
            return
        kind = sizes.unique(dim=0, return_inverse=True)[1]
        for places in kind.argsort(stable=True).split(kind.bincount().tolist()):
            yield from places.split(size)

    def slices(self) -> "Iterator[Rows]":
        """Yield the rows as `batches` does, as many at a time as go well into memory."""
        sizes = self.sizes
        largest = math.prod(self.shape[1:]) if sizes is None else int(sizes.prod(1).max())
        return self.batches(max(1, VALUES // max(1, largest)))

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let an error inside, that names an entry of these rows, name its row as it was given."""
        try:
            yield
        except EntryError as error:
            raise error.in_row(lambda row: int(self._picked[row])) from None

    def _moved(self, values: Tensor) -> Tensor:
        return values if self._device is None else values.to(self._device)

    def _with(self, **changes: Any) -> "Rows":
        other = copy.copy(self)
        vars(other).update(changes)
        return other


def _first_pair(items: Any) -> tuple | list | None:
    """Return the first item of a data set whose items have parts, None of anything else."""
    if isinstance(items, Tensor | Source | list) or hasattr(items, "to_numpy") or hasattr(items, "dtype"):
        return None
    if not hasattr(items, "__getitem__") or not hasattr(items, "__len__") or not len(items):
        return None
    first = items[0]
    return first if isinstance(first, tuple | list) else None


def _numbers(picked: range | Tensor) -> Tensor:
    """Return the numbers of rows as a tensor."""
    return picked if isinstance(picked, Tensor) else torch.arange(picked.start, picked.stop, picked.step)


def _picked(source: Tensor | Source, rows: range | Tensor) -> Tensor:
    """Read some rows; a tensor's own storage where they are consecutive."""
    if isinstance(rows, Tensor):
        return source[rows.to(source.device) if isinstance(source, Tensor) else rows]
    if rows.step == 1:
        return source[rows.start : rows.stop]
    return source[_numbers(rows)]
