"""The contract: `Density`, its autoregressive kind with `conditionals` and `steps`, and the one loop, `run`."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.arguments import PlainArguments
from likely.distributions.discrete import Discrete
from likely.errors import InputError, require_draws
from likely.event import REAL, Configured, Event, Interval, narrowed, shown
from likely.rows import Rows
from likely.scoring import Scored, Scoring, averaged, gap_of_one_draw
from likely.tables import Shown

Where = tuple[Any, ...]
Steps = Generator[tuple[Where, Discrete], Tensor, Tensor]
Array = Tensor | np.ndarray
Own = TypeVar("Own", bound="Density")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators inside the block and leave the caller's as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class Density(Shown, nn.Module, PlainArguments, Configured, ABC):
    """A probability distribution p(x) or p(x | context) over an event.

    A subclass sets `event` and `context` through this constructor. It keeps each of its own constructor's arguments as
    an attribute of the same name: they are the saved configuration. It writes `_log_prob` and `_sample`; these get
    checked tensors. `kind` says whether `log_prob` is exact or a bound, `support` gives the interval of real values.
    """

    varies: ClassVar[bool] = False  # whether one network serves examples of every size
    kind: Literal["exact", "lower bound"] = "exact"
    support: Interval = REAL
    validation: Scoring = Scoring()  # how a fit judges weights
    precise: bool = False  # whether real values are taken as given, in float64, and cast by the model itself
    proposals: tuple[str, ...] = ()  # names of distributions that latents can be drawn from, beside that of `log_prob`

    def __init__(self, event: Event, context: Event | None = None) -> None:
        super().__init__()
        self._refuse_arguments(event)
        if context is not None and context.varies:
            raise InputError(f"a context of one size is expected, found shape {shown(context.shape)}")
        self.event = event
        self.context = context

    @classmethod
    def _refuse_arguments(cls, *values: Any) -> None:
        """Refuse sizes that vary before a constructor takes them for numbers."""
        for event in values:
            if not cls.varies and isinstance(event, Event) and event.varies:
                raise InputError(f"{cls.__name__} models examples of one size, found shape {shown(event.shape)}")

    def of_size(self: Own, shape: Sequence[int]) -> Own:
        """Return the density of the examples of one size; it shares the weights.

        Where sizes vary, a model is a density p(x | size) for every size. `log_prob` and `loss` take the size from the
        examples; for everything else, this is the density to ask.

        Args:
            shape: of one example, or its sizes that vary alone.

        Raises:
            InputError: no example of the event has this shape.
        """
        event = self.event.of_size(shape)
        if event == self.event:
            return self
        model = copy.copy(self)
        model.event = event
        return model

    def _at(self: Own, x: Tensor) -> Own:
        """Return the density of examples of the size of these."""
        if not self.event.varies:
            return self
        return self.of_size(x.shape[1:])

    @abstractmethod
    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor: ...

    @abstractmethod
    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor: ...

    def _draw(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        x = self._sample(n, context, generator)
        return x, self._log_prob(x, context, generator)

    def _draw_each(self, count: int, context: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Draw `count` examples for every context, with their log-density.

        The first draws for all contexts come first, then the second ones, and so on.
        """
        contexts = context.repeat(count, *[1] * (context.ndim - 1))
        return self._draw(len(contexts), contexts, generator)

    def _score_each(self, x: Tensor, context: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return ln p of examples under several contexts each: context k belongs to example k mod len(x)."""
        count = len(context) // len(x)
        return self._log_prob(x.repeat(count, *[1] * (x.ndim - 1)), context, generator)

    def _loss(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        nats = -self._log_prob(x, context, generator).mean()
        if self.event.end is None:
            return nats / self.event.dims
        return nats / self.event.count(x).to(nats).mean()

    def _score(self, rows: Rows, how: Scoring, generator: torch.Generator | None) -> Scored:
        def log_prob(x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
            return self.log_prob(x, context, generator=generator)

        nats, bound = averaged(log_prob, rows, how, generator)
        terms: dict[str, float] = {}
        if how.terms and how.draws > 1:
            terms = gap_of_one_draw(nats, bound)
        return Scored(nats, terms)

    @property
    def estimable(self) -> bool:
        """Whether a subclass has written `estimate`."""
        return type(self).estimate is not Density.estimate

    def estimate(self, data: Any, *, generator: torch.Generator | None = None) -> None:
        """Fit in closed form, or by expectation maximisation; most models have no such estimate.

        Args:
            data: `Rows`, examples (n, *event.shape), or a pair with their context.
            generator: source of randomness.

        Raises:
            InputError: there is no such estimate, or the data are not of the event.
        """
        raise InputError(f"{type(self).__name__} has no estimate in closed form; fit it by gradient steps")

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """Set values that depend on data before the first gradient step; `fit` calls it once, with training examples.

        Most models have none. These values are set once only, and saved with the weights.
        """

    def advance(self, fraction: float) -> None:
        """Take the fraction of the fit that is done, 0 to 1, before every step, for losses that change on the way."""

    def log_prob(
        self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, " n"]:
        """Return the log-likelihood of each example in nats (n,), of the data as given, exact or a bound (see `kind`).

        Args:
            x: batch (n, *event.shape).
            context: batch (n, *context.shape) where the model is conditional, else None.
            generator: source of randomness for the kinds that draw (None: torch's default).

        Raises:
            InputError: x or context is not of its event.
        """
        x = self.check(x)
        return self._at(x)._log_prob(x, self.check_context(context, len(x)), generator)

    def sample(self, n: int, context: Array | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n examples (n, *event.shape); `context` is one value for all of them or n values.

        Raises:
            InputError: n is no number of samples, context is not of its event, or sizes vary (see `of_size`).
        """
        self._refuse_no_size()
        require_draws(n, self.event.dims)
        with torch.no_grad():
            return self._sample(n, self.check_context(context, n, broadcast=True), generator)

    def draw(
        self, n: int, context: Array | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Float[Tensor, " n"]]:
        """Draw n examples together with their log-density; differentiable where the model is reparametrised.

        Args:
            n: how many.
            context: one value for all of them or n values.
            generator: source of randomness.
        """
        self._refuse_no_size()
        return self._draw(n, self.check_context(context, n, broadcast=True), generator)

    def loss(
        self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, ""]:
        """Return the scalar that `fit` minimises: mean nats per dimension unless the model says otherwise."""
        x = self.check(x)
        return self._at(x)._loss(x, self.check_context(context, len(x)), generator)

    def _refuse_no_size(self) -> None:
        if self.event.varies:
            sizes = (8,) * self.event.shape.count(None)
            raise InputError(
                f"{type(self).__name__} draws examples of shape {shown(self.event.shape)}: choose a size, as in "
                f"model.of_size({sizes})"
            )

    def check(self, x: Array) -> Tensor:
        """Validate a batch against the event and bring it to the model's device.

        Real values are brought to the model's precision too, unless it is `precise`: then they are in float64 if they
        were given so.

        Raises:
            InputError: not of the event; whole numbers where real values are expected; or values beyond the range of
                the model's precision.
        """
        if not self.event.discrete and not torch.as_tensor(x).is_floating_point():
            raise InputError(
                f"{type(self).__name__} is a density of real values, which grows without bound on whole numbers; give "
                "it an event with levels, or, if they are measurements, numbers in floating point"
            )
        x = self.event.check(x)
        if self.event.discrete:
            return x.to(self.device)
        x = x.to(self.device)
        if self.precise:
            return x.to(torch.promote_types(x.dtype, self.dtype))
        return narrowed(x, self.dtype, x, "data")

    def check_context(self, context: Array | None, n: int, *, broadcast: bool = False) -> Tensor | None:
        """Validate the context of n examples; with `broadcast` one value serves them all.

        Raises:
            InputError: missing, not wanted, out of range, or not one per example.
        """
        if self.context is None:
            if context is not None:
                raise InputError(f"{type(self).__name__} was built without context, but a context was given")
            return None
        if context is None:
            raise InputError(
                f"{type(self).__name__} is conditional: a context of {self.context} is expected, none was given"
            )
        context = torch.as_tensor(context)
        if broadcast and context.shape == self.context.shape:
            context = context[None]
        context = self.context.check(context, "context")
        if len(context) != n and not (broadcast and len(context) == 1):
            raise InputError(f"context: {n} values are expected, one per example, found {len(context)}")
        return context.expand(n, *self.context.shape).to(self.device)

    def coded_as(self) -> "Density":
        """Return the density that is frozen and coded in place of this one: the same distribution."""
        return self

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next((t.device for t in self._tensors()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the parameters."""
        floating = (t.dtype for t in self._tensors() if t.is_floating_point())
        return next(floating, torch.get_default_dtype())

    def _tensors(self) -> Iterator[Tensor]:
        yield from self.parameters()
        yield from self.buffers()


class Autoregressive(Density):
    """p(x) = ∏_i p(x_i | x_<i), one factorisation with two views.

    `conditionals` gives every factor in one parallel pass. `steps` gives them one after the other, and is sent each
    chosen value. `orders` is the number of orderings of a model: it is their equal mixture, p(x) = 1/K Σ_k p_k(x), and
    its two views take `order`.
    """

    orders: int = 1

    @abstractmethod
    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete: ...

    @abstractmethod
    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps: ...

    def conditionals(self, x: Array, context: Array | None = None, *, order: int = 0) -> Discrete:
        """Return every p(x_i | x_<i) under one ordering, as distributions over (n, *event.shape)."""
        x = self.check(x)
        return self._at(x)._factors(x, self.check_context(context, len(x)), order)

    def steps(self, n: int, context: Array | None = None, *, order: int = 0) -> Steps:
        """Walk through n examples at once, in the model's order.

        Yields `(where, p)`: where the next values lie in the batch (`x[where]`) and their conditional distribution; is
        sent the values; returns the finished batch (n, *event.shape).

        Raises:
            InputError: context is not of its event, or sizes vary (see `of_size`).
        """
        self._refuse_no_size()
        return self._walk(n, self.check_context(context, n, broadcast=True), order)

    def _factors(self, x: Tensor, context: Tensor | None, order: int) -> Discrete:
        """Return `_conditionals`; after the end of a string, the end symbol is certain."""
        p = self._conditionals(x, context, order)
        if self.event.end is None:
            return p
        return p.certain(self.event.ended(x), self.event.end)

    def _walk(self, n: int, context: Tensor | None, order: int) -> Steps:
        """Return `_steps`; after the end of a string, the end symbol is certain."""
        steps = self._steps(n, context, order)
        if self.event.end is None:
            return steps
        return until_ended(steps, self.event.end)

    def _places(self, order: int) -> list[Where]:
        """Return the places of each step's values by a walk through one example; a model that knows them is faster."""
        zeros = torch.zeros(1, *self.event.sizes, dtype=torch.int64)
        context = None
        if self.context is not None:
            context = zero_of(self.context)
        places: list[Where] = []

        def note(where: Where, p: Discrete) -> Tensor:
            places.append(where)
            return zeros[where]

        run(self._steps(1, context, order), note)
        return places

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        factors = (self._factors(x, context, k).log_prob(x) for k in range(self.orders))
        joint = [each.reshape(len(x), -1).sum(1) for each in factors]
        if self.orders == 1:
            return joint[0]
        return torch.stack(joint).logsumexp(0) - float(np.log(self.orders))

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return sample_with(self, n, context, lambda where, p: p.sample(generator), generator)


def zero_of(event: Event) -> Tensor:
    """Return one example of zeros."""
    dtype = torch.int64 if event.discrete else torch.get_default_dtype()
    return torch.zeros(1, *event.sizes, dtype=dtype)


def run(steps: Steps, choose: Callable[[Where, Discrete], Tensor]) -> Tensor:
    """Drive `steps` to its end; `choose` gets the place of each value and its conditional distribution.

    Sampling, temperature, in-filling, given noise and sequential coding differ only in `choose`.
    """
    try:
        where, p = next(steps)
        while True:
            where, p = steps.send(choose(where, p))
    except StopIteration as end:
        return end.value


def until_ended(steps: Steps, end: int) -> Steps:
    """Walk through strings; a string stays at its end symbol once it has come."""
    try:
        where, p = next(steps)
        ended = torch.zeros(p.shape, dtype=torch.bool, device=p._like().device)
        while True:
            values = yield where, p.certain(ended, end)
            ended = ended | (values == end)
            where, p = steps.send(values)
    except StopIteration as stop:
        return stop.value


def sample_with(
    model: Autoregressive,
    n: int,
    context: Tensor | None,
    choose: Callable[[Where, Discrete], Tensor],
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw n examples by `choose`, each under an ordering drawn evenly from the model's."""
    if model.orders == 1:
        return run(model.steps(n, context), choose)
    device = generator.device if generator else None
    order = torch.randint(model.orders, (n,), generator=generator, device=device)
    x = torch.empty(n, *model.event.shape, dtype=torch.int64, device=model.device)
    for k in order.unique().tolist():
        rows = (order == k).nonzero()[:, 0].to(model.device)
        part = None if context is None else context[rows]
        x[rows] = run(model.steps(len(rows), part, order=k), choose)
    return x
