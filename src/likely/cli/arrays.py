"""Raw arrays of commands, with what their files need to come back byte for byte."""

import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from likely.cli.writers.numpy_array import header_of
from likely.data import Reading, as_stored, load_context, load_with_stored, readers
from likely.rows import Rows

HEADER = "npy"  # in a file's meta data: an .npy header that numpy would write otherwise
NAMES = "names"  # in a file's meta data: names of the columns of a table
LONG = 2000  # bytes of names that are kept, at most


@dataclass(frozen=True)
class Raw:
    """An array as it is stored, and everything that its file needs to come back.

    Attributes:
        array: items of one size; rows where there are several sizes, or many pictures.
        context: one for each item, or None.
        note: words for people on where the array comes from.
        meta: for the file.
    """

    array: np.ndarray | Rows
    context: Tensor | None
    note: str
    meta: dict[str, Any] = field(default_factory=dict)


def read_array(data: str, context: str | None, reading: Reading | None = None) -> Raw:
    """Read the array of a name or a path; - is an .npy array on standard input.

    Args:
        data: name or path.
        context: in the same form, or None.
        reading: how files are read, by the model's preparation.

    Raises:
        InputError: as `likely.data.load`.
    """
    if data != "-" and not data.endswith(".npy"):
        loaded, found = load_with_stored(data, "test", context=context, reading=reading)
        meta = {}
        if loaded.names and len(str(loaded.names)) < LONG:
            meta[NAMES] = list(loaded.names)
        return Raw(as_stored(found), loaded.context, loaded.note, meta)
    array, header = _from_standard_input() if data == "-" else _from_npy(data)
    meta = {}
    if header != header_of(array.shape, array.dtype):
        meta[HEADER] = header.decode("latin-1")
    note = "standard input" if data == "-" else data
    return Raw(array, side_information(context), note, meta)


def _from_standard_input() -> tuple[np.ndarray, bytes]:
    """Read an array and its header."""
    content = sys.stdin.buffer.read()
    return readers.parse_npy(content, "standard input"), readers.beginning(io.BytesIO(content))


def _from_npy(path: str) -> tuple[np.ndarray, bytes]:
    """Read an array and its header."""
    array = readers.read_array(Path(path))
    with open(path, "rb") as file:
        return array, readers.beginning(file)


def side_information(context: str | None) -> Tensor | None:
    """Load a context by itself, by name or path."""
    if context is None:
        return None
    return load_context(context, "test")
