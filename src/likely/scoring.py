"""Scores of examples, −ln p: settings, results, and the score that every density has."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from likely.rows import Rows

Proposal = Literal["encoder", "prior"]


class Scoring(NamedTuple):
    """How to score examples.

    Attributes:
        draws: K; a bound is averaged over so many draws.
        proposal: distribution that the latents of a latent-variable model are drawn from.
        terms: whether to measure the parts of a bound, too.
        batch_size: examples per pass.
    """

    draws: int = 1
    proposal: Proposal = "encoder"
    terms: bool = False
    batch_size: int = 128


class Scored(NamedTuple):
    """Scores of examples.

    Attributes:
        nats: −ln p of every example (n,), float64, on the CPU.
        terms: of a bound.
        dims: number of values in every example (n,), int64; None before they are counted.
    """

    nats: Tensor
    terms: dict[str, float]
    dims: Tensor | None = None


LogProb = Callable[[Tensor, Tensor | None, torch.Generator | None], Tensor]


@torch.no_grad()
def averaged(log_prob: LogProb, rows: Rows, how: Scoring, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Return −ln of the mean of p over draws, and the mean of −ln p over draws, never smaller; both (n,)."""
    nats, bounds = torch.empty(2, len(rows), dtype=torch.float64)
    for places in rows.places(how.batch_size):
        part = rows[places]
        with part.named():
            x, context = part.read()
            draws = [log_prob(x, context, generator).double().cpu() for _ in range(how.draws)]
        log_p = torch.stack(draws)
        nats[places] = math.log(how.draws) - log_p.logsumexp(0)
        bounds[places] = -log_p.mean(0)
    return nats, bounds


def gap_of_one_draw(nats: Tensor, bound: Tensor) -> dict[str, float]:
    """Return L_K beside the bound of one draw."""
    return {
        "elbo": -float(bound.mean()),
        "importance weighted": -float(nats.mean()),
        "importance weighted standard error": standard_error(nats),
        "gap of one draw": float((bound - nats).mean()),
    }


def standard_error(values: Tensor) -> float:
    """Return the standard error of the mean of values (n,)."""
    if len(values) < 2:
        return math.nan
    return float(values.std() / math.sqrt(len(values)))
