"""Progress of a fit: loss, bits/dim, time left."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from likely.cli.interval import Interval
from likely.training.bar import bar, words
from likely.training.progress import Progress as FitProgress


@contextmanager
def watch() -> Iterator[Callable[[FitProgress], None]]:
    """Show a live bar where standard error is a terminal, else a line at every interval."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    with bar() as watcher:
        yield watcher


@contextmanager
def notes(say: Callable[[str], None]) -> Iterator[None]:
    """Hand the lines that a fit says about itself to a function."""
    log, handler = logging.getLogger("likely"), logging.Handler()
    handler.emit = lambda record: say(record.getMessage())
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


class _Lines:
    def __init__(self) -> None:
        self.interval = Interval()

    def __call__(self, progress: FitProgress) -> None:
        if self.interval.over() or progress.step == progress.total:
            print(words(progress), file=sys.stderr, flush=True)
