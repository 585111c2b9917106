"""Tables of Parquet and Feather, with pyarrow."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from likely.cli.writers.writer import Output, Writer, refuse_several
from likely.data.formats.streams import package
from likely.errors import InputError
from likely.runs.files import write_file


class Parquet(Writer):
    """A row group for each part."""

    endings = (".parquet", ".feather")
    rank = 3

    def check(self, out: str, rows: Output) -> None:
        """Refuse what is no table, or that pyarrow is not installed."""
        refuse_several(out, rows)
        if len(rows.shape) > 2:
            raise InputError(f"--out: items of shape {rows.shape[1:]} are no rows of a table; give -o FILE.npy")
        package("pyarrow", Path(out))

    def write(self, out: str, rows: Output, parts: Iterable[Any]) -> None:
        """Write the rows, some at a time."""
        arrow, parquet = package("pyarrow", Path(out)), package("pyarrow.parquet", Path(out))
        width = 1 if len(rows.shape) == 1 else rows.shape[1]
        names = list(rows.names or (f"x{k}" for k in range(width)))
        schema = arrow.schema([(name, arrow.from_numpy_dtype(rows.dtype.newbyteorder("="))) for name in names])

        def write(file: Any) -> None:
            if out.lower().endswith(".parquet"):
                writer = parquet.ParquetWriter(file, schema)
            else:
                writer = arrow.ipc.new_file(file, schema)
            with writer:
                for part in parts:
                    table = np.asarray(part, rows.dtype.newbyteorder("=")).reshape(len(part), width)
                    columns = [arrow.array(np.ascontiguousarray(column)) for column in table.T]
                    writer.write_table(arrow.table(columns, schema=schema))

        write_file(Path(out), write)
