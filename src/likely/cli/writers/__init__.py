"""Formats of output files, a file each: a new one is a subclass of `Writer` in a file here, found by its endings."""

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path

from likely.cli.writers.writer import Output, Writer
from likely.errors import InputError

__all__ = ["Output", "Writer", "is_picture", "writer_of"]


@cache
def writers() -> tuple[Writer, ...]:
    """Return a writer of every format of this folder."""
    found = []
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{__name__}.{info.name}")
        own = [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]
        found += [one() for one in own if issubclass(one, Writer) and not inspect.isabstract(one)]
    return tuple(sorted(found, key=lambda one: one.rank))


def writer_of(out: str | Path) -> Writer:
    """Return the writer of a file or a folder, by its name; - is standard output.

    Raises:
        InputError: its ending says no format that is known.
    """
    for one in writers():
        if one.claims(str(out)):
            return one
    endings = [ending for one in writers() for ending in one.endings if ending]
    raise InputError(f"--out: {out}: the ending says the format; {', '.join(endings)} or a folder is expected")


def is_picture(out: str | Path) -> bool:
    """Return whether a file's name is that of a picture."""
    return writer_of(out).of_pictures
