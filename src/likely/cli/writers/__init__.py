"""Formats of output files, a file each: a new one is a subclass of `Writer` in a file here, found by its endings."""

import sys
from functools import cache
from pathlib import Path

from likely.cli.writers.writer import Output, Writer
from likely.data.formats.discovery import one_of_each
from likely.errors import InputError

__all__ = ["Output", "Writer", "is_picture", "writer_of"]


@cache
def writers() -> tuple[Writer, ...]:
    """Return a writer of every format of this folder."""
    return tuple(sorted(one_of_each(sys.modules[__name__], Writer), key=lambda one: one.rank))


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
