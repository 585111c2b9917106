"""Arrays in numpy's format, .npy. Nothing is ever unpickled."""

import io
import math
import os
from pathlib import Path
from typing import NoReturn

import numpy as np

from likely.data.formats.format import Format, Found, Reading
from likely.data.formats.gathered import LARGE
from likely.data.formats.streams import Stream, opened, reading
from likely.errors import InputError
from likely.rows.frames import fields_of


class NumpyArray(Format):
    """One array; a large one stays in its file."""

    endings = (".npy",)
    packed = True
    described = ".npy"
    rank = 0

    def read(self, path: Path, key: str | None, how: Reading) -> Found:
        """Read the array, or map it into memory."""
        with reading(path, "an array in numpy's format"), opened(path) as (stream, room):
            refuse_pickle(path, stream)
            if room < LARGE or path.suffix.lower() != ".npy":
                return found(read_npy(stream, room, str(path)))
            return found(_mapped(path, stream, room))


def found(array: np.ndarray) -> Found:
    """Return an array; one with fields as a table."""
    if array.dtype.names is None:
        return Found(array)
    return Found(*fields_of(array))


def _mapped(path: Path, stream: Stream, size: int) -> np.ndarray:
    """Map a large array into memory; one in Fortran order is read, because its rows are scattered."""
    shape, fortran, dtype = _header(stream, str(path))
    wanted, room = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if fortran or wanted != room:
        stream.seek(0)
        return read_npy(stream, size, str(path))
    return np.memmap(path, dtype, "r", stream.tell(), shape)


def parse_npy(content: bytes, name: str) -> np.ndarray:
    """Return the array in the bytes of an .npy file; raises as `read_array`."""
    with reading(name, "an array in numpy's format"):
        stream = io.BytesIO(content)
        refuse_pickle(name, stream)
        return read_npy(stream, len(content), name)


def read_npy(stream: Stream, size: int, name: str) -> np.ndarray:
    """Read one array in numpy's format from a stream of at most `size` bytes."""
    shape, fortran, dtype = _header(stream, name)
    room = size - stream.tell()
    if fortran:
        return body(stream, room, shape[::-1], dtype, name).T
    return body(stream, room, shape, dtype, name)


def _header(stream: Stream, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, whether in Fortran order, and dtype."""
    shape, fortran, dtype = parse_header(stream)
    if dtype.hasobject:
        _pickled(name)
    return shape, fortran, dtype


def parse_header(stream: Stream) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, whether in Fortran order, and dtype as numpy does; errors are those of numpy."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def body(stream: Stream, room: int, shape: tuple[int, ...], dtype: np.dtype, name: str) -> np.ndarray:
    """Read the rest of a stream, at most `room` bytes: exactly one array, in the machine's byte order."""
    wanted = math.prod(shape) * dtype.itemsize
    expected = f"{name}: truncated or damaged: expected {wanted:,} bytes for shape {shape} of {dtype.name}"
    if not 0 <= wanted <= room:
        raise InputError(f"{expected}, found room for {max(room, 0):,}")
    raw = np.empty(wanted, np.uint8)
    filled = 0
    while filled < wanted and (chunk := stream.read(min(wanted - filled, 1 << 20))):
        raw[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    if filled < wanted:
        raise InputError(f"{expected}, found {filled:,}")
    if stream.read(1):
        raise InputError(f"{expected}, found more")
    return raw.view(dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def refuse_pickle(path: Path | str, stream: Stream) -> None:
    """Refuse a stream that begins as a pickle does."""
    if stream.read(1) == b"\x80":
        _pickled(str(path))
    stream.seek(0)


def _pickled(name: str) -> NoReturn:
    raise InputError(
        f"{name}: expected numbers, found pickled Python objects, which are never read because they can run code; "
        "save a plain array of numbers instead"
    )


def beginning(file: Stream) -> bytes:
    """Return the bytes of an .npy file before its numbers."""
    parse_header(file)
    size = file.tell()
    file.seek(0, os.SEEK_SET)
    return file.read(size)
