"""The space of one example: its shape and its alphabet. The one place where data are validated and converted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from operator import index
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from likely.errors import EntryError, InputError

LEVELS = 2**62  # symbols are int64


class Configured:
    """A thing that is saved by its constructor's arguments; it keeps each as an attribute of the same name.

    Attributes:
        added: arguments that are newer than some files, with a value each: arguments of this value are not written.
    """

    added: ClassVar[dict[str, Any]] = {}


@dataclass(frozen=True)
class Interval:
    """The open interval (low, high) that real values lie in."""

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        return f"({self.low:g}, {self.high:g})"

    def holds(self, other: "Interval") -> bool:
        """Return whether `other` is a part of this one."""
        return self.low <= other.low and other.high <= self.high

    def check(self, x: Tensor, name: str) -> Tensor:
        """Return x.

        Raises:
            InputError: a value is NaN or not inside; names the first one.
        """
        refuse(~((x > self.low) & (x < self.high)), x, name, f"values inside {self} are expected")
        return x

    def nearest(self, x: Tensor) -> Tensor:
        """Return x with a value at or beyond an end replaced by the nearest number inside."""
        low, high = x.new_tensor(self.low), x.new_tensor(self.high)
        return x.maximum(low.nextafter(high)).minimum(high.nextafter(low))


REAL, UNIT, POSITIVE = Interval(), Interval(0.0, 1.0), Interval(0.0)


@dataclass(frozen=True)
class Event(Configured):
    """The space that one example lives in.

    Sizes may vary from example to example: `Event((3, None, None), 256)` is a picture of any size, `Event((None,), 4,
    end=3)` a string. A batch is of one size all the same. A string that is shorter than the others of its batch is
    filled up with its end symbol; nothing else may come after that. A string without it is a window of a longer one.

    Args:
        shape: shape of one example, channels first for images; `()` is a single value; None is a size that varies.
        levels: size of the alphabet for discrete symbols 0 … levels − 1; a tuple gives each column of a table its own
            alphabet; None means real values.
        end: the symbol that ends a string, of an event (length,) or (None,).
    """

    shape: tuple[Any, ...]  # of int, and None
    levels: int | tuple[int, ...] | None = None
    end: int | None = None

    added: ClassVar[dict[str, Any]] = {"end": None}

    def __repr__(self) -> str:
        end = "" if self.end is None else f", end={self.end}"
        return f"Event(shape={self.shape}, levels={self.levels}{end})"

    def __post_init__(self) -> None:
        sizes = iter(_whole([size for size in self.shape if size is not None], "an event's shape"))
        shape = tuple(None if size is None else next(sizes) for size in self.shape)
        object.__setattr__(self, "shape", shape)
        if any(size is not None and size < 1 for size in self.shape):
            raise InputError(f"an event's sizes must be at least 1, found shape {self.shape}")
        if self.levels is not None:
            self._check_levels()
        if self.end is not None:
            self._check_end(self.end)

    def _check_levels(self) -> None:
        if isinstance(self.levels, tuple | list):
            object.__setattr__(self, "levels", _whole(self.levels, "levels"))
            columns = len(self._alphabets)
            if self.shape != (columns,):
                raise InputError(f"{columns} alphabets need shape ({columns},), found {self.shape}")
        else:
            object.__setattr__(self, "levels", _whole((self.levels,), "levels")[0])
        if not all(1 <= count <= LEVELS for count in self._alphabets):
            raise InputError(f"levels must be at least 1 and at most {LEVELS:,}, found {self.levels}")

    def _check_end(self, end: int) -> None:
        object.__setattr__(self, "end", _whole((end,), "end")[0])
        if len(self.shape) != 1 or self.one_alphabet is None:
            raise InputError(
                f"strings of one alphabet end with a symbol; found shape {self.shape}, {self.levels} levels"
            )
        if not 0 <= end < self.one_alphabet:
            raise InputError(f"end: one of the symbols 0 to {self.one_alphabet - 1} is expected, found {end}")

    @property
    def varies(self) -> bool:
        """Whether sizes vary from example to example."""
        return None in self.shape

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape, of an event of one size.

        Raises:
            InputError: sizes vary.
        """
        sizes = tuple(size for size in self.shape if size is not None)
        if len(sizes) != len(self.shape):
            raise InputError(f"examples of one size are expected, found shape {self.shape}, in which None varies")
        return sizes

    def of_size(self, shape: Sequence[int]) -> "Event":
        """Return the event of those examples that are of one size.

        Args:
            shape: of one example; or its sizes that vary alone.

        Raises:
            InputError: no example has this shape.
        """
        given = _whole(shape, "size")
        if self.varies and len(given) == self.shape.count(None) != len(self.shape):
            varying = iter(given)
            given = tuple(next(varying) if size is None else size for size in self.shape)
        if not self._allows(given) or 0 in given:
            raise InputError(f"size: examples of shape {shown(self.shape)} are expected, found {tuple(shape)}")
        return replace(self, shape=given)

    @property
    def dims(self) -> int:
        """Number of values in one example, the D of bits/dim; where sizes vary, see `count`.

        Raises:
            InputError: sizes vary.
        """
        return math.prod(self.sizes)

    def count(self, x: Tensor) -> Tensor:
        """Return the number of values in each example of a batch, (n,): of a string those up to its end symbol."""
        whole = x.new_full((len(x),), math.prod(x.shape[1:]), dtype=torch.int64)
        if self.end is None:
            return whole
        return whole - self.ended(x).sum(1)

    def filled(self, x: Tensor) -> Tensor:
        """Return a batch with end symbols in every place after one."""
        if self.end is None:
            return x
        return x.masked_fill(self.ended(x), self.end)

    def ended(self, x: Int[Tensor, "n length"]) -> Bool[Tensor, "n length"]:
        """Return the places of strings that come after an end symbol."""
        assert self.end is not None
        ends = torch.eq(x, self.end).long()
        return ends.cumsum(1) > ends

    @property
    def discrete(self) -> bool:
        """Whether examples are symbols (else real values)."""
        return self.levels is not None

    @property
    def alphabets(self) -> tuple[int, ...]:
        """The alphabet of every dimension in raster order, (dims,); discrete events only."""
        alphabets = self._alphabets
        if len(alphabets) == 1:
            return alphabets * self.dims
        return alphabets

    @property
    def one_alphabet(self) -> int | None:
        """Size of the alphabet that all values share; None of real values, and of a table with several alphabets."""
        if isinstance(self.levels, int):
            return self.levels
        return None

    @property
    def _alphabets(self) -> tuple[int, ...]:
        """The alphabet of each column, or the one that all values share; discrete events only."""
        if self.levels is None:
            raise InputError(f"{self} has real values, not an alphabet")
        if isinstance(self.levels, tuple):
            return self.levels
        return (self.levels,)

    @property
    def most_levels(self) -> int:
        """Size of the largest alphabet; discrete events only."""
        return max(self._alphabets)

    def check(self, x: Tensor | np.ndarray, name: str = "data") -> Tensor:
        """Return a batch as a tensor: int64 symbols, or floating values as they are.

        Args:
            x: array or tensor (n, *shape). Integers stored as exact floats are accepted as symbols.
            name: of the batch, for an error.

        Raises:
            InputError: not an array, empty, another shape, NaN or infinite, not whole numbers where symbols are
                expected, or a symbol outside the alphabet; names the first offending entry.
        """
        x = as_tensor(x, name)
        if x.dtype == torch.uint64:
            refuse(x.view(torch.int64) < 0, x, name, "numbers below 2^63 are expected")
        if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
            x = x.to(torch.int64)
        self.check_shape(tuple(x.shape), name)
        if x.is_floating_point():
            refuse(~torch.isfinite(x), x, name, "finite numbers are expected")
        if self.discrete:
            return self._check_ends(self._check_symbols(x, name), name)
        if x.is_floating_point():
            return x
        return x.to(torch.get_default_dtype())

    def _check_symbols(self, x: Tensor, name: str) -> Tensor:
        if x.is_floating_point():
            expected = "whole symbols are expected (quantise the data, or use an event of real values)"
            refuse(x != x.round(), x, name, expected)
            refuse(x.abs() >= LEVELS, x, name, f"symbols 0 to {self.most_levels - 1} are expected")
        x = x.to(torch.int64)
        low, high = torch.aminmax(x)
        if low >= 0 and high < min(self._alphabets):
            return x
        bad = (x < 0) | (x >= torch.tensor(self._alphabets, device=x.device))
        if bad.any():
            largest, place = self.most_levels - 1, ""
            if isinstance(self.levels, tuple):
                column = int(bad.nonzero()[0, 1])
                largest, place = self.levels[column] - 1, " in its column"
            refuse(bad, x, name, f"symbols 0 to {largest} are expected{place}")
        return x

    def _check_ends(self, x: Tensor, name: str) -> Tensor:
        if self.end is not None:
            after = self.ended(x) & (x != self.end)
            refuse(after, x, name, f"nothing but the end symbol {self.end} is expected after it")
        return x

    def _allows(self, shape: Sequence[int | None]) -> bool:
        """Return whether an example may have this shape; None stands for any size."""
        if len(shape) != len(self.shape):
            return False
        pairs = zip(self.shape, shape, strict=True)
        return all(own is None or own == size for own, size in pairs)

    def check_shape(self, shape: Sequence[int | None], name: str = "data") -> None:
        """Raise InputError where a batch (n, …) is of another shape, or empty; None stands for sizes that vary."""
        if not self._allows(shape[1:]):
            several = ", examples of several sizes" if None in shape else ""
            raise InputError(f"{name}: expected shape {shown(('n', *self.shape))}, found {shown(shape)}{several}")
        if 0 in shape:
            raise InputError(f"{name}: empty, at least one example is expected")


def shown(shape: Sequence[Any]) -> str:
    """Return a shape as people write it; a size that varies is "any"."""
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    if len(shape) == 1:
        return f"({sizes},)"
    return f"({sizes})"


def _whole(values: Sequence[Any], name: str) -> tuple[int, ...]:
    try:
        return tuple(map(index, values))
    except TypeError:
        raise InputError(f"{name}: whole numbers are expected, found {values!r}") from None


@singledispatch
def as_tensor(x: Any, name: str = "data") -> Tensor:
    """Return an array as a tensor, without a copy where that can be.

    Raises:
        InputError: not an array of real numbers.
    """
    raise InputError(f"{name}: an array or a tensor is expected, found {type(x).__name__}")


@as_tensor.register
def _(x: Tensor, name: str = "data") -> Tensor:
    if x.is_complex():
        raise InputError(f"{name}: real numbers are expected, found dtype {x.dtype}")
    return x


@as_tensor.register
def _(x: np.ma.MaskedArray, name: str = "data") -> Tensor:
    mask = np.ma.getmaskarray(x)
    if mask.any():
        raise InputError(
            f"{name}: {int(mask.sum()):,} missing values (masked), the first at {np.argwhere(mask)[0].tolist()}; leave "
            "out these rows, or fill them in"
        )
    return as_tensor(x.data, name)


@as_tensor.register
def _(x: np.ndarray, name: str = "data") -> Tensor:
    if x.dtype.kind not in "biuf":
        several = ""
        if x.dtype.kind == "O":
            several = "; give examples of several sizes as a list of arrays"
        raise InputError(f"{name}: an array of numbers is expected, found dtype {x.dtype}{several}")
    dtype = x.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    return torch.from_numpy(np.require(x, dtype, ["C", "W"]))


def refuse(bad: Tensor, x: Tensor, name: str, expected: str) -> None:
    """Raise an `EntryError` that names the first True entry of `bad`, a mask with a row for every example."""
    if bad.any():
        first = tuple(bad.nonzero()[0].tolist())
        raise EntryError(name, x[first].item(), first, expected)


def narrowed(z: Tensor, dtype: torch.dtype, x: Tensor, name: str = "x") -> Tensor:
    """Return values in a precision.

    Args:
        z: finite values.
        dtype: the precision.
        x: the values as they were given, for an error.
        name: of x.

    Raises:
        InputError: a value that is beyond that precision; names the first of x.
    """
    cast = z.to(dtype)
    if dtype.itemsize < z.dtype.itemsize:
        refuse(cast.isinf(), x, name, f"values within the range of {str(dtype).removeprefix('torch.')} are expected")
    return cast


def refuse_parameter(bad: Tensor, x: Tensor, name: str, expected: str) -> None:
    """Raise an `InputError` that names the first True entry of `bad`, a mask without rows."""
    try:
        refuse(bad, x, name, expected)
    except EntryError as error:
        raise InputError(str(error)) from None
