"""Densities without parameters that others are made from: bases of flows, priors of latent variables."""

import math

import torch
from torch import Tensor

from likely.density import Density
from likely.distributions.discrete import standard_normal, uniform
from likely.errors import InputError
from likely.event import UNIT, Event


class _Base(Density):
    """Independent values of one distribution; subclasses write it for a value."""

    def __init__(self, event: Event) -> None:
        super().__init__(event)
        if event.discrete:
            raise InputError(f"{type(self).__name__} has real values, found an event of symbols: {event}")
        self.register_buffer("like", torch.zeros(()), persistent=False)  # says the precision and the device

    def _uniform(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Uniform numbers inside (0, 1)."""
        u = uniform((n, *self.event.shape), generator, self.like)
        return u.clamp_min(torch.finfo(u.dtype).tiny)


class Normal(_Base):
    """p(x) = ∏_i exp(−x_i² / 2) / √(2π).

    Args:
        event: of real values.
    """

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return -0.5 * (x.square() + math.log(2 * math.pi)).reshape(len(x), -1).sum(1)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return standard_normal((n, *self.event.shape), generator, self.like)


class Logistic(_Base):
    """p(x) = ∏_i σ(x_i) σ(−x_i).

    Args:
        event: of real values.
    """

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        logsigmoid = torch.nn.functional.logsigmoid
        return (logsigmoid(x) + logsigmoid(-x)).reshape(len(x), -1).sum(1)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self._uniform(n, generator).logit()


class Uniform(_Base):
    """p(x) = 1 for values inside (0, 1).

    Args:
        event: of real values.
    """

    support = UNIT

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        inside = ((x > 0) & (x < 1)).reshape(len(x), -1).all(1)
        return torch.where(inside, 0.0, -math.inf).to(x.dtype)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self._uniform(n, generator)
