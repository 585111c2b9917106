"""Files as streams of bytes: as they are, or unpacked from .gz or .zst; and optional packages, asked for by name."""

import gzip
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

from likely.errors import InputError

Stream = BufferedIOBase | IO[bytes]
DEFLATE = 1032  # deflate makes nothing smaller than this fraction of its size
ZSTD = 1 << 17
PACKED = {".gz": DEFLATE, ".zst": ZSTD}  # by how many times a file may grow when it is unpacked


@contextmanager
def reading(path: Path | str, expected: str) -> Iterator[None]:
    """Turn any error inside into one `InputError` that names the file."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read, permission denied") from error
    except Exception as error:
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: truncated or damaged: expected {expected}, found: {found}") from error


def base_name(path: Path) -> str:
    """Return a file's name in small letters, without the ending that says how it is packed."""
    name = path.name.lower()
    return name.removesuffix(path.suffix.lower()) if path.suffix.lower() in PACKED else name


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, int]]:
    """Open a file, unpacked; yield it, and the most bytes that it can hold."""
    packed = path.suffix.lower()
    room = os.path.getsize(path) * PACKED.get(packed, 1)
    with _stream(path, packed) as stream:
        yield stream, room


def _stream(path: Path, packed: str) -> Any:
    if packed == ".gz":
        return gzip.open(path, "rb")
    if packed == ".zst":
        return _unpacked(path)
    return open(path, "rb")


def _unpacked(path: Path) -> Any:
    """Unpack a .zst file, into a temporary one where it is large."""
    with package("pyarrow", path).input_stream(str(path), compression="zstd") as stream:
        unpacked = tempfile.SpooledTemporaryFile(1 << 28)  # noqa: SIM115  (the caller closes it)
        try:
            shutil.copyfileobj(stream, unpacked, 1 << 20)
        except BaseException:
            unpacked.close()
            raise
    unpacked.seek(0)
    return unpacked


def package(name: str, path: Path) -> Any:
    """Import a package that is needed for a file.

    Raises:
        InputError: it is not installed; says how to get it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{path}: to read it, {name.split('.')[0]} is needed: pip install 'likely[data]'") from error
