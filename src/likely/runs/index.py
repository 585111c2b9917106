"""The index of runs: a SQLite file beside them, brought up to date from the folders whenever it is read."""

import json
import math
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likely.errors import InputError, StoreError
from likely.runs import store
from likely.runs.run import Run

FILE = ".runs.sqlite"
SCHEMA = """create table if not exists runs (
    name text primary key, modified real, model text, data text, step integer, bits_per_dim real, seconds real
)"""


@dataclass(frozen=True)
class Entry:
    """One line of the index; bits/dim is the best validation so far."""

    name: str
    model: str
    data: str | None
    step: int | None
    bits_per_dim: float | None
    seconds: float | None


def runs(folder: str | Path = "runs") -> list[Entry]:
    """List every run below a folder, by name; only folders that have changed since the last time are read again.

    Raises:
        InputError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; runs are made by `likely fit … --out {folder}/NAME`")
    with closing(_open(folder)) as database, database:
        database.execute("pragma journal_mode=wal")
        database.execute(SCHEMA)
        _bring_up_to_date(database, folder)
        rows = database.execute("select name, model, data, step, bits_per_dim, seconds from runs order by name")
        return [Entry(*row) for row in rows]


def _bring_up_to_date(database: sqlite3.Connection, folder: Path) -> None:
    seen = dict(database.execute("select name, modified from runs"))
    paths = [file.parent for file in sorted(folder.rglob(store.CONFIG))]
    present = {str(path.relative_to(folder)): path for path in paths}
    gone = [(name,) for name in seen if name not in present]
    database.executemany("delete from runs where name = ?", gone)
    for name, path in present.items():
        modified = _modified(path)
        if seen.get(name) == modified:
            continue
        run = read(name, path)
        if run is not None:
            values = run.name, modified, run.model, run.data, run.step, run.bits_per_dim, run.seconds
            database.execute("insert or replace into runs values (?, ?, ?, ?, ?, ?, ?)", values)


def _modified(path: Path) -> float:
    files = path / store.CONFIG, path / store.METRICS
    return max(file.stat().st_mtime for file in files if file.exists())


def _open(folder: Path) -> sqlite3.Connection:
    """Open the index on disk, or one in memory where that may not be written to or is damaged."""
    try:
        database = sqlite3.connect(folder / FILE)
        database.execute(SCHEMA)
        database.execute("begin immediate")  # refused where the file may be read only
        database.rollback()
    except sqlite3.DatabaseError:
        return sqlite3.connect(":memory:")
    return database


def read(name: str, path: Path) -> Entry | None:
    """Read one run from its folder; None: the folder is no run."""
    try:
        run = Run.read(path)
    except StoreError:
        return None
    lines = _metrics(path / store.METRICS)
    last = lines[-1] if lines else {}
    step = int(last["step"]) if "step" in last else None
    judged = [line["valid_bits_per_dim"] for line in lines if "valid_bits_per_dim" in line]
    return Entry(name, run.model_name, run.source, step, min(judged, default=None), last.get("seconds"))


def _metrics(file: Path) -> list[dict[str, int | float]]:
    """Read the numbers of every line; a line that is cut short or damaged is left out."""
    lines = []
    try:
        written = file.read_text("utf-8", "replace").splitlines()
    except OSError:  # there is none, or none that may be read
        return lines
    for line in written:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            lines.append({key: value for key, value in entry.items() if _is_number(value)})
    return lines


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
