"""Histogram: a joint table over a small space."""

import math

import torch
from torch import Tensor

from likely.classical.counts import Counts, allowed_symbols
from likely.density import Steps
from likely.distributions import Discrete
from likely.errors import InputError
from likely.event import Event

CELLS = 2**22


class Histogram(Counts):
    """p(x) = (count(x) + α) / (n + α · cells), one cell for every state of the event.

    The conditionals p(x_i | x_<i), in raster order, are ratios of the table's marginals. With a label as context there
    is one table per label. Unfitted it is uniform. With α = 0 it is the maximum-likelihood estimate: a state
    that was never counted has log p = −∞. The default keeps every evaluation finite.

    Args:
        event: a small discrete event, at most 2²² cells over all labels.
        context: a label, if anything.
        smoothing: α, added to every cell.
    """

    def __init__(self, event: Event, context: Event | None = None, *, smoothing: float = 0.1) -> None:
        if not event.discrete:
            raise InputError(f"Histogram counts symbols, found an event of real values {event.shape}; give it levels")
        cells = math.prod(event.alphabets) * (context.alphabets[0] if context is not None and context.discrete else 1)
        if cells > CELLS:
            if cells < 10**15:
                size = f"{cells:,} cells"
            else:
                size = f"about 10^{math.log10(cells):.0f} cells"
            raise InputError(
                f"Histogram keeps the joint table of its event, at most {CELLS:,} cells; {event} needs {size}; "
                "IndependentPixels keeps one small table per dimension"
            )
        super().__init__(event, context, smoothing, torch.ones(math.prod(event.alphabets)))
        self.register_buffer("symbols", allowed_symbols(event.alphabets), persistent=False)

    def _cells(self, x: Tensor) -> Tensor:
        return self._prefix(x.reshape(len(x), -1), self.event.dims)[:, None]

    def _prefix(self, x: Tensor, i: int) -> Tensor:
        """The first i symbols (n, ≥ i) as one number."""
        number = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        for symbol, levels in zip(x[:, :i].T, self.event.alphabets, strict=False):
            number = number * levels + symbol
        return number

    def _counts(self, i: int, x: Tensor, labels: Tensor) -> Tensor:
        """Count how often x_i was each symbol after x_<i, (n, longest alphabet); of x (n, dims) only x_<i are read."""
        levels = self.event.alphabets[i]
        before = math.prod(self.event.alphabets[:i])
        marginal = self.table.view(len(self.table), before, levels, -1).sum(-1)
        return torch.nn.functional.pad(marginal[labels, self._prefix(x, i)], (0, self.symbols.shape[1] - levels))

    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete:
        flat = x.reshape(len(x), -1)
        labels = self._labels(context, len(x))
        counts = torch.stack([self._counts(i, flat, labels) for i in range(self.event.dims)], 1)
        return self.head(counts, self.symbols).reshape(*x.shape)

    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps:
        labels = self._labels(context, n)
        x = torch.zeros(n, self.event.dims, dtype=torch.int64, device=self.device)
        for i in range(self.event.dims):
            where = torch.unravel_index(torch.tensor(i), self.event.shape)
            p = self.head(self._counts(i, x, labels), self.symbols[i])
            x[:, i] = yield (slice(None), *(int(k) for k in where)), p
        return x.view(n, *self.event.shape)
