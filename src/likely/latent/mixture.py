"""Mixtures of products and of any densities: a latent variable of few values is summed out."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from likely.classical.counts import allowed_symbols
from likely.classical.expectation_maximization import k_means_start
from likely.classical.independent_pixels import IndependentPixels
from likely.density import Array, Autoregressive, Density, Steps, Where, run, seeded
from likely.distributions import Discrete, Table
from likely.distributions.discrete import uniform
from likely.errors import InputError, UncodableError, require_kind, require_numbers, require_positive, require_sizes
from likely.event import Event
from likely.latent.latent import LatentVariable
from likely.rows import Rows

CHUNK = 4096  # examples at once
START_ROWS, START_STEPS = 10_000, 30  # examples and steps that each start is tried on


class _Mixed(Density, ABC):
    """p(x) = Σ_k p(x, k), from the logarithms of its terms."""

    @abstractmethod
    def _log_joint(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """ln π_k p_k(x), (n, K)."""

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self._log_joint(x, context, generator).logsumexp(1)

    def responsibilities(
        self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """p(k | x) (n, K): the posterior of the component, exact where the components are.

        Args:
            x: examples (n, *event.shape).
            context: of each, where the mixture has one.
            generator: for components that draw.

        Raises:
            InputError: x or context is not of its event.
        """
        return self._log_joint(self.check(x), self.check_context(context, len(x)), generator).softmax(1)


class Mixture(_Mixed, Autoregressive):
    """p(x) = Σ_k π_k ∏_i p_ki(x_i): symbols that are independent within a component.

    `fit` estimates it by expectation maximisation from k-means++ starts; with a budget, it goes on by gradient steps.
    Its conditionals are mixtures too, p(x_i | x_<i) = Σ_k p(k | x_<i) p_ki(x_i). With a label as context there is one
    mixture per label.

    Paper: Latent structure analysis (Lazarsfeld, Henry, 1968); Maximum Likelihood from Incomplete Data via the EM
    Algorithm (Dempster, Laird, Rubin, 1977), https://doi.org/10.1111/j.2517-6161.1977.tb01600.x

    Args:
        event: of symbols; columns of a table may have alphabets of their own.
        context: a label, if anything.
        components: K.
        smoothing: how many more examples every component counts, spread as the symbols of all data are; positive.
        starts: how many starts are tried, 30 steps on at most 10,000 examples; the most likely one goes on with all.
        iterations: most iterations of expectation maximisation.
        tolerance: it has converged when a step gains less, in nats per example.
        seed: of the weights of an unfitted mixture.

    Raises:
        InputError: an event of real values, a context that is no label, or settings out of range.
    """

    def __init__(
        self,
        event: Event,
        context: Event | None = None,
        *,
        components: int = 64,
        smoothing: float = 1.0,
        starts: int = 4,
        iterations: int = 500,
        tolerance: float = 1e-6,
        seed: int = 0,
    ) -> None:
        super().__init__(event, context)
        if not event.discrete:
            raise InputError(
                f"Mixture has symbols, found an event of real values: {event}; GaussianMixture and MixtureOf have them"
            )
        if context is not None and (context.shape != () or not context.discrete):
            raise InputError(f"Mixture keeps one mixture per label: Event((), levels) expected, found {context}")
        require_sizes(components=components, starts=starts, iterations=iterations)
        require_positive(smoothing=smoothing)
        require_numbers(0.0, tolerance=tolerance)
        self.components = components
        self.smoothing = smoothing
        self.seed = seed
        self.starts = starts
        self.iterations = iterations
        self.tolerance = tolerance
        labels = 1 if context is None else context.alphabets[0]
        self.register_buffer("allowed", allowed_symbols(event.alphabets)[..., None], persistent=False)
        with seeded(seed):
            self.logits = nn.Parameter(torch.zeros(labels, components))
            self.symbols = nn.Parameter(torch.randn(labels, *self.allowed.shape[:2], components))
        self.places = list(product(*map(range, event.shape)))

    def products(self) -> "Products":
        """The components of every label, (labels, …)."""
        symbols = self.symbols.masked_fill(self.allowed == 0, -torch.inf)
        return Products(self.logits.log_softmax(-1), symbols.log_softmax(-2))

    def estimate(self, data: Any, *, generator: torch.Generator | None = None) -> None:
        """Expectation maximisation.

        Args:
            data: `Rows`, examples (n, *event.shape), or a pair with their labels.
            generator: of the starts.

        Raises:
            InputError: the data are not of the event, or there are none of a label.
        """
        x, context = Rows.of(data).read()
        x = self.check(x)
        labels = self._labels(self.check_context(context, len(x)), len(x))
        for label in range(len(self.logits)):
            rows = x[labels == label].reshape(-1, self.event.dims)
            if not len(rows):
                raise InputError(f"examples of every label are expected, found none of label {label}")
            found = self._best(rows, generator)
            with torch.no_grad():
                self.logits[label] = found.log_weights
                self.symbols[label] = found.log_tables.masked_fill(self.allowed == 0, 0.0)

    def _best(self, x: Tensor, generator: torch.Generator | None) -> "Products":
        """Where expectation maximisation over x (n, dims) ends, from the best of several starts."""
        more = pseudo_counts(x, self.allowed.double(), self.smoothing)
        scale = (self.allowed.double().sum(1) - 1).clamp_min(1)[:, 0]  # symbols become numbers in [0, 1]
        few = x[uniform((len(x),), generator, scale).argsort()[:START_ROWS]]
        starts = (k_means_start(few / scale, self.components, generator) for _ in range(self.starts))
        first = [maximize(ExpectedCounts.of(few, belongs, more.shape[1]), more) for belongs in starts]
        steps = min(START_STEPS, self.iterations)
        tried = [expectation_maximization(few, start, more, steps, self.tolerance) for start in first]
        best = max(tried, key=lambda end: end[1][-1])[0]
        return expectation_maximization(x, best, more, self.iterations, self.tolerance)[0]

    def _log_joint(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        labels = self._labels(context, len(x))
        log_weights, log_tables = self.products()
        cells = cells_of(x.reshape(len(x), -1), log_tables.shape[-2]) + labels[:, None] * self.allowed.numel()
        return log_weights[labels] + embedding_bag(cells, log_tables.flatten(0, -2), mode="sum")

    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete:
        found = []

        def note(where: Where, p: Discrete) -> Tensor:
            found.append(p.log_table())
            return x[where]

        run(self._steps(len(x), context, order), note)  # as cheap as a pass over all of x would be
        return Table(torch.stack(found, 1)).reshape(*x.shape)

    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps:
        labels = self._labels(context, n)
        log_weights, log_tables = self.products()
        x = torch.zeros(n, *self.event.shape, dtype=torch.int64, device=self.device)
        log_joint = log_weights[labels]  # ln p(x_<i, k), (n, K)
        for i, place in enumerate(self.places):
            where = (slice(None), *place)
            p = predictive(log_joint, log_tables[:, i].exp(), None if context is None else labels)
            x[where] = yield where, p
            log_joint = log_joint + log_tables[labels, i, x[where]]
        return x

    def coded_as(self) -> Density:
        """Return the mixture with its component as a latent symbol, coded and got back (bits back).

        Raises:
            UncodableError: a mixture for every label.
        """
        if self.context is not None:
            raise UncodableError("a Mixture with a context cannot be coded yet: one without can")
        which = Event((), self.components)
        log_weights, log_tables = self.products()
        prior = IndependentPixels(which)
        decoder = IndependentPixels(self.event, which)
        with torch.no_grad():
            prior.table.copy_(log_weights.exp().view_as(prior.table))
            decoder.table.copy_(log_tables[0].exp().movedim(-1, 0))
        return LatentVariable(prior, decoder)

    def _labels(self, context: Tensor | None, n: int) -> Tensor:
        if context is None:
            return torch.zeros(n, dtype=torch.int64, device=self.device)
        return context

    def receptive_field(self) -> Tensor:
        """Return the earlier values that each conditional depends on, (dims, dims): on all; on none where K is 1."""
        return torch.full((self.event.dims, self.event.dims), self.components > 1)


def predictive(log_joint: Tensor, tables: Tensor, labels: Tensor | None) -> Table:
    """Σ_k p(k | x_<i) p_ki, from ln p(x_<i, k) (n, K) and p_ki (labels, levels, K)."""
    responsibilities = log_joint.softmax(1)
    if labels is None:
        return Table((responsibilities @ tables[0].T).log())
    return Table((tables[labels] @ responsibilities[..., None])[..., 0].log())


class Products(NamedTuple):
    """K products of independent symbols and their weights.

    log_weights (…, K), log_tables (…, dims, longest alphabet, K), −∞ beyond an alphabet's end.
    """

    log_weights: Tensor
    log_tables: Tensor


class ExpectedCounts(NamedTuple):
    """How many examples belong to each component (K,), and their symbols (dims, longest alphabet, K)."""

    components: Tensor
    symbols: Tensor

    @classmethod
    def of(cls, x: Tensor, belongs: Tensor, levels: int) -> "ExpectedCounts":
        """Count symbols x (n, dims), each example in the parts (n, K) that belong to the components."""
        symbols = belongs.new_zeros(x.shape[1], levels, belongs.shape[1])
        for counts, column in zip(symbols, x.T, strict=True):
            counts.index_add_(0, column, belongs)
        return cls(belongs.sum(0), symbols)


def cells_of(x: Tensor, levels: int) -> Tensor:
    """Symbols (n, dims) as rows of a table (dims · levels, …)."""
    return x + levels * torch.arange(x.shape[1], device=x.device)


def pseudo_counts(x: Tensor, allowed: Tensor, smoothing: float) -> Tensor:
    """`smoothing` examples for every component, spread as the symbols of all x (n, dims) and of one even example are.

    Returns:
        (dims, longest alphabet, 1), positive where allowed.
    """
    one = x.new_ones(len(x), 1, dtype=torch.float64)
    even = allowed / allowed.sum(1, keepdim=True)
    return smoothing * (ExpectedCounts.of(x, one, allowed.shape[1]).symbols + even) / (len(x) + 1)


def expectation_maximization(
    x: Tensor, products: Products, more: Tensor, iterations: int, tolerance: float
) -> tuple[Products, list[float]]:
    """Raise the penalised likelihood of x (n, dims) until a step gains less than `tolerance` nats per example.

    Args:
        x: symbols.
        products: where to start, (K,) and (dims, longest alphabet, K).
        more: pseudo-counts of every component.
        iterations: most steps.
        tolerance: nats per example.

    Returns:
        The components, and before every step and at the end the mean over x of ln p(x) with the log-likelihood of the
        pseudo-counts in their components added: it never falls, rounding apart, as every step maximises it.
    """
    trace: list[float] = []
    while True:
        score, counts = expect(x, products)
        trace.append((score + penalty(products, more)) / len(x))
        if len(trace) > iterations or (len(trace) > 1 and trace[-1] - trace[-2] < tolerance):
            return products, trace
        products = maximize(counts, more)


def expect(x: Tensor, products: Products) -> tuple[float, ExpectedCounts]:
    """Σ_n ln p(x_n), and the counts that are expected given x (n, dims)."""
    log_weights, log_tables = products
    score = 0.0
    counts = ExpectedCounts(torch.zeros_like(log_weights), torch.zeros_like(log_tables))
    for rows in x.split(CHUNK):
        joint = log_weights + embedding_bag(cells_of(rows, log_tables.shape[1]), log_tables.flatten(0, 1), mode="sum")
        evidence = joint.logsumexp(1, keepdim=True)
        score += float(evidence.sum())
        found = ExpectedCounts.of(rows, (joint - evidence).exp(), log_tables.shape[1])
        for total, part in zip(counts, found, strict=True):
            total += part
    return score, counts


def penalty(products: Products, more: Tensor) -> float:
    """Σ_k (s ln π_k + Σ_i Σ_l more_il ln p_ki(l)), s being the number of examples that the pseudo-counts stand for."""
    log_weights, log_tables = products
    return float(more[0].sum() * log_weights.sum() + (more * log_tables.nan_to_num(neginf=0.0)).sum())


def maximize(counts: ExpectedCounts, more: Tensor) -> Products:
    """Return the components that make counts and pseudo-counts most likely."""
    components = counts.components + more[0].sum()
    symbols = counts.symbols + more
    return Products((components / components.sum()).log(), (symbols / components).log())


class MixtureOf(_Mixed):
    """p(x) = Σ_k π_k p_k(x): of any densities over one event, trained together by gradient steps on ln p(x).

    It is exact where all components are; else a lower bound, if each exponential bound is p_k(x) in expectation.

    Args:
        components: p_k, of one event, one context and one support; at least one.

    Raises:
        InputError: no component, or some that differ; names both.
    """

    def __init__(self, components: Sequence[Density]) -> None:
        require_kind(Iterable, components=components)
        components = list(components)
        if not components:
            raise InputError("a mixture of at least one density is expected, found none")
        require_kind(Density, **{f"component {k}": component for k, component in enumerate(components)})
        first = components[0]
        super().__init__(first.event, first.context)
        for k, other in enumerate(components):
            for name in ("event", "context", "support"):
                found = getattr(other, name)
                expected = getattr(first, name)
                if found != expected:
                    raise InputError(f"components of one {name} are expected, found {expected} (0) and {found} ({k})")
        bounds = any(component.kind == "lower bound" for component in components)
        self.kind: Literal["exact", "lower bound"] = "lower bound" if bounds else "exact"
        self.support = first.support
        self.components = nn.ModuleList(components)
        self.logits = nn.Parameter(torch.zeros(len(components)))

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """Let every component start from the data."""
        for component in self._parts():
            component.initialize(x, context, generator=generator)

    @property
    def precise(self) -> bool:  # pyrefly: ignore[bad-override]
        """Whether all components take real values as they are given."""
        return all(component.precise for component in self._parts())

    def advance(self, fraction: float) -> None:
        """Tell every component."""
        for component in self._parts():
            component.advance(fraction)

    def _parts(self) -> list[Density]:
        return list(self.components)  # pyrefly: ignore[bad-return]

    def _log_joint(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        parts = [component._log_prob(x, context, generator) for component in self._parts()]
        return self.logits.log_softmax(0) + torch.stack(parts, 1)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        weights = self.logits.softmax(0)
        which = torch.searchsorted(weights.cumsum(0)[:-1].contiguous(), uniform((n,), generator, weights), right=True)
        dtype = torch.int64 if self.event.discrete else torch.float64
        x = torch.empty(n, *self.event.shape, dtype=dtype, device=self.device)
        for k in which.unique().tolist():
            rows = (which == k).nonzero()[:, 0]
            drawn = self._parts()[k]._sample(len(rows), None if context is None else context[rows], generator)
            x[rows] = drawn.to(dtype)
        return x
