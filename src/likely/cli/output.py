"""The output of commands: words for people, or one JSON object."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from likely.cli.interval import Interval
from likely.tables import cell


class Console:
    """Prints words, or with `as_json` nothing but one JSON object; on standard error where data go to the output."""

    def __init__(self, as_json: bool, *, data_on_stdout: bool = False) -> None:
        self.as_json = as_json
        self.stream = sys.stderr if data_on_stdout else sys.stdout

    def say(self, text: str) -> None:
        """Print a line for people."""
        if not self.as_json:
            print(text, flush=True, file=self.stream)

    def result(self, value: dict[str, Any]) -> None:
        """Print the result as JSON."""
        if self.as_json:
            print(json.dumps(_finite(value), ensure_ascii=False), flush=True, file=self.stream)

    def table(self, rows: list[dict[str, Any]], name: str) -> None:
        """Print rows with the same columns."""
        if self.as_json:
            self.result({name: rows})
            return
        if not rows:
            print(f"no {name}", file=self.stream)
            return
        from rich.console import Console as Terminal
        from rich.table import Table

        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in rows[0]:
            table.add_column(column.replace("_", " "), overflow="fold")
        for row in rows:
            table.add_row(*(cell(value) for value in row.values()))
        Terminal(file=self.stream, soft_wrap=not self.stream.isatty()).print(table)

    @contextmanager
    def progress(self) -> Iterator[Callable[[Any], None] | None]:
        """Watch a fit: a bar in a terminal, a line at every interval elsewhere, on standard error; say its notes."""
        from likely.cli.progress import notes, watch

        with notes(self.say), watch() as watcher:
            yield watcher

    @contextmanager
    def counting(self, total: int) -> Iterator[Callable[[int], None]]:
        """Watch items being done: a line at every interval, on standard error."""
        interval = Interval()

        def count(done: int) -> None:
            if interval.over():
                print(f"{done:,} of {total:,} items", file=sys.stderr, flush=True)

        yield count


def _finite(value: Any) -> Any:
    """Return values for JSON, with null for NaN and infinity."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
