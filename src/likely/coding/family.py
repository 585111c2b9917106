"""A codec pushes examples onto a stack and pops them again: one class for each family of densities.

The two directions stand under one another, and mirror each other line by line: last pushed is first popped.
Both see the same integers, because the density is frozen. A density made of densities has a codec made of codecs.
"""

from abc import ABC, abstractmethod
from functools import singledispatch

from torch import Tensor

from likely.coding.rans import Stack
from likely.density import Density
from likely.distributions.frequencies import Frequencies
from likely.errors import UncodableError


class Codec(ABC):
    """Examples of one frozen density to a stack and back."""

    @abstractmethod
    def push(self, stack: Stack, x: Tensor, context: Tensor | None) -> None:
        """Push examples (n, *event.shape), given the context of each."""

    @abstractmethod
    def pop(self, stack: Stack, n: int, context: Tensor | None) -> Tensor:
        """Pop n examples, given the context of each: the inverse of `push`.

        Raises:
            FormatError: the stack holds fewer.
        """

    def values(self, numbers: Tensor) -> Tensor:
        """Return the values that the pushed numbers stand for: symbols stand for themselves."""
        return numbers


@singledispatch
def codec(density: Density, batch: int) -> Codec:
    """Return the codec of a density.

    Args:
        density: it must be frozen before it is used.
        batch: examples that are popped in lock-step.

    Raises:
        UncodableError: there is none for its family.
    """
    raise UncodableError(
        f"{type(density).__name__} cannot be coded: autoregressive densities and latent-variable models can so far"
    )


def of(context: Tensor | None, rows: slice | Tensor) -> Tensor | None:
    """Return the contexts of some examples, if there are any."""
    return None if context is None else context[rows]


def frequencies(p: object) -> Frequencies:
    """Return a frozen head's distribution: it is in whole numbers."""
    assert isinstance(p, Frequencies)
    return p
