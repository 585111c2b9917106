"""Several files at once: a folder in, a folder out."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from likely.errors import InputError


def is_folder(out: str) -> bool:
    """Return whether an output is a folder for files, FOLDER/."""
    return out.endswith(("/", os.sep))


def pairs(data: tuple[str, ...], out: str, name: Callable[[str], str]) -> list[tuple[str, str]]:
    """Return every input, and its file in the output folder.

    Args:
        data: files, and folders of files.
        out: a folder; it need not exist.
        name: of an output, from that of its input.

    Raises:
        InputError: the output is no folder, there is no file, or two outputs have one name.
    """
    if not is_folder(out):
        raise InputError(f"--out: several files go into a folder, as FOLDER/, found {out}")
    inputs = [file for one in data for file in _files(one)]
    if not inputs:
        raise InputError(f"{', '.join(data)}: at least one file is expected, found none")
    outputs = [os.path.join(out, name(file)) for file in inputs]
    for first, second in zip(sorted(outputs), sorted(outputs)[1:], strict=False):
        if first == second:
            raise InputError(f"two of the files would become {first}")
    return list(zip(inputs, outputs, strict=True))


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    return sorted(entry.path for entry in os.scandir(path) if entry.is_file() and not entry.name.startswith("."))


def packed_name(file: str) -> str:
    """Return the name of a compressed file."""
    return f"{Path(file).name}.lk"


def unpacked_name(file: str) -> str:
    """Return the name that a compressed file gets back; pictures and tables in a format that loses nothing."""
    name = Path(file).name.removesuffix(".lk").removesuffix(".gz").removesuffix(".zst")
    ending = Path(name).suffix.lower()
    if ending in (".jpg", ".jpeg", ".webp"):
        return f"{name}.png"
    if ending in (".npy", ".npz", ".csv", ".tsv", ".parquet", ".feather", ".png", ".bmp", ".tif", ".pgm", ".ppm"):
        return name
    return f"{name}.npy"


def summed(results: list[dict[str, Any]], out: str) -> dict[str, Any]:
    """Return the result of the only file; of several those of each."""
    if len(results) == 1 and not is_folder(out):
        return results[0]
    return {"out": out, "files": results}
