"""Examples and what they are conditioned on, passed about without being copied, and where they are read from."""

from likely.rows.rows import Batch, Rows
from likely.rows.sources import FileSource, ItemSource, Source

__all__ = ["Batch", "FileSource", "ItemSource", "Rows", "Source"]
