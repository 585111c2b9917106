"""Codecs of autoregressive densities: symbol by symbol, under one ordering or a mixture of several."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from likely.coding.family import Codec, codec, frequencies, of
from likely.coding.groups import Account, groups
from likely.coding.rans import Stack
from likely.coding.symbols import Uniform, in_proportion, pop, push
from likely.density import Autoregressive, Where, run
from likely.distributions import integers
from likely.distributions.frequencies import BITS, Frequencies, digits
from likely.errors import FormatError

PASS = 32  # items per parallel pass: a matter of memory alone, no bit depends on it


class InOrder(Codec):
    """Symbol by symbol under one ordering: pushed from parallel passes, backwards, and popped by walking the steps."""

    def __init__(self, model: Autoregressive, order: int, batch: int) -> None:
        self.model, self.order, self.batch = model, order, batch

    def push(self, stack: Stack, x: Tensor, context: Tensor | None) -> None:
        """Push group by group, the last first."""
        for rows in reversed(list(groups(len(x), self.batch, growing=False))):
            intervals = zip(*self.intervals(x[rows], of(context, rows)), strict=True)
            starts, widths = (np.concatenate(each, 1) for each in intervals)  # (digits, n, *event.shape)
            places = [(digit, *where) for where in self.steps for digit in range(len(starts))]
            starts, widths = (np.concatenate([each[place].ravel() for place in places]) for each in (starts, widths))
            stack.push(starts, widths, BITS)

    def pop(self, stack: Stack, n: int, context: Tensor | None) -> Tensor:
        """Pop group by group, the first first."""
        x = torch.zeros(n, *self.model.event.shape, dtype=torch.int64)
        for rows in groups(n, self.batch, growing=False):
            if rows.start and stack.spent:  # a chunk, then: it begins with 2^48 and is only pushed on
                raise FormatError(f"the payload ends after {rows.start} of {n} items")
            steps = self.model._walk(rows.stop - rows.start, of(context, rows), self.order)
            x[rows] = run(steps, lambda where, p: pop(stack, frequencies(p)))
        return x

    @cached_property
    def steps(self) -> list[Where]:
        """Where in a batch the values of each step lie."""
        return self.model._places(self.order)

    def intervals(self, x: Tensor, context: Tensor | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Return starts and widths, (digits, n, *event.shape) each, of every symbol given those before it."""
        for start in range(0, len(x), PASS):
            rows = slice(start, start + PASS)
            p = frequencies(self.model._factors(x[rows], of(context, rows), self.order))
            starts, widths = zip(*digits(p, x[rows]), strict=True)
            yield torch.stack(starts).numpy(), torch.stack(widths).numpy()

    def log2_likelihood(self, x: Tensor, context: Tensor | None) -> Int[Tensor, " n"]:
        """Return log2 p(x | context) of each example, in units of 2⁻²⁰ above a constant, as it is coded."""
        widths = np.concatenate([width for _, width in self.intervals(x, context)], 1)
        return integers.log2(torch.from_numpy(widths)).sum(0).reshape(len(x), -1).sum(1)


class AnyOrder(Codec):
    """A mixture of orderings: the ordering is popped by its posterior, x pushed under it, then the ordering pushed."""

    def __init__(self, model: Autoregressive, batch: int) -> None:
        self.event, self.batch = model.event, batch
        self.orders = [InOrder(model, order, batch) for order in range(model.orders)]

    def push(self, stack: Stack, x: Tensor, context: Tensor | None) -> None:
        """Push group by group, the last first."""
        account = Account(stack)
        for rows in reversed(list(groups(len(x), self.batch, growing=True))):
            given = of(context, rows)
            order = pop(stack, self._posterior(x[rows], given))
            for k, own in reversed(self._by_order(order)):
                self.orders[k].push(stack, x[rows][own], of(given, own))
            push(stack, self._prior(len(order)), order)
            if len(x) > self.batch:  # a chunk's items; latents come by the group, from a stack that may well be empty
                account.pushed()

    def pop(self, stack: Stack, n: int, context: Tensor | None) -> Tensor:
        """Pop group by group, the first first."""
        x, account = torch.zeros(n, *self.event.shape, dtype=torch.int64), Account(stack)
        for rows in groups(n, self.batch, growing=True):
            given = of(context, rows)
            order = pop(stack, self._prior(rows.stop - rows.start))
            for k, own in self._by_order(order):
                x[rows][own] = self.orders[k].pop(stack, int(own.sum()), of(given, own))
            push(stack, self._posterior(x[rows], given), order)
            if n > self.batch:
                account.popped(rows.stop, n)
        return x

    def _prior(self, n: int) -> Frequencies:
        return Uniform(torch.full((n,), len(self.orders)))

    def _posterior(self, x: Tensor, context: Tensor | None) -> Frequencies:
        """Return p(ordering | x), the orderings being equally probable before."""
        return in_proportion(torch.stack([order.log2_likelihood(x, context) for order in self.orders], 1))

    def _by_order(self, order: Tensor) -> list[tuple[int, Tensor]]:
        return [(k, order == k) for k in range(len(self.orders)) if (order == k).any()]


@codec.register
def _(density: Autoregressive, batch: int) -> Codec:
    if density.orders == 1:
        return InOrder(density, 0, batch)
    return AnyOrder(density, batch)
