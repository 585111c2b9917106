"""GaussianMixture: a weighted sum of Gaussian densities."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from likely.classical.expectation_maximization import (
    Components,
    Covariance,
    expectation_maximization,
    k_means_start,
    maximize,
)
from likely.densities.bases import Normal
from likely.density import Array, Density, seeded
from likely.distributions.discrete import uniform
from likely.errors import InputError, require_below, require_numbers, require_positive, require_sizes
from likely.event import Event, refuse
from likely.nn.moments import location_and_scale, warn_of_values_apart, whitening
from likely.nn.units import InUnits
from likely.rows import Rows

START_ROWS, START_STEPS = 10_000, 20  # examples and steps that each start is tried on


class GaussianMixture(InUnits, Density):
    """p(x) = Σ_k π_k N(x; μ_k, Σ_k).

    `fit` estimates it by expectation maximisation from k-means++ starts; with a budget, it goes on by gradient steps.
    Its parameters are those of standardised values, (x − mean) / deviation. With a label as context there is one
    mixture per label. A density grows without bound where a component shrinks onto few points: `floor` keeps every
    component's variance, in any direction, above a fraction of the data's.

    Paper: Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster, Laird, Rubin, 1977),
    https://doi.org/10.1111/j.2517-6161.1977.tb01600.x; k-means++: The Advantages of Careful Seeding (Arthur,
    Vassilvitskii, 2007), https://dl.acm.org/doi/10.5555/1283383.1283494

    Args:
        event: of real values, of any shape; an example is one vector.
        context: a label, if anything.
        components: K.
        covariance: "full", or "diagonal": values are independent within a component.
        floor: smallest variance of a component, where that of each value of the data is 1.
        starts: how many starts are tried, 20 steps on at most 10,000 examples; the most likely one goes on with all.
        iterations: most iterations of expectation maximisation.
        tolerance: it has converged when a step gains less, in nats per example.
        seed: of the weights of an unfitted mixture.

    Raises:
        InputError: an event of symbols, a context that is no label, or settings out of range.
    """

    precise = True

    def __init__(
        self,
        event: Event,
        context: Event | None = None,
        *,
        components: int = 8,
        covariance: Covariance = "full",
        floor: float = 1e-6,
        starts: int = 4,
        iterations: int = 500,
        tolerance: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__(event, context)
        if event.discrete:
            raise InputError(
                "GaussianMixture is a density of real values, and would grow without bound on symbols, which repeat; "
                "take measurements as real values (real=True), or fit symbols with a histogram or a dequantised flow"
            )
        if context is not None and (context.shape != () or not context.discrete):
            raise InputError(
                f"GaussianMixture keeps one mixture per label: Event((), levels) expected, found {context}"
            )
        require_sizes(components=components, starts=starts, iterations=iterations)
        require_positive(floor=floor)
        require_below(1.0, floor=floor)
        require_numbers(0.0, tolerance=tolerance)
        self.components = components
        self.floor = floor
        self.seed = seed
        self.covariance: Covariance = covariance
        self.starts = starts
        self.iterations = iterations
        self.tolerance = tolerance
        self.noise = Normal(Event((event.dims,)))
        self.hold_units((event.dims,))
        size = (1 if context is None else context.alphabets[0], components, event.dims)
        with seeded(seed):
            self.logits = nn.Parameter(torch.zeros(size[:2]))
            self.means = nn.Parameter(torch.randn(size))
        self.log_scale = nn.Parameter(torch.zeros(size))  # of the diagonal of W
        if covariance == "full":
            self.lower = nn.Parameter(torch.zeros(*size, event.dims))
        else:
            self.lower = None

    def mixture(self, label: int = 0) -> Components:
        """The components of one label, of standardised values."""
        scale = self.log_scale[label].clamp_max(-0.5 * math.log(self.floor)).exp()
        if self.lower is None:
            w = scale
        else:
            w = self.lower[label].tril(-1) + scale.diag_embed()
        return Components(self.logits[label].log_softmax(0), self.means[label], w)

    def assign(self, weights: Tensor, means: Tensor, covariances: Tensor, label: int = 0) -> None:
        """Set the components of one label, in the data's units.

        Args:
            weights: π (K,), positive.
            means: μ (K, dims).
            covariances: Σ (K, dims, dims), or variances (K, dims) where they are diagonal.
            label: of the mixture, in the table of mixtures.
        """
        dtype = torch.float64
        deviation = self.deviation.double()
        if self.lower is None:
            scaled = covariances.to(dtype) / deviation.square()
            w = scaled.clamp_min(self.floor).rsqrt()
        else:
            scaled = covariances.to(dtype) / (deviation[:, None] * deviation)
            w = whitening(scaled, self.floor)
        standardized = (means.to(dtype) - self.mean.double()) / deviation
        self._set(label, Components(weights.to(dtype).log(), standardized, w))

    def estimate(self, data: Any, *, generator: torch.Generator | None = None) -> None:
        """Expectation maximisation.

        Args:
            data: `Rows`, examples (n, *event.shape), or a pair with their labels.
            generator: of the starts.

        Raises:
            InputError: a column that is constant, or fewer examples (of a label) than components.
        """
        x, context = Rows.of(data).read()
        x = self.check(x)
        warn_of_values_apart(x)
        mean, deviation = location_and_scale(x)
        z = (x.double() - mean).reshape(len(x), -1) / deviation.flatten()
        self.replace_units(mean, deviation)
        labels = self.check_context(context, len(x))
        for label in range(len(self.logits)):
            rows, where = z, ""
            if labels is not None:
                rows, where = z[labels == label], f" of label {label}"
            if len(rows) < self.components:
                raise InputError(f"{self.components} components need as many examples, found {len(rows)}{where}")
            self._set(label, self._best(rows, generator))

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """Take mean and deviation of every value from examples, unless they have been estimated."""
        x = self.check(x)
        self.set_units(x.reshape(len(x), -1))

    def _best(self, x: Tensor, generator: torch.Generator | None) -> Components:
        """Where expectation maximisation over x (n, dims) ends, from the best of several starts."""
        few = x[uniform((len(x),), generator, x).argsort()[:START_ROWS]]
        starts = (k_means_start(few, self.components, generator) for _ in range(self.starts))
        first = [maximize(few, belongs, self.covariance, self.floor) for belongs in starts]
        steps = min(START_STEPS, self.iterations)
        tried = [expectation_maximization(few, start, self.floor, steps, self.tolerance) for start in first]
        best = max(tried, key=lambda end: end[1][-1])[0]
        return expectation_maximization(x, best, self.floor, self.iterations, self.tolerance)[0]

    def _set(self, label: int, found: Components) -> None:
        with torch.no_grad():
            self.logits[label] = found.log_weights
            self.means[label] = found.means
            if self.lower is None:
                self.log_scale[label] = found.whitening.log()
            else:
                self.log_scale[label] = _diagonal(found.whitening).log()
                self.lower[label] = found.whitening.tril(-1)

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        z = self.standardized(x.reshape(len(x), -1))
        log_prob = z.new_empty(len(x))
        for label, rows in self._rows(len(x), context):
            log_prob = log_prob.index_put((rows,), self.mixture(label).log_joint(z[rows]).logsumexp(1))
        refuse(~log_prob.isfinite(), log_prob, "log p(x)", "x is further out than this precision can tell")
        return self.of_values_as_given(log_prob)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        x = self.means.new_empty(n, self.event.dims)
        u = uniform((n,), generator, self.means)
        noise = self.noise.sample(n, generator=generator)
        for label, rows in self._rows(n, context):
            log_weights, means, w = self.mixture(label)
            which = torch.searchsorted(log_weights.exp().cumsum(0)[:-1].contiguous(), u[rows], right=True)
            for k in which.unique().tolist():
                chosen = rows[which == k]
                x[chosen] = means[k] + _solve(w[k], noise[chosen])
        return self.in_units(x).view(n, *self.event.shape)

    def _rows(self, n: int, context: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        """Every label with the examples that have it."""
        if context is None:
            yield 0, torch.arange(n, device=self.device)
            return
        for label in context.unique().tolist():
            yield label, (context == label).nonzero()[:, 0]


def _diagonal(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1)


def _solve(w: Tensor, z: Tensor) -> Tensor:
    """x (n, dims) with W x = z."""
    if w.ndim == 1:
        return z / w
    return torch.linalg.solve_triangular(w, z.T, upper=False).T
