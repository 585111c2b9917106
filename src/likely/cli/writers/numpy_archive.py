"""Arrays as .npz: one, called data, or items of several sizes, numbered."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from likely.cli.writers.numpy_array import header_of
from likely.cli.writers.writer import Output, Writer
from likely.runs.files import write_file


class NumpyArchive(Writer):
    """A zip archive of arrays."""

    endings = (".npz",)
    rank = 1

    def check(self, out: str, rows: Output) -> None:
        """Take everything."""

    def write(self, out: str, rows: Output, parts: Iterable[Any]) -> None:
        """Write one array, or one for each item."""
        write_file(Path(out), lambda file: _write(file, rows, parts))


def _write(file: Any, rows: Output, parts: Iterable[Any]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        if rows.several:
            for name, item in numbered(parts, rows.shape[0]):
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, item)
            return
        with archive.open("data.npy", "w", force_zip64=True) as member:
            member.write(header_of(rows.shape, rows.dtype))
            for part in parts:
                member.write(np.ascontiguousarray(part, rows.dtype).tobytes())


def numbered(parts: Iterable[Any], n: int) -> Iterable[tuple[str, np.ndarray]]:
    """Yield n items with their numbers as names, 0000 and on."""
    digits = len(str(max(n - 1, 1000)))
    names = (f"{number:0{digits}}" for number in range(n))
    return zip(names, (item for part in parts for item in part), strict=True)
