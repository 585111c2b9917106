"""Data of any form as a source of rows: the one place that asks for the class of data."""

from collections.abc import Iterable, Iterator, Mapping
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from likely.errors import InputError
from likely.event import as_tensor
from likely.rows.frames import array_of_column, array_of_frame, fields_of, is_frame
from likely.rows.sources import Arrays, ItemSource, Source, SparseSource, TensorSource, file_of


@singledispatch
def source_of(data: Any, name: str = "data") -> Source:
    """Return data of any form as a source of rows, without a copy where that can be.

    Args:
        data: a tensor, an array, a memory map, a frame of pandas, polars or Arrow (by position), a sparse matrix, a
            list of numbers, a thing with a length and items by number, or one that yields rows.
        name: of the data, for an error.

    Raises:
        InputError: something else, or no numbers.
    """
    if is_frame(data):
        array, names = array_of_frame(data, name)
        return _named(source_of(array, name), names)
    if hasattr(data, "tocsr"):
        return SparseSource(data, name)
    if hasattr(data, "to_numpy"):  # a column of a frame
        return source_of(array_of_column(data, name), name)
    if _has_items(data) and not hasattr(data, "__array__"):
        return ItemSource(data)
    if hasattr(data, "__array__"):
        return source_of(np.asarray(data), name)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | Mapping):
        return source_of(_read_through(data, name), name)
    raise InputError(
        f"{name}: an array, a tensor, or a thing with a length and items by number is expected, "
        f"found {type(data).__name__}"
    )


@source_of.register
def _(data: Source, name: str = "data") -> Source:
    return data


@source_of.register
def _(data: Tensor, name: str = "data") -> Source:
    return TensorSource(as_tensor(data, name))


@source_of.register
def _(data: memoryview, name: str = "data") -> Source:
    return source_of(np.asarray(data), name)


@source_of.register(str)
@source_of.register(bytes)
@source_of.register(dict)
def _(data: Any, name: str = "data") -> Source:
    raise InputError(f"{name}: an array is expected, found {type(data).__name__}; `likely.data.load` reads files")


@source_of.register
def _(data: np.ma.MaskedArray, name: str = "data") -> Source:
    return TensorSource(as_tensor(data, name))


@source_of.register
def _(data: np.ndarray, name: str = "data") -> Source:
    if data.dtype.names is not None:
        array, names = fields_of(data)
        return _named(source_of(array, name), names)
    mapped = file_of(data)
    if mapped is None:
        return TensorSource(as_tensor(data, name))
    return mapped


@source_of.register
def _(data: list, name: str = "data") -> Source:
    arrays = [part for part in data if isinstance(part, Tensor | np.ndarray)]
    if arrays and len(arrays) == len(data):
        if len({tuple(array.shape) for array in arrays}) > 1:
            return Arrays(arrays)
        return TensorSource(torch.stack([as_tensor(array, name) for array in arrays]))
    try:
        numbers = as_tensor(np.asarray(data), name) if arrays else torch.as_tensor(data)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name}: a list of rows of numbers, all of one size, or of arrays is expected: {error}"
        ) from error
    return source_of(numbers, name)


def _named(source: Source, names: tuple[str, ...]) -> Source:
    source.names = names
    return source


def _read_through(data: Iterable[Any], name: str) -> list[Any]:
    """Read all rows that a thing yields; they are kept in memory."""
    rows = list(data)
    if not rows:
        raise InputError(f"{name}: empty, at least one example is expected")
    if isinstance(rows[0], Tensor | np.ndarray):
        return rows
    return [np.asarray(row) for row in rows]


@singledispatch
def columns_of(data: Any, conditional: bool) -> tuple[Any, ...]:
    """Return examples and, if there is one, their context.

    Args:
        data: in any form that `source_of` takes, a pair of such, or a data set or a loader of one; where its items are
            pairs, the second part is the context.
        conditional: whether the context of a data set is wanted.
    """
    if hasattr(data, "dtype") or hasattr(data, "to_numpy") or hasattr(data, "tocsr") or is_frame(data):
        return (data,)
    if isinstance(data, Iterator | IterableDataset):
        data = list(data)
        return _parts_of(data, conditional) if data and isinstance(data[0], tuple) else (iter(data),)
    if not _has_items(data) or not len(data) or not isinstance(data[0], tuple | list):
        return (data,)
    return _parts_of(data, conditional)


def _parts_of(items: Any, conditional: bool) -> tuple[Any, ...]:
    """Return the parts of items that are pairs."""
    parts = min(len(items[0]), 1 + conditional)
    return tuple(ItemSource(items, part) for part in range(max(parts, 1)))


@columns_of.register(str)
@columns_of.register(bytes)
@columns_of.register(dict)
@columns_of.register(memoryview)
@columns_of.register(Source)
@columns_of.register(Tensor)
@columns_of.register(list)
def _(data: Any, conditional: bool) -> tuple[Any, ...]:
    return (data,)


@columns_of.register
def _(data: tuple, conditional: bool) -> tuple[Any, ...]:
    if len(data) not in (1, 2):
        raise InputError(f"data: a pair of examples and context, or a list, is expected, found {len(data)} parts")
    return data


@columns_of.register
def _(data: DataLoader, conditional: bool) -> tuple[Any, ...]:
    return columns_of(data.dataset, conditional)


def _has_items(data: Any) -> bool:
    return hasattr(data, "__len__") and hasattr(data, "__getitem__")
