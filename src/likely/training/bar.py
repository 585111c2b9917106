"""Progress for people: a bar in a terminal, a line that is written anew in a notebook."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from likely.training.progress import Progress, Watcher

SECONDS = 0.5  # between two lines in a notebook


@contextmanager
def watching(watch: Watcher | bool | None) -> Iterator[Watcher | None]:
    """Give a fit's watcher: the one that was given; for None the one that suits standard error; False: none."""
    if callable(watch):
        yield watch
    elif watch is False:
        yield None
    elif sys.stderr.isatty():
        with bar() as shown:
            yield shown
    elif in_notebook():
        line = _Line()
        yield line
        line.end()
    else:
        yield None


@contextmanager
def bar() -> Iterator[Watcher]:
    """Show a live bar on standard error, a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}")
    with Bar(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("fit", total=1.0, words="")
        yield lambda progress: shown.update(task, completed=progress.fraction, words=words(progress))


def in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this process."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


class _Line:
    """A line on standard error that takes the place of the one before."""

    def __init__(self) -> None:
        self.due, self.width = -math.inf, 0

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() < self.due and progress.step != progress.total:
            return
        text = words(progress)
        print("\r" + text.ljust(self.width), end="", file=sys.stderr, flush=True)
        self.due, self.width = time.monotonic() + SECONDS, len(text)

    def end(self) -> None:
        if self.width:
            print(file=sys.stderr)


def words(progress: Progress) -> str:
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
