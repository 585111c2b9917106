"""Folders: of pictures, of subfolders of them by split or by class, or of files that hold an array each."""

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from likely.data.formats.format import Format, Found, Reading
from likely.data.formats.picture import IMAGES
from likely.data.formats.pictures import Pictures
from likely.data.formats.streams import PACKED, base_name, reading
from likely.data.splits import split_of
from likely.errors import InputError

LABELS = "labels"
ARRAYS = (".npy", "-ubyte", ".csv", ".tsv", ".parquet")


class Folder(Format):
    """Pictures, sorted by name; labels are the numbers of their subfolders, sorted by name."""

    endings = ()
    described = "a folder of pictures"
    rank = 9

    def claims(self, path: Path) -> bool:
        """Return whether it is a folder."""
        return path.is_dir()

    def names(self, path: Path) -> tuple[str, ...]:
        """Return the subfolders of a folder without pictures of its own; or "images" and "labels" of classes."""
        listed = listing(path)
        if listed.pictures:
            return ()
        folders = [name for name in listed.folders if not name.startswith(".")]
        if not folders or not any(_holds_pictures(path / name) for name in folders):
            return tuple(_arrays_in(path)) or tuple(folders)
        splits = [name for name in folders if split_of(name)]
        if not splits and len(folders) > 1:
            return ("images", LABELS)
        with_labels = [f"{name}_{LABELS}" for name in splits if not listing(path / name).pictures]
        return (*folders, *with_labels)

    def has(self, path: Path, key: str) -> bool:
        """Return whether there is an array or a subfolder of this name."""
        return key in self.names(path) or (path / key).is_dir()

    def read(self, path: Path, key: str | None, how: Reading) -> Found:
        """Return the pictures, or the labels."""
        if key is None or (path / key).is_dir():
            return _pictures(path / (key or ""), how)
        arrays = _arrays_in(path)
        if key in arrays:
            return _read_file(arrays[key], how)
        split = key.removesuffix(LABELS).removesuffix("_")
        if not key.endswith(LABELS):  # "images"
            return _pictures(path, how)
        _, labels, classes = files_in(path / split)
        return Found(labels, said=", ".join(f"{number} {name}" for number, name in enumerate(classes))[:200])


def _pictures(folder: Path, how: Reading) -> Found:
    pictures = Pictures(files_in(folder)[0], how)
    return Found(pictures, said=pictures.said)


class Listing(NamedTuple):
    """What is in a folder, sorted by name, hidden files apart."""

    pictures: list[str]
    folders: list[str]
    others: list[str]


def listing(folder: Path) -> Listing:
    """List a folder."""
    with reading(folder, "a folder"):
        return _listing(str(folder), os.stat(folder).st_mtime_ns)


@lru_cache(8)
def _listing(folder: str, changed: int) -> Listing:
    found = Listing([], [], [])
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                found.folders.append(entry.name)
            elif os.path.splitext(entry.name)[1].lower() in IMAGES:
                found.pictures.append(entry.name)
            else:
                found.others.append(entry.name)
    for names in found:
        names.sort()
    return found


def files_in(folder: Path) -> tuple[list[str], np.ndarray, list[str]]:
    """Return the pictures of a folder or its subfolders, the number of the subfolder of each, and their names.

    Raises:
        InputError: there are none.
    """
    listed = listing(folder)
    if listed.pictures:
        return [os.path.join(folder, name) for name in listed.pictures], np.zeros(len(listed.pictures), int), []
    classes = [name for name in listed.folders if _holds_pictures(folder / name)]
    files, labels = [], []
    for number, name in enumerate(classes):
        own = listing(folder / name).pictures
        files += [os.path.join(folder, name, file) for file in own]
        labels += [number] * len(own)
    if not files:
        raise InputError(f"{folder}: expected a folder of images ({', '.join(IMAGES)}), found none in it")
    return files, np.array(labels), classes


def left_out(path: Path) -> str:
    """Return words for the files in a folder that are no pictures."""
    if not path.is_dir():
        return ""
    listed = listing(path)
    others = len(listed.folders) + len(listed.others)
    if not listed.pictures or not others:
        return ""
    return f"; other files left out: {others}"


def _holds_pictures(folder: Path) -> bool:
    """Return whether a folder, or a subfolder of it, holds a picture."""
    listed = listing(folder)
    return bool(listed.pictures) or any(listing(folder / name).pictures for name in listed.folders)


def _arrays_in(folder: Path) -> dict[str, Path]:
    """Return the files of a folder that hold an array each, by their names without endings; unpacked ones first."""
    found: dict[str, Path] = {}
    files = [folder / name for name in listing(folder).others]
    for file in sorted(files, key=lambda file: file.suffix in PACKED):
        name = base_name(file)
        if name.endswith(ARRAYS):
            found.setdefault(Path(file.name[: len(name)]).stem.split("-idx")[0], file)
    return found


def _read_file(file: Path, how: Reading) -> Found:
    from likely.data.formats import format_of

    return format_of(file).read(file, None, how)
