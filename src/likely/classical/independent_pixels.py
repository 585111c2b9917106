"""IndependentPixels: every dimension by itself."""

import torch
from torch import Tensor

from likely.classical.counts import Counts, allowed_symbols
from likely.density import Steps
from likely.distributions import Discrete
from likely.errors import InputError
from likely.event import Event


class IndependentPixels(Counts):
    """p(x) = ∏_i p_i(x_i),  p_i(k) = (count_i(k) + α) / (n + α · levels_i).

    A table for every dimension, a pixel of an image or a column of a table, and for every label if the context is one.
    Unfitted it is uniform. All values are drawn in one step.

    Args:
        event: any discrete event; columns of a table may have alphabets of their own.
        context: a label, if anything.
        smoothing: α, added to every count; 0 gives the maximum-likelihood estimate.
    """

    def __init__(self, event: Event, context: Event | None = None, *, smoothing: float = 0.1) -> None:
        if not event.discrete:
            raise InputError(
                f"IndependentPixels counts symbols, found an event of real values {event.shape}; give it levels"
            )
        super().__init__(event, context, smoothing, allowed_symbols(event.alphabets))

    def _cells(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1) + torch.arange(self.event.dims, device=x.device) * self.table.shape[-1]

    def _distributions(self, n: int, context: Tensor | None) -> Discrete:
        p = self.head(self.table, self.allowed)  # (labels, dims)
        if context is None:
            p = p.map(lambda parameter: parameter.expand(n, -1, -1))
        else:
            p = p[context]
        return p.reshape(n, *self.event.shape)

    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete:
        return self._distributions(len(x), context)

    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps:
        return (yield (slice(None),), self._distributions(n, context))
