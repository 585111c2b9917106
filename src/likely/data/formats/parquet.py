"""Tables of Parquet and Feather, read with pyarrow, some rows at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from likely.data.formats.columns import gathered, places_of
from likely.data.formats.format import Format, Found, Reading
from likely.data.formats.streams import package, reading
from likely.errors import InputError

ROWS = 1 << 16  # read at a time


class Parquet(Format):
    """A table of numbers."""

    endings = (".parquet", ".pq", ".feather", ".arrow")
    described = ".parquet, .feather"
    rank = 4
    table = True

    def columns(self, path: Path) -> tuple[str, ...]:
        """Return the names of all columns."""
        with _opened(path) as (schema, _):
            return tuple(schema.names)

    def read(self, path: Path, key: str | None, how: Reading) -> Found:
        """Read the columns that a key names, or all."""
        with _opened(path) as (schema, batches):
            names = list(schema.names)
            if key is not None:
                names = [schema.names[place] for place in places_of(key, schema.names, path)]
            _refuse_others(path, schema, names)
            return Found(gathered(path, names, batches(names)), tuple(names))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a table; yield its schema, and a function from names to batches of these columns."""
    arrow = package("pyarrow", path)
    if path.suffix.lower() in (".parquet", ".pq"):
        parquet = package("pyarrow.parquet", path)
        with reading(path, "a table of Parquet"), parquet.ParquetFile(path) as file:
            yield file.schema_arrow, lambda names: _columns(file.iter_batches(ROWS, columns=names), names)
    else:
        with reading(path, "a table of Feather"), arrow.OSFile(str(path)) as stream:
            file = arrow.ipc.open_file(stream)
            batches = (file.get_batch(k) for k in range(file.num_record_batches))
            yield file.schema, lambda names: _columns(batches, names)


def _columns(batches: Iterator[Any], names: list[str]) -> Iterator[list[Any]]:
    for batch in batches:
        yield [batch.column(name) for name in names]


def _refuse_others(path: Path, schema: Any, names: list[str]) -> None:
    """Refuse columns that hold no numbers."""
    types = package("pyarrow", path).types
    for name in names:
        kind = schema.field(name).type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            raise InputError(f'{path}: column "{name}": expected numbers, found {kind}; --drop leaves a column out')
