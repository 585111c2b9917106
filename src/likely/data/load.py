"""What `digits`, `mnist.npz`, `mnist.npz:test` or `photos/` mean: names, files and their splits → tensors as stored."""

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
from likely.data.generated import GENERATED
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
DRAWS = {"train": (20_000, 70_001), "test": (5_000, 70_002)}  # number and seed, which nobody else will draw from
NAMES = ("digits", *GENERATED)


class Data(Rows):
    """Rows as they are stored, before any preparation, and where they come from.

    Args:
        x: (n, …), uint8, another integer type or floating.
        context: (n, …), row by row what x is conditioned on; None without.
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
        context = "" if self._context is None else f", context {(len(self), *self._context.shape[1:])}"
        return f"Data({self.note}; x {shown(self.shape)} {str(self.dtype).removeprefix('torch.')}{context})"


@dataclass(frozen=True)
class _Place:
    """One array: a name or a path, which array of it, which split that is, and how it was found ({n} for its rows)."""

    base: str | Path
    key: str | None
    split: str | None
    how: str

    @property
    def source(self) -> str:
        base = self.base if isinstance(self.base, str) else os.path.abspath(self.base)
        return f"{base}:{self.key}" if self.key else str(base)

    @property
    def label(self) -> str:
        base = self.base if isinstance(self.base, str) else self.base.name or str(self.base)
        return f"{base}:{self.key}" if self.key else base


def load(data: str, role: Role, *, context: str | None = None) -> Data:
    """Load data by name or path.

    A path is a .npy, .npz, IDX(.gz) or CSV file or a folder of images; `path:key` picks one array (or subfolder), or a
    split that exactly one array of data is named after (`mnist.npz:test` finds `test_images`). Without a key, of
    arrays named after splits a fit takes the training one and everything else the test one; a single array is taken
    whole. Names come before paths: write `./digits` for a folder of that name.

    Args:
        data: a name (digits, moons, ising, …) or a path, with `:key` or without.
        role: the split that `data` alone means.
        context: in the same form, aligned row by row with the data. `digits:labels` and `file.npz:labels` follow the
            split of the data.

    Returns:
        x of shape (n, …) and context as they are stored; `note` says which rows were taken.

    Raises:
        InputError: nothing of that name, a damaged or unsuitable file, an unclear split, or a context of another
            length or split.
    """
    place = _locate(data, role)
    return _fetch(place, None if context is None else _locate_context(context, place.split))


def load_stored(data: str, role: Role) -> np.ndarray:
    """The array that `load` would make a tensor of, in its own dtype; raises as `load`."""
    return _stored(_locate(data, role))


def load_context(context: str, role: Role) -> Tensor:
    """Load a context by itself, by name or path, of whatever split it names; raises as `load`."""
    base, key = _parse(context)
    named = base in NAMES and key == "labels"  # which follow a split
    return _values(_locate_context(context, role) if named else _locate(context, role))


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
    if place is None or context is None:
        return None if place is None else _fetch(place, None)
    beside = _sibling(_locate_context(context, "train"), "valid")
    return None if beside is None else _fetch(place, beside)


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
    """Split `path:key`; the path is a name or exists."""
    if data in NAMES or os.path.exists(data):
        return data, None
    base, colon, key = data.rpartition(":")
    if colon and (base in NAMES or os.path.exists(base)):
        return base, key
    raise InputError(_missing(base if colon and "/" not in key else data))


def _missing(name: str) -> str:
    folder = Path(name).parent
    readable = folder.is_dir() and os.access(folder, os.R_OK)
    beside = [str(path) for path in folder.iterdir() if path.name[0] != "."] if readable else []
    known = [*NAMES, *difflib.get_close_matches(name, beside, 1)]
    return f"{name}: no such file, folder or name{suggestion(name, known)}; a path leads to {readers.FORMATS}"


def _locate_named(name: str, key: str) -> _Place:
    known = tuple(DIGITS) if name == "digits" else tuple(DRAWS)
    if key not in known:
        raise _unknown(name, key, known)
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
    split = _split_of(key) if _words(key) <= SPLITS.get(_split_of(key) or "", set()) else None
    found = _of_split(names, split) if split else []
    if len(found) != 1:
        raise _unknown(str(path), key, names)
    return _Place(path, found[0], split, f"{{n}} rows, the only data of its {split} split")


def _locate_role(path: Path, names: tuple[str, ...], role: str) -> _Place:
    """The array that a path alone means."""
    found = _of_split(names, role)
    if len(found) == 1:
        return _Place(path, found[0], role, f"{{n}} rows, the file's {role} split")
    only = [name for name in names if not _is_label(name)]
    if len(only) == 1:
        return _Place(path, only[0], _split_of(only[0]), f"{{n}} rows, all of it: it has no {role} split by name")
    problem = f"{len(found)} arrays could be the {role} data" if found else f"no array is named as the {role} data"
    raise InputError(f"{path}: {problem}; pick one, as in {path.name}:{names[0]}; there are {', '.join(names)}")


def _locate_context(context: str, split: str | None) -> _Place:
    base, key = _parse(context)
    if base in NAMES:
        if base != "digits" or key != "labels":
            raise InputError(f"{context}: no such context; named data have digits:labels")
        return _Place(base, key, split if split in DIGITS else "all", "")
    path, names = Path(base), readers.array_names(Path(base))
    labels = [name for name in names if _is_label(name) and _split_of(name) == split]
    if key in LABELS and key not in names and len(labels) == 1:
        return _Place(path, labels[0], split, "")
    place = _locate_in_file(path, key, split or "train")
    if split and place.split and place.split != split:
        raise InputError(f"{context}: a context of the {split} split is expected, found {place.key}")
    return place


def _sibling(place: _Place, split: str) -> _Place | None:
    """The array of another split in the same file whose name differs in that word only."""
    if isinstance(place.base, str) or place.key is None or place.split != "train":
        return None
    stem = _words(place.key) - SPLITS["train"]
    names = readers.array_names(place.base)
    found = [name for name in names if _split_of(name) == split and _words(name) - SPLITS[split] == stem]
    return _Place(place.base, found[0], split, f"{{n}} rows, the file's {split} split") if len(found) == 1 else None


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower()))


def _split_of(name: str) -> str | None:
    return next((split for split, words in SPLITS.items() if _words(name) & words), None)


def _is_label(name: str) -> bool:
    return bool(_words(name) & LABELS)


def _of_split(names: tuple[str, ...], split: str) -> list[str]:
    return [name for name in names if not _is_label(name) and _split_of(name) == split]


def _left_out(path: Path) -> str:
    others = len(readers.images_in(path)[1]) if path.is_dir() else 0
    return f"; other files left out: {others}" if others else ""


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
    """A context; a column, as of a .csv, holds single values."""
    values = _read(place)[:]
    return values[:, 0] if values.shape[1:] == (1,) else values


def _stored(place: _Place) -> np.ndarray:
    if place.base == "digits":
        file = Path(__file__).with_name("digits.npz")
        array = readers.read_array(file, "labels" if place.key == "labels" else "images")
        return array[DIGITS[str(place.split)][0]]
    if isinstance(place.base, str):
        n, seed = DRAWS[str(place.key)]
        draws = GENERATED[place.base]().sample(n, generator=torch.Generator().manual_seed(seed))
        return (draws if draws.is_floating_point() else draws.to(torch.uint8)).numpy()
    return readers.read_array(place.base, place.key)


def _read(place: _Place) -> Tensor | Source:
    """Return rows of a dtype that torch computes with."""
    if (folder := _folder_of(place)) is not None:
        return readers.Pictures(folder).loaded()
    array = _stored(place)
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"{place.source}: at least one row is expected, found shape {array.shape}")
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{place.source}: numbers below 2^63 are expected, found {array.max()}")
    wider = {"bool": "uint8", "uint16": "int32", "uint32": "int64", "uint64": "int64", "longdouble": "float64"}
    name = "longdouble" if array.dtype.kind == "f" and array.dtype.itemsize > 8 else array.dtype.name
    mapped = file_of(array, wider.get(name))
    return torch.from_numpy(np.require(array, wider.get(name), ["C", "W"])) if mapped is None else mapped


def _folder_of(place: _Place) -> Path | None:
    """Return the folder that a place means, None of anything else."""
    if isinstance(place.base, str) or not place.base.is_dir():
        return None
    return place.base if place.key is None else place.base / place.key
