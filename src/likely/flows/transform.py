"""What a flow is made of: invertible maps x → z that know their log-determinant.

Every direction returns its own: `forward` gives (z, ln|det ∂z/∂x|) and `inverse` gives (x, ln|det ∂x/∂z|), both per
example, shape (n,). What a transform is conditioned on comes as features (n, features), made once for a whole flow.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from likely.errors import InputError
from likely.event import REAL, Configured, Event, Interval

Pair = tuple[Tensor, Tensor]


def sum_values(ladj: Tensor) -> Tensor:
    """Σ over everything but the batch: (n, …) → (n,), of single values (n,) too."""
    return ladj.reshape(len(ladj), -1).sum(1)


class Transform(nn.Module, Configured, ABC):
    """A bijection between values inside `domain` and values inside `codomain`, example by example.

    A subclass keeps each of its constructor's arguments as an attribute of the same name (they are what is saved) and
    writes `forward` and `inverse`. Where z has another shape than x it writes `event_before` and `event_after`; where
    it starts from data, `initialize`.
    """

    domain: Interval = REAL
    codomain: Interval = REAL
    onto: bool = True  # whether z takes every value inside codomain as x takes every value inside domain
    stochastic: bool = False  # whether forward draws

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """x (n, …) → z and ln|det ∂z/∂x| (n,).

        Raises:
            InputError: x is outside the domain, or so far out that z has no such value in this precision.
        """

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """z (n, …) → x and ln|det ∂x/∂z| (n,).

        Raises:
            InputError: z is outside the codomain, or so far out that x has no such value in this precision.
        """

    def event_after(self, before: Event) -> Event:
        """The event of z, given that of x.

        Raises:
            InputError: x cannot be of that event.
        """
        return before

    def event_before(self, after: Event) -> Event:
        """The event of x, given that of z."""
        return after

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set what depends on data, from a batch; a second call changes nothing."""


class Surjection(Transform):
    """A transform that draws in its forward direction, and only rounds or forgets in the inverse one.

    `forward` returns z ~ q(z | x) and −ln q(z | x) in place of the log-determinant, which makes the log-likelihood
    a lower bound in expectation. `inverse` returns x and zeros.

    Paper: SurVAE Flows: Surjections to Bridge the Gap between VAEs and Flows (Nielsen et al., 2020),
    https://arxiv.org/abs/2007.02731
    """

    stochastic = True

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None, generator: torch.Generator | None = None) -> Pair:
        """x (n, …) → a draw z and −ln q(z | x) (n,)."""

    def initialize(self, x: Tensor, context: Tensor | None = None, generator: torch.Generator | None = None) -> None:
        """Set what depends on data, from a batch; a second call changes nothing."""


class Composition(Transform):
    """f_K ∘ … ∘ f_1: one transform after the other, log-determinants added up.

    Args:
        transforms: in the order of x → z.

    Raises:
        InputError: the values of one are outside the domain of the next.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        parts = list(self)
        for first, second in pairwise(parts):
            if not second.domain.holds(first.codomain):
                raise InputError(
                    f"{type(second).__name__} takes values inside {second.domain}, "
                    f"but {type(first).__name__} before it gives values inside {first.codomain}"
                )
        self.domain, self.codomain = (parts[0].domain, parts[-1].codomain) if parts else (REAL, REAL)
        fits = (first.codomain == second.domain or first.stochastic for first, second in pairwise(parts))
        self.onto = all(fits) and all(part.onto for part in parts)
        self.stochastic = any(part.stochastic for part in parts)

    def __iter__(self) -> Iterator[Transform]:
        return iter(self.transforms)  # pyrefly: ignore[bad-return]

    def forward(self, x: Tensor, context: Tensor | None = None, generator: torch.Generator | None = None) -> Pair:
        """x → z, through every transform; `generator` is for those that draw."""
        total = 0.0
        for part in self:
            noise = (generator,) if part.stochastic else ()
            x, ladj = part(x, context, *noise)
            total = total + ladj
        return x, total if isinstance(total, Tensor) else x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """z → x, backwards through every transform."""
        total = z.new_zeros(len(z))
        for part in reversed(list(self)):
            z, ladj = part.inverse(z, context)
            total = total + ladj
        return z, total

    def event_after(self, before: Event) -> Event:
        """Through every transform."""
        for part in self:
            before = part.event_after(before)
        return before

    def event_before(self, after: Event) -> Event:
        """Backwards through every transform."""
        for part in reversed(list(self)):
            after = part.event_before(after)
        return after

    def initialize(self, x: Tensor, context: Tensor | None = None, generator: torch.Generator | None = None) -> None:
        """Each from what the ones before it, initialised, make of the batch."""
        for part in self:
            noise = (generator,) if part.stochastic else ()
            part.initialize(x, context, *noise)
            x, _ = part(x, context, *noise)


class Inverse(Transform):
    """f⁻¹: the same transform in the other direction.

    Args:
        transform: f, a bijection.

    Raises:
        InputError: f draws.
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        if transform.stochastic or not transform.onto:
            raise InputError(f"{type(transform).__name__} is no bijection and cannot be turned around")
        self.transform = transform
        self.domain, self.codomain = transform.codomain, transform.domain

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """f⁻¹(x)."""
        return self.transform.inverse(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """f(z)."""
        return self.transform(z, context)

    def event_after(self, before: Event) -> Event:
        """The event before f."""
        return self.transform.event_before(before)

    def event_before(self, after: Event) -> Event:
        """The event after f."""
        return self.transform.event_after(after)
