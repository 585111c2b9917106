"""SymbolHistogram: one distribution of symbols, wherever they stand."""

import torch
from torch import Tensor

from likely.classical.counts import Counts
from likely.density import Steps
from likely.distributions import Discrete
from likely.errors import InputError
from likely.event import Event


class SymbolHistogram(Counts):
    """p(x) = ∏_i p(x_i),  p(k) = (count(k) + α) / (n · D + α · levels): one table that all dimensions share.

    Its bits/dim are the order-0 entropy of the symbols, the rate of a plain entropy coder. With a label as context
    there is one table per label. Unfitted it is uniform. All values are drawn in one step.

    Paper: A mathematical theory of communication (Shannon, 1948), the first-order approximation,
    https://doi.org/10.1002/j.1538-7305.1948.tb01338.x

    Args:
        event: a discrete event with one alphabet.
        context: a label, if anything.
        smoothing: α, added to every count; 0 gives the maximum-likelihood estimate.
    """

    def __init__(self, event: Event, context: Event | None = None, *, smoothing: float = 0.1) -> None:
        levels = event.one_alphabet
        if levels is None:
            raise InputError(
                f"SymbolHistogram shares one table of symbols, found {event}; "
                "IndependentPixels gives each column its own"
            )
        super().__init__(event, context, smoothing, torch.ones(levels))

    def _cells(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1)

    def _distributions(self, n: int, context: Tensor | None) -> Discrete:
        p = self.head(self.table, self.allowed)[self._labels(context, n)]
        p = p.reshape(n, *[1] * len(self.event.shape))
        return p.map(lambda parameter: parameter.expand(n, *self.event.shape, -1))

    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete:
        return self._distributions(len(x), context)

    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps:
        return (yield (slice(None),), self._distributions(n, context))
