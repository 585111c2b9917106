"""Progress of a fit: loss, bits/dim, time left."""

import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from likely.cli.interval import Interval
from likely.training.progress import Progress as FitProgress


@contextmanager
def watch() -> Iterator[Callable[[FitProgress], None]]:
    """Show a live bar where standard error is a terminal, else a line at every interval."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("fit", total=1.0, words="")
        yield lambda progress: bar.update(task, completed=progress.fraction, words=words(progress))


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


def words(progress: FitProgress) -> str:
    """Return the state of a fit in a line."""
    step = f"step {progress.step}"
    if progress.total:
        step += f" of {progress.total}"
    parts = [step]
    parts.append(f"loss {progress.loss:.4f} nats/dim ({progress.loss / math.log(2):.4f} bits/dim)")
    if not math.isnan(progress.bits_per_dim):
        parts.append(f"valid {progress.bits_per_dim:.4f} bits/dim")
    if not math.isnan(progress.seconds_left):
        left = round(progress.seconds_left)
        parts.append(f"{left // 60}:{left % 60:02d} left")
    return ", ".join(parts)
