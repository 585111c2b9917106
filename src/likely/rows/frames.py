"""Tables as arrays: the columns of frames of pandas and polars, of Arrow tables and of arrays with fields."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from likely.errors import InputError

Named = tuple[np.ndarray, tuple[str, ...]]


def is_frame(data: Any) -> bool:
    """Return whether data are a table with names of columns: of pandas, polars or Arrow."""
    return hasattr(data, "columns") and (hasattr(data, "to_numpy") or hasattr(data, "column_names"))


def array_of_frame(frame: Any, name: str) -> Named:
    """Return the numbers of a frame, by position, and the names of its columns.

    Raises:
        InputError: a column that holds something else, or a missing value; names it.
    """
    if hasattr(frame, "column_names"):  # of Arrow
        names, columns = frame.column_names, frame.columns
    elif hasattr(frame, "get_columns"):  # of polars
        names, columns = frame.columns, frame.get_columns()
    else:
        names = list(frame.columns)
        columns = [frame.iloc[:, k] for k in range(len(names))]
    return joined(columns, [str(one) for one in names], name)


def joined(columns: Iterable[Any], names: Sequence[str], name: str) -> Named:
    """Return columns side by side as an array, and their names.

    Raises:
        InputError: as `array_of_frame`, or there are none.
    """
    numbers = [array_of_column(column, f'{name}: column "{own}"') for column, own in zip(columns, names, strict=True)]
    if not numbers:
        raise InputError(f"{name}: at least one column is expected, found none")
    dtype = common(column.dtype for column in numbers)
    return np.stack([column.astype(dtype, copy=False) for column in numbers], 1), tuple(names)


def common(dtypes: Iterable[np.dtype]) -> np.dtype:
    """Return the dtype that columns of these can share."""
    found = {np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=") for dtype in dtypes}
    return np.result_type(*found)


def array_of_column(column: Any, name: str) -> np.ndarray:
    """Return the numbers of one column, (n,).

    Raises:
        InputError: missing values, or no numbers.
    """
    refuse_missing(missing_in(column), name)
    numbers = np.asarray(column)
    if numbers.dtype.kind == "O":
        raise InputError(f"{name}: numbers are expected, found {_kind_of(numbers)}; leave it out, or number its values")
    if numbers.dtype.kind not in "biuf":
        raise InputError(f"{name}: numbers are expected, found dtype {column.dtype}; leave it out")
    return numbers


def missing_in(column: Any) -> np.ndarray:
    """Return where values of a column are missing, (n,)."""
    for how in ("isna", "is_null"):
        if hasattr(column, how):
            return np.asarray(getattr(column, how)()).astype(bool)
    return np.zeros(len(column), bool)


def refuse_missing(missing: np.ndarray, name: str) -> None:
    """Refuse missing values; names the first row."""
    if missing.any():
        raise InputError(
            f"{name}: {int(missing.sum()):,} missing values, the first in row {int(missing.argmax())}; "
            "leave out these rows or this column, or fill them in"
        )


def fields_of(array: np.ndarray) -> Named:
    """Return an array with fields, one value each, as a table."""
    names = array.dtype.names or ()
    return joined([array[name] for name in names], names, "data")


def _kind_of(objects: np.ndarray) -> str:
    kinds = sorted({type(value).__name__ for value in objects.reshape(-1)[:1000]})
    return f"values of type {', '.join(kinds)}"
