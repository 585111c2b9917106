"""Every error that the library raises on purpose, with the exit code that the command line gives it."""

import difflib
import math
import os
from collections.abc import Callable, Collection, Iterable
from numbers import Integral, Real
from pathlib import Path

MOST = 2**31 - 1  # of anything that a constructor counts

DRAWS = 1 << 40  # values of all samples together


class Error(Exception):
    """An error that `likely` raises on purpose; the command line prints it as one line."""

    exit_code = 2


class InputError(Error, ValueError):
    """Bad data, arguments or configuration: quotes the input, and says how it should be."""


class EntryError(InputError):
    """An entry of a batch that is not as expected: names it by its index; the first number of that is its row."""

    def __init__(self, name: str, value: object, index: tuple[int, ...], expected: str) -> None:
        super().__init__(f"{name}: found {value} at index {index}; {expected}")
        self.name, self.value, self.index, self.expected = name, value, index, expected

    def __reduce__(self) -> tuple:
        return type(self), (self.name, self.value, self.index, self.expected)

    def in_row(self, number: Callable[[int], int]) -> "EntryError":
        """Return the same error with its row numbered anew."""
        return EntryError(self.name, self.value, (number(self.index[0]), *self.index[1:]), self.expected)


class DataWarning(UserWarning):
    """Data that are taken, but may not be what they look like: names the column and the value."""


class UncodableError(InputError, NotImplementedError):
    """A density without a codec yet: names the part of it that has no codec or no exact twin."""


class ConvergenceError(InputError):
    """A numerical method (for a root, an ODE) missed its tolerance: says by how much, and where."""


class StoreError(Error, OSError):
    """A file or a run folder that is missing, damaged or foreign."""


class FormatError(StoreError):
    """Bytes that are damaged, foreign, of a newer format, or beyond a limit: quotes them."""


class WriteError(StoreError):
    """A file could not be written while working (disk full, say); the file before it is untouched."""

    exit_code = 1


class ExactnessError(Error, ArithmeticError):
    """This machine's arithmetic, or a layer's, is not exact where it must be: it cannot code."""

    exit_code = 1


class DivergedError(Error, ArithmeticError):
    """Training met a loss or a gradient that is not finite, or exploded; names the step and the weights kept."""

    exit_code = 1


def require_sizes(least: int = 1, /, **sizes: object) -> None:
    """Refuse anything but whole numbers of at least `least`, each given under its name in the error.

    Raises:
        InputError: another number, or none; names the first.
    """
    for name, size in sizes.items():
        if not isinstance(size, Integral):
            raise InputError(f"{name}: a whole number is expected, found {size!r}")
        if size < least:
            raise InputError(f"{name} must be at least {least}, found {size}")
        if int(size) > MOST:
            raise InputError(f"{name} must be at most {MOST:,}, found {size}")


def require_draws(n: object, dims: int) -> None:
    """Refuse anything but a number of samples of so many values each.

    Raises:
        InputError: another number, or none, or more than any memory holds.
    """
    if isinstance(n, bool) or not isinstance(n, Integral):
        raise InputError(f"the number of samples: a whole number is expected, found {n!r}")
    if n < 1:
        raise InputError(f"the number of samples must be at least 1, found {n}")
    if int(n) * dims >= DRAWS:
        raise InputError(f"the number of samples: at most {DRAWS // max(1, dims):,} of {dims:,} values, found {n}")


def require_hidden(hidden: object, name: str = "hidden") -> None:
    """Refuse anything but the sizes of a network's layers: a tuple, perhaps empty, of whole numbers of at least 1.

    Raises:
        InputError: no tuple, or another number in it.
    """
    if not isinstance(hidden, tuple | list):
        raise InputError(f"{name}: a tuple of sizes is expected, found {hidden!r}")
    if not all(isinstance(size, Integral) and int(size) >= 1 for size in hidden):
        raise InputError(f"{name}: sizes of at least 1 are expected, found {tuple(hidden)}")
    require_sizes(**{name: max(hidden, default=1)})


def require_positive(**settings: object) -> None:
    """Refuse anything but positive and finite numbers, each given under its name in the error.

    Raises:
        InputError: another number, or none; names the first.
    """
    for name, value in settings.items():
        if not isinstance(value, Real) or not 0 < float(value) < math.inf:
            raise InputError(f"{name}: a positive number is expected, found {value!r}")


def require_numbers(least: float, most: float = math.inf, /, **settings: object) -> None:
    """Refuse anything but finite numbers from `least` to `most`, each given under its name in the error.

    Raises:
        InputError: another number, or none; names the first.
    """
    expected = f"a number from {least:g} to {most:g}"
    if most == math.inf:
        expected = f"a finite number of at least {least:g}"
    for name, value in settings.items():
        if not isinstance(value, Real) or not least <= float(value) <= most or math.isinf(value):
            raise InputError(f"{name}: {expected} is expected, found {value!r}")


def require_below(limit: float, /, **settings: float) -> None:
    """Refuse anything but numbers below `limit`, each given under its name in the error.

    Raises:
        InputError: another number; names the first.
    """
    for name, value in settings.items():
        if not value < limit:
            raise InputError(f"{name} must be below {limit:g}, found {value}")


def require_choice(choices: Collection[str], /, **settings: object) -> None:
    """Refuse anything but one of several choices, each setting given under its name in the error.

    Raises:
        InputError: anything else; names the first, and the choices.
    """
    *others, last = (f'"{choice}"' for choice in choices)
    for name, value in settings.items():
        if not isinstance(value, str) or value not in choices:
            raise InputError(f"{name}: {', '.join(others)} or {last} is expected, found {value!r}")


def require_kind(kind: type, /, **things: object) -> None:
    """Refuse anything but things of a class, each given under its name in the error.

    Raises:
        InputError: names the first that is of another class.
    """
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    for name, thing in things.items():
        if not isinstance(thing, kind):
            raise InputError(f"{name}: {article} {kind.__name__} is expected, found {type(thing).__name__}")


def require_path(**paths: object) -> Path:
    """Return a path, given under its name in the error.

    Raises:
        InputError: it is none.
    """
    ((name, path),) = paths.items()
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{name}: a path is expected, found {path!r}")
    return Path(path)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean "x"?' where a known name is close, then the known names."""
    known = sorted(known)
    return f"{did_you_mean(name, known)} (there are: {', '.join(known)})"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean "x"?' where a known name is close, else nothing."""
    close = difflib.get_close_matches(name, known, 1, 0.5)
    return f'; did you mean "{close[0]}"?' if close else ""
