"""Arrays of MATLAB's .mat files: read with scipy, or, of version 7.3, which is HDF5, with h5py."""

from pathlib import Path
from typing import Any

import numpy as np

from likely.data.formats.format import Format, Found, Reading
from likely.data.formats.hdf5 import arrays_in, read_dataset
from likely.data.formats.streams import package, reading
from likely.errors import InputError

HDF5 = b"MATLAB 7.3"
NUMBERS = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


class Matlab(Format):
    """Arrays by their names. Pictures that lie along the last axis, (h, w, c, n), become rows."""

    endings = (".mat",)
    described = ".mat"
    rank = 7

    def names(self, path: Path) -> tuple[str, ...]:
        """Return the names of all arrays of numbers."""
        with reading(path, "a .mat file"):
            if _is_hdf5(path):
                with package("h5py", path).File(path, "r") as file:
                    return tuple(name for name in arrays_in(file, path) if name[0] != "#")
            known = package("scipy.io", path).whosmat(str(path))
        names = tuple(name for name, _, kind in known if kind in NUMBERS)
        if not names:
            raise InputError(f"{path}: expected arrays of numbers, found none in it")
        return names

    def read(self, path: Path, key: str | None, how: Reading) -> Found:
        """Read the array of a name."""
        with reading(path, "a .mat file"):
            array = _array(path, str(key))
        if array.ndim == 4 and array.shape[2] in (1, 3) and array.shape[3] > array.shape[0]:
            return Found(np.moveaxis(array, 3, 0), said="pictures along the last axis became rows")
        return Found(array)


def _array(path: Path, key: str) -> np.ndarray:
    if not _is_hdf5(path):
        found: Any = package("scipy.io", path).loadmat(str(path), variable_names=[key])
        return found[key]
    with package("h5py", path).File(path, "r") as file:
        return read_dataset(file[key], f"{path}:{key}").T  # MATLAB keeps its first axis last


def _is_hdf5(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(HDF5)) == HDF5
