"""Files to numpy arrays, by the format that their names end with (`formats`).

Nothing is ever unpickled. The sizes that a file declares are held against the bytes it has before anything is
allocated, and whatever is wrong with a file comes out as one `InputError` that starts with its path.
"""

import os
from pathlib import Path

import numpy as np

from likely.data.formats import Found, Reading, described, format_of
from likely.data.formats.numpy_array import beginning, parse_header, parse_npy
from likely.data.formats.pictures import Pictures
from likely.data.formats.pictures import described as size_of
from likely.data.formats.streams import Stream
from likely.errors import InputError

__all__ = [
    "Pictures",
    "Stream",
    "array_names",
    "beginning",
    "described",
    "format_of",
    "parse_header",
    "parse_npy",
    "read",
    "read_array",
]


def array_names(path: Path) -> tuple[str, ...]:
    """List the arrays of a file or a folder; () for one array without a name.

    Raises:
        InputError: an unknown format, a damaged file, or one that has no arrays.
    """
    return format_of(path).names(path)


def read(path: Path, key: str | None = None, how: Reading | None = None) -> Found:
    """Read one array (n, …) of numbers, or the pictures of a folder.

    Args:
        path: a file, or a folder.
        key: one of `array_names(path)` where there are any; of a table, names of columns.
        how: choices; None: the usual ones.

    Raises:
        InputError: missing, of an unknown format, truncated, damaged, pickled, or not numbers; starts with the path.
    """
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file or folder")
    found_format = format_of(path)
    _refuse_key(path, key)
    found = found_format.read(path, key, how or Reading())
    values = found.values
    if isinstance(values, np.ndarray) and values.dtype.kind not in "biuf":
        where = f"{path}:{key}" if key else path
        raise InputError(f"{where}: an array of numbers is expected, found dtype {values.dtype}")
    return found


def read_array(path: Path, key: str | None = None) -> np.ndarray:
    """Read one array (n, …) of numbers in the dtype it is stored in.

    Pictures come as uint8, (n, h, w) in grey or (n, h, w, 3) in colour; tables of text as uint8 or int64 where every
    number is whole, else float64. A large .npy file comes as a memory map. Arguments and errors are those of `read`.
    """
    values = read(path, key).values
    if isinstance(values, Pictures):
        _refuse_sizes(values)
        return np.stack(values.as_stored(0, len(values)))
    return np.asanyarray(values)


def _refuse_key(path: Path, key: str | None) -> None:
    """Refuse a key where there is no array of that name, and none where there are names."""
    form = format_of(path)
    names = form.names(path)
    if form.table or (key is None and not names) or (key is not None and form.has(path, key)):
        return
    holds = "a single array without a name"
    if names:
        holds = f"arrays {', '.join(names)}"
    given = f"the key {key!r}" if key else "no key"
    raise InputError(f"{path}: holds {holds}; found {given}")


def _refuse_sizes(pictures: Pictures) -> None:
    if pictures.sizes is not None:
        other = int((pictures.sizes != pictures.sizes[0]).any(1).long().argmax())
        raise InputError(
            f"{pictures.files[other]}: images of one size go into an array, found {size_of(pictures.sizes[other])}; "
            f"{Path(pictures.files[0]).name} is {size_of(pictures.sizes[0])}"
        )
