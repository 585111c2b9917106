"""What a flow is made of: invertible maps x → z that know their log-determinant.

Every direction returns its own: `forward` gives (z, ln|det ∂z/∂x|) and `inverse` gives (x, ln|det ∂x/∂z|), both per
example, shape (n,). What a transform is conditioned on comes as features (n, features), made once for a whole flow.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from likely.arguments import PlainArguments
from likely.errors import InputError
from likely.event import REAL, Configured, Event, Interval, refuse
from likely.flows.maps.map import Map

Pair = tuple[Tensor, Tensor]


def vectors(x: Tensor) -> Tensor:
    """Every example as a vector: (n, …) → (n, dims), of single values (n,) too."""
    return x.reshape(len(x), -1)


def sum_values(ladj: Tensor) -> Tensor:
    """Σ over everything but the batch: (n, …) → (n,)."""
    return vectors(ladj).sum(1)


def finite(x: Tensor, ladj: Tensor) -> Pair:
    """Return what an inverse has found, x and ln|det ∂x/∂z|.

    Raises:
        InputError: a value is infinite or NaN.
    """
    refuse(~x.isfinite(), x, "x", "z is further out than this precision can tell")
    refuse(~ladj.isfinite(), ladj, "ln|det ∂x/∂z|", "z is further out than this precision can tell")
    return x, ladj


class Transform(nn.Module, PlainArguments, Configured, ABC):
    """A bijection between values inside `domain` and values inside `codomain`, example by example.

    A subclass keeps each of its constructor's arguments as an attribute of the same name (they are what is saved) and
    writes `forward` and `inverse`. Where z has another shape than x it writes `event_before` and `event_after`; where
    it starts from data, `initialize`.

    Called as `transform(x)`, it is `forward` and a check that nothing overflowed. `forward` alone is for compositions,
    and for losses: training says by itself where a loss is not finite.
    """

    shape: Any = None  # of one example, a tuple; None: any
    features: int | None = None  # of the context, that it must be handed; None: it looks at none
    domain: Interval = REAL
    codomain: Interval = REAL
    onto: bool = True  # whether z takes every value inside codomain as x takes every value inside domain
    stochastic: bool = False  # whether forward draws

    def __call__(self, x: Tensor, context: Tensor | None = None, *noise: torch.Generator | None) -> Pair:
        """x (n, …) → z and ln|det ∂z/∂x| (n,).

        Raises:
            InputError: x is outside the domain, or so far out that z has no such value in this precision; or context
                features are missing, or of another number.
        """
        self._require_features(x, context)
        z, ladj = super().__call__(x, context, *noise)
        refuse(~z.isfinite(), z, "z", "x is further out than this precision can tell")
        refuse(~ladj.isfinite(), ladj, "ln|det ∂z/∂x|", "x is further out than this precision can tell")
        return z, ladj

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """x (n, …) → z and ln|det ∂z/∂x| (n,), which are infinite or NaN where they overflow.

        Raises:
            InputError: x is outside the domain, or z would be too near an end of the codomain to tell.
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
            InputError: x cannot be of that event: it has another shape than the transform, or symbols.
        """
        if before.discrete:
            raise InputError(
                f"{named(self)} takes real values, found {before}: a density of real values grows without bound on "
                "symbols; begin with Dequantize, which adds noise to them"
            )
        self._require_shape(before)
        return before

    def event_before(self, after: Event) -> Event:
        """The event of x, given that of z; raises as `event_after`."""
        return self.event_after(after)

    def _require_features(self, x: Tensor, context: Tensor | None) -> None:
        found = None if context is None else (len(context), context.shape[-1])
        if self.features is not None and found != (len(x), self.features):
            raise InputError(
                f"{named(self)} expects context features of shape ({len(x)}, {self.features}), "
                f"found {found or 'none'}; a flow makes them by encoded(context)"
            )

    def _require_shape(self, event: Event) -> None:
        if self.shape not in (None, event.shape):
            raise InputError(f"{named(self)} is built for events of shape {self.shape}, found {event}")

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set what depends on data, from a batch; a second call changes nothing."""


def named(transform: Transform) -> str:
    """What errors call it: its class, and those of the map or the transform that it applies, "Elementwise(Logit)"."""
    inner = [named(part) for part in transform.children() if isinstance(part, Transform)]
    inner += [type(part).__name__ for part in vars(transform).values() if isinstance(part, Map)]
    return f"{type(transform).__name__}({', '.join(inner)})" if inner else type(transform).__name__


def require_transform(part: object) -> Transform:
    """Return what is to be a transform.

    Raises:
        InputError: it is a map, or something else.
    """
    name = type(part).__name__
    if isinstance(part, Map):
        raise InputError(f"{name} is a map of single values; wrap it: Elementwise({name}(), shape)")
    if not isinstance(part, Transform):
        raise InputError(f"a transform is expected, found {part if isinstance(part, type) else name}")
    return part


def require_transforms(transforms: object) -> list[Transform]:
    """Return what are to be transforms that follow one another.

    Raises:
        InputError: no list, a part of it that is no transform, or one that stands in it twice: its weights are saved
            once, and would be apart after loading.
    """
    if not isinstance(transforms, Iterable):
        raise InputError(f"a list of transforms is expected, found {type(transforms).__name__}")
    parts = [require_transform(part) for part in transforms]
    places: dict[Transform, int] = {}
    for place, part in enumerate(parts):
        first = places.setdefault(part, place)
        if first != place:
            raise InputError(
                f"the same {named(part)} stands at places {first} and {place}; make another one, or a deepcopy"
            )
    return parts


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
        InputError: the values of one are outside the domain of the next; they are built for different numbers of
            context features; or one is no transform, or the same as another.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__()
        parts = require_transforms(transforms)
        self.transforms = nn.ModuleList(parts)
        for first, second in pairwise(parts):
            if not second.domain.holds(first.codomain):
                raise InputError(
                    f"{named(second)} takes values inside {second.domain}, "
                    f"but {named(first)} before it gives values inside {first.codomain}"
                )
        wanted = {part.features for part in parts if part.features is not None}
        if len(wanted) > 1:
            raise InputError(f"one number of context features is expected of all transforms, found {sorted(wanted)}")
        self.features = next(iter(wanted), None)
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
            x, ladj = part.forward(x, context, *noise)
            total = total + ladj
        return x, total if isinstance(total, Tensor) else x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """z → x, backwards through every transform."""
        self._require_features(z, context)
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
        InputError: f draws, or is no transform.
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        require_transform(transform)
        if transform.stochastic or not transform.onto:
            raise InputError(f"{named(transform)} is no bijection and cannot be turned around")
        self.transform, self.features = transform, transform.features
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
