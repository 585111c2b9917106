"""Groups of items that are decoded in lock-step, and the bits that a stack may owe between them."""

from collections.abc import Iterator
from itertools import chain, count, repeat

from likely.coding.rans import Stack
from likely.errors import FormatError

LENT = 1 << 12  # bits: by how much less than its items' cost a stack may hold; a reader allows twice as many


class OverdrawnError(Exception):
    """Items were pushed on a stack without bits: it holds far fewer than they cost."""


class Account:
    """Holds a stack, between groups of items, to the bits that they cost: `pop` accepts all that `push` lets pass.

    A forged file may declare years of items, popped from next to nothing. The bits owed then rise by their
    cost. Coding by bits back may empty the stack of a good file too, where it pops before it pushes, and symbols that
    are pushed there cost nothing. Pushing refuses to go on where that has saved LENT bits, −(change of `owed`).
    Popping goes the same way back, so that no file that was written can have `owed` rise by more.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.begun = self.highest = stack.owed

    def pushed(self) -> None:
        """Look at the stack after a group was pushed.

        Raises:
            OverdrawnError: popping would take it for a forged one.
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


def groups(n: int, batch: int, *, growing: bool) -> Iterator[slice]:
    """Return the groups that are decoded in lock-step, in the order of decoding.

    With bits back something is popped before it is pushed. The items that are encoded first have only the stack's seed
    to pop from, so the groups grow, from one example, in the order of encoding.
    """
    return slices(n, batch, (1 << k for k in count()) if growing else repeat(batch))


def slices(n: int, batch: int, growing: Iterator[int]) -> Iterator[slice]:
    """Return groups of n items, from the last to be encoded: of growing sizes until those reach `batch`, then equal."""
    first, left = [], n
    for size in growing:
        if size >= min(batch, left):
            break
        first.append(size)
        left -= size
    rest = [left % batch] if left % batch else []
    start = 0
    for size in chain(rest, repeat(batch, left // batch), reversed(first)):
        yield slice(start, start + size)
        start += size


def eighths(coded: int) -> Iterator[int]:
    """Return sizes of groups, each an eighth of all items coded before: these pay for its latents."""
    while True:
        size = max(1, coded // 8)
        yield size
        coded += size
