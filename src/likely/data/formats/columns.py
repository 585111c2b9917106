"""Columns of tables: picked by their names, and brought into one array."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from likely.data.formats.gathered import Gathered
from likely.errors import InputError, suggestion
from likely.rows import frames


def names_of(key: str) -> list[str]:
    """Return the names of columns in a key, which have commas between them; one that has a comma is in quotes."""
    return next(csv.reader([key]), [])


def key_of(names: Iterable[str]) -> str:
    """Return the key of some columns: the inverse of `names_of`."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def places_of(key: str, known: Sequence[str], path: Path) -> list[int]:
    """Return the places of the columns that a key names.

    Raises:
        InputError: there is none of a name, or more than one.
    """
    known = [name.strip() for name in known]
    if not known:
        raise InputError(f"{path}: no column {key!r}: its columns have no names, because it has no header")
    wanted = [key] if key in known else [name.strip() for name in names_of(key)]
    for name in wanted:
        if known.count(name) != 1:
            found = f"{known.count(name)} columns" if name in known else "no column"
            raise InputError(f"{path}: {found} {name!r}{suggestion(name, known)}")
    return [known.index(name) for name in wanted]


def narrow(table: np.ndarray) -> np.ndarray:
    """Return whole numbers as integers, in one byte each where they fit; a table on disk as it is."""
    if isinstance(table, np.memmap) or not len(table):
        return table
    if table.dtype.kind == "f" and ((table != np.rint(table)).any() or np.abs(table).max() >= 2**53):
        return table
    if table.min() >= 0 and table.max() <= 255:
        return table.astype(np.uint8)
    return table if table.dtype.kind == "u" else table.astype(np.int64)


def gathered(path: Path, names: Sequence[str], batches: Iterator[list[Any]]) -> np.ndarray:
    """Return the columns of all batches as one array.

    Args:
        path: for errors.
        names: of the columns.
        batches: lists of columns.

    Raises:
        InputError: a column that holds no numbers, or a missing value; names it and its row.
    """
    found, before = None, 0
    for columns in batches:
        for column, name in zip(columns, names, strict=True):
            _refuse_missing(column, f'{path}: column "{name}"', before)
        table, _ = frames.joined(columns, names, str(path))
        if found is None:
            found = Gathered(table.shape[1:], table.dtype)
        found.add(table)
        before += len(table)
    if found is None:
        raise InputError(f"{path}: expected a table of numbers, found no rows")
    return narrow(found.array())


def _refuse_missing(column: Any, name: str, before: int) -> None:
    missing = frames.missing_in(column)
    if missing.any():
        raise InputError(f"{name}: a missing value in row {before + int(missing.argmax())}; --drop leaves a column out")
