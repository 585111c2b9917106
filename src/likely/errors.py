"""Every error that the library raises on purpose, with the exit code that the command line gives it."""

import difflib
from collections.abc import Iterable


class Error(Exception):
    """What `likely` raises on purpose; the command line prints it as one line."""

    exit_code = 2


class InputError(Error, ValueError):
    """Bad data, arguments or configuration: says what was found, what was expected and what to do."""


class ConvergenceError(InputError):
    """A numerical method did not come as close as asked (a root, an ODE): says how close it came, and where."""


class StoreError(Error, OSError):
    """A file or a run folder that is missing, damaged or foreign."""


class FormatError(StoreError):
    """Bytes that are damaged, foreign, of a newer format, or beyond a limit: says what was found and expected."""


class WriteError(StoreError):
    """A file could not be written while working (disk full, say); what was there before is untouched."""

    exit_code = 1


class DivergedError(Error, ArithmeticError):
    """Training met a loss or a gradient that is not finite, or exploded; names the step and what was kept."""

    exit_code = 1


def suggestion(name: str, known: Iterable[str]) -> str:
    """'; did you mean "x"?' where a known name is close, then the known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    return f"{hint} (there are: {', '.join(known)})"
