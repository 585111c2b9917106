"""Zip archives of numpy arrays, .npz."""

import os
import zipfile
from pathlib import Path

from likely.data.formats.format import Format, Found, Reading
from likely.data.formats.numpy_array import found, read_npy, refuse_pickle
from likely.data.formats.streams import DEFLATE, reading
from likely.errors import InputError

EXPECTED = "a zip archive of numpy arrays"


class NumpyArchive(Format):
    """Arrays by their names."""

    endings = (".npz",)
    described = ".npz"
    rank = 1

    def names(self, path: Path) -> tuple[str, ...]:
        """Return the names of all arrays."""
        with reading(path, EXPECTED):
            with open(path, "rb") as stream:
                refuse_pickle(path, stream)
            with zipfile.ZipFile(path) as archive:
                names = tuple(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))
        if not names:
            raise InputError(f"{path}: expected a zip archive of numpy arrays, found no array in it")
        return names

    def read(self, path: Path, key: str | None, how: Reading) -> Found:
        """Read the array of a name."""
        with reading(path, EXPECTED), zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{key}.npy")
            size = min(info.file_size, DEFLATE * min(info.compress_size, os.path.getsize(path)))
            with archive.open(info) as stream:
                return found(read_npy(stream, size, f"{path}:{key}"))
