"""Deliberately broken models, and the honest one that they are variations of."""

import torch
from torch import Tensor, nn

from likely.density import Array, Autoregressive, Density, Steps, run, seeded
from likely.distributions import Categorical, Discrete, Table
from likely.event import Event
from likely.nn import MaskedConv2d, Symbols

EVENT = Event((1, 2, 3), levels=3)


class Naive(Autoregressive):
    """A small raster network without a cache: honest, but each draw costs D passes."""

    def __init__(self, event: Event = EVENT, context: Event | None = None, *, kernel: int = 5, mask: str = "A") -> None:
        super().__init__(event, context)
        self.kernel, self.mask = kernel, mask
        with seeded(0):
            self.symbols = Symbols(event.levels)
            self.first = MaskedConv2d(self.symbols.width, 16, (3, kernel), mask)
            self.rest = nn.ModuleList(MaskedConv2d(16, 16, (3, 3), "B") for _ in range(3))
            self.last = MaskedConv2d(16, event.levels, (1, 1), "B")

    def _logits(self, x: Tensor) -> Tensor:
        h = self.first(self.symbols(x.movedim(1, -1)))
        for layer in self.rest:
            h = h + layer(h.relu())
        return self.last(h.relu())[:, None]

    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete:
        return Categorical(self._logits(x))

    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps:
        x = torch.zeros(n, *self.event.shape, dtype=torch.int64)
        for i in range(self.event.shape[1]):
            for j in range(self.event.shape[2]):
                where = (slice(None), 0, i, j)
                x[where] = yield where, self._met(x)[where]
        return x

    def _met(self, x: Tensor) -> Discrete:
        return self._conditionals(x, None, 0)


class Dead(Naive):
    """One pixel is masked out for good."""

    def _logits(self, x: Tensor) -> Tensor:
        x = x.clone()
        x[:, 0, 0, 1] = 0
        return super()._logits(x)


class Unnormalized(Naive):
    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete:
        return Table(self._logits(x) - 1)


class Batched(Naive):
    """Scores an example by what else is in the batch."""

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        log_prob = super()._log_prob(x, context, generator)
        return log_prob + 0.01 * (log_prob - log_prob.mean())


class Wanton(Naive):
    """Draws from the generator that everybody shares."""

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return super()._sample(n, context, None)


class OtherTable(Categorical):
    def log_table(self) -> Tensor:
        return (self.logits / 2).log_softmax(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.logits.log_softmax(-1).gather(-1, x[..., None])[..., 0]


class TwoFormulas(Naive):
    """The head's table is not the formula that is scored."""

    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete:
        return OtherTable(self._logits(x))


class Rounds(Naive):
    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        def choose(where, p):
            return Table(((p.table() * 8).round().clamp(min=0.5) / 8).log().log_softmax(-1)).sample(generator)

        return run(self.steps(n, context), choose)


class Cold(Naive):
    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return run(self.steps(n, context), lambda where, p: p.tempered(0.7).sample(generator))


class Forgets(Naive):
    """What was drawn in the first row is forgotten in the second."""

    def _met(self, x: Tensor) -> Discrete:
        x = x.clone()
        if x[:, :, 1].any():
            x[:, :, 0] = 0
        return self._conditionals(x, None, 0)


class Repeats(Naive):
    """The last place is never drawn, the first one twice."""

    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps:
        x = torch.zeros(n, *self.event.shape, dtype=torch.int64)
        for i, j in ((0, 0), (0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
            where = (slice(None), 0, i, j)
            x[where] = yield where, self._met(x)[where]
        return x


class Unsaved(Naive):
    """What it estimates is not part of its state."""

    def __init__(self, event: Event = EVENT, context: Event | None = None) -> None:
        super().__init__(event, context)
        self.register_buffer("temperature", torch.ones(()), persistent=False)

    def estimate(self, data, *, generator=None) -> None:
        self.temperature.fill_(1.5)

    def _logits(self, x: Tensor) -> Tensor:
        return super()._logits(x) / self.temperature


class Bits(Naive):
    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return super()._log_prob(x, context, generator) / 0.6931471805599453


class Clips(Naive):
    def check(self, x: Array) -> Tensor:
        return super().check(torch.as_tensor(x).clamp(0, self.event.levels - 1))


class Overclaims(Density):
    """Fair coins, each said to be a tenth of a nat likelier than it is."""

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return torch.full((len(x),), -0.5931 * self.event.dims)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return torch.randint(2, (n, *self.event.shape), generator=generator)
