"""Data of any form as a source of rows: the one place that asks for the class of data."""

from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from likely.errors import InputError
from likely.event import as_tensor
from likely.rows.sources import Arrays, ItemSource, Source, TensorSource, file_of


@singledispatch
def source_of(data: Any, name: str = "data") -> Source:
    """Return data of any form as a source of rows, without a copy where that can be.

    Args:
        data: a tensor, an array, a memory map, a frame of pandas or polars (by position), a list of numbers, or a thing
            with a length and items by number.
        name: of the data, for an error.

    Raises:
        InputError: something else, or no numbers.
    """
    if hasattr(data, "to_numpy"):
        return source_of(data.to_numpy(), name)
    if not _has_items(data):
        raise InputError(
            f"{name}: an array, a tensor, or a thing with a length and items by number is expected, "
            f"found {type(data).__name__}"
        )
    return ItemSource(data)


@source_of.register
def _(data: Source, name: str = "data") -> Source:
    return data


@source_of.register
def _(data: Tensor, name: str = "data") -> Source:
    return TensorSource(as_tensor(data, name))


@source_of.register
def _(data: np.ndarray, name: str = "data") -> Source:
    mapped = file_of(data)
    if mapped is None:
        return TensorSource(as_tensor(data, name))
    return mapped


@source_of.register
def _(data: list, name: str = "data") -> Source:
    arrays = [part for part in data if isinstance(part, Tensor | np.ndarray)]
    if len(arrays) == len(data) and len({tuple(array.shape) for array in arrays}) > 1:
        return Arrays(arrays)
    try:
        numbers = torch.as_tensor(np.asarray(data) if arrays else data)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name}: a list of rows of numbers, all of one size, or of arrays is expected: {error}"
        ) from error
    return source_of(numbers, name)


@singledispatch
def columns_of(data: Any, conditional: bool) -> tuple[Any, ...]:
    """Return examples and, if there is one, their context.

    Args:
        data: in any form that `source_of` takes, a pair of such, or a data set or a loader of one; where its items are
            pairs, the second part is the context.
        conditional: whether the context of a data set is wanted.
    """
    if hasattr(data, "to_numpy") or hasattr(data, "dtype") or not _has_items(data) or not len(data):
        return (data,)
    first = data[0]
    if not isinstance(first, tuple | list):
        return (data,)
    parts = min(len(first), 1 + conditional)
    return tuple(ItemSource(data, part) for part in range(max(parts, 1)))


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
