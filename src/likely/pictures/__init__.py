"""Pictures as PNG files: images of symbols in grids, and densities of one or two real values."""

from likely.pictures.density import density, scatter
from likely.pictures.images import grid, infilling, rows, write

__all__ = ["density", "grid", "infilling", "rows", "scatter", "write"]
