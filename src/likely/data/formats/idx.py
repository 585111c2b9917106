"""IDX files, the format of MNIST."""

import struct
from pathlib import Path

import numpy as np

from likely.data.formats.format import Format, Found, Reading
from likely.data.formats.numpy_array import body
from likely.data.formats.streams import Stream, base_name, opened, reading
from likely.errors import InputError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class Idx(Format):
    """One array."""

    endings = (".idx", "-ubyte")
    packed = True
    described = "IDX (.idx*, *-ubyte, either with .gz)"
    rank = 2

    def claims(self, path: Path) -> bool:
        """Return whether a file's name ends as IDX files do: .idx3-ubyte, -idx3-ubyte, .idx3."""
        name = base_name(path)
        return not path.is_dir() and (name.endswith("-ubyte") or Path(name).suffix.startswith(".idx"))

    def read(self, path: Path, key: str | None, how: Reading) -> Found:
        """Read the array."""
        with reading(path, "an IDX file"), opened(path) as (stream, room):
            shape, dtype = _header(stream, path)
            if path.suffix.lower() not in (".gz", ".zst"):
                room -= stream.tell()
            return Found(body(stream, room, shape, dtype, str(path)))


def _header(stream: Stream, path: Path) -> tuple[tuple[int, ...], np.dtype]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or magic[3] == 0:
        raise InputError(f"{path}: expected an IDX file (00 00 type dimensions …), found {magic.hex(' ')}")
    dimensions = magic[3]
    shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
    return shape, np.dtype(TYPES[magic[2]])
