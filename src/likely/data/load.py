"""Names (`digits`), files (`mnist.npz`, `mnist.npz:test`) and folders (`photos/`), and their splits → stored arrays."""

import difflib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from likely.data import readers
from likely.data.generated import DRAWS, GENERATED, drawn
from likely.errors import InputError, suggestion
from likely.event import shown
from likely.rows import Rows, Source
from likely.rows.sources import file_of

Role = Literal["train", "test"]

SPLITS = {
    "train": {"train", "training"},
    "valid": {"valid", "validation", "val", "dev"},
    "test": {"test", "testing"},
}
LABELS = {"label", "labels", "y", "target", "targets", "class", "classes"}
DIGITS = {  # name: rows of the packaged 1,797, and how to say it
    "train": (slice(0, 1500), "the first 1,500 of 1,797"),
    "test": (slice(1500, None), "the last 297 of 1,797"),
    "all": (slice(None), "all 1,797"),
}
NAMES = ("digits", *GENERATED)


class Data(Rows):
    """Rows as they are stored, before any preparation, and where they come from.

    Args:
        x: (n, …), uint8, another integer type or floating.
        context: (n, …), one row for each of x; None without.
        source, note, context_source: as of `Rows`.
    """

    def __init__(
        self,
        x: Any,
        context: Any = None,
        source: str | None = None,
        note: str = "given in Python",
        context_source: str | None = None,
    ) -> None:
        super().__init__(x, context)
        self.source, self.note, self.context_source = source, note, context_source

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        context = ""
        if self._context is not None:
            context = f", context {(len(self), *self._context.shape[1:])}"
        return f"Data({self.note}; x {shown(self.shape)} {dtype}{context})"


@dataclass(frozen=True)
class _Place:
    """The place of one array.

    Attributes:
        base: a path, or a name of `NAMES`.
        key: of an array in the file or the subfolder of a folder, or a split of the name; None: without a name.
        split: "train", "valid", "test" or None: unknown.
        how: words on how it was found, with {n} for the number of rows.
    """

    base: str | Path
    key: str | None
    split: str | None
    how: str

    @property
    def path(self) -> Path | None:
        """The file or folder; None: data with a name."""
        if self.base in NAMES:
            return None
        return Path(self.base)

    @property
    def source(self) -> str:
        base = str(self.base)
        if self.path is not None:
            base = os.path.abspath(self.path)
        return self._with_key(base)

    @property
    def label(self) -> str:
        base = str(self.base)
        if self.path is not None:
            base = self.path.name or base
        return self._with_key(base)

    def _with_key(self, base: str) -> str:
        return f"{base}:{self.key}" if self.key else base


def load(data: str, role: Role, *, context: str | None = None) -> Data:
    """Load data by name or path.

    A path is a .npy, .npz, IDX(.gz) or CSV file or a folder of images; `path:key` picks one array (or subfolder), or a
    split that exactly one array of data is named after (`mnist.npz:test` finds `test_images`). Without a key, of
    arrays named after splits a fit takes the training one and everything else the test one; a single array is taken
    whole. Names come before paths: write `./digits` for a folder of that name.

    Args:
        data: a name (digits, moons, ising, …) or a path, with `:key` or without.
        role: the split that `data` stands for without a key.
        context: in the same form, aligned row by row with the data. `digits:labels` and `file.npz:labels` follow the
            split of the data.

    Returns:
        x of shape (n, …) and context as they are stored; `note` describes the rows.

    Raises:
        InputError: nothing of that name, a damaged or unsuitable file, an unclear split, or a context of another
            length or split.
    """
    place = _locate(data, role)
    if context is None:
        return _fetch(place, None)
    return _fetch(place, _locate_context(context, place.split))


def load_stored(data: str, role: Role) -> np.ndarray:
    """Load the array of `load`, in its own dtype; raises as `load`."""
    return _stored(_locate(data, role))


def load_context(context: str, role: Role) -> Tensor:
    """Load a context by itself, by name or path, of any split; raises as `load`."""
    base, key = _parse(context)
    if base in NAMES and key == "labels":  # they follow a split
        return _values(_locate_context(context, role))
    return _values(_locate(context, role))


def load_validation(data: str, *, context: str | None = None) -> Data | None:
    """Load the validation split that belongs to training data in the same file, where there is one by name.

    Args:
        data: the training data, as for `load`.
        context: its context, as for `load`; the array of the validation split that corresponds is found by name.

    Returns:
        None where the data are not the training split of a file that has a validation split for it (and its context).

    Raises:
        InputError: as `load`.
    """
    place = _sibling(_locate(data, "train"), "valid")
    if place is None:
        return None
    if context is None:
        return _fetch(place, None)
    beside = _sibling(_locate_context(context, "train"), "valid")
    if beside is None:
        return None
    return _fetch(place, beside)


def validation(data: Rows, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Hold out a seeded fraction of the rows, and say so; arguments and errors are those of `Rows.split`.

    Returns:
        Training and validation data, each in the order of `data`.
    """
    train, valid = data.split(fraction, seed)
    part = f"a seeded {100 * fraction:g} % (seed {seed})"
    train.note = f"{data.note}; {len(train):,} rows left after {part} was held out"
    valid.note = f"{data.note}; {len(valid):,} rows: {part} held out"
    return train, valid


def fingerprint(data: Rows) -> str:
    """Return the SHA-256 over dtype, shape and bytes of x and of the context as stored, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for parts in data.columns():
        if parts is None:
            digest.update(b"none")
            continue
        digest.update(f"{parts.dtype} {parts.shape} ".encode())
        if parts.sizes is not None:
            digest.update(str(parts.sizes.tolist()).encode())
        for part in parts.slices():
            digest.update(part.x.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# Where data are: names and files → places


def _locate(data: str, role: str) -> _Place:
    base, key = _parse(data)
    if base in NAMES:
        return _locate_named(base, role if key is None else key)
    return _locate_in_file(Path(base), key, role)


def _parse(data: str) -> tuple[str, str | None]:
    """Split `path:key`; the path is one of `NAMES` or exists."""
    if data in NAMES or os.path.exists(data):
        return data, None
    base, colon, key = data.rpartition(":")
    if colon and (base in NAMES or os.path.exists(base)):
        return base, key
    missing = base if colon and "/" not in key else data
    raise InputError(_missing(missing))


def _missing(name: str) -> str:
    folder = Path(name).parent
    beside: list[str] = []
    if folder.is_dir() and os.access(folder, os.R_OK):
        beside = [str(path) for path in folder.iterdir() if path.name[0] != "."]
    known = [*NAMES, *difflib.get_close_matches(name, beside, 1)]
    return f"{name}: no such file, folder or name{suggestion(name, known)}; a path leads to {readers.FORMATS}"


def _locate_named(name: str, key: str) -> _Place:
    known = DIGITS if name == "digits" else DRAWS
    if key not in known:
        raise _unknown(name, key, tuple(known))
    if name == "digits":
        return _Place(name, key, key, DIGITS[key][1])
    n, seed = DRAWS[key]
    return _Place(name, key, key, f"{n:,} draws of the source, seed {seed}")


def _locate_in_file(path: Path, key: str | None, role: str) -> _Place:
    names = readers.array_names(path)
    if not names and key is not None:
        raise InputError(f"{path}: holds a single array without a name; leave out {key!r}")
    if not names:
        return _Place(path, None, None, "{n} rows, all of it: it has no splits by name" + _left_out(path))
    if key is None:
        return _locate_role(path, names, role)
    if key in names:
        return _Place(path, key, _split_of(key), "{n} rows")
    split = _split_of(key)
    if split is None or not _words(key) <= SPLITS[split]:
        raise _unknown(str(path), key, names)
    found = _of_split(names, split)
    if len(found) != 1:
        raise _unknown(str(path), key, names)
    return _Place(path, found[0], split, f"{{n}} rows, the only data of its {split} split")


def _locate_role(path: Path, names: tuple[str, ...], role: str) -> _Place:
    """Locate the array that a path without a key stands for."""
    found = _of_split(names, role)
    if len(found) == 1:
        return _Place(path, found[0], role, f"{{n}} rows, the file's {role} split")
    only = [name for name in names if not _is_label(name)]
    if len(only) == 1:
        how = f"{{n}} rows, all of it: it has no {role} split by name"
        return _Place(path, only[0], _split_of(only[0]), how)
    problem = f"no array is named as the {role} data"
    if found:
        problem = f"{len(found)} arrays could be the {role} data"
    raise InputError(f"{path}: {problem}; pick one, as in {path.name}:{names[0]}; there are {', '.join(names)}")


def _locate_context(context: str, split: str | None) -> _Place:
    base, key = _parse(context)
    if base in NAMES:
        if base != "digits" or key != "labels":
            raise InputError(f"{context}: no such context; named data have digits:labels")
        rows = split if split in DIGITS else "all"
        return _Place(base, key, rows, "")
    path, names = Path(base), readers.array_names(Path(base))
    labels = [name for name in names if _is_label(name) and _split_of(name) == split]
    if key in LABELS and key not in names and len(labels) == 1:
        return _Place(path, labels[0], split, "")
    place = _locate_in_file(path, key, split or "train")
    if split and place.split and place.split != split:
        raise InputError(f"{context}: a context of the {split} split is expected, found {place.key}")
    return place


def _sibling(place: _Place, split: str) -> _Place | None:
    """Locate the array of another split in the same file, by a name that differs in that word only."""
    if place.path is None or place.key is None or place.split != "train":
        return None
    stem = _words(place.key) - SPLITS["train"]
    of_split = [name for name in readers.array_names(place.path) if _split_of(name) == split]
    found = [name for name in of_split if _words(name) - SPLITS[split] == stem]
    if len(found) != 1:
        return None
    return _Place(place.path, found[0], split, f"{{n}} rows, the file's {split} split")


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower()))


def _split_of(name: str) -> str | None:
    return next((split for split, words in SPLITS.items() if _words(name) & words), None)


def _is_label(name: str) -> bool:
    return bool(_words(name) & LABELS)


def _of_split(names: tuple[str, ...], split: str) -> list[str]:
    return [name for name in names if not _is_label(name) and _split_of(name) == split]


def _left_out(path: Path) -> str:
    if not path.is_dir():
        return ""
    others = readers.images_in(path)[1]
    if not others:
        return ""
    return f"; other files left out: {len(others)}"


def _unknown(base: str, key: str, known: tuple[str, ...]) -> InputError:
    return InputError(f"{base}: no array {key!r}{suggestion(key, known)}")


# What is there: places → rows


def _fetch(place: _Place, context: _Place | None) -> Data:
    x = _read(place)
    note = f"{place.label}, {place.how.format(n=f'{len(x):,}')}"
    if context is None:
        return Data(x, None, place.source, note)
    beside = _values(context)
    if len(beside) != len(x):
        raise InputError(
            f"context: one value per row is expected, found {len(beside):,} in {context.label} "
            f"for {len(x):,} rows of {place.label}"
        )
    return Data(x, beside, place.source, note, context.source)


def _values(place: _Place) -> Tensor:
    """Read a context; a column, as of a .csv, becomes single values."""
    values = _read(place)[:]
    if values.shape[1:] == (1,):
        return values[:, 0]
    return values


def _stored(place: _Place) -> np.ndarray:
    if place.base == "digits":
        key = "labels" if place.key == "labels" else "images"
        array = readers.read_array(Path(__file__).with_name("digits.npz"), key)
        return array[DIGITS[str(place.split)][0]]
    if place.path is None:
        return drawn(str(place.base), str(place.key))
    return readers.read_array(place.path, place.key)


def _read(place: _Place) -> Tensor | Source:
    """Return rows of a dtype that torch computes with."""
    folder = _folder_of(place)
    if folder is not None:
        return readers.Pictures(folder).loaded()
    array = _stored(place)
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"{place.source}: at least one row is expected, found shape {array.shape}")
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{place.source}: numbers below 2^63 are expected, found {array.max()}")
    wanted = _wider(array.dtype)
    mapped = file_of(array, wanted)
    if mapped is not None:
        return mapped
    return torch.from_numpy(np.require(array, wanted, ["C", "W"]))


def _wider(dtype: np.dtype) -> str | None:
    """Return the name of a dtype of torch that holds all values of one that torch has not; None: it has it."""
    if dtype.kind == "f" and dtype.itemsize > 8:
        return "float64"
    return {"bool": "uint8", "uint16": "int32", "uint32": "int64", "uint64": "int64"}.get(dtype.name)


def _folder_of(place: _Place) -> Path | None:
    """Return the folder at a place, None of anything else."""
    if place.path is None or not place.path.is_dir():
        return None
    if place.key is None:
        return place.path
    return place.path / place.key
