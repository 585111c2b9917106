"""Densities with parameters that a network computes from a context: encoders, decoders, conditional priors."""

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from likely.density import Array, Autoregressive, Density, Steps, seeded
from likely.distributions import Discrete
from likely.distributions.discrete import standard_normal
from likely.distributions.normals import Normals
from likely.errors import InputError, require_positive, require_sizes
from likely.event import Event
from likely.nn import NormalHead
from likely.nn.heads import Head, head_of_symbols
from likely.nn.network import NetworkSpec, is_image, network_for, places_of
from likely.nn.own import specification
from likely.nn.start import last_layer, start_at_marginals, without_biases
from likely.nn.units import InUnits
from likely.nn.values import take_units


class Gaussian(Density):
    """A density over vectors that is a Gaussian given the context."""

    @abstractmethod
    def parameters_of(self, context: Tensor) -> Normals:
        """Return the Gaussian given each context, of standardised values."""


class ConditionalNormal(InUnits, Gaussian):
    """p(x | c) = N(x; μ(c), Σ(c)), μ and Σ from a network.

    The scale is learnt, diagonal, or full: x = μ + L ε with a lower triangular L. Parameters are those of standardised
    values: `initialize` takes mean and deviation from data. The smallest standard deviation of a value, in the data's
    own deviations, is `floor`: without one the density could grow without bound.

    Args:
        event: of real values.
        context: the event that it is conditioned on.
        network: specification of the network, or a module; None: one that suits the two events.
        covariance: "diagonal" or "full".
        floor: smallest scale, positive.
        seed: of the initial weights.

    Raises:
        InputError: an event of symbols, another covariance, or a floor that is not positive.
    """

    precise = True

    def __init__(
        self,
        event: Event,
        context: Event,
        *,
        network: NetworkSpec | nn.Module | None = None,
        covariance: Literal["diagonal", "full"] = "diagonal",
        floor: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__(event, context)
        if event.discrete:
            raise InputError(f"ConditionalNormal has real values, found an event of symbols: {event}")
        require_positive(floor=floor)
        self.network = specification(network, context.shape)
        self.covariance = covariance
        self.floor = floor
        self.seed = seed
        below = 0
        if covariance == "full":
            below = event.dims * (event.dims - 1) // 2
        places = places_of(event)
        with seeded(seed):
            kind = self.network or network_for(context, places, 256)
            self.body = kind.of_event(context, places, 2 * event.dims // math.prod(places))
            self.corner = None
            if below:
                self.corner = network_for(context, (), 256).of_event(context, (), below)
                without_biases(self.corner)
        if kind.starts_at_zero:
            without_biases(self.body)  # outputs of 0 are the marginals of standardised values
        self.head = NormalHead(floor)
        self.hold_units(event.sizes)

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """Take mean and deviation of every value from examples, and those of the values of a real context, once."""
        x, given = self.check(x), self.check_context(context, len(x))
        self.set_units(x)
        take_units(self, given)

    def parameters_of(self, context: Tensor) -> Normals:
        """Return the Gaussian given each context, of standardised values."""
        mu, log_sigma = self.head(self.body(context))
        if self.corner is None:
            return Normals(mu, log_sigma, None)
        return Normals(mu, log_sigma, self.corner(context))

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        assert context is not None
        return self._scored(x, self.parameters_of(context))

    def _scored(self, x: Tensor, p: Normals) -> Tensor:
        return self.of_values_as_given(p.log_prob(self.standardized(x).reshape(len(x), -1)))

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self._draw(n, context, generator)[0]

    def _draw(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        assert context is not None
        return self._drawn(self.parameters_of(context), generator)

    def _draw_each(self, count: int, context: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        return self._drawn(self.parameters_of(context).repeated(count), generator)

    def _drawn(self, p: Normals, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        epsilon = standard_normal(p.mu.shape, generator, p.mu)
        x = self.in_units(p.at(epsilon).view(-1, *self.event.shape))
        return x, self._scored(x, p)


class ConditionalSymbols(Autoregressive):
    """p(x | c) = ∏_i p(x_i | θ_i(c)): symbols that are independent given the context, θ from a network.

    The channels of a pixel under a mixture of logistics share its component, and depend on one another through it.

    Args:
        event: of symbols.
        context: the event that it is conditioned on.
        network: specification of the network, or a module; None: one that suits the two events.
        head: "categorical" (Bernoulli for two symbols) or "logistics", a discretised mixture.
        components: of that mixture.
        seed: of the initial weights.

    Raises:
        InputError: an event of real values, another head, or logistics over a table of several alphabets.
    """

    def __init__(
        self,
        event: Event,
        context: Event,
        *,
        network: NetworkSpec | nn.Module | None = None,
        head: Head = "categorical",
        components: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__(event, context)
        if not event.discrete:
            raise InputError(f"ConditionalSymbols has symbols, found an event of real values: {event}")
        if head == "logistics" and (event.one_alphabet or 0) < 2:
            raise InputError(f"logistics take one alphabet of at least 2 ordered symbols, found {event}")
        require_sizes(components=components)
        self.network = specification(network, context.shape)
        self.components = components
        self.seed = seed
        self.head: Head = head
        places = places_of(event)
        self.pixels: tuple[int, ...] = places
        if head == "logistics" and not places:
            self.pixels = (event.dims,)  # values of a vector share no component
        self.to_distribution = head_of_symbols(head, event.alphabets[:: math.prod(self.pixels)], components)
        outputs = round(self.to_distribution.width * event.dims) // math.prod(places)
        with seeded(seed):
            kind = self.network or network_for(context, places, 256)
            self.body = kind.of_event(context, places, outputs)
        self.starts = kind.starts_at_zero  # a network from elsewhere keeps the weights that it has
        if self.starts:
            without_biases(self.body)

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """Start at the marginals of the symbols, and take mean and deviation of a real context's values, once."""
        x, given = self.check(x), self.check_context(context, len(x))
        if self.starts:
            start_at_marginals(self.to_distribution, last_layer(self.body), x.view(len(x), -1, *self.pixels))
        take_units(self, given)

    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete:
        parameters = self.body(context)
        parameters = parameters.view(len(parameters), *self.pixels, -1)
        p = self.to_distribution(parameters, x.view(len(x), -1, *self.pixels))
        return p.reshape(len(parameters), *self.event.shape)

    def _draw_each(self, count: int, context: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        if self.head == "logistics":
            return super()._draw_each(count, context, generator)
        any_symbols = torch.zeros(len(context), *self.event.shape, dtype=torch.int64, device=context.device)
        p = self._conditionals(any_symbols, context, 0)
        p = p.map(lambda parameter: parameter.repeat(count, *[1] * (parameter.ndim - 1)))
        x = p.sample(generator)
        return x, p.log_prob(x).reshape(len(x), -1).sum(1)

    def _score_each(self, x: Tensor, context: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.head == "logistics":  # whose parameters depend on x
            return super()._score_each(x, context, generator)
        p = self._conditionals(x, context, 0).reshape(len(context) // len(x), len(x), *self.event.shape)
        return p.log_prob(x).reshape(len(context), -1).sum(1)

    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps:
        x = torch.zeros(n, *self.event.shape, dtype=torch.int64, device=self.device)
        if self.head == "categorical" or not is_image(self.event.shape) or self.event.shape[0] == 1:
            return (yield (slice(None),), self._conditionals(x, context, order))
        for c in range(self.event.shape[0]):  # each channel given the ones before it
            x[:, c] = yield (slice(None), c), self._conditionals(x, context, order)[:, c]
        return x
