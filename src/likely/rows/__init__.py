"""Examples and their contexts, passed about without a copy, and the sources that they are read from."""

from likely.rows.rows import Batch, Rows
from likely.rows.sources import FileSource, ItemSource, Source

__all__ = ["Batch", "FileSource", "ItemSource", "Rows", "Source"]
