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
from likely.errors import InputError
from likely.event import REAL, Configured, Event, Interval, shown
from likely.rows import Rows
from likely.scoring import Scored, Scoring, averaged, gap_of_one_draw

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


class Density(nn.Module, PlainArguments, Configured, ABC):
    """A probability distribution p(x) or p(x | context) over an event.

    A subclass sets `event` and `context` through this constructor, keeps each of its own constructor's arguments as an
    attribute of the same name (they are the saved configuration), and writes `_log_prob` and `_sample`, which get
    checked tensors. Where `log_prob` is a bound, `kind` says so; where real values are confined to an interval,
    `support` does.
    """

    varies: ClassVar[bool] = False  # whether one network serves examples of every size
    kind: Literal["exact", "lower bound"] = "exact"
    support: Interval = REAL
    validation: Scoring = Scoring()  # how a fit judges weights
    proposals: tuple[str, ...] = ()  # what latents can be drawn from, beside the way that `log_prob` does

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
        """Return the density of those examples that are of one size, which has the same weights.

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
        """The density of examples of the size of these."""
        return self.of_size(x.shape[1:]) if self.event.varies else self

    @abstractmethod
    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor: ...

    @abstractmethod
    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor: ...

    def _draw(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        x = self._sample(n, context, generator)
        return x, self._log_prob(x, context, generator)

    def _draw_each(self, count: int, context: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """`count` draws for every context, all contexts once before any is drawn for again, and their log-density."""
        return self._draw(count * len(context), context.repeat(count, *[1] * (context.ndim - 1)), generator)

    def _score_each(self, x: Tensor, context: Tensor, generator: torch.Generator | None) -> Tensor:
        """ln p of every example under several contexts, a multiple of the examples, which are gone through in turn."""
        return self._log_prob(x.repeat(len(context) // len(x), *[1] * (x.ndim - 1)), context, generator)

    def _loss(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        nats = -self._log_prob(x, context, generator).mean()
        return nats / (self.event.dims if self.event.end is None else self.event.count(x).to(nats).mean())

    def _score(self, rows: Rows, how: Scoring, generator: torch.Generator | None) -> Scored:
        def log_prob(x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
            return self.log_prob(x, context, generator=generator)

        nats, bound = averaged(log_prob, rows, how, generator)
        return Scored(nats, gap_of_one_draw(nats, bound) if how.terms and how.draws > 1 else {})

    @property
    def estimable(self) -> bool:
        """Whether a subclass has written `estimate`."""
        return type(self).estimate is not Density.estimate

    def estimate(self, data: Any, *, generator: torch.Generator | None = None) -> None:
        """Fit in closed form, or by expectation maximisation: most models have no such way.

        Args:
            data: `Rows`, examples (n, *event.shape), or a pair with their context.
            generator: of what is drawn.

        Raises:
            InputError: there is no such way, or the data are not of the event.
        """
        raise InputError(f"{type(self).__name__} has no estimate in closed form; fit it by gradient steps")

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """Set what depends on data before the first gradient step; `fit` calls it once, with training examples.

        Most models have nothing to set. What is set is saved with the weights, and set once only.
        """

    def advance(self, fraction: float) -> None:
        """Be told how much of the fit is done, from 0 to 1, before every step: for losses that change on the way."""

    def log_prob(
        self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, " n"]:
        """Log-likelihood of each example in nats (n,), of the data as given; `kind` says whether exact or a bound.

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
            InputError: n is not positive, context is not of its event, or sizes vary (see `of_size`).
        """
        self._refuse_no_size()
        if n < 1:
            raise InputError(f"the number of samples must be at least 1, found {n}")
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
        """What `fit` minimises, a scalar; mean nats per dimension unless the model says otherwise."""
        x = self.check(x)
        return self._at(x)._loss(x, self.check_context(context, len(x)), generator)

    def _refuse_no_size(self) -> None:
        if self.event.varies:
            raise InputError(
                f"{type(self).__name__} draws examples of shape {shown(self.event.shape)}: choose a size, as in "
                f"model.of_size({tuple(8 for size in self.event.shape if size is None)})"
            )

    def check(self, x: Array) -> Tensor:
        """Validate a batch against the event and bring it to the model's device, real values to its precision too.

        Raises:
            InputError: not of the event; or whole numbers, which have no density of real values.
        """
        if not self.event.discrete and not torch.as_tensor(x).is_floating_point():
            raise InputError(
                f"{type(self).__name__} is a density of real values, which grows without bound on whole numbers; give "
                "it an event with levels, or, if they are measurements, numbers in floating point"
            )
        x = self.event.check(x)
        return x.to(self.device) if self.event.discrete else x.to(self.device, self.dtype)

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
        if len(context) not in ((1, n) if broadcast else (n,)):
            raise InputError(f"context: {n} values are expected, one per example, found {len(context)}")
        return context.expand(n, *self.context.shape).to(self.device)

    def coded_as(self) -> "Density":
        """Return the density that is frozen and coded in this one's place: the same distribution."""
        return self

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
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

    `conditionals` gives every factor in one parallel pass, `steps` one after the other with each chosen value sent
    back. A model that holds several orderings says how many in `orders`; it is their equal mixture,
    p(x) = 1/K Σ_k p_k(x), and its two views take `order`.
    """

    orders: int = 1

    @abstractmethod
    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete: ...

    @abstractmethod
    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps: ...

    def conditionals(self, x: Array, context: Array | None = None, *, order: int = 0) -> Discrete:
        """Every p(x_i | x_<i) under one ordering, as distributions over (n, *event.shape)."""
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
        """`_conditionals`; after the end of a string, of its end symbol alone."""
        p = self._conditionals(x, context, order)
        return p if self.event.end is None else p.certain(self.event.ended(x), self.event.end)

    def _walk(self, n: int, context: Tensor | None, order: int) -> Steps:
        """`_steps`; after the end of a string, of its end symbol alone."""
        steps = self._steps(n, context, order)
        return steps if self.event.end is None else until_ended(steps, self.event.end)

    def _places(self, order: int) -> list[Where]:
        """Where the values of each step lie, seen by walking through one example; faster, where a model knows it."""
        zeros = torch.zeros(1, *self.event.sizes, dtype=torch.int64)
        context = None if self.context is None else zero_of(self.context)
        places: list[Where] = []

        def note(where: Where, p: Discrete) -> Tensor:
            places.append(where)
            return zeros[where]

        run(self._steps(1, context, order), note)
        return places

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        joint = [self._factors(x, context, k).log_prob(x).reshape(len(x), -1).sum(1) for k in range(self.orders)]
        return torch.stack(joint).logsumexp(0) - float(np.log(self.orders)) if self.orders > 1 else joint[0]

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return sample_with(self, n, context, lambda where, p: p.sample(generator), generator)


def zero_of(event: Event) -> Tensor:
    """Return one example of zeros."""
    return torch.zeros(1, *event.sizes, dtype=torch.int64 if event.discrete else torch.get_default_dtype())


def run(steps: Steps, choose: Callable[[Where, Discrete], Tensor]) -> Tensor:
    """Drive `steps` to its end, each value chosen from where it lies and its conditional distribution.

    Sampling, temperature, in-filling, given noise and sequential coding differ only in `choose`.
    """
    try:
        where, p = next(steps)
        while True:
            where, p = steps.send(choose(where, p))
    except StopIteration as end:
        return end.value


def until_ended(steps: Steps, end: int) -> Steps:
    """Walk through strings, each of which stays at its end symbol once it has come."""
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
    order = torch.randint(model.orders, (n,), generator=generator, device=generator.device if generator else None)
    x = torch.empty(n, *model.event.shape, dtype=torch.int64, device=model.device)
    for k in order.unique().tolist():
        rows = (order == k).nonzero()[:, 0].to(model.device)
        part = None if context is None else context[rows]
        x[rows] = run(model.steps(len(rows), part, order=k), choose)
    return x
