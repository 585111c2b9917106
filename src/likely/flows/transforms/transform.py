"""The parts of a flow: invertible maps x → z with a known log-determinant.

Every direction returns its own: `forward` gives (z, ln|det ∂z/∂x|) and `inverse` gives (x, ln|det ∂x/∂z|), both per
example, shape (n,). The context comes as features (n, features), computed once for a whole flow.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from likely.arguments import PlainArguments
from likely.errors import InputError
from likely.event import REAL, Configured, Event, Interval, refuse
from likely.flows.maps.map import Map
from likely.tables import Shown

Pair = tuple[Tensor, Tensor]


def vectors(x: Tensor) -> Tensor:
    """Return every example as a vector: (n, …) → (n, dims), of single values (n,) too."""
    return x.reshape(len(x), -1)


def sum_values(ladj: Tensor) -> Tensor:
    """Sum over everything but the batch: (n, …) → (n,)."""
    return vectors(ladj).sum(1)


def finite(x: Tensor, ladj: Tensor) -> Pair:
    """Return x and ln|det ∂x/∂z| of an inverse if they are finite.

    Raises:
        InputError: a value is infinite or NaN.
    """
    refuse(~x.isfinite(), x, "x", "z is further out than this precision can tell")
    refuse(~ladj.isfinite(), ladj, "ln|det ∂x/∂z|", "z is further out than this precision can tell")
    return x, ladj


class Transform(Shown, nn.Module, PlainArguments, Configured, ABC):
    """A bijection between values inside `domain` and values inside `codomain`, example by example.

    A subclass keeps each of its constructor's arguments as an attribute of the same name, to be saved, and writes
    `forward` and `inverse`. Where z has another shape than x it writes `event_before` and `event_after`; where it
    starts from data, `initialize`.

    A call, `transform(x)`, is `forward` and a check that nothing overflowed. `forward` alone is for compositions, and
    for losses: training itself reports a loss that is not finite.
    """

    shape: Any = None  # of one example, a tuple; None: any
    features: int | None = None  # of the context that it requires; None: it uses none
    domain: Interval = REAL
    codomain: Interval = REAL
    onto: bool = True  # whether z takes every value inside codomain as x takes every value inside domain
    stochastic: bool = False  # whether forward draws
    precise: bool = False  # whether x is taken as it is given, in float64, and cast to the own precision
    keeps_precision: bool = False  # whether z is in the precision of x, whatever that is

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
        """x (n, …) → z and ln|det ∂z/∂x| (n,); infinite or NaN where they overflow.

        Raises:
            InputError: x is outside the domain, or z would be rounded to an end of the codomain.
        """

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """z (n, …) → x and ln|det ∂x/∂z| (n,).

        Raises:
            InputError: z is outside the codomain, or so far out that x has no such value in this precision.
        """

    def image(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """Return what a call does, but a z that rounds to an end of the codomain moved inside: for values drawn.

        Raises:
            InputError: as a call, but for such values.
        """
        return self(x, context)

    def preimage(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Return what `inverse` does, but an x that rounds to an end of the domain moved inside: for values drawn.

        Raises:
            InputError: as `inverse`, but for such values.
        """
        return self.inverse(z, context)

    def event_after(self, before: Event) -> Event:
        """Return the event of z, given that of x.

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
        """Return the event of x, given that of z; raises as `event_after`."""
        return self.event_after(after)

    def _require_features(self, x: Tensor, context: Tensor | None) -> None:
        found = None
        if context is not None:
            found = (len(context), context.shape[-1])
        if self.features is not None and found != (len(x), self.features):
            raise InputError(
                f"{named(self)} expects context features of shape ({len(x)}, {self.features}), "
                f"found {found or 'none'}; a flow makes them by encoded(context)"
            )

    def _require_shape(self, event: Event) -> None:
        if self.shape not in (None, event.shape):
            raise InputError(f"{named(self)} is built for events of shape {self.shape}, found {event}")

    def followed_by(self, others: Sequence["Transform"]) -> None:
        """Take notice of the transforms that come next in a composition."""

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set values that depend on data, from a batch; a second call changes nothing."""


def named(transform: Transform) -> str:
    """Return the name in errors: its class, and those of the map or the transforms in it, "Elementwise(Logit)"."""
    name = type(transform).__name__
    inner = [named(part) for part in transform.children() if isinstance(part, Transform)]
    inner += [type(part).__name__ for part in vars(transform).values() if isinstance(part, Map)]
    if not inner:
        return name
    return f"{name}({', '.join(inner)})"


def require_transform(part: object) -> Transform:
    """Return a part if it is a transform.

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
    """Return the parts of a list if they are transforms, each of them once.

    Raises:
        InputError: no list, a part that is no transform, or one that stands in it twice: its weights are saved once,
            and would no longer be shared after loading.
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

    `forward` returns z ~ q(z | x) and, in place of the log-determinant, −ln q(z | x): the log-likelihood becomes a
    lower bound in expectation. `inverse` returns x and zeros.

    Paper: SurVAE Flows: Surjections to Bridge the Gap between VAEs and Flows (Nielsen et al., 2020),
    https://arxiv.org/abs/2007.02731
    """

    stochastic = True

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None, generator: torch.Generator | None = None) -> Pair:
        """x (n, …) → a draw z and −ln q(z | x) (n,)."""

    def initialize(self, x: Tensor, context: Tensor | None = None, generator: torch.Generator | None = None) -> None:
        """Set values that depend on data, from a batch; a second call changes nothing."""


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
        for k, part in enumerate(parts):
            part.followed_by(parts[k + 1 :])
        wanted = {part.features for part in parts if part.features is not None}
        if len(wanted) > 1:
            raise InputError(f"one number of context features is expected of all transforms, found {sorted(wanted)}")
        self.features = next(iter(wanted), None)
        if parts:
            self.domain, self.codomain = parts[0].domain, parts[-1].codomain
        fits = (first.codomain == second.domain or first.stochastic for first, second in pairwise(parts))
        self.onto = all(fits) and all(part.onto for part in parts)
        self.stochastic = any(part.stochastic for part in parts)

    def __iter__(self) -> Iterator[Transform]:
        return iter(self.transforms)  # pyrefly: ignore[bad-return]

    def forward(self, x: Tensor, context: Tensor | None = None, generator: torch.Generator | None = None) -> Pair:
        """x → z, through every transform; `generator` is for those that draw."""
        ladjs = []
        for part in self:
            noise = (generator,) if part.stochastic else ()
            x, ladj = part.forward(x, context, *noise)
            ladjs.append(ladj)
        if not ladjs:
            return x, x.new_zeros(len(x))
        return x, sum(ladjs, ladjs[0].new_zeros(len(x)))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """z → x, backwards through every transform."""
        self._require_features(z, context)
        return _chained([part.inverse for part in reversed(list(self))], z, context)

    def preimage(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """z → x, backwards through every transform; an x that rounds to an end of the domain is moved inside."""
        self._require_features(z, context)
        steps = [part.inverse for part in reversed(list(self))]
        return _chained([*steps[:-1], *(part.preimage for part in list(self)[:1])], z, context)

    def event_after(self, before: Event) -> Event:
        """Return the event after every transform."""
        for part in self:
            before = part.event_after(before)
        return before

    def event_before(self, after: Event) -> Event:
        """Return the event before every transform."""
        for part in reversed(list(self)):
            after = part.event_before(after)
        return after

    def initialize(self, x: Tensor, context: Tensor | None = None, generator: torch.Generator | None = None) -> None:
        """Initialise each from the batch as mapped by the transforms before it, in turn."""
        for part in self:
            noise = (generator,) if part.stochastic else ()
            part.initialize(x, context, *noise)
            x, _ = part(x, context, *noise)


def _chained(steps: Sequence[Callable[..., Pair]], z: Tensor, context: Tensor | None) -> Pair:
    total = z.new_zeros(len(z))
    for step in steps:
        z, ladj = step(z, context)
        total = total + ladj
    return z, total


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

    def image(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """f⁻¹(x), inside the codomain."""
        return self.transform.preimage(x, context)

    def preimage(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """f(z), inside the domain."""
        return self.transform.image(z, context)

    def event_after(self, before: Event) -> Event:
        """Return the event before f."""
        return self.transform.event_before(before)

    def event_before(self, after: Event) -> Event:
        """Return the event after f."""
        return self.transform.event_after(after)
