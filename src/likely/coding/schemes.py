"""Items to a stack and back, one scheme per family of densities: `encode` and `decode`.

Encoding reads the conditionals from parallel passes and pushes them backwards; decoding walks through `steps` and
pops. Both see the same integers, because the model is frozen.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, singledispatch
from itertools import chain, count, repeat

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from likely.coding.rans import Stack
from likely.density import Autoregressive, Density, Where, run
from likely.distributions import integers
from likely.distributions.frequencies import BITS, TOTAL, Cumulative, Frequencies, digit_table, digits, sizes, softmax
from likely.errors import FormatError
from likely.event import Event

PASS = 32  # items per parallel pass: a matter of memory, which changes no bit
LENT = 1 << 12  # bits: by how much less than its items' cost a stack may hold; a reader allows twice as many


class OverdrawnError(Exception):
    """Items were pushed on a stack without bits, which so holds far fewer than they cost."""


class Account:
    """Holds a stack, between groups of items, to the bits that they cost: what `encode` lets pass, `decode` does.

    A forged file may declare years of items, which are popped from next to nothing: what is owed then rises by their
    cost. Coding by bits back may empty the stack of a good file too, where it pops before it pushes, and symbols that
    are pushed there cost nothing. Encoding refuses to go on where that has saved LENT bits, −(change of `owed`);
    decoding goes the same way back, so that no file that was written can have `owed` rise by more.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.begun = self.highest = stack.owed

    def pushed(self) -> None:
        """Look at the stack after a group was pushed.

        Raises:
            OverdrawnError: it cannot be popped by `decode`.
        """
        self.highest = max(self.highest, self.stack.owed)
        if self.highest - self.stack.owed > LENT:
            raise OverdrawnError

    def popped(self, done: int, n: int) -> None:
        """Look at the stack after `done` of n items were popped.

        Raises:
            FormatError: the payload does not pay for them.
        """
        if self.stack.owed - self.begun > 2 * LENT:
            raise FormatError(f"the payload ends after {done} of {n} items at most")


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
        """The same with `f` applied to the alphabets."""
        return type(self)(f(self.alphabets[..., None])[..., 0])

    def below(self, symbols: Int[Tensor, "*batch m"]) -> Int[Tensor, "*batch m"]:
        """k / alphabet."""
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


@singledispatch
def encode(model: Density, stack: Stack, x: Tensor, context: Tensor | None, batch: int) -> None:
    """Push examples.

    Args:
        model: a frozen density.
        stack: what to push on.
        x: examples (n, *event.shape).
        context: of each, if the model is conditional.
        batch: examples that decoding takes in lock-step.

    Raises:
        NotImplementedError: there is no scheme for this family yet.
        OverdrawnError: the stack lacks so many bits that `decode` would take it for a forged one.
    """
    raise NotImplementedError(f"{type(model).__name__} cannot be coded: only autoregressive densities can so far")


@singledispatch
def decode(model: Density, stack: Stack, n: int, context: Tensor | None, batch: int) -> Tensor:
    """Pop n examples (n, *event.shape): the inverse of `encode`.

    Raises:
        FormatError: the stack holds fewer.
    """
    raise NotImplementedError(f"{type(model).__name__} cannot be decoded: only autoregressive densities can so far")


@encode.register
@torch.no_grad()
def _(model: Autoregressive, stack: Stack, x: Tensor, context: Tensor | None, batch: int) -> None:
    account = Account(stack)
    for rows in reversed(list(groups(len(x), batch, growing=model.orders > 1))):
        part = None if context is None else context[rows]
        if model.orders == 1:
            _push_steps(model, stack, x[rows], part, 0)
            continue
        order = pop(stack, posterior(model, x[rows], part))
        for k in reversed(range(model.orders)):
            own = order == k
            if own.any():
                _push_steps(model, stack, x[rows][own], None if part is None else part[own], k)
        push(stack, Uniform(torch.full_like(order, model.orders)), order)
        if len(x) > batch:  # a chunk's items; latents come by the group, from a stack that may well be empty
            account.pushed()


@decode.register
@torch.no_grad()
def _(model: Autoregressive, stack: Stack, n: int, context: Tensor | None, batch: int) -> Tensor:
    x = torch.zeros(n, *model.event.shape, dtype=torch.int64)
    account = Account(stack)
    for rows in groups(n, batch, growing=model.orders > 1):
        part = None if context is None else context[rows]
        if model.orders == 1:
            if rows.start and stack.spent:  # a chunk, then, which begins with 2^48 and is only pushed on
                raise FormatError(f"the payload ends after {rows.start} of {n} items")
            x[rows] = _pop_steps(model, stack, len(x[rows]), part, 0)
            continue
        order = pop(stack, Uniform(torch.full((len(x[rows]),), model.orders)))
        for k in range(model.orders):
            own = order == k
            if own.any():
                x[rows][own] = _pop_steps(model, stack, int(own.sum()), None if part is None else part[own], k)
        push(stack, posterior(model, x[rows], part), order)
        if n > batch:
            account.popped(rows.stop, n)
    return x


def groups(n: int, batch: int, *, growing: bool) -> Iterator[slice]:
    """What is decoded in lock-step, in the order of decoding.

    With several orderings an example's ordering is popped before it is pushed (bits back). What is encoded first has
    only the stack's seed to pop from, so the groups grow, from one example, in the order of encoding.
    """
    return slices(n, batch, (1 << k for k in count()) if growing else repeat(batch))


def slices(n: int, batch: int, growing: Iterator[int]) -> Iterator[slice]:
    """Groups of n items, from the last to be encoded: of growing sizes until those reach `batch`, then of `batch`."""
    first, left = [], n
    for size in growing:
        if size >= min(batch, left):
            break
        first.append(size)
        left -= size
    start = 0
    for size in chain([left % batch] if left % batch else [], repeat(batch, left // batch), reversed(first)):
        yield slice(start, start + size)
        start += size


def intervals(
    model: Autoregressive, x: Tensor, context: Tensor | None, order: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Starts and widths, (digits, n, *event.shape) each, of every symbol given what comes before it."""
    for start in range(0, len(x), PASS):
        part = None if context is None else context[start : start + PASS]
        symbols = x[start : start + PASS]
        p = model._conditionals(symbols, part, order)
        assert isinstance(p, Frequencies)
        starts, widths = zip(*digits(p, symbols), strict=True)
        yield torch.stack(starts).numpy(), torch.stack(widths).numpy()


def log2_likelihood(model: Autoregressive, x: Tensor, context: Tensor | None, order: int) -> Int[Tensor, " n"]:
    """log2 p(x | context) of each example (n,), in units of 2⁻²⁰ above a constant, as it is coded."""
    widths = np.concatenate([width for _, width in intervals(model, x, context, order)], 1)
    return integers.log2(torch.from_numpy(widths)).sum(0).reshape(len(x), -1).sum(1)


def in_proportion(bits: Int[Tensor, "n k"]) -> Frequencies:
    """Distributions whose logarithms to base 2 are these, in units of 2⁻²⁰, up to a constant for each."""
    below = (bits.amax(1, keepdim=True) - bits).clamp(max=1 << 26)
    nats = (below * 744261118) >> 40  # ln 2 in units of 2⁻³⁰: from 2⁻²⁰ bits to 2⁻¹⁰ nats
    return Cumulative.of_weights(softmax(-nats, integers.UNIT))


def posterior(model: Autoregressive, x: Tensor, context: Tensor | None) -> Frequencies:
    """p(ordering | x), the orderings being equally probable before."""
    return in_proportion(torch.stack([log2_likelihood(model, x, context, k) for k in range(model.orders)], 1))


def _push_steps(model: Autoregressive, stack: Stack, x: Tensor, context: Tensor | None, order: int) -> None:
    starts, widths = (np.concatenate(parts, 1) for parts in zip(*intervals(model, x, context, order), strict=True))
    places = [(digit, *where) for where in steps_of(model, order) for digit in range(len(starts))]
    starts, widths = (np.concatenate([part[place].ravel() for place in places]) for part in (starts, widths))
    stack.push(starts, widths, BITS)


def _pop_steps(model: Autoregressive, stack: Stack, n: int, context: Tensor | None, order: int) -> Tensor:
    def choose(where: Where, p: object) -> Tensor:
        assert isinstance(p, Frequencies)
        return pop(stack, p)

    return run(model._steps(n, context, order), choose)


@lru_cache(maxsize=16)
def steps_of(model: Autoregressive, order: int) -> list[Where]:
    """Where in a batch the values of each step lie, found by walking through one example."""
    zeros = torch.zeros(1, *model.event.shape, dtype=torch.int64)
    context = None if model.context is None else _zero(model.context)
    found: list[Where] = []

    def note(where: Where, p: object) -> Tensor:
        found.append(where)
        return zeros[where]

    run(model._steps(1, context, order), note)
    return found


def _zero(event: Event) -> Tensor:
    return torch.zeros(1, *event.shape, dtype=torch.int64 if event.discrete else torch.get_default_dtype())


def encode_context(event: Event, stack: Stack, context: Tensor) -> None:
    """Push contexts (n, *event.shape), every symbol (or byte of a real value) alike."""
    push(stack, _context_frequencies(event, context), _context_symbols(event, context))


def decode_context(event: Event, stack: Stack, n: int, dtype: torch.dtype) -> Tensor:
    """Pop n contexts: the inverse of `encode_context`; `dtype` is that of real values."""
    if event.discrete:
        empty = torch.zeros(n, *event.shape, dtype=torch.int64)
        return pop(stack, _context_frequencies(event, empty))
    bytes_ = pop(stack, Uniform(torch.full((n, event.dims * dtype.itemsize), 256)))
    return bytes_.to(torch.uint8).view(dtype).view(n, *event.shape)


def _context_frequencies(event: Event, context: Tensor) -> Uniform:
    if not event.discrete:
        return Uniform(torch.full((len(context), event.dims * context.itemsize), 256))
    return alike(event, len(context))


def _context_symbols(event: Event, context: Tensor) -> Tensor:
    if event.discrete:
        return context
    return context.contiguous().view(len(context), -1).view(torch.uint8).long()


def alike(event: Event, n: int) -> Uniform:
    """Every symbol of an event alike, for n examples."""
    return Uniform(torch.tensor(event.alphabets).view(event.shape).expand(n, *event.shape))
