"""Discrete distributions, batched.

A distribution writes one formula, `log_prob`, or the table of it. Its probability table is that formula at every
symbol; the sampler, the tempered draws and a coder read the table, so none of them can disagree with the loss.
Shapes: a batch of distributions has a shape (...); parameters carry trailing dimensions of their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def uniform(shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Draw uniform numbers in [0, 1) on the generator's device, and bring them to that of `like`."""
    device = _device_of(generator, like)
    return torch.rand(shape, generator=generator, dtype=like.dtype, device=device).to(like.device)


def standard_normal(shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Draw standard normal numbers on the generator's device, and bring them to that of `like`."""
    device = _device_of(generator, like)
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=device).to(like.device)


def _device_of(generator: torch.Generator | None, like: Tensor) -> torch.device:
    if generator is None:
        return like.device
    return generator.device


class Discrete(ABC):
    """A batch (...) of distributions over the symbols 0 … levels − 1."""

    levels: int

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """Shape (...) of the batch."""

    @abstractmethod
    def log_prob(self, x: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log-probability in nats of one symbol per distribution."""

    @abstractmethod
    def map(self, f: Callable[[Tensor], Tensor]) -> "Discrete":
        """The same kind of distribution with `f` applied to every parameter (batch dimensions first, one trailing)."""

    @abstractmethod
    def log_table(self) -> Float[Tensor, "... levels"]:
        """Log-probability of every symbol."""

    def __getitem__(self, where: Any) -> "Discrete":
        """Part of the batch, by an index into its leading dimensions."""
        return self.map(lambda parameter: parameter[where])

    def reshape(self, *shape: int) -> "Discrete":
        """The same distributions under another batch shape."""
        return self.map(lambda parameter: parameter.reshape(*shape, parameter.shape[-1]))

    def table(self) -> Float[Tensor, "... levels"]:
        """Probability of every symbol."""
        return self.log_table().exp()

    def quantile(self, u: Float[Tensor, "..."]) -> Int[Tensor, "..."]:
        """Return the symbol that has u in [0, 1) in its interval of the cumulative table: the inverse of the CDF.

        u is a fraction of the table's own total, so that a remainder of rounding goes to no symbol of probability 0.
        """
        cumulative = self.table().cumsum(-1)
        return (cumulative[..., :-1] <= u[..., None] * cumulative[..., -1:]).sum(-1)

    def sample(self, generator: torch.Generator | None = None) -> Int[Tensor, "..."]:
        """Draw one symbol per distribution."""
        return self.quantile(uniform(tuple(self.shape), generator, self._like()))

    def tempered(self, temperature: float) -> "Discrete":
        """p(x)^(1/temperature), normalised; the likeliest symbols as the temperature goes to 0."""
        logs = self.log_table()
        logs = logs - logs.amax(-1, keepdim=True)  # the likeliest stay at 0 where all would become −∞
        tiny = torch.finfo(logs.dtype).tiny
        huge = torch.finfo(logs.dtype).max
        return Categorical(logs / min(max(temperature, tiny), huge))

    def certain(self, where: Bool[Tensor, "..."], symbol: int) -> "Discrete":
        """Return the same distributions, but under a mask those that give one symbol for certain."""
        logs = self.log_table()
        only = torch.full_like(logs, -torch.inf)
        only[..., symbol] = 0.0
        return Table(torch.where(where[..., None], only, logs))

    def entropy(self) -> Float[Tensor, "..."]:
        """Entropy in nats of each distribution."""
        return torch.special.entr(self.table()).sum(-1)

    @abstractmethod
    def _like(self) -> Tensor:
        """A tensor of the dtype and device that draws are made in."""


class Categorical(Discrete):
    """p(x = k) = exp(logits_k) / Σ_j exp(logits_j); a logit of −∞ forbids its symbol."""

    def __init__(self, logits: Float[Tensor, "... levels"]) -> None:
        self.logits = logits
        self.levels = logits.shape[-1]

    @property
    def shape(self) -> torch.Size:
        """Shape (...) of the batch."""
        return self.logits.shape[:-1]

    def map(self, f: Callable[[Tensor], Tensor]) -> "Discrete":
        """The same kind of distribution with `f` applied to the logits."""
        return type(self)(f(self.logits))

    def log_table(self) -> Float[Tensor, "... levels"]:
        """Log-probability of every symbol."""
        return self.logits.log_softmax(-1)

    def log_prob(self, x: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log-probability in nats of one symbol per distribution; symbols are broadcast to the batch."""
        return self.log_table().gather(-1, x.expand(self.shape)[..., None])[..., 0]

    def _like(self) -> Tensor:
        return self.logits


class Bernoulli(Discrete):
    """p(x = 1) = σ(logit), two symbols from one logit."""

    levels = 2

    def __init__(self, logit: Float[Tensor, "... 1"]) -> None:
        self.logit = logit

    @property
    def shape(self) -> torch.Size:
        """Shape (...) of the batch."""
        return self.logit.shape[:-1]

    def map(self, f: Callable[[Tensor], Tensor]) -> "Discrete":
        """The same kind of distribution with `f` applied to the logit."""
        return type(self)(f(self.logit))

    def log_prob(self, x: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log-probability in nats of one symbol per distribution; symbols are broadcast to the batch."""
        return F.logsigmoid((2 * x.to(self.logit.dtype) - 1) * self.logit[..., 0])

    def log_table(self) -> Float[Tensor, "... 2"]:
        """Log-probability of 0 and of 1."""
        return F.logsigmoid(torch.cat([-self.logit, self.logit], -1))

    def quantile(self, u: Float[Tensor, "..."]) -> Int[Tensor, "..."]:
        """1 where u lies beyond the table's first entry, else 0."""
        return (F.logsigmoid(-self.logit[..., 0]).exp() <= u).long()

    def _like(self) -> Tensor:
        return self.logit


class Table(Categorical):
    """A categorical distribution given by its log-probabilities, already normalised."""

    def log_table(self) -> Float[Tensor, "... levels"]:
        """Log-probability of every symbol."""
        return self.logits
