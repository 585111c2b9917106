"""Tables as text: comma-, semicolon- or tab-separated numbers, with a header or without."""

import csv
import io
import itertools
import math
import re
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from likely.data.formats.columns import narrow, places_of
from likely.data.formats.format import Format, Found, Reading
from likely.data.formats.gathered import Gathered
from likely.data.formats.streams import opened, reading
from likely.errors import InputError

BLOCK = 1 << 20  # numbers that are converted at a time
Cells = list[str]


class Delimited(Format):
    """A table of numbers. What separates them is seen in the first line; between semicolons 1,5 is 1.5."""

    endings = (".csv", ".tsv")
    packed = True
    described = ".csv or .tsv (with .gz or .zst too)"
    rank = 3
    table = True

    def columns(self, path: Path) -> tuple[str, ...]:
        """Return the header, where there is one."""
        with _opened(path) as table:
            return tuple(table.header or ())

    def read(self, path: Path, key: str | None, how: Reading) -> Found:
        """Read the columns that a key names, or all."""
        with _opened(path) as table:
            names = table.pick(key)
            blocks = table.blocks()
            first = next(blocks, None)
            if first is None:
                raise InputError(f"{path}: expected a table of numbers, found no rows")
            gathered = Gathered(first.shape[1:], "float64")
            for block in itertools.chain([first], blocks):
                gathered.add(block)
        return Found(narrow(gathered.array()), names)


@contextmanager
def _opened(path: Path) -> Iterator["_Table"]:
    """Open a table of text."""
    with (
        reading(path, "a table of numbers, comma-separated"),
        opened(path) as (stream, _),
        io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text,
    ):
        first = text.readline()
        mark = _separator(first)
        yield _Table(path, csv.reader(itertools.chain([first], text), delimiter=mark, strict=True), mark == ";")


def _separator(line: str) -> str:
    """Return what separates the cells of a line: what is in quotes does not count."""
    bare = re.sub(r'"[^"]*"', "", line)
    return next((mark for mark in "\t;" if mark in bare), ",")


class _Table:
    """Rows of finite numbers, all of one length; a first row without any number is a header.

    Args:
        path: for errors.
        cells: rows of the file.
        comma: whether numbers have a comma where others have a point.
    """

    def __init__(self, path: Path, cells: Iterator[Cells], comma: bool) -> None:
        self.path, self.number = path, 1
        self.parse: Callable[[str], float] = _with_comma if comma else float
        first = next(cells, [])
        self.header: Cells | None = None
        self.width = len(first)
        if first and "".join(first).strip() and not any(map(self._is_number, first)):
            self.header = first
        else:
            cells = itertools.chain([first], cells)
            self.number = 0
        self.cells, self.places = cells, list(range(self.width))

    def pick(self, key: str | None) -> tuple[str, ...] | None:
        """Take the columns that a key names, and return the names of those that are taken.

        Raises:
            InputError: there is none of a name.
        """
        if key is not None:
            self.places = places_of(key, self.header or (), self.path)
        if self.header is None:
            return None
        return tuple(self.header[place].strip() for place in self.places)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the rows, some at a time.

        Raises:
            InputError: a row of another length, or an entry that is no finite number; names its place.
        """
        numbers, first, whole = array("d"), self.number + 1, self.places == list(range(self.width))
        for cells in self._rows():
            try:
                numbers.extend(map(self.parse, cells if whole else [cells[place] for place in self.places]))
            except ValueError:
                self._refuse(self.number, cells)
            if len(numbers) >= BLOCK:
                yield self._block(numbers, first)
                numbers, first = array("d"), self.number + 1
        if numbers:
            yield self._block(numbers, first)

    def _rows(self) -> Iterator[Cells]:
        blank = 0
        for cells in self.cells:
            self.number += 1
            if not cells:
                blank = blank or self.number
                continue
            if blank:
                raise InputError(f"{self.path}: row {blank}: expected {self.width} numbers, found an empty row")
            if len(cells) != self.width:
                raise InputError(f"{self.path}: row {self.number}: expected {self.width} columns, found {len(cells)}")
            yield cells

    def _block(self, numbers: array, first: int) -> np.ndarray:
        block = np.frombuffer(numbers, np.float64).reshape(-1, len(self.places))
        wrong = np.argwhere(~np.isfinite(block))
        if len(wrong):
            row, column = wrong[0].tolist()
            self._raise(first + row, self.places[column], str(block[row, column]))
        return block

    def _refuse(self, row: int, cells: Cells) -> None:
        place = next(place for place in self.places if not self._is_number(cells[place]))
        self._raise(row, place, cells[place])

    def _raise(self, row: int, place: int, cell: str) -> None:
        name, hint = "", ""
        if self.header is not None:
            name, hint = f' ("{self.header[place]}")', "; --drop leaves a column out"
        found = f'"{cell[:60]}"' if cell.strip() else "a hole"
        raise InputError(
            f"{self.path}: row {row}, column {place + 1}{name}: expected a finite number, found {found}{hint}"
        )

    def _is_number(self, cell: str) -> bool:
        try:
            return math.isfinite(self.parse(cell))
        except ValueError:
            return False


def _with_comma(cell: str) -> float:
    """Return a number that may have a comma for its point."""
    return float(cell.replace(",", ".")) if "." not in cell else float(cell)
