"""Formats of files, a file each: a new one is a subclass of `Format` in a file of this folder, found by its endings."""

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path

from likely.data.formats.format import Format, Found, Reading
from likely.data.formats.streams import base_name
from likely.errors import InputError

__all__ = ["Format", "Found", "Reading", "described", "format_of"]


@cache
def formats() -> tuple[Format, ...]:
    """Return a reader of every format of this folder."""
    found = []
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{__name__}.{info.name}")
        own = [
            thing for thing in vars(module).values() if inspect.isclass(thing) and thing.__module__ == module.__name__
        ]
        found += [thing() for thing in own if issubclass(thing, Format) and not inspect.isabstract(thing)]
    return tuple(found)


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
