"""Evaluate: the likelihood of data under a model, in every unit, with its standard error."""

import functools
import math
from dataclasses import asdict, dataclass, field
from typing import Literal

import torch
from torch import Tensor

from likely.density import Array, Density
from likely.errors import InputError

Pair = tuple[Array, Array | None]


@dataclass(frozen=True)
class Report:
    """Mean negative log-likelihood of n examples of `dims` dimensions.

    Attributes:
        n: number of examples.
        dims: D, the number of values in one example.
        nats: mean of −ln p(x).
        nats_per_dim: nats / D.
        bits_per_dim: nats / (D ln 2).
        standard_error: of nats, over the examples.
        bits_per_dim_standard_error: of bits_per_dim.
        kind: "exact"; "lower bound" (of log p, so nats are an upper bound) or "estimate".
        gap: mean of ln p_source(x) − ln p(x), an estimate of KL(source ‖ model), where the source is known.
        terms: named parts of a bound, in nats.
        importance_samples: K, how many draws a bound was averaged over.
    """

    n: int
    dims: int
    nats: float
    nats_per_dim: float
    bits_per_dim: float
    standard_error: float
    bits_per_dim_standard_error: float
    kind: Literal["exact", "lower bound", "estimate"]
    gap: float | None = None
    terms: dict[str, float] = field(default_factory=dict)
    importance_samples: int = 1

    def __str__(self) -> str:
        sign = "≤ " if self.kind == "lower bound" else ""
        kind = self.kind if self.importance_samples == 1 else f"{self.kind} of {self.importance_samples} draws"
        return (
            f"{sign}{self.bits_per_dim:.4f} ± {self.bits_per_dim_standard_error:.4f} bits/dim "
            f"({self.nats:.2f} ± {self.standard_error:.2f} nats, {kind}, n = {self.n})"
        )

    def to_json(self) -> dict:
        """The fields, as `likely eval --json` prints them."""
        return asdict(self)


def evaluate(
    model: Density,
    data: Array | Pair,
    *,
    batch_size: int = 128,
    generator: torch.Generator | None = None,
    source: Density | None = None,
    importance_samples: int = 1,
) -> Report:
    """Report −log p of data, an array (n, *event.shape) or a pair with its context.

    Args:
        model: any density.
        data: what to score.
        batch_size: examples per pass; the result does not depend on it beyond rounding.
        generator: randomness for models that draw (None: seeded with 0).
        source: the density that the data come from, where it is known: `gap` is then the KL to it.
        importance_samples: K; a lower bound that draws is made tighter by K draws: ln 1/K Σ_k exp(bound_k) is a bound
            in expectation too, and rises to ln p with K (Importance Weighted Autoencoders, Burda et al., 2016,
            https://arxiv.org/abs/1509.00519).

    Raises:
        InputError: the data are not of the model's event or context, or K > 1 where log p is exact.
    """
    nats = negative_log_likelihood(
        model, data, batch_size=batch_size, generator=generator, importance_samples=importance_samples
    )
    gap = None
    if source is not None:
        gap = float((nats - negative_log_likelihood(source, data, batch_size=batch_size)).mean())
    return report_of(nats, model, gap, importance_samples)


def report_of(nats: Tensor, model: Density, gap: float | None = None, importance_samples: int = 1) -> Report:
    """Summarise per-example −ln p (n,)."""
    n, dims = len(nats), model.event.dims
    mean = float(nats.mean())
    error = float(nats.std() / math.sqrt(n)) if n > 1 else math.nan
    bits = 1 / (dims * math.log(2))
    return Report(
        n,
        dims,
        mean,
        mean / dims,
        mean * bits,
        error,
        error * bits,
        model.kind,
        gap,
        importance_samples=importance_samples,
    )


def negative_log_likelihood(
    model: Density,
    data: Array | Pair,
    *,
    batch_size: int = 128,
    generator: torch.Generator | None = None,
    importance_samples: int = 1,
) -> Tensor:
    """−ln p of every example (n,), float64, on the CPU; arguments and errors are those of `evaluate`."""
    if batch_size < 1 or importance_samples < 1:
        raise InputError(
            f"a batch size and a number of importance samples of at least 1 are expected, found {batch_size} and "
            f"{importance_samples}"
        )
    if importance_samples > 1 and model.kind == "exact":
        raise InputError(
            f"{importance_samples} importance samples would tighten a lower bound; this {type(model).__name__}'s "
            "log p is exact: leave them out"
        )
    x, context = data if isinstance(data, tuple) else (data, None)
    generator = generator or torch.Generator(model.device).manual_seed(0)
    if len(x) == 0:
        model.check(x)
    if context is not None and len(context) != len(x):
        raise InputError(f"context: {len(x)} values are expected, one per example, found {len(context)}")
    parts = []
    with torch.no_grad():
        for i in range(0, len(x), batch_size):
            rows, part = x[i : i + batch_size], None if context is None else context[i : i + batch_size]
            draws = (model.log_prob(rows, part, generator=generator).double() for _ in range(importance_samples))
            parts.append(math.log(importance_samples) - functools.reduce(torch.logaddexp, draws).cpu())
    return torch.cat(parts)
