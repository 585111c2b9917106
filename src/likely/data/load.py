"""Names (`digits`), files (`mnist.npz`, `mnist.npz:test`) and folders (`photos/`), and their splits → stored arrays."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from likely.data import readers
from likely.data.formats import Found, Reading
from likely.data.formats.columns import key_of, places_of
from likely.data.formats.folder import left_out
from likely.data.formats.pictures import Pictures
from likely.data.generated import DRAWS, GENERATED, drawn
from likely.data.splits import LABELS, SPLITS, is_label, of_split, split_of, words
from likely.errors import InputError, require_path, suggestion
from likely.event import shown
from likely.rows import Rows, Source
from likely.rows.sources import file_of

Role = Literal["train", "test"]

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
        source, note, context_source, reading: as of `Rows`.
        names: of the columns of a table.
    """

    def __init__(
        self,
        x: Any,
        context: Any = None,
        source: str | None = None,
        note: str = "given in Python",
        context_source: str | None = None,
        reading: dict[str, Any] | None = None,
        names: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(x, context)
        self.source, self.note, self.context_source, self.reading = source, note, context_source, reading
        if names is not None:
            self._x.names = names

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


def load(data: str, role: Role, *, context: str | None = None, reading: Reading | None = None) -> Data:
    """Load data by name or path.

    A path is a file (.npy, .npz, IDX, .csv, .tsv, .parquet, .feather, .h5, .mat, a picture) or a folder of pictures;
    `path:key` picks one array (or subfolder), columns of a table (`a.csv:age,height`), or a
    split that exactly one array of data is named after (`mnist.npz:test` finds `test_images`). Without a key, of
    arrays named after splits a fit takes the training one and everything else the test one; a single array is taken
    whole. Names come before paths: write `./digits` for a folder of that name.

    Args:
        data: a name (digits, moons, ising, …) or a path, with `:key` or without.
        role: the split that `data` stands for without a key.
        context: in the same form, aligned row by row with the data. `digits:labels` and `file.npz:labels` follow the
            split of the data; `folder:labels` are the numbers of subfolders.
        reading: columns that are taken, modes and sizes of pictures; None: all as they are.

    Returns:
        x of shape (n, …) and context as they are stored; `note` describes the rows.

    Raises:
        InputError: nothing of that name, a damaged or unsuitable file, an unclear split, or a context of another
            length or split.
    """
    return load_with_stored(data, role, context=context, reading=reading)[0]


def load_with_stored(
    data: str, role: Role, *, context: str | None = None, reading: Reading | None = None
) -> tuple[Data, Found]:
    """Return the result of `load`, and what was read for it, in its own dtype."""
    reading = reading or Reading()
    place = _locate(str(require_path(data=data)), role, reading)
    beside = None if context is None else _locate_context(context, place.split)
    found = _stored(place, reading)
    return _data(place, found, beside, reading), found


def as_stored(found: Found) -> np.ndarray | Rows:
    """Return what was read as an array in its own dtype; pictures that are not in memory as rows."""
    values = found.values
    if not isinstance(values, Pictures):
        return np.asanyarray(values)
    if values.sizes is not None or not values.few:
        return Rows(values.loaded())
    return np.stack(values.as_stored(0, len(values)))


def load_context(context: str, role: Role) -> Tensor:
    """Load a context by itself, by name or path, of any split; raises as `load`."""
    base, key = _parse(context)
    if base in NAMES and key == "labels":  # they follow a split
        return _values(_locate_context(context, role))
    return _values(_locate(context, role, Reading()))


def load_validation(data: str, *, context: str | None = None, reading: Reading | None = None) -> Data | None:
    """Load the validation split that belongs to training data in the same file, where there is one by name.

    Args:
        data: the training data, as for `load`.
        context: its context, as for `load`; the array of the validation split that corresponds is found by name.
        reading: as for `load`.

    Returns:
        None where the data are not the training split of a file that has a validation split for it (and its context).

    Raises:
        InputError: as `load`.
    """
    reading = reading or Reading()
    place = _sibling(_locate(data, "train", reading), "valid")
    if place is None:
        return None
    if context is None:
        return _fetch(place, None, reading)
    beside = _sibling(_locate_context(context, "train"), "valid")
    if beside is None:
        return None
    return _fetch(place, beside, reading)


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


# Where data are: names and files → places


def _locate(data: str, role: str, reading: Reading) -> _Place:
    base, key = _parse(data)
    if base in NAMES:
        return _locate_named(base, role if key is None else key)
    if readers.format_of(Path(base)).table:
        return _locate_columns(Path(base), key, reading)
    if reading.drop:
        raise InputError(f"{base}: its columns have no names, found --drop {', '.join(reading.drop)}")
    return _locate_in_file(Path(base), key, role)


def _locate_columns(path: Path, key: str | None, reading: Reading) -> _Place:
    """Locate columns of a table: those of a key come before those of a reading."""
    how = "{n} rows, all of it: it has no splits by name"
    if key is None and reading.columns is None and not reading.drop:
        return _Place(path, None, None, how)
    known = readers.format_of(path).columns(path)
    if key is None:
        key = _chosen(path, known, reading)
    if key is not None:
        chosen = [known[place] for place in places_of(key, known, path)]
        key, how = key_of(chosen), f"{{n}} rows, {len(chosen)} of its columns"
    return _Place(path, key, None, how)


def _chosen(path: Path, known: tuple[str, ...], reading: Reading) -> str | None:
    """Return the key of the columns that a reading takes; None: all."""
    chosen = list(known)
    if reading.columns is not None and (known or reading.drop):
        chosen = [known[place] for place in places_of(key_of(reading.columns), known, path)]
    if reading.drop:
        dropped = places_of(key_of(reading.drop), known, path)
        chosen = [name for name in chosen if known.index(name) not in dropped]
    if chosen == list(known):
        return None
    return key_of(chosen)


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
    return f"{name}: no such file, folder or name{suggestion(name, known)}; a path leads to {readers.described()}"


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
        return _Place(path, None, None, "{n} rows, all of it: it has no splits by name" + left_out(path))
    if key is None:
        return _locate_role(path, names, role)
    if readers.format_of(path).has(path, key):
        return _Place(path, key, split_of(key), "{n} rows")
    split = split_of(key)
    if split is None or not words(key) <= SPLITS[split]:
        raise _unknown(str(path), key, names)
    found = of_split(names, split)
    if len(found) != 1:
        raise _unknown(str(path), key, names)
    return _Place(path, found[0], split, f"{{n}} rows, the only data of its {split} split")


def _locate_role(path: Path, names: tuple[str, ...], role: str) -> _Place:
    """Locate the array that a path without a key stands for."""
    found = of_split(names, role)
    if len(found) == 1:
        return _Place(path, found[0], role, f"{{n}} rows, the file's {role} split")
    only = [name for name in names if not is_label(name)]
    if len(only) == 1:
        how = f"{{n}} rows, all of it: it has no {role} split by name"
        return _Place(path, only[0], split_of(only[0]), how)
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
    if readers.format_of(Path(base)).table:
        return _locate_columns(Path(base), key, Reading())
    path, names = Path(base), readers.array_names(Path(base))
    labels = [name for name in names if is_label(name) and split_of(name) == split]
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
    stem = words(place.key) - SPLITS["train"]
    of_split = [name for name in readers.array_names(place.path) if split_of(name) == split]
    found = [name for name in of_split if words(name) - SPLITS[split] == stem]
    if len(found) != 1:
        return None
    return _Place(place.path, found[0], split, f"{{n}} rows, the file's {split} split")


def _unknown(base: str, key: str, known: tuple[str, ...]) -> InputError:
    return InputError(f"{base}: no array {key!r}{suggestion(key, known)}")


# What is there: places → rows


def _fetch(place: _Place, context: _Place | None, reading: Reading) -> Data:
    return _data(place, _stored(place, reading), context, reading)


def _data(place: _Place, found: Found, context: _Place | None, reading: Reading) -> Data:
    x, names, said = _of_torch(place, found), found.names, found.said
    note = f"{place.label}, {place.how.format(n=f'{len(x):,}')}"
    if said:
        note += f"; {said}"
    how = reading.of_pictures() or None
    if context is None:
        return Data(x, None, place.source, note, None, how, names)
    beside = _values(context)
    if len(beside) != len(x):
        raise InputError(
            f"context: one value per row is expected, found {len(beside):,} in {context.label} "
            f"for {len(x):,} rows of {place.label}"
        )
    return Data(x, beside, place.source, note, context.source, how, names)


def _values(place: _Place) -> Tensor:
    """Read a context; a column, as of a .csv, becomes single values."""
    values = _of_torch(place, _stored(place, Reading()))[:]
    if values.shape[1:] == (1,):
        return values[:, 0]
    return values


def _stored(place: _Place, reading: Reading) -> Found:
    if place.base == "digits":
        key = "labels" if place.key == "labels" else "images"
        array = readers.read_array(Path(__file__).with_name("digits.npz"), key)
        return Found(array[DIGITS[str(place.split)][0]])
    if place.path is None:
        return Found(drawn(str(place.base), str(place.key)))
    return readers.read(place.path, place.key, reading)


def _of_torch(place: _Place, found: Found) -> Tensor | Source:
    """Return rows of a dtype that torch computes with."""
    if isinstance(found.values, Pictures):
        return found.values.loaded()
    array = np.asanyarray(found.values)
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"{place.source}: at least one row is expected, found shape {array.shape}")
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{place.source}: numbers below 2^63 are expected, found {array.max()}")
    wanted = _wider(array.dtype)
    mapped = file_of(array, wanted)
    if mapped is not None:
        return mapped
    dtype = np.dtype(wanted or array.dtype).newbyteorder("=")
    return torch.from_numpy(np.require(array, dtype, ["C", "W"]))


def _wider(dtype: np.dtype) -> str | None:
    """Return the name of a dtype of torch that holds all values of one that torch has not; None: it has it."""
    if dtype.kind == "f" and dtype.itemsize > 8:
        return "float64"
    return {"bool": "uint8", "uint16": "int32", "uint32": "int64", "uint64": "int64"}.get(dtype.name)
