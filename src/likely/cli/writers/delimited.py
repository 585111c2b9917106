"""Tables of text, .csv and .tsv: a header where columns have names, and the decimals of the data."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from likely.cli.writers.writer import Output, Writer, refuse_several
from likely.errors import InputError
from likely.runs.files import write_file


class Delimited(Writer):
    """A line for each row. Rows of several dimensions are written out flat."""

    endings = (".csv", ".tsv")
    rank = 2

    def check(self, out: str, rows: Output) -> None:
        """Refuse items of several sizes, and shapes that would be lost."""
        refuse_several(out, rows)
        if rows.exact and len(rows.shape) > 2:
            raise InputError(f"--out: items of shape {rows.shape[1:]} are no rows of a table; give -o FILE.npy")

    def write(self, out: str, rows: Output, parts: Iterable[Any]) -> None:
        """Write the header, and the rows."""
        mark = "\t" if out.lower().endswith(".tsv") else ","

        def write(file: Any) -> None:
            if rows.names is not None:
                line = io.StringIO()
                csv.writer(line, delimiter=mark, lineterminator="\n").writerow(rows.names)
                file.write(line.getvalue().encode())
            for part in parts:
                file.write(_lines(part, rows.decimals, mark).encode())

        write_file(Path(out), write)


def _lines(part: np.ndarray, decimals: Any, mark: str) -> str:
    """Return rows as lines."""
    table = part.reshape(len(part), -1)
    columns = [_cells(column, None if decimals is None else decimals[k]) for k, column in enumerate(table.T)]
    return "".join(f"{mark.join(cells)}\n" for cells in zip(*columns, strict=True))


def _cells(column: np.ndarray, decimals: int | None) -> list[str]:
    """Return numbers as text: with so many digits after the point, or as few as tell them from others."""
    if column.dtype.kind == "b":
        column = column.astype(np.uint8)
    if column.dtype.kind != "f" or decimals is None:
        return column.astype(str).tolist()
    rounded = np.round(column.astype(np.float64), decimals) + 0.0  # −0.0 becomes 0
    return [f"{value:.{decimals}f}" for value in rounded.tolist()]
