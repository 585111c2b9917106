"""The index of runs: a SQLite file beside them, brought up to date from the folders whenever it is read."""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from likely import store
from likely.errors import InputError, StoreError

FILE = ".runs.sqlite"
SCHEMA = """create table if not exists runs (
    name text primary key, modified real, model text, data text, step integer, bits_per_dim real, seconds real
)"""


@dataclass(frozen=True)
class Run:
    """One line of the index; bits/dim is the best validation so far."""

    name: str
    model: str
    data: str | None
    step: int | None
    bits_per_dim: float | None
    seconds: float | None


def runs(folder: str | Path = "runs") -> list[Run]:
    """Every run below a folder, by name; only folders that have changed since the last time are read again.

    Raises:
        InputError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; runs are made by `likely fit … --out {folder}/NAME`")
    with closing(_open(folder)) as database, database:
        database.execute("pragma journal_mode=wal")
        database.execute(SCHEMA)
        seen = dict(database.execute("select name, modified from runs"))
        present = {str(file.parent.relative_to(folder)): file.parent for file in sorted(folder.rglob(store.CONFIG))}
        database.executemany("delete from runs where name = ?", [(name,) for name in seen if name not in present])
        for name, path in present.items():
            modified = max(f.stat().st_mtime for f in (path / store.CONFIG, path / store.METRICS) if f.exists())
            if seen.get(name) != modified and (run := read(name, path)) is not None:
                database.execute(
                    "insert or replace into runs values (?, ?, ?, ?, ?, ?, ?)", (run.name, modified, *_rest(run))
                )
        rows = database.execute("select name, model, data, step, bits_per_dim, seconds from runs order by name")
        return [Run(*row) for row in rows]


def _open(folder: Path) -> sqlite3.Connection:
    """The index on disk, or in memory where the folder may not be written to."""
    try:
        database = sqlite3.connect(folder / FILE)
        database.execute(SCHEMA)
    except sqlite3.OperationalError:
        return sqlite3.connect(":memory:")
    return database


def _rest(run: Run) -> tuple:
    return run.model, run.data, run.step, run.bits_per_dim, run.seconds


def read(name: str, path: Path) -> Run | None:
    """One run, from its folder; None where the folder is no run."""
    try:
        config = store.read_config(path)
    except StoreError:
        return None
    file = path / store.METRICS
    lines = (
        [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.endswith("}")]
        if file.exists()
        else []
    )
    last = lines[-1] if lines else {}
    best = [line["valid_bits_per_dim"] for line in lines if line["valid_bits_per_dim"] is not None]
    model = config["model"]["class"].rpartition(".")[2]
    data = config.get("data", {}).get("source")
    return Run(name, model, data, last.get("step"), min(best, default=None), last.get("seconds"))
