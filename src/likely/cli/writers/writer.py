"""What a writer is: endings, what it refuses, and a way to write rows part by part."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from likely.errors import InputError


@dataclass(frozen=True)
class Output:
    """Rows to be written, and what is known of them.

    Attributes:
        shape: (n, …); None stands for sizes that vary from row to row.
        dtype: of all rows.
        names: of the columns of a table; None: they have none.
        decimals: digits after the point of each column; None: as many as the number has.
        header: of an .npy file that the whole came with, where it is not the usual one.
        exact: whether the rows must come back as they are, their shape too.
    """

    shape: tuple[Any, ...]
    dtype: np.dtype
    names: Sequence[str] | None = None
    decimals: Sequence[int | None] | None = None
    header: str | None = None
    exact: bool = False

    @property
    def several(self) -> bool:
        """Whether rows are of several sizes."""
        return None in self.shape


class Writer(ABC):
    """A format of output files.

    Attributes:
        endings: of files, in small letters.
        of_pictures: whether it holds pictures and nothing else.
        rank: of its place in a list.
    """

    endings: tuple[str, ...]
    of_pictures: bool = False
    rank: int = 5

    def claims(self, out: str) -> bool:
        """Return whether a file is of this format, by its name."""
        return out.lower().endswith(self.endings)

    @abstractmethod
    def check(self, out: str, rows: Output) -> None:
        """Refuse rows that this format cannot hold without loss, before anything is computed.

        Raises:
            InputError: says what to give in place of it.
        """

    @abstractmethod
    def write(self, out: str, rows: Output, parts: Iterable[Any]) -> None:
        """Write rows, part by part; the file or folder appears whole, or not at all.

        Args:
            out: the file.
            rows: described.
            parts: the rows, in their order: arrays, or lists of arrays of several sizes.

        Raises:
            InputError: as `check`.
            WriteError: it could not be written.
        """

    def write_array(self, out: str | Path, array: np.ndarray, names: Any = None, decimals: Any = None) -> None:
        """Write an array in memory; raises as `write`."""
        rows = Output(array.shape, array.dtype, names, decimals)
        self.check(str(out), rows)
        self.write(str(out), rows, [array])


def refuse_several(out: str, rows: Output) -> None:
    """Refuse rows of several sizes."""
    if rows.several:
        raise InputError(f"--out: the items are of several sizes; a .npz file or a new folder is expected, found {out}")
