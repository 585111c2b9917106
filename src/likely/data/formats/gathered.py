"""Rows that come part by part: kept in memory while they are few, else in a temporary file."""

import os
import tempfile
import weakref

import numpy as np

from likely.errors import InputError

LARGE = 1 << 28  # bytes of an array that is left on disk, and read as it is needed


class Gathered:
    """An array (n, *shape) that grows by its rows.

    Args:
        shape: of one row.
        dtype: of the rows.
        limit: bytes from which on it is a temporary file, which goes when nobody has the array any more.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype | str, limit: int | None = None) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.limit = LARGE if limit is None else limit
        self.parts: list[np.ndarray] = []
        self.rows, self.size, self.path = 0, 0, ""

    def add(self, rows: np.ndarray) -> None:
        """Add rows.

        Raises:
            InputError: the temporary file could not be written.
        """
        rows = np.ascontiguousarray(rows, self.dtype)
        self.parts.append(rows)
        self.rows, self.size = self.rows + len(rows), self.size + rows.nbytes
        if self.path or self.size > self.limit:
            self._write()

    def array(self) -> np.ndarray:
        """Return all rows, in memory or as a memory map."""
        if not self.path:
            return np.concatenate([np.empty((0, *self.shape), self.dtype), *self.parts])
        mapped = np.memmap(self.path, self.dtype, "r", 0, (self.rows, *self.shape))
        weakref.finalize(vars(mapped)["_mmap"], os.unlink, self.path)
        return mapped

    def _write(self) -> None:
        try:
            if not self.path:
                descriptor, self.path = tempfile.mkstemp(prefix="likely-", suffix=".rows")
                os.close(descriptor)
            with open(self.path, "ab") as file:
                for part in self.parts:
                    part.tofile(file)
        except OSError as error:
            self.close()
            raise InputError(
                f"{tempfile.gettempdir()}: no room for data that do not fit into memory "
                f"({error.strerror or error}); set TMPDIR to another folder"
            ) from error
        self.parts = []

    def close(self) -> None:
        """Remove the temporary file of an array that is not wanted any more."""
        if self.path:
            os.unlink(self.path)
            self.path = ""
