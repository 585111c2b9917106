"""Examples and their contexts, row by row: the one thing that passes data about."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, Union

import numpy as np
import torch
from torch import Tensor

from likely.errors import InputError

Array: TypeAlias = Tensor | np.ndarray
Examples: TypeAlias = Union[Array, tuple[Array, Array | None], "Rows"]  # in any form that users give them in
Index: TypeAlias = slice | Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """Examples x (n, …) and, where they are conditioned on something, the context of each, (n, …).

    Both are kept as they are, arrays or tensors. Indexing takes a slice or a tensor of row numbers, and reads no more
    than those rows.

    Args:
        x: examples.
        context: of each.
    """

    x: Any  # an array or a tensor, as are its rows
    context: Any = None

    @classmethod
    def of(cls, data: Examples) -> "Rows":
        """Return data in any form, an array, a pair with its context or `Rows`, as rows.

        Raises:
            InputError: neither array nor tensor.
        """
        if isinstance(data, Rows):
            return data
        x, context = data if isinstance(data, tuple) else (data, None)
        if not isinstance(x, Tensor | np.ndarray):
            raise InputError(f"data: an array or a tensor is expected, found {type(x).__name__}")
        return cls(x, context)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Index) -> "Rows":
        return Rows(self.x[rows], None if self.context is None else self.context[rows])

    def batches(self, size: int) -> Iterator["Rows"]:
        """Return all rows in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def drawn(self, count: int, generator: torch.Generator) -> "Rows":
        """Return some rows, `count` at most, in a random order."""
        return self[torch.randperm(len(self), generator=generator)[:count]]

    def split(self, fraction: float, seed: int) -> tuple["Rows", "Rows"]:
        """Return the rows that are left, and a seeded fraction that is held out, each in its order.

        Raises:
            InputError: fewer than 2 rows, or a fraction that is not between 0 and 1.
        """
        n = len(self)
        if n < 2 or not 0 < fraction < 1:
            raise InputError(f"at least 2 rows and a fraction between 0 and 1 are expected, found {n} rows, {fraction}")
        held = min(max(round(fraction * n), 1), n - 1)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        return self[order[held:].sort().values], self[order[:held].sort().values]

    def require_pairs(self) -> None:
        """Refuse a context of another length: rows would be paired that are no pair.

        Raises:
            InputError: names both lengths.
        """
        if self.context is not None and len(self.context) != len(self.x):
            raise InputError(f"context: {len(self.x)} values are expected, one per example, found {len(self.context)}")
