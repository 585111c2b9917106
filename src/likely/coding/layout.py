"""How the items of a chunk lie beside one another: all of one size in an array, or each an array of its own size."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likely.coding.records import Header
from likely.errors import FormatError

Shape = tuple[int, ...]
Items = Any  # an array (n, …), or a list of n arrays of several sizes
Group = tuple[slice | Tensor, int, Shape]  # items of one shape: their numbers, how many they are, the shape
MOST_BITS = 31  # of one size


class Layout(ABC):
    """Where the items of one chunk are.

    Attributes:
        prefix: bytes written before a payload, for a reader to know the layout.
        values: number of values in all items.
    """

    prefix: bytes
    values: int

    @abstractmethod
    def groups(self) -> Iterator[Group]:
        """Yield the items that are of one size."""

    @abstractmethod
    def taken(self, items: Items, rows: slice | Tensor) -> np.ndarray:
        """Return the items of a group as an array."""

    @abstractmethod
    def joined(self, groups: list[np.ndarray]) -> Items:
        """Return the items of all groups, in their order."""

    @abstractmethod
    def written(self, items: Items) -> bytes:
        """Return the bytes of all items, one after the other."""

    @abstractmethod
    def read(self, raw: bytes, dtype: np.dtype) -> Items:
        """Return items from their bytes: the inverse of `written`."""


class Sizes(ABC):
    """The sizes of a file's items, as its header and its chunks hold them.

    Attributes:
        several: whether every item has a shape of its own.
        shape: of an item; None stands for a size that varies.
    """

    several: bool
    shape: tuple[Any, ...]

    @abstractmethod
    def values_in(self, header: Header) -> int:
        """Return the number of values in all items of a file with this header."""

    @abstractmethod
    def bytes_of(self, items: Items) -> int:
        """Return the bytes of some items."""

    @abstractmethod
    def of(self, items: Items) -> Layout:
        """Return the layout of some items."""

    @abstractmethod
    def before(self, payload: bytes, n: int) -> tuple[Layout, bytes]:
        """Read the layout of n items before a payload; return it, and the payload.

        Raises:
            FormatError: there is none.
        """

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """Return its entry in the file's meta data."""


class OneSize(Sizes):
    """All items are of one shape."""

    several = False

    def __init__(self, shape: Shape) -> None:
        self.shape = tuple(shape)

    def values_in(self, header: Header) -> int:
        """Return the product of the array's sizes."""
        return math.prod(header.shape)

    def bytes_of(self, items: Items) -> int:
        """Return the bytes of an array."""
        return items.nbytes

    def of(self, items: Items) -> Layout:
        """Return the layout of some items."""
        return InArray(len(items), self.shape)

    def before(self, payload: bytes, n: int) -> tuple[Layout, bytes]:
        """Return the layout of n items; nothing is written of it."""
        return InArray(n, self.shape), payload

    def described(self) -> dict[str, Any]:
        """Nothing: the shape is in the header."""
        return {}


class ManySizes(Sizes):
    """Items have a shape each, written before the payload of their chunk: every size that varies in as many bits.

    Args:
        shape: of an item; None stands for a size that varies.
        bits: of each size that varies.
        values: number of values in all items of the file.
    """

    several = True

    def __init__(self, shape: Sequence[int | None], bits: Sequence[int], values: int) -> None:
        self.shape, self.bits, self.values = tuple(shape), tuple(bits), values

    @classmethod
    def of_all(cls, shape: Sequence[int | None], sizes: Tensor) -> "ManySizes":
        """Return the sizes of items with these shapes (n, dimensions)."""
        largest = sizes.amax(0).tolist()
        varying = [size for size, fixed in zip(largest, shape, strict=True) if fixed is None]
        return cls(shape, [size.bit_length() for size in varying], int(sizes.prod(1).sum()))

    @classmethod
    def from_json(cls, described: Any) -> "ManySizes":
        """Read the entry that `described` returns.

        Raises:
            FormatError: something else.
        """
        try:
            shape, bits, values = (described[name] for name in ("shape", "bits", "values"))
            found = all(type(number) is int and 0 < number <= MOST_BITS for number in bits)
            found &= all(size is None or (type(size) is int and 0 < size < 1 << MOST_BITS) for size in shape)
            if not found or not bits or len(bits) != shape.count(None) or type(values) is not int or values < 0:
                raise ValueError(f"shape {shape}, bits {bits}, values {values}")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"the file's header does not say what sizes its items have: {error}") from error
        return cls(shape, bits, values)

    def values_in(self, header: Header) -> int:
        """Return the number that the header says."""
        return self.values

    def bytes_of(self, items: Items) -> int:
        """Return the bytes of all arrays."""
        return sum(item.nbytes for item in items)

    def described(self) -> dict[str, Any]:
        """Return its entry in the file's meta data."""
        return {"sizes": {"shape": list(self.shape), "bits": list(self.bits), "values": self.values}}

    def of(self, items: Items) -> Layout:
        """Return the layout of some items."""
        shapes = [item.shape for item in items]
        varying = np.array([self._varying(shape) for shape in shapes], np.int64).reshape(len(shapes), len(self.bits))
        columns = [size[:, None] >> np.arange(bits)[::-1] & 1 for size, bits in zip(varying.T, self.bits, strict=True)]
        written = np.concatenate(columns, 1).reshape(-1)
        filling = np.zeros(8 * self._length(len(shapes)) - len(written), np.int64)
        return OneByOne(shapes, np.packbits(np.concatenate([filling, written]).astype(bool)).tobytes()[::-1])

    def before(self, payload: bytes, n: int) -> tuple[Layout, bytes]:
        """Read the layout of n items before a payload."""
        length = self._length(n)
        prefix = payload[:length]
        written = np.unpackbits(np.frombuffer(prefix[::-1], np.uint8))
        filling = 8 * length - n * sum(self.bits)
        if len(prefix) < length or written[:filling].any():
            raise FormatError("the sizes of the items of a chunk are damaged")
        columns = np.split(written[filling:].reshape(n, sum(self.bits)), np.cumsum(self.bits)[:-1], 1)
        varying = iter([(column @ (1 << np.arange(column.shape[1])[::-1])).tolist() for column in columns])
        shapes: list[Shape] = list(
            zip(*(next(varying) if size is None else [size] * n for size in self.shape), strict=True)
        )
        layout = OneByOne(shapes, prefix)
        if layout.values > self.values or any(0 in shape for shape in shapes):
            raise FormatError("the items of a chunk have other sizes than the file's header allows")
        return layout, payload[length:]

    def _varying(self, shape: Shape) -> list[int]:
        return [size for size, fixed in zip(shape, self.shape, strict=True) if fixed is None]

    def _length(self, n: int) -> int:
        return -(-n * sum(self.bits) // 8)


def sizes_of(header: Header) -> Sizes:
    """Return the sizes of a file's items.

    Raises:
        FormatError: the header does not say them as it should.
    """
    if "sizes" in header.meta:
        return ManySizes.from_json(header.meta["sizes"])
    return OneSize(header.shape[1:])


class InArray(Layout):
    """n items of one shape, in an array (n, …)."""

    prefix = b""

    def __init__(self, n: int, shape: Shape) -> None:
        self.n, self.shape, self.values = n, shape, n * math.prod(shape)

    def groups(self) -> Iterator[Group]:
        """Yield them all."""
        yield slice(0, self.n), self.n, self.shape

    def taken(self, items: Items, rows: slice | Tensor) -> np.ndarray:
        """Return them all."""
        return items

    def joined(self, groups: list[np.ndarray]) -> Items:
        """Return the only group."""
        return groups[0]

    def written(self, items: Items) -> bytes:
        """Return the array's bytes."""
        return items.tobytes()

    def read(self, raw: bytes, dtype: np.dtype) -> Items:
        """Return an array of these bytes."""
        return np.frombuffer(raw, dtype).reshape(self.n, *self.shape)


class OneByOne(Layout):
    """Items of these shapes, each an array."""

    def __init__(self, shapes: list[Shape], prefix: bytes) -> None:
        self.shapes, self.prefix, self.values = shapes, prefix, sum(map(math.prod, shapes))

    def groups(self) -> Iterator[Group]:
        """Yield the numbers of the items of each shape, by the first item that has it."""
        alike: dict[Shape, list[int]] = {}
        for number, shape in enumerate(self.shapes):
            alike.setdefault(shape, []).append(number)
        for shape, numbers in alike.items():
            yield torch.tensor(numbers), len(numbers), shape

    def taken(self, items: Items, rows: slice | Tensor) -> np.ndarray:
        """Return the items of a group as an array."""
        numbers = range(len(items))
        return np.stack([items[number] for number in torch.tensor(numbers)[rows].tolist()])

    def joined(self, groups: list[np.ndarray]) -> Items:
        """Return the items of all groups, in their order."""
        waiting: dict[Shape, Iterator[np.ndarray]] = {}
        for (_, _, shape), group in zip(self.groups(), groups, strict=True):
            waiting[shape] = iter(group)
        return [next(waiting[shape]) for shape in self.shapes]

    def written(self, items: Items) -> bytes:
        """Return the bytes of each, one after the other."""
        return b"".join(item.tobytes() for item in items)

    def read(self, raw: bytes, dtype: np.dtype) -> Items:
        """Return arrays from their bytes."""
        values = np.frombuffer(raw, dtype)
        ends = np.cumsum([math.prod(shape) for shape in self.shapes]).tolist()
        starts = [0, *ends[:-1]]
        spans = zip(starts, ends, self.shapes, strict=True)
        return [values[start:end].reshape(shape) for start, end, shape in spans]
