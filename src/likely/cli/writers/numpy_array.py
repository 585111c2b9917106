"""Arrays as .npy, so that an .npy file comes back byte for byte; also on standard output."""

import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from likely.cli.writers.writer import Output, Writer, refuse_several
from likely.coding.records import Sink
from likely.data import readers
from likely.errors import FormatError
from likely.runs.files import write_file


class NumpyArray(Writer):
    """One array, with the header that the whole came with."""

    endings = (".npy",)
    rank = 0

    def claims(self, out: str) -> bool:
        """Return whether it is an .npy file, or -."""
        return out == "-" or super().claims(out)

    def check(self, out: str, rows: Output) -> None:
        """Refuse items of several sizes."""
        refuse_several(out, rows)

    def write(self, out: str, rows: Output, parts: Iterable[Any]) -> None:
        """Write the rows; a file is replaced in one step at the end."""
        header, dtype, fortran = _form(rows)
        if fortran:
            blocks = _in_columns(rows.shape, dtype, parts)
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


def _in_columns(shape: tuple[int, ...], dtype: np.dtype, parts: Iterable[np.ndarray]) -> Iterator[bytes]:
    """Yield the bytes of an array in Fortran order, kept as a whole: a row's bytes lie all over it."""
    array, filled = np.empty(shape, dtype, order="F"), 0
    for part in parts:
        array[filled : filled + len(part)] = part
        filled += len(part)
    yield from (column.tobytes() for column in array.T.reshape(-1, max(1, len(array))))


def _form(rows: Output) -> tuple[bytes, np.dtype, bool]:
    """Return the header of an .npy file, the dtype in it with its byte order, and whether it is in Fortran order.

    Of some rows of what was compressed, the byte order is kept.
    """
    shape, dtype = rows.shape, rows.dtype
    if rows.header is None:
        return header_of(shape, dtype), dtype, False
    header = rows.header.encode("latin-1")
    try:
        whole, fortran, own = readers.parse_header(io.BytesIO(header))
    except ValueError as error:
        raise FormatError(f"the stored .npy header is damaged: {error}") from error
    if (whole[1:], own.newbyteorder("=")) != (shape[1:], dtype):
        raise FormatError(f"the stored .npy header is of {own} {whole}, the array of {dtype} {shape}")
    if whole != shape:
        return header_of(shape, own), own, False
    return header, own, fortran


def header_of(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Return the usual header of an array in C order."""
    stream = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()
