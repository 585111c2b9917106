"""Pictures without loss: one as a file, several as a new folder of .png files."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from likely.cli.writers.numpy_archive import numbered
from likely.cli.writers.writer import Output, Writer
from likely.errors import InputError, WriteError
from likely.runs.files import write_file, write_folder

LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")


class Picture(Writer):
    """One picture."""

    endings = (*LOSSLESS, ".jpg", ".jpeg", ".webp", ".gif", ".pdf")
    of_pictures = True
    rank = 8

    def check(self, out: str, rows: Output) -> None:
        """Refuse several items, what is no picture, and formats that lose something."""
        _refuse_others(rows, out)
        if rows.shape[0] != 1:
            raise InputError(
                f"--out: one item goes into a picture, found {rows.shape[0]:,}; give -o FOLDER or FILE.npz"
            )
        if rows.exact and not out.lower().endswith(LOSSLESS):
            raise InputError(f"--out: {', '.join(LOSSLESS)} hold a picture without loss, found {out}")

    def write(self, out: str, rows: Output, parts: Iterable[Any]) -> None:
        """Write the picture."""
        picture = next(item for part in parts for item in part)
        form = {".tif": "TIFF", ".tiff": "TIFF", ".pgm": "PPM"}.get(Path(out).suffix.lower())
        write_file(Path(out), lambda file: as_picture(picture).save(file, format=form or Path(out).suffix[1:].upper()))


class Folder(Writer):
    """Pictures, numbered, 0000.png and on, in a new folder."""

    endings = ("",)
    of_pictures = True
    rank = 9

    def claims(self, out: str) -> bool:
        """Return whether the name has no ending."""
        return not Path(out).suffix or Path(out).is_dir()

    def check(self, out: str, rows: Output) -> None:
        """Refuse what are no pictures, and a folder that holds something."""
        _refuse_others(rows, out)
        path = Path(out)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"--out: {out} exists, and pictures go into a new folder; choose another")

    def write(self, out: str, rows: Output, parts: Iterable[Any]) -> None:
        """Write the pictures."""
        items = numbered(parts, rows.shape[0])
        try:
            write_folder(Path(out), partial(_write_pictures, items))
        except OSError as error:
            raise WriteError(f"cannot write {out}: {error.strerror or error}") from error


def _write_pictures(items: Iterable[tuple[str, np.ndarray]], folder: Path) -> None:
    for name, item in items:
        as_picture(item).save(folder / f"{name}.png")


def _refuse_others(rows: Output, out: str) -> None:
    """Refuse items that are no pictures of 8 bits, or grey ones of 16."""
    shape, kind = rows.shape[1:], rows.dtype
    grey = len(shape) == 2 or (len(shape) == 3 and shape[0] == 1)
    coloured = len(shape) == 3 and 3 in (shape[0], shape[-1])
    deep = kind == np.uint16 and grey
    if not ((kind in (np.uint8, np.bool_) and (grey or coloured)) or deep):
        raise InputError(f"--out: items of {kind} {shape} are no pictures, as {out} says: give -o FILE.npy or FILE.npz")


def as_picture(item: np.ndarray) -> Any:
    """Return an item as a picture, channels last or first."""
    from PIL import Image

    if item.ndim == 3 and item.shape[-1] != 3:
        item = item[0] if len(item) == 1 else np.moveaxis(item, 0, -1)
    return Image.fromarray(np.ascontiguousarray(item.astype(item.dtype.newbyteorder("="))))
