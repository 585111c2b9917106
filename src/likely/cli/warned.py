"""Warnings of the library as lines on standard error."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from likely.errors import DataWarning


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print warnings of data and of estimates as lines."""
    from likely.latent.bounds import UnreliableEstimate

    with warnings.catch_warnings():
        for category in (DataWarning, UnreliableEstimate):
            warnings.simplefilter("always", category)
        warnings.showwarning = lambda message, *_, **__: print(f"likely: {message}", file=sys.stderr)
        yield
