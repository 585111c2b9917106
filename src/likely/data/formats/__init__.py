"""Formats of files, a file each: a new one is a subclass of `Format` in a file of this folder, found by its endings."""

import sys
from functools import cache
from pathlib import Path

from likely.data.formats.discovery import one_of_each
from likely.data.formats.format import Format, Found, Reading
from likely.data.formats.streams import base_name
from likely.errors import InputError

__all__ = ["Format", "Found", "Reading", "described", "format_of"]


@cache
def formats() -> tuple[Format, ...]:
    """Return a reader of every format of this folder."""
    return tuple(one_of_each(sys.modules[__name__], Format))


def format_of(path: Path) -> Format:
    """Return the reader of a file or a folder.

    Raises:
        InputError: its ending says no format that is known.
    """
    for one in formats():
        if one.claims(path):
            return one
    if path.suffix.lower() == ".gz":  # IDX files are often called anything
        return next(one for one in formats() if ".idx" in one.endings)
    raise InputError(f"{path}: unknown format; expected {described()}")


def is_known(path: Path) -> bool:
    """Return whether a file's ending says a format."""
    return any(one.claims(path) for one in formats())


def described() -> str:
    """Return the formats in words."""
    whole = [one for one in formats() if one.described]
    *first, last = (one.described for one in sorted(whole, key=lambda one: one.rank))
    return f"{', '.join(first)} or {last}"


def has_base(path: Path, endings: tuple[str, ...]) -> bool:
    """Return whether a file's name has one of some endings, perhaps with .gz or .zst behind it."""
    return base_name(path).endswith(endings)
