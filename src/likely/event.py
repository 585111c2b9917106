"""What one example is: its shape and its alphabet. The one place where data are validated and converted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likely.errors import EntryError, InputError

LEVELS = 2**62  # symbols are int64


class Configured:
    """What is saved by its constructor's arguments, each of which it keeps as an attribute of the same name."""


@dataclass(frozen=True)
class Interval:
    """The open interval (low, high) that real values lie in."""

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        return f"({self.low:g}, {self.high:g})"

    def holds(self, other: "Interval") -> bool:
        """Whether `other` is a part of this one."""
        return self.low <= other.low and other.high <= self.high

    def check(self, x: Tensor, name: str) -> Tensor:
        """Return x.

        Raises:
            InputError: a value is NaN or not inside; names the first one.
        """
        refuse(~((x > self.low) & (x < self.high)), x, name, f"values inside {self} are expected")
        return x


REAL, UNIT, POSITIVE = Interval(), Interval(0.0, 1.0), Interval(0.0)


@dataclass(frozen=True)
class Event(Configured):
    """The space that one example lives in.

    Args:
        shape: shape of one example, channels first for images; `()` is a single value.
        levels: size of the alphabet for discrete symbols 0 … levels − 1; a tuple gives each column of a table its own
            alphabet; None means real values.
    """

    shape: tuple[int, ...]
    levels: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _whole(self.shape, "an event's shape"))
        if any(size < 1 for size in self.shape):
            raise InputError(f"an event's sizes must be at least 1, found shape {self.shape}")
        if isinstance(self.levels, tuple | list):
            object.__setattr__(self, "levels", _whole(self.levels, "levels"))
            if self.shape != (len(self.levels),):
                raise InputError(f"{len(self.levels)} alphabets need shape ({len(self.levels)},), found {self.shape}")
        elif self.levels is not None:
            object.__setattr__(self, "levels", _whole((self.levels,), "levels")[0])
        counts = self.levels if isinstance(self.levels, tuple) else (self.levels,)
        if not all(count is None or 1 <= count <= LEVELS for count in counts):
            raise InputError(f"levels must be at least 1 and at most {LEVELS:,}, found {self.levels}")

    @property
    def dims(self) -> int:
        """Number of values in one example, the D of bits/dim."""
        return math.prod(self.shape)

    @property
    def discrete(self) -> bool:
        """Whether examples are symbols (else real values)."""
        return self.levels is not None

    @property
    def alphabets(self) -> tuple[int, ...]:
        """The alphabet of every dimension in raster order, (dims,); discrete events only."""
        if self.levels is None:
            raise InputError(f"{self} has real values, not an alphabet")
        return self.levels if isinstance(self.levels, tuple) else (self.levels,) * self.dims

    def check(self, x: Tensor | np.ndarray, name: str = "data") -> Tensor:
        """Return a batch as a tensor: int64 symbols, or floating values as they are.

        Args:
            x: array or tensor (n, *shape). Integers stored as exact floats are accepted as symbols.
            name: what to call the batch in an error.

        Raises:
            InputError: not an array, empty, another shape, NaN or infinite, not whole numbers where symbols are
                expected, or a symbol outside the alphabet; names the first offending entry.
        """
        x = as_tensor(x, name)
        x = x.to(torch.int64) if x.dtype in (torch.uint16, torch.uint32, torch.uint64) else x
        self.check_shape(tuple(x.shape), name)
        if x.is_floating_point():
            refuse(~torch.isfinite(x), x, name, "finite numbers are expected")
        if not self.discrete:
            return x if x.is_floating_point() else x.to(torch.get_default_dtype())
        if x.is_floating_point():
            refuse(
                x != x.round(),
                x,
                name,
                "whole symbols are expected (quantise the data, or use an event of real values)",
            )
        x = x.to(torch.int64)
        if isinstance(self.levels, int):
            low, high = torch.aminmax(x)
            if low >= 0 and high < self.levels:
                return x
        bad = (x < 0) | (x >= torch.tensor(self.alphabets, device=x.device).view(self.shape))
        if bad.any():
            where = bad.reshape(len(bad), -1).nonzero()[0, 1].item()
            place = " in its column" if isinstance(self.levels, tuple) else ""
            refuse(bad, x, name, f"symbols 0 to {self.alphabets[int(where)] - 1} are expected{place}")
        return x

    def check_shape(self, shape: tuple[int, ...], name: str = "data") -> None:
        """Raise InputError where a batch (n, …) is of another shape, or empty."""
        if len(shape) != len(self.shape) + 1 or shape[1:] != self.shape:
            expected = ", ".join(("n", *map(str, self.shape)))
            raise InputError(f"{name}: expected shape ({expected}), found {shape}")
        if shape[0] == 0:
            raise InputError(f"{name}: empty, at least one example is expected")


def _whole(values: Sequence[Any], name: str) -> tuple[int, ...]:
    try:
        return tuple(map(index, values))
    except TypeError:
        raise InputError(f"{name}: whole numbers are expected, found {values!r}") from None


def as_tensor(x: Tensor | np.ndarray, name: str = "data") -> Tensor:
    """Return an array as a tensor, without a copy where that can be.

    Raises:
        InputError: not an array of real numbers.
    """
    if isinstance(x, np.ndarray):
        if x.dtype.kind not in "biuf":
            raise InputError(f"{name}: an array of numbers is expected, found dtype {x.dtype}")
        if x.dtype.kind == "f" and x.dtype.itemsize > 8:
            x = x.astype(np.float64)
        x = torch.from_numpy(np.require(x, x.dtype.newbyteorder("="), ["C", "W"]))
    if not isinstance(x, Tensor):
        raise InputError(f"{name}: an array or a tensor is expected, found {type(x).__name__}")
    if x.is_complex():
        raise InputError(f"{name}: real numbers are expected, found dtype {x.dtype}")
    return x


def refuse(bad: Tensor, x: Tensor, name: str, expected: str) -> None:
    """Raise an `EntryError` that names the first True entry of `bad`, which has a row for every example."""
    if bad.any():
        first = tuple(bad.nonzero()[0].tolist())
        raise EntryError(name, x[first].item(), first, expected)


def refuse_parameter(bad: Tensor, x: Tensor, name: str, expected: str) -> None:
    """Raise an `InputError` that names the first True entry of `bad`, which has no rows."""
    try:
        refuse(bad, x, name, expected)
    except EntryError as error:
        raise InputError(str(error)) from None
