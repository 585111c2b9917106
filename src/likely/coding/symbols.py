"""Symbols to a stack and back, given the distribution of each; and contexts: every symbol alike."""

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from likely.coding.rans import Stack
from likely.distributions import integers
from likely.distributions.frequencies import (
    BITS,
    TOTAL,
    Cumulative,
    Frequencies,
    digit_table,
    digits,
    sizes,
    softmax,
)
from likely.event import Event


class Uniform(Frequencies):
    """Every symbol of an alphabet alike; alphabets may differ, (...)."""

    def __init__(self, alphabets: Int[Tensor, "*batch"]) -> None:
        self.alphabets = alphabets
        self.levels = int(alphabets.max()) if alphabets.numel() else 1

    @property
    def shape(self) -> torch.Size:
        """Shape (...) of the batch."""
        return self.alphabets.shape

    def map(self, f: Callable[[Tensor], Tensor]) -> "Uniform":
        """Return the same with `f` applied to the alphabets."""
        return type(self)(f(self.alphabets[..., None])[..., 0])

    def below(self, symbols: Int[Tensor, "*batch m"]) -> Int[Tensor, "*batch m"]:
        """Return k / alphabet."""
        alphabets = self.alphabets[..., None]
        return torch.minimum(symbols, alphabets) * TOTAL // alphabets

    def _like(self) -> Tensor:
        return self.alphabets.new_zeros((), dtype=torch.float64)


def push(stack: Stack, p: Frequencies, x: Int[Tensor, "*batch"]) -> None:
    """Push one symbol per distribution."""
    for start, width in reversed(list(digits(p, x))):
        stack.push(start.flatten().numpy(), width.flatten().numpy(), BITS)


def pop(stack: Stack, p: Frequencies) -> Int[Tensor, "*batch"]:
    """Pop one symbol per distribution, digit by digit, the coarsest of all of them first."""
    low, high = (torch.full(p.shape, value, dtype=torch.int64) for value in (0, p.levels))
    for size in sizes(p.levels):
        table = digit_table(p, low, high, size)
        digit = torch.from_numpy(stack.pop(table.reshape(-1, table.shape[-1]).numpy(), BITS)).view(p.shape)
        low = low + digit * size
        high = torch.minimum(low + size, high)
    return low


def alike(event: Event, n: int) -> Uniform:
    """Return the distributions of n examples with all symbols of an event alike."""
    return Uniform(torch.tensor(event.alphabets).view(event.shape).expand(n, *event.shape))


def in_proportion(bits: Int[Tensor, "n k"]) -> Frequencies:
    """Return distributions from their logarithms to base 2, in units of 2⁻²⁰, up to a constant for each."""
    below = (bits.amax(1, keepdim=True) - bits).clamp(max=1 << 26)
    nats = (below * 744261118) >> 40  # ln 2 in units of 2⁻³⁰: from 2⁻²⁰ bits to 2⁻¹⁰ nats
    return Cumulative.of_weights(softmax(-nats, integers.UNIT))


def push_context(event: Event, stack: Stack, context: Tensor) -> None:
    """Push contexts (n, *event.shape), every symbol (or byte of a real value) alike."""
    if event.discrete:
        push(stack, alike(event, len(context)), context)
        return
    bytes_ = context.contiguous().view(len(context), -1).view(torch.uint8).long()
    push(stack, _bytes(*bytes_.shape), bytes_)


def pop_context(event: Event, stack: Stack, n: int, dtype: torch.dtype) -> Tensor:
    """Pop n contexts, the inverse of `push_context`; `dtype` is that of real values."""
    if event.discrete:
        return pop(stack, alike(event, n))
    bytes_ = pop(stack, _bytes(n, event.dims * dtype.itemsize))
    return bytes_.to(torch.uint8).view(dtype).view(n, *event.shape)


def _bytes(n: int, count: int) -> Uniform:
    return Uniform(torch.full((n, count), 256))
