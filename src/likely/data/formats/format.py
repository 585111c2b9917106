"""What a format is: endings, the names of what is in a file, and a way to read it."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from likely.data.formats.streams import base_name
from likely.errors import InputError
from likely.rows import Source

MODES = ("1", "L", "RGB")


@dataclass(frozen=True)
class Reading:
    """Choices of how files are read.

    Args:
        columns: names of the columns of a table that are taken, in this order; None: all of them.
        drop: names of columns that are left out.
        convert: mode that pictures are brought into, though something may be lost: "1", "L" (grey) or "RGB".
        resize: height and width that pictures are scaled to cover, and cut to around their middle.
        crop: height and width of the middle of each picture that is taken.

    Raises:
        InputError: none of these.
    """

    columns: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    convert: str | None = None
    resize: tuple[int, ...] | None = None
    crop: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.convert not in (None, *MODES):
            raise InputError(f"convert: 1, L (grey) or RGB is expected, found {self.convert}")
        for name in ("resize", "crop"):
            sizes = getattr(self, name)
            if sizes is not None and (len(sizes) != 2 or not all(type(size) is int and size >= 1 for size in sizes)):
                raise InputError(f"{name}: HEIGHT,WIDTH of at least 1 is expected, found {sizes}")

    def of_pictures(self) -> dict[str, Any]:
        """Return the choices about pictures that are not the usual ones, as JSON values."""
        chosen = {name: value for name, value in asdict(self).items() if name not in ("columns", "drop")}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()}
        return {name: value for name, value in plain.items() if value is not None}

    @classmethod
    def from_json(cls, stored: Any) -> "Reading":
        """Build the result of `of_pictures` again.

        Raises:
            InputError: something else.
        """
        known = {field.name for field in fields(cls)} - {"columns", "drop"}
        if not isinstance(stored, dict) or set(stored) - known:
            raise InputError(f"reading: an object with {', '.join(sorted(known))} is expected, found {stored!r:.80}")
        resize, crop = (tuple(stored[name]) if stored.get(name) else None for name in ("resize", "crop"))
        return cls(convert=stored.get("convert"), resize=resize, crop=crop)


class Found(NamedTuple):
    """What was read.

    Attributes:
        values: rows, as they are stored.
        names: of the columns of a table; None: they have none.
        said: what became of them on the way, in words.
    """

    values: np.ndarray | Source
    names: tuple[str, ...] | None = None
    said: str = ""


class Format(ABC):
    """A format of files.

    Attributes:
        endings: of files, in small letters.
        packed: whether the file may also end with .gz or .zst.
        described: for a list of formats; "" leaves it out.
        rank: of its place in that list.
        table: whether columns of it can be picked by their names.
    """

    endings: tuple[str, ...]
    packed: bool = False
    described: str = ""
    rank: int = 5
    table: bool = False

    def claims(self, path: Path) -> bool:
        """Return whether a file or folder is of this format, by its name."""
        name = base_name(path) if self.packed else path.name.lower()
        return name.endswith(self.endings) and not path.is_dir()

    def names(self, path: Path) -> tuple[str, ...]:
        """Return the names of the arrays in a file; () for one array without a name."""
        return ()

    def columns(self, path: Path) -> tuple[str, ...]:
        """Return the names of a table's columns; () where they have none."""
        return ()

    def has(self, path: Path, key: str) -> bool:
        """Return whether there is an array of this name, also one that is not among `names`."""
        return key in self.names(path)

    @abstractmethod
    def read(self, path: Path, key: str | None, how: Reading) -> Found:
        """Read one array; of a table, the key names columns.

        Raises:
            InputError: truncated, damaged, or no numbers; begins with the path.
        """
