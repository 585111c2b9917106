"""Arrays of HDF5 files, read with h5py. Links that lead out of a file are not followed."""

from pathlib import Path
from typing import Any

import numpy as np

from likely.data.formats.format import Format, Found, Reading
from likely.data.formats.gathered import LARGE, Gathered
from likely.data.formats.streams import DEFLATE, package, reading
from likely.errors import InputError


class Hdf5(Format):
    """Arrays by their paths in the file."""

    endings = (".h5", ".hdf5")
    described = ".h5"
    rank = 6

    def names(self, path: Path) -> tuple[str, ...]:
        """Return the paths of all arrays of numbers."""
        with reading(path, "an HDF5 file"), package("h5py", path).File(path, "r") as file:
            return arrays_in(file, path)

    def read(self, path: Path, key: str | None, how: Reading) -> Found:
        """Read the array at a path."""
        with reading(path, "an HDF5 file"), package("h5py", path).File(path, "r") as file:
            return Found(read_dataset(file[key], f"{path}:{key}"))


def arrays_in(file: Any, path: Path) -> tuple[str, ...]:
    """Return the paths of all arrays of numbers in an open file.

    Raises:
        InputError: there are none.
    """
    names: list[str] = []

    def note(name: str, thing: Any) -> None:
        if hasattr(thing, "dtype") and hasattr(thing, "chunks") and thing.shape and thing.dtype.kind in "biuf":
            names.append(name)

    file.visititems(note)
    if not names:
        raise InputError(f"{path}: expected arrays of numbers, found none in it")
    return tuple(names)


def read_dataset(stored: Any, name: str) -> np.ndarray:
    """Read an array; a large one into a temporary file.

    Raises:
        InputError: its numbers lie in another file, or are fewer than it declares.
    """
    if stored.external or stored.is_virtual:
        raise InputError(f"{name}: its numbers lie in other files, which is refused; copy them into one")
    if stored.nbytes > LARGE and stored.nbytes > DEFLATE * stored.id.get_storage_size():
        raise InputError(
            f"{name}: {stored.nbytes:,} bytes are declared, and {stored.id.get_storage_size():,} are stored"
        )
    if stored.nbytes <= LARGE:
        return stored[()]
    gathered = Gathered(stored.shape[1:], stored.dtype.newbyteorder("="))
    step = max(1, (1 << 24) // max(1, stored.nbytes // stored.shape[0]))
    for start in range(0, stored.shape[0], step):
        gathered.add(stored[start : start + step])
    return gathered.array()
