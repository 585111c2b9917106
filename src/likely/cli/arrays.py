"""Raw arrays in and out of commands, so that an .npy file comes back byte for byte."""

import io
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from likely.coding.records import Sink
from likely.data import load, load_context, load_stored, readers
from likely.errors import FormatError, InputError, WriteError
from likely.rows import Rows
from likely.runs.files import write_file, write_folder

HEADER = "npy"  # in a file's meta data: an .npy header that numpy would write otherwise


@dataclass(frozen=True)
class Raw:
    """An array as it is stored, and everything that its file needs to come back.

    Attributes:
        array: items of one size; rows where there are several sizes.
        context: one for each item, or None.
        note: words for people on where the array comes from.
        meta: for the file.
    """

    array: np.ndarray | Rows
    context: Tensor | None
    note: str
    meta: dict[str, Any] = field(default_factory=dict)


def read_array(data: str, context: str | None) -> Raw:
    """Read the array of a name or a path; - is an .npy array on standard input.

    Raises:
        InputError: as `likely.data.load`.
    """
    if data != "-" and not data.endswith(".npy"):
        loaded = load(data, "test", context=context)
        array = load_stored(data, "test") if loaded.sizes is None else loaded
        return Raw(array, loaded.context, loaded.note)
    array, header = _from_standard_input() if data == "-" else _from_npy(data)
    meta = {}
    if header != _header(array.shape, array.dtype):
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


def write_npy(out: str, shape: tuple[int, ...], dtype: np.dtype, parts: Iterable[Any], meta: dict[str, Any]) -> None:
    """Write an array part by part as .npy, with the header that the whole came with; - is standard output.

    Args:
        out: the file, replaced in one step at the end, or -.
        shape, dtype: of the array, perhaps some rows of the one that was compressed.
        parts: its rows, in their order.
        meta: of the .lk file.
    """
    header, dtype, fortran = _form(shape, dtype, meta.get(HEADER))
    if fortran:
        blocks = _in_columns(shape, dtype, parts)
    else:
        blocks = (part.astype(dtype).tobytes() for part in parts)

    def write(file: Sink) -> None:
        file.write(header)
        for block in blocks:
            file.write(block)

    if out == "-":
        write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        write_file(Path(out), write)


def write_items(out: str, parts: Iterable[Any], n: int) -> None:
    """Write n arrays of several sizes, part by part: into a .npz file, or as pictures into a new folder.

    They are numbered, 0000 and on. The file or folder appears whole, or not at all.

    Raises:
        InputError: pictures are to be written, and an array is none, or the folder is no new one.
        WriteError: it could not be written.
    """
    digits = len(str(max(n - 1, 1000)))
    names = (f"{number:0{digits}}" for number in range(n))
    items = zip(names, (item for part in parts for item in part), strict=True)
    path = Path(out)
    if path.suffix == ".npz":
        write_file(path, partial(_write_npz, items))
        return
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"--out: {out} exists, and pictures go into a new folder; choose another")
    try:
        write_folder(path, partial(_write_pictures, items))
    except OSError as error:
        raise WriteError(f"cannot write {out}: {error.strerror or error}") from error


def _write_npz(items: Iterable[tuple[str, np.ndarray]], file: Any) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, item in items:
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, item)


def _write_pictures(items: Iterable[tuple[str, np.ndarray]], folder: Path) -> None:
    from PIL import Image

    for name, item in items:
        grey, coloured = item.ndim == 2, item.ndim == 3 and item.shape[-1] == 3
        if item.dtype != np.uint8 or not (grey or coloured):
            raise InputError(f"item {name}, {item.dtype} {item.shape}, is no picture: give -o FILE.npz")
        Image.fromarray(np.ascontiguousarray(item)).save(folder / f"{name}.png")


def _in_columns(shape: tuple[int, ...], dtype: np.dtype, parts: Iterable[np.ndarray]) -> Iterator[bytes]:
    """Yield the bytes of an array in Fortran order, kept as a whole: a row's bytes lie all over it."""
    array, filled = np.empty(shape, dtype, order="F"), 0
    for part in parts:
        array[filled : filled + len(part)] = part
        filled += len(part)
    yield from (column.tobytes() for column in array.T.reshape(-1, max(1, len(array))))


def _form(shape: tuple[int, ...], dtype: np.dtype, stored: Any) -> tuple[bytes, np.dtype, bool]:
    """Return the header of an .npy file, the dtype in it with its byte order, and whether it is in Fortran order.

    Args:
        shape, dtype: of the array.
        stored: the header that the whole came with; of some of its rows the byte order is kept.
    """
    if not isinstance(stored, str):
        return _header(shape, dtype), dtype, False
    header = stored.encode("latin-1")
    try:
        whole, fortran, own = readers.parse_header(io.BytesIO(header))
    except ValueError as error:
        raise FormatError(f"the stored .npy header is damaged: {error}") from error
    if (whole[1:], own.newbyteorder("=")) != (shape[1:], dtype):
        raise FormatError(f"the stored .npy header is of {own} {whole}, the array of {dtype} {shape}")
    if whole != shape:
        return _header(shape, own), own, False
    return header, own, fortran


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    stream = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()
