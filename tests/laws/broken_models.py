"""Deliberately broken models, and the honest one that they are variations of."""

import torch
from torch import Tensor, nn

from likely.autoregressive import MADE
from likely.densities.bases import Normal
from likely.density import Array, Autoregressive, Density, Steps, run, seeded
from likely.distributions import Categorical, Discrete, Table
from likely.event import Event
from likely.flows import AffineFlow, Elementwise, Flow, Map
from likely.flows.dequantization import Dequantize
from likely.flows.transforms.standardization import LogitWithMargin
from likely.flows.transforms.transform import sum_values
from likely.latent import LatentVariable
from likely.latent.latent import draw_terms
from likely.nn import MaskedConv2d, Symbols

EVENT, PLANE = Event((1, 2, 3), levels=3), Event((2,))


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


class CastFirst(AffineFlow):
    """Values are cast to float32 before their location is taken out."""

    def check(self, x: Array) -> Tensor:
        return super().check(torch.as_tensor(x).float())


class AsGiven(MADE):
    """A context of real values goes into the network in whatever units it has."""

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        pass


class Cancels(AffineFlow):
    """A regression on features as good as equal: weights of 1e6 that cancel one another."""

    def __init__(self, event: Event, context: Event | None = None) -> None:
        super().__init__(event, context)
        with torch.no_grad():
            for part in self.transform:
                if getattr(part, "project", None) is not None:
                    part.project.weight.copy_(1e6 * (torch.arange(64) % 2 * 2 - 1.0))


class Overclaims(Density):
    """Fair coins, each said to be a tenth of a nat likelier than it is."""

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return torch.full((len(x),), -0.5931 * self.event.dims)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return torch.randint(2, (n, *self.event.shape), generator=generator)


def described(model: Density) -> str:
    """Its class, or that of the first transform of a flow, and its dimensions."""
    part: object = next(iter(model.transforms)) if type(model) is Flow else model
    return f"{type(getattr(part, 'map', part)).__name__}, {model.event.dims}"


def flow(map: Map, dims: int = 2) -> Flow:
    return Flow(Normal(Event((dims,))), [Elementwise(map, (dims,))])


class Stretch(Map):
    """z = eˢ x, honest."""

    count = 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        s = parameters[..., 0]
        return s.exp() * x, s

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        s = parameters[..., 0]
        return (-s).exp() * z, -s


class WrongSign(Stretch):
    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        z, ladj = super().forward(x, parameters)
        return z, -ladj

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        x, ladj = super().inverse(z, parameters)
        return x, -ladj


class Drops(Stretch):
    """The last value's term is left out."""

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        z, ladj = super().forward(x, parameters)
        return z, ladj.index_fill(-1, torch.tensor(ladj.shape[-1] - 1), 0.0)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        x, ladj = super().inverse(z, parameters)
        return x, ladj.index_fill(-1, torch.tensor(ladj.shape[-1] - 1), 0.0)


class OneWay(Stretch):
    """The inverse gives the log-determinant of the forward direction."""

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        x, ladj = super().inverse(z, parameters)
        return x, -ladj


class Reflect(Map):
    """z = (s − 1/2) x whose ln(s − 1/2) should have been of the absolute value, and was patched."""

    count = 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        s = parameters[..., 0] - 0.5
        return s * x, s.clamp_min(1e-6).log()

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        s = parameters[..., 0] - 0.5
        return z / s, -s.clamp_min(1e-6).log()


class Bend(Map):
    """z = x + tanh(x), inverted by halving a bracket that holds; honest."""

    count = 0
    halvings = 160

    def bracket(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z - 1, z + 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return x + x.tanh(), (2 - x.tanh().square()).log()

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.bracket(z)
        for _ in range(self.halvings):
            x = (low + high) / 2
            above = x + x.tanh() > z
            low, high = torch.where(above, low, x), torch.where(above, x, high)
        x = (low + high) / 2
        return x, -self.forward(x, parameters)[1]


class Short(Bend):
    """The bracket is [−10, 10], and what lies outside is given its end."""

    def bracket(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(z, -10.0), torch.full_like(z, 10.0)


class Coarse(Bend):
    """The halving stops early."""

    halvings = 20


class Saturates(Bend):
    """In single precision z stays where it is from x = 50 on."""

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        z, ladj = super().forward(x, parameters)
        return z.clamp(-50, 50) if x.dtype == torch.float32 else z, ladj


class Uncounted(Flow):
    """The change of volume is not counted."""

    def __init__(self, event: Event) -> None:
        super().__init__(Normal(event), [Elementwise(Stretch(), event.shape)])

    def _density(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.base.log_prob(self.transform(x)[0])


class Unscaled(Density):
    """A normal density without its constant."""

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return -0.5 * sum_values(x.square())

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return torch.randn(n, *self.event.shape, generator=generator)


class Tempered(Flow):
    """Draws from p at another temperature than it scores."""

    def __init__(self, event: Event) -> None:
        super().__init__(Normal(event), [Elementwise(Bend(), event.shape)])

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.transform.inverse(0.8 * self.base.sample(n, generator=generator))[0]


class Half(Density):
    """A mixture of two normal densities, one of which is drawn too seldom."""

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        normal = Normal(self.event)
        return torch.logaddexp(normal.log_prob(x - 3), normal.log_prob(x + 3)) - torch.tensor(2.0).log()

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        sign = 1 - 2 * (torch.rand(n, generator=generator) < 0.4).float()
        return torch.randn(n, *self.event.shape, generator=generator) + 3 * sign[:, None]


def symbols(noise: Dequantize) -> Flow:
    return Flow(Normal(Event((3,))), [noise, LogitWithMargin()])


class Noise(Dequantize):
    """Honest."""


class Free(Dequantize):
    """Noise that is not paid for."""

    def forward(self, x: Tensor, context: Tensor | None = None, generator: torch.Generator | None = None):
        z, _ = super().forward(x, context, generator)
        return z, z.new_zeros(len(z))


class Rounded(Dequantize):
    """Rounds to the nearest symbol, not to the one whose cell it is."""

    def inverse(self, z: Tensor, context: Tensor | None = None):
        symbols = (z * self.counts).round().long()
        return symbols.clamp_min(0).minimum(self.counts - 1), z.new_zeros(len(z))


class Overclaimed(Overclaims):
    """The same as a bound."""

    kind = "lower bound"


class Outside(Density):
    """Draws a symbol that there is not."""

    kind = "lower bound"

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return torch.full((len(x),), -0.7 * self.event.dims)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return torch.randint(3, (n, *self.event.shape), generator=generator)


class Scaled(Density):
    """p(x | c) = N(slope · c, scale²), value by value; honest. `claimed` is the scale that a draw is scored with."""

    def __init__(self, event: Event, slope: float, scale: float, claimed: float | None = None) -> None:
        super().__init__(event, event)
        self.slope, self.scale, self.claimed = slope, scale, claimed
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def _scored(self, x: Tensor, context: Tensor, scale: float) -> Tensor:
        return torch.distributions.Normal(self.slope * context, scale).log_prob(x).sum(1)

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self._scored(x, context, self.scale)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        epsilon = torch.randn(n, *self.event.shape, generator=generator, dtype=context.dtype)
        return self.slope * context + self.scale * epsilon

    def _draw(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        x = self._sample(n, context, generator)
        return x, self._scored(x, context, self.claimed or self.scale)


class Listed(Density):
    """p(x | c) from a table with a row for every c, drawn once; honest."""

    def __init__(self, event: Event, context: Event | None = None) -> None:
        super().__init__(event, context)
        rows = 1 if context is None else len(states(context))
        logits = 2 * torch.randn(rows, len(states(event)), generator=torch.Generator().manual_seed(0))
        self.register_buffer("table", logits.log_softmax(1), persistent=False)

    def _rows(self, n: int, context: Tensor | None) -> Tensor:
        return self.table.expand(n, -1) if context is None else self.table[place(context, self.context)]

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self._rows(len(x), context).gather(1, place(x, self.event)[:, None])[:, 0]

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return states(self.event)[torch.multinomial(self._rows(n, context).exp(), 1, generator=generator)[:, 0]]


class Posterior(Listed):
    """p(z | x) of a prior and a decoder by Bayes' rule; honest."""

    def __init__(self, prior: Listed, decoder: Listed) -> None:
        super().__init__(prior.event, decoder.event)
        self.prior, self.decoder = prior, decoder
        self.table = (prior.table.T + decoder.table).T.log_softmax(1)


def states(event: Event) -> Tensor:
    return torch.cartesian_prod(*(torch.arange(levels) for levels in event.alphabets))


def place(x: Tensor, event: Event) -> Tensor:
    """Which of the states each example is."""
    return (x[:, None] == states(event)).all(2).long().argmax(1)


def gaussian(model: type[LatentVariable] = LatentVariable, claimed: float | None = None) -> LatentVariable:
    """Two latent values, each seen through noise a twentieth as wide; the encoder is the posterior."""
    variance = 1 + 0.05**2
    encoder = Scaled(PLANE, 1 / variance, 0.05 / variance**0.5, claimed)
    return model(Normal(PLANE), Scaled(PLANE, 1.0, 0.05), encoder)


def enumerable(model: type[LatentVariable] = LatentVariable) -> LatentVariable:
    """Two latent symbols; the encoder is the posterior."""
    prior = Listed(Event((2,), 3))
    decoder = Listed(Event((3,), 2), prior.event)
    return model(prior, decoder, Posterior(prior, decoder))


class Dropped(LatentVariable):
    """ln q(z | x) is left out."""

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        terms = draw_terms(self, x, 1, generator)
        return (terms.reconstruction + terms.log_prior)[0]


class Averaged(LatentVariable):
    """The KL divergence is a mean over the latent values."""

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        terms = draw_terms(self, x, 1, generator)
        return (terms.reconstruction - terms.kl / self.prior.event.dims)[0]


class Beta(LatentVariable):
    """Reports what it may be trained on: a weight of 0.9 on the KL divergence."""

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        terms = draw_terms(self, x, 1, generator)
        return (terms.reconstruction - 0.9 * terms.kl)[0]
