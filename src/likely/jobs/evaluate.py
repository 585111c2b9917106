"""Evaluate: the likelihood of data under a model, in every unit, with its standard error."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from likely.density import Density
from likely.errors import InputError
from likely.rows import Rows
from likely.scoring import Proposal, Scored, Scoring, standard_error
from likely.tables import html_table


@dataclass(frozen=True, repr=False)
class Report:
    """Mean negative log-likelihood of n examples of `dims` dimensions.

    Attributes:
        n: number of examples.
        dims: D, the number of values in one example; their mean, where sizes vary (`score` has the number of each).
        nats: mean of −ln p(x); where sizes vary, p is given the size.
        nats_per_dim: nats / D, equal to Σ nats / Σ dims.
        bits_per_dim: nats / (D ln 2).
        standard_error: of nats, over the examples.
        bits_per_dim_standard_error: of bits_per_dim, a ratio of two means.
        kind: "exact"; "lower bound" (of log p, so nats are an upper bound) or "estimate".
        gap: mean of ln p_source(x) − ln p(x), an estimate of KL(source ‖ model), where the source is known.
        terms: of a latent-variable model, parts and measures of its bound by name, without the weights of training.
            In nats: "reconstruction" E[ln p(x | z)], "kl" KL(q(z | x) ‖ p(z)) and "kl of layer 1", …, and "elbo", their
            difference; "rate" and "distortion", the same as costs; "importance weighted", L_K, and "importance weighted
            standard error", over the examples; "mutual information" of x and z, an estimate from below that cannot
            exceed "mutual information limit". Numbers: "effective sample size", of K, mean over examples; "k-hat above
            0.7", the part of the examples with weights too uneven for L_K to be trusted; "active units", the number of
            "latent values" with a posterior mean that varies; "codes in use", the number of "codes" of a latent of
            symbols that occur. These and the mutual information are measured on at most 1,024 of the examples. Of any
            other bound by several draws: "elbo", their mean, and "gap of one draw", L_K − elbo, the least by which one
            draw falls short of ln p(x): for a flow, the cost of dequantisation.
        importance_samples: K, the number of draws that a bound was averaged over.
    """

    n: int
    dims: int | float
    nats: float
    nats_per_dim: float
    bits_per_dim: float
    standard_error: float
    bits_per_dim_standard_error: float
    kind: Literal["exact", "lower bound", "estimate"]
    gap: float | None = None
    terms: dict[str, float] = field(default_factory=dict)
    importance_samples: int = 1

    def __repr__(self) -> str:
        sign = "≤ " if self.kind == "lower bound" else ""
        kind: str = self.kind
        if self.importance_samples != 1:
            kind += f" of {self.importance_samples} draws"
        return (
            f"{sign}{self.bits_per_dim:.4f} ± {self.bits_per_dim_standard_error:.4f} bits/dim "
            f"({self.nats:.2f} ± {self.standard_error:.2f} nats, {kind}, n = {self.n})"
        )

    def _repr_html_(self) -> str:
        row = {
            "bits/dim": self.bits_per_dim,
            "±": self.bits_per_dim_standard_error,
            "nats": self.nats,
            "± nats": self.standard_error,
            "kind": self.kind,
            "n": self.n,
            "dims": self.dims,
        }
        return html_table([row | self.terms])

    def to_json(self) -> dict:
        """The fields, as `likely eval --json` prints them."""
        return asdict(self)


def evaluate(
    model: Density,
    data: Any,
    *,
    batch_size: int = 128,
    generator: torch.Generator | None = None,
    source: Density | None = None,
    importance_samples: int = 1,
    proposal: Proposal = "encoder",
    terms: bool = True,
) -> Report:
    """Report −log p of data.

    Args:
        model: any density.
        data: `Rows`, examples (n, *event.shape), a pair with their context, or a torch `Dataset`.
        batch_size: examples per pass; an exact result does not depend on it beyond rounding, a bound draws anew.
        generator: randomness for models that draw (None: seeded with 0).
        source: the density that the data come from, where it is known: `gap` is then the KL to it.
        importance_samples: K; a lower bound that draws is made tighter by K draws: ln 1/K Σ_k exp(bound_k) is a bound
            in expectation too, and rises to ln p with K (Importance Weighted Autoencoders, Burda et al., 2016,
            https://arxiv.org/abs/1509.00519).
        proposal: distribution that the latents of a latent-variable model are drawn from.
        terms: whether to measure also how a latent-variable model uses its latent.

    Raises:
        InputError: the data are not of the model's event or context, K > 1 where log p is exact, or a latent-variable
            model without an encoder.

    Warns:
        UnreliableEstimate: no latent drawn from the prior explains these data, or k-hat is above 0.7 for more than one
            example in twenty.
    """
    found = score(
        model,
        data,
        batch_size=batch_size,
        generator=generator,
        importance_samples=importance_samples,
        proposal=proposal,
        terms=terms,
    )
    gap = None
    if source is not None:
        known = negative_log_likelihood(source, data, batch_size=batch_size)
        gap = float((found.nats - known).mean())
    return report_of(found, model, gap, importance_samples)


def report_of(found: Scored, model: Density, gap: float | None = None, importance_samples: int = 1) -> Report:
    """Summarise the result of `score`."""
    assert found.dims is not None
    counts = found.dims.double()
    dims: int | float = int(counts[0])
    if (counts != counts[0]).any():
        dims = float(counts.mean())
    mean = float(found.nats.mean())
    bits = 1 / (dims * math.log(2))
    error_of_ratio = standard_error(found.nats - mean / dims * counts)
    return Report(
        len(found.nats),
        dims,
        mean,
        mean / dims,
        mean * bits,
        standard_error(found.nats),
        error_of_ratio * bits,
        model.kind,
        gap,
        found.terms,
        importance_samples,
    )


def negative_log_likelihood(model: Density, data: Any, **options) -> Tensor:
    """−ln p of every example (n,), float64, on the CPU; options (but terms) and errors are those of `score`."""
    return score(model, data, **options).nats


def score(
    model: Density,
    data: Any,
    *,
    batch_size: int = 128,
    generator: torch.Generator | None = None,
    importance_samples: int = 1,
    proposal: Proposal = "encoder",
    terms: bool = False,
) -> Scored:
    """Return −ln p of every example, with `terms` also the terms of a bound; arguments and errors as for `evaluate`."""
    how = Scoring(importance_samples, proposal, terms, batch_size)
    _refuse_scoring(model, how)
    rows = Rows.of(data, conditional=model.context is not None).to(model.device)
    model.event.check_shape(rows.read_shape)
    found = model._score(rows, how, generator or torch.Generator(model.device).manual_seed(0))
    return found._replace(dims=_dims(model, rows))


def _dims(model: Density, rows: Rows) -> Tensor:
    """Count the values of every example (n,)."""
    dims = torch.empty(len(rows), dtype=torch.int64)
    if model.event.end is None:
        sizes = rows.sizes  # as stored; a preparation moves values about, and changes no number of them
        if sizes is None:
            return dims.fill_(math.prod(rows.read_shape[1:]))
        return sizes.prod(1)
    for places in rows.places(len(rows)):
        dims[places] = model.event.count(model.check(rows[places].x)).cpu()
    return dims


def _refuse_scoring(model: Density, how: Scoring) -> None:
    """Refuse a way of scoring that is without meaning, or that the model does not know."""
    if how.batch_size < 1 or how.draws < 1:
        raise InputError(
            f"a batch size and a number of importance samples of at least 1 are expected, found {how.batch_size} and "
            f"{how.draws}"
        )
    if how.draws > 1 and model.kind == "exact":
        raise InputError(
            f"{how.draws} importance samples would tighten a lower bound; this {type(model).__name__}'s "
            "log p is exact: leave them out"
        )
    if how.proposal != "encoder" and how.proposal not in model.proposals:
        raise InputError(
            f'latents are drawn from the "encoder" or, of a latent-variable model, the "prior"; found '
            f"{how.proposal!r} for {type(model).__name__}"
        )
