"""Every error that the library raises on purpose."""


class Error(Exception):
    """What `likely` raises on purpose; the command line prints it as one line."""


class InputError(Error, ValueError):
    """Bad data, arguments or configuration: says what was found, what was expected and what to do."""


class StoreError(Error, OSError):
    """A file or a run folder that is missing, damaged, foreign or cannot be written."""


class DivergedError(Error, ArithmeticError):
    """Training met a loss or a gradient that is not finite, or exploded; names the step and the last good checkpoint."""
