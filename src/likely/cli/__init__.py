"""The command line: a thin face over the functions of the library."""

from likely.cli.app import main

__all__ = ["main"]
