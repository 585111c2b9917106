"""Shared by the models made of counts: one table per label, additive smoothing, the closed-form estimate."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from likely.density import Autoregressive
from likely.errors import FormatError, InputError
from likely.event import Event
from likely.nn import CountsHead, Leaf
from likely.rows import Rows

MOST = 1 << 37  # of a row of counts, in whole numbers


class Counts(Leaf, Autoregressive, ABC):
    """A model that counts: each example adds one to some cells of a table, one table per label.

    A subclass names the cells that are `allowed` (they start at one, so that an unfitted model is uniform) and, in
    `_cells`, those that an example adds to.
    """

    chunk = 4096

    def __init__(self, event: Event, context: Event | None, smoothing: float, allowed: Tensor) -> None:
        super().__init__(event, context)
        if context is not None and (context.shape != () or not context.discrete):
            raise InputError(
                f"{type(self).__name__} keeps one table per label: the context Event((), levels) is expected, "
                f"found {context}"
            )
        if not (math.isfinite(smoothing) and smoothing >= 0):
            raise InputError(f"smoothing must be a number of at least 0, found {smoothing}")
        self.smoothing = smoothing
        labels = 1 if context is None else context.alphabets[0]
        self.head = CountsHead()
        self.register_buffer("allowed", allowed, persistent=False)  # (...) of zeros and ones
        self.register_buffer("table", allowed.repeat(labels, *[1] * allowed.ndim))  # (labels, ...): counts + smoothing

    @abstractmethod
    def _cells(self, x: Tensor) -> Tensor:
        """Return the cells of the flattened table that each example adds one to, (n, k)."""

    def estimate(self, data: Any, *, generator: torch.Generator | None = None) -> None:
        """Count: the maximum-likelihood estimate where smoothing is 0.

        Args:
            data: `Rows`, examples (n, *event.shape), or a pair with their labels.
            generator: not needed, nothing is drawn.
        """
        rows = Rows.of(data)
        self.event.check_shape(rows.read_shape)
        counts = torch.zeros(self.table.numel(), dtype=torch.int64, device=self.device)
        for part in rows.batches(self.chunk):
            with part.named():
                given, context = part.read()
                x = self.check(given)
                labels = self._labels(self.check_context(context, len(x)), len(x))
            cells = self._cells(x) + labels[:, None] * self.allowed.numel()
            counts += cells.flatten().bincount(minlength=len(counts))
        self.table.copy_(counts.view_as(self.table) + self.smoothing * self.allowed)

    def quantize(self, largest: float) -> dict[str, Tensor]:
        """Return the counts as whole numbers, each row adding up to 2³⁷ at most."""
        table = self.table.double()
        return {"table": (table * (MOST / table.sum(-1).max())).floor().long()}

    def blank(self) -> dict[str, Tensor]:
        """Return a tensor like the whole numbers, without values."""
        return {"table": torch.empty(self.table.shape, dtype=torch.int64, device="meta")}

    def exact(self, stored: dict[str, Tensor]) -> "Counts":
        """Return the model with whole numbers for counts.

        Raises:
            FormatError: negative counts, or rows of more than 2³⁷.
        """
        table = stored["table"]
        if table.min() < 0 or table.max() > MOST or table.double().sum(-1).max() > MOST:
            raise FormatError("counts of at least 0 are expected, of 2^37 at most in a row")
        self.table = table
        return self

    def _labels(self, context: Tensor | None, n: int) -> Tensor:
        if context is None:
            return torch.zeros(n, dtype=torch.int64, device=self.device)
        return context


def allowed_symbols(alphabets: tuple[int, ...]) -> Tensor:
    """Ones where a symbol is in its dimension's alphabet, else zeros, (dims, longest alphabet)."""
    return (torch.arange(max(alphabets)) < torch.tensor(alphabets)[:, None]).to(torch.get_default_dtype())
