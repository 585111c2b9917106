"""Raw arrays in and out of commands, so that an .npy file comes back byte for byte."""

import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from likely.data import load, load_context, load_stored, readers
from likely.errors import FormatError
from likely.runs.files import write_file

HEADER = "npy"  # in a file's meta data: an .npy header that numpy would write otherwise


@dataclass(frozen=True)
class Raw:
    """An array as it is stored, its context, what to call it, and what else its file needs to come back."""

    array: np.ndarray
    context: Tensor | None
    note: str
    meta: dict[str, Any] = field(default_factory=dict)


def read_array(data: str, context: str | None) -> Raw:
    """What a name or a path stands for; - is an .npy array on standard input.

    Raises:
        InputError: as `likely.data.load`.
    """
    if data != "-" and not data.endswith(".npy"):
        loaded = load(data, "test", context=context)
        return Raw(load_stored(data, "test"), loaded.context, loaded.note)
    if data == "-":
        content = sys.stdin.buffer.read()
        array = readers.parse_npy(content, "standard input")
        header = content[: len(content) - array.nbytes]
    else:
        array = readers.read_array(Path(data))
        with open(data, "rb") as file:
            header = file.read(Path(data).stat().st_size - array.nbytes)
    meta = {} if header == _header(array) else {HEADER: header.decode("latin-1")}
    return Raw(array, side_information(context), "standard input" if data == "-" else data, meta)


def side_information(context: str | None) -> Tensor | None:
    """A context by itself, by name or path."""
    return None if context is None else load_context(context, "test")


def write_npy(out: str, array: np.ndarray, meta: dict[str, Any]) -> None:
    """Write an array, or some rows of it, as .npy with the header that the whole came with; - is standard output."""
    header, stored = _header(array), meta.get(HEADER)
    if isinstance(stored, str):
        array, whole = _arranged(array, stored.encode("latin-1"))
        header = stored.encode("latin-1") if whole else _header(array)
    content = header + array.tobytes("A")
    if out == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        write_file(Path(out), lambda file: file.write(content))


def _arranged(array: np.ndarray, header: bytes) -> tuple[np.ndarray, bool]:
    """The array in the byte and memory order that a stored header states, and whether it is the whole one."""
    stream = io.BytesIO(header)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except ValueError as error:
        raise FormatError(f"the stored .npy header is damaged: {error}") from error
    if (shape[1:], dtype.newbyteorder("=")) != (array.shape[1:], array.dtype):
        raise FormatError(f"the stored .npy header is of {dtype} {shape}, the array of {array.dtype} {array.shape}")
    return array.astype(dtype, order="F" if fortran else "C"), shape == array.shape


def _header(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(np.ascontiguousarray(array)))
    return stream.getvalue()
