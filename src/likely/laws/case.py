"""The objects that laws are measured on: a model, the same model with every weight redrawn, and examples."""

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from likely.density import Array, Autoregressive, Density
from likely.errors import DataWarning, Error
from likely.event import REAL, Event, Interval, as_tensor
from likely.laws.table import NotApplicable

STATES = 2**17
ROWS = 2**14
MOVE = 0.3
EXAMPLES = 16
CONTEXTS = 3
LABELS = 16


class Case:
    """A model under examination; the caller's own is never touched.

    Args:
        model: any density.
        x: examples to try it on; None: symbols drawn evenly, or real values that the model draws itself.
        context: contexts to try it with (the first few); None: every label, or drawn likewise.
        source: the density that the model was fitted to, if it is known.
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        model: Density,
        x: Array | None = None,
        context: Array | None = None,
        source: Density | None = None,
        seed: int = 0,
    ) -> None:
        self.seed = seed
        self.source = source
        self.given = copy.deepcopy(model).eval()
        self.event = model.event
        self.orders = model.orders if isinstance(model, Autoregressive) else 0  # 0: not autoregressive
        self._known: dict[tuple, Any] = {}
        self.contexts = self._contexts(context)
        x = self._examples() if x is None else as_tensor(x, "x")
        self.x = self.given.check(x[:EXAMPLES])
        self.context = self._spread(len(self.x))

    def generator(self) -> torch.Generator:
        """Return a fresh generator, always with the same seed."""
        return torch.Generator().manual_seed(self.seed)

    def _examples(self) -> Tensor:
        """Draw symbols evenly, and real values from the model if it can draw."""
        if not self.event.discrete:
            with suppress(Exception):
                drawn = self.given.sample(EXAMPLES, self._spread(EXAMPLES), generator=self.generator())
                return self.given.check(drawn)
        return examples(self.event, EXAMPLES, self.generator(), self.given.support)

    def _contexts(self, context: Array | None) -> list[Tensor | None]:
        """Return single contexts to try: every label where they are few, else some values."""
        event = self.given.context
        if event is None:
            self.given.check_context(context, EXAMPLES)
            return [None]
        if context is not None:
            return list(event.check(context, "context")[:CONTEXTS].to(self.given.device))
        if event.shape == () and event.discrete and event.alphabets[0] <= LABELS:
            return list(torch.arange(event.alphabets[0], device=self.given.device))
        return list(examples(event, CONTEXTS, self.generator()).to(self.given.device))

    def _spread(self, n: int) -> Tensor | None:
        """Return the contexts in turn, for n examples."""
        contexts = [context for context in self.contexts if context is not None]
        if not contexts:
            return None
        return torch.stack([contexts[k % len(contexts)] for k in range(n)])

    @cached_property
    def redrawn(self) -> Any:
        """The first redrawing."""
        return self.redraw(self.seed)

    def redraw(self, seed: int) -> Any:
        """Return a copy with every weight redrawn, and all estimates from data replaced by estimates from noise.

        An untrained head is often zero and its conditionals do not depend on anything: it would keep most laws
        trivially. None where there is nothing to redraw.
        """
        model: Any = copy.deepcopy(self.given)
        chance = torch.Generator().manual_seed(seed)
        x = examples(self.event, 512, chance, model.support)
        context = self._spread(512)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # a few contexts are repeated here
            if model.estimable:
                model.estimate((x, context), generator=chance)
            elif not list(model.parameters()):
                return None
            model.initialize(x, context, generator=chance)
        if self.orders:
            draw_weights(model, seed)
        else:  # an area or a volume is integrated over, and must not be too rough for that
            move_weights(model, seed)
        return model

    def models(self, dtype: torch.dtype | None = None) -> dict[str, Any]:
        """Return the model as given and with weights redrawn, in a precision."""
        models = {"as given": self.given}
        if self.redrawn is not None:
            models["redrawn"] = self.redrawn
        return {name: self.once((name, dtype), partial(_converted, model, dtype)) for name, model in models.items()}

    def once(self, key: tuple, compute: Callable[[], Any]) -> Any:
        """Return the value of a key, computed for the first law that needs it."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def views(self, dtype: torch.dtype | None = None) -> Iterator[tuple[str, Autoregressive, int]]:
        """Yield each of the models under each of its orderings."""
        self.require_conditionals()
        for name, model in self.models(dtype).items():
            if model.orders == 1:
                yield name, model, 0
                continue
            for order in range(model.orders):
                yield f"{name}, ordering {order}", model, order

    def require_exact(self) -> None:
        """Require a normalised density, not a bound."""
        if self.given.kind != "exact":
            raise NotApplicable(f"log_prob is a {self.given.kind}")

    def require_discrete(self) -> None:
        """Require an event of symbols."""
        if not self.event.discrete:
            raise NotApplicable("real values")

    def require_conditionals(self) -> None:
        """Require an autoregressive model of symbols."""
        if not self.orders:
            raise NotApplicable("no conditionals, the model is not autoregressive")
        self.require_discrete()

    @cached_property
    def states(self) -> Tensor:
        """Every state of the event (states, *shape), raster order, the last dimension fastest."""
        self.require_discrete()
        states = math.prod(self.event.alphabets)
        if states > STATES:
            size = f"{states:,}"
            if states >= 10**12:
                size = f"10^{math.log10(states):.0f}"
            raise NotApplicable(f"{size} states, {STATES:,} can be enumerated")
        grid = torch.cartesian_prod(*(torch.arange(levels) for levels in self.event.alphabets))
        return grid.view(-1, *self.event.shape).to(self.given.device)

    def enumerated(self, name: str, dtype: torch.dtype, context: int) -> Tensor:
        """Return the log-probability of every state (states,), float64, under one of the models in one of the contexts.

        It is −∞ of strings with symbols after their end.
        """
        self.require_exact()
        model, value = self.models(dtype)[name], self.contexts[context]

        def compute() -> Tensor:
            unchanged = self.event.filled(self.states) == self.states
            possible = unchanged.flatten(1).all(1)
            batches = self.chunks(self.states[possible])
            parts = [model.log_prob(x, repeated(value, len(x))) for (x,) in batches]
            log_p = torch.full((len(possible),), -math.inf, dtype=torch.float64, device=possible.device)
            log_p[possible] = torch.cat(parts).double()
            return log_p

        return self.once(("enumerated", name, dtype, context), compute)

    def drawn(self, n: int, name: str, context: int, generator: torch.Generator) -> Tensor:
        """Draw real values (n, dims), float64, from one of the models in float64."""
        model = self.models(torch.float64)[name]
        x = model.sample(n, self.contexts[context], generator=generator)
        return self.event.check(x, "samples").reshape(n, -1).double().cpu()

    def density(self, name: str, context: int) -> Callable[[Tensor], Tensor]:
        """Return ln p of values (n, dims) → (n,) under one of the models in float64; −inf where it refuses a value."""
        model, value = self.models(torch.float64)[name], self.contexts[context]

        def scored(x: Tensor) -> Tensor:
            try:
                shaped = x.view(-1, *self.event.shape).to(model.device)
                return model.log_prob(shaped, repeated(value, len(x))).cpu().double()
            except Error:
                nothing = x.new_full((len(x),), -math.inf)
                if len(x) == 1:
                    return nothing
                tried = x[:: -(-len(x) // 4)]
                if all(torch.equal(scored(row[None]), nothing[:1]) for row in tried):
                    return nothing
                return torch.cat([scored(half) for half in x.tensor_split(2)])

        def log_prob(x: Tensor) -> Tensor:
            outwards = x.abs().amax(1).argsort()  # most refused values are far out
            found = torch.cat([scored(part) for part in x[outwards].split(ROWS)])
            return torch.empty_like(found).index_copy_(0, outwards, found)

        return log_prob

    def chunks(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield batches small enough for tables of every conditional."""
        width = self.event.most_levels if self.event.discrete else 1
        rows = max(1, 2**21 // (self.event.dims * width))
        return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def _converted(model: Density, dtype: torch.dtype | None) -> Density:
    if dtype is None:
        return model
    return copy.deepcopy(model).to(dtype)


def examples(event: Event, n: int, generator: torch.Generator, support: Interval = REAL) -> Tensor:
    """Symbols drawn evenly, or standard normal values brought inside the support (n, *shape)."""
    if not event.discrete:
        return inside(torch.randn(n, *event.shape, generator=generator), support)
    columns = [torch.randint(levels, (n,), generator=generator) for levels in event.alphabets]
    x = torch.stack(columns, 1).view(n, *event.shape)
    if event.end is not None:
        return _strings(x, event)
    return x


def _strings(x: Tensor, event: Event) -> Tensor:
    """Return strings of symbols: every other one a window, without an end."""
    assert event.end is not None
    letters = (event.end + 1 + x % max(1, event.most_levels - 1)) % event.most_levels
    even = torch.arange(len(x))[:, None] % 2 == 0
    return torch.where(even, letters, event.filled(x))


def inside(t: Tensor, interval: Interval) -> Tensor:
    """Map real values t smoothly into an interval, as near to its ends as the precision has numbers."""
    low, high = t.new_tensor(interval.low), t.new_tensor(interval.high)
    if low.isfinite() and high.isfinite():
        t = low + (high - low) * t.sigmoid()
    elif high.isfinite():
        t = high - (-t).exp()
    elif low.isfinite():
        t = low + t.exp()
    return t.maximum(low.nextafter(high)).minimum(high.nextafter(low))


def noise(parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Draw normal numbers in a parameter's shape, of variance 2 / inputs: a layer keeps the size of a signal."""
    scale = 0.3
    if parameter.ndim > 1:
        scale = math.sqrt(2 / max(1, parameter[0].numel()))
    return scale * torch.randn(parameter.shape, generator=generator)


@torch.no_grad()
def draw_weights(model: torch.nn.Module, seed: int) -> None:
    """Replace every weight by noise."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.copy_(noise(parameter, generator))


@torch.no_grad()
def move_weights(model: torch.nn.Module, seed: int) -> None:
    """Move every weight by noise."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.add_(MOVE * noise(parameter, generator))


def repeated(context: Tensor | None, n: int) -> Tensor | None:
    """Return one context for n examples."""
    if context is None:
        return None
    return context.expand(n, *context.shape)


def picked(values: Tensor | None, rows: Any) -> Tensor | None:
    """Return rows of contexts or features, if there are any."""
    if values is None:
        return None
    return values[rows]
