"""Evaluate: the likelihood of data under a model, in every unit, with its standard error."""

import math
from dataclasses import asdict, dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from likely.density import Density
from likely.errors import InputError
from likely.latent.bounds import Estimate, above_reliable, importance_sampling, warn_of_few, warn_of_tails
from likely.latent.diagnostics import active_units, codes_in_use, mutual_information, runs_once
from likely.latent.latent import LatentVariable
from likely.rows import Examples, Rows

Proposal = Literal["encoder", "prior"]
EXAMPLES = 1024  # at most, that latents are compared over, and scored under: all pairs
EXAMPLES_SCORED = 128  # where an encoder's network runs for every pair


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
        terms: of a latent-variable model, parts and measures of its bound by name, never as training weighs them.
            In nats: "reconstruction" E[ln p(x | z)], "kl" KL(q(z | x) ‖ p(z)) and "kl of layer 1", …, and "elbo", their
            difference; "rate" and "distortion", the same as costs; "importance weighted", L_K, and "importance weighted
            standard error", over the examples; "mutual information" of x and z, an estimate from below that cannot
            exceed "mutual information limit". Numbers: "effective sample size", of K, mean over examples; "k-hat above
            0.7", the part of the examples whose weights are too uneven for L_K to be trusted; "active units", how many
            of the "latent values" have a posterior mean that varies; "codes in use", how many of the "codes" of a
            latent of symbols occur. These and the mutual information are measured on at most 1,024 of the examples. Of
            any other bound by several draws: "elbo", their mean, and "gap of one draw", L_K − elbo, by how much at
            least one draw falls short of ln p(x): for a flow, what dequantisation costs.
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


class Scored(NamedTuple):
    """−ln p of every example (n,), float64, on the CPU; and the terms of a bound."""

    nats: Tensor
    terms: dict[str, float]


def evaluate(
    model: Density,
    data: Examples,
    *,
    batch_size: int = 128,
    generator: torch.Generator | None = None,
    source: Density | None = None,
    importance_samples: int = 1,
    proposal: Proposal = "encoder",
    terms: bool = True,
) -> Report:
    """Report −log p of data, an array (n, *event.shape) or a pair with its context.

    Args:
        model: any density.
        data: what to score.
        batch_size: examples per pass; an exact result does not depend on it beyond rounding, a bound draws anew.
        generator: randomness for models that draw (None: seeded with 0).
        source: the density that the data come from, where it is known: `gap` is then the KL to it.
        importance_samples: K; a lower bound that draws is made tighter by K draws: ln 1/K Σ_k exp(bound_k) is a bound
            in expectation too, and rises to ln p with K (Importance Weighted Autoencoders, Burda et al., 2016,
            https://arxiv.org/abs/1509.00519).
        proposal: what the latents of a latent-variable model are drawn from.
        terms: whether to measure what a latent-variable model makes of its latent, too.

    Raises:
        InputError: the data are not of the model's event or context, K > 1 where log p is exact, or a latent-variable
            model without an encoder.

    Warns:
        UnreliableEstimate: latents drawn from the prior say nothing of these data, or k-hat is above 0.7 for more than
            one example in twenty.
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
        gap = float((found.nats - negative_log_likelihood(source, data, batch_size=batch_size)).mean())
    return report_of(found, model, gap, importance_samples)


def report_of(found: Scored, model: Density, gap: float | None = None, importance_samples: int = 1) -> Report:
    """Summarise what `score` found."""
    n, dims = len(found.nats), model.event.dims
    mean, error = float(found.nats.mean()), standard_error(found.nats)
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
        found.terms,
        importance_samples,
    )


def standard_error(values: Tensor) -> float:
    """Of the mean of values (n,)."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan


def negative_log_likelihood(model: Density, data: Examples, **options) -> Tensor:
    """−ln p of every example (n,), float64, on the CPU; options (but terms) and errors are those of `score`."""
    return score(model, data, **options).nats


def score(
    model: Density,
    data: Examples,
    *,
    batch_size: int = 128,
    generator: torch.Generator | None = None,
    importance_samples: int = 1,
    proposal: Proposal = "encoder",
    terms: bool = False,
) -> Scored:
    """−ln p of every example, and with `terms` what a bound is made of; arguments and errors as for `evaluate`."""
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
    if proposal not in ("encoder", "prior") or (proposal == "prior" and not isinstance(model, LatentVariable)):
        raise InputError(
            f'latents are drawn from the "encoder" or, of a latent-variable model, the "prior"; found {proposal!r} for '
            f"{type(model).__name__}"
        )
    rows = Rows.of(data)
    generator = generator or torch.Generator(model.device).manual_seed(0)
    if len(rows) == 0:
        model.check(rows.x)
    rows.require_pairs()
    batches = list(rows.batches(batch_size))
    try:
        if isinstance(model, LatentVariable):
            return _latent(model, batches, generator, importance_samples, proposal, terms)
        nats, bound = _averaged(model, batches, generator, importance_samples)
    except InputError:
        model.check(rows.x)  # names the place in all of the data, not in a batch of them
        raise
    return Scored(nats, _gap(nats, bound) if terms and importance_samples > 1 else {})


def _averaged(model: Density, batches: list[Rows], generator: torch.Generator, draws: int) -> tuple[Tensor, Tensor]:
    """−ln of the mean of p over draws of whatever the model draws, and the mean of −ln p, which is no less."""
    nats, bounds = [], []
    with torch.no_grad():
        for rows in batches:
            each = [model.log_prob(rows.x, rows.context, generator=generator) for _ in range(draws)]
            found = torch.stack([log_prob.double().cpu() for log_prob in each])
            nats.append(math.log(draws) - found.logsumexp(0))
            bounds.append(-found.mean(0))
    return torch.cat(nats), torch.cat(bounds)


def _gap(nats: Tensor, bound: Tensor) -> dict[str, float]:
    """L_K beside the bound of one draw."""
    return {
        "elbo": -float(bound.mean()),
        "importance weighted": -float(nats.mean()),
        "importance weighted standard error": standard_error(nats),
        "gap of one draw": float((bound - nats).mean()),
    }


def _latent(
    model: LatentVariable, batches: list[Rows], generator: torch.Generator, draws: int, proposal: Proposal, terms: bool
) -> Scored:
    """One draw from the encoder is the model's own log_prob, anything else importance sampling; of the same latents."""
    nats = None
    if draws == 1 and proposal == "encoder":
        again = torch.Generator(generator.device)
        again.set_state(generator.get_state())
        nats, _ = _averaged(model, batches, generator, 1)
        if not terms or model.encoder is None:
            return Scored(nats, {})
        generator = again
    for batch in batches:
        model.check_context(batch.context, len(batch))
    rows = [model.check(batch.x) for batch in batches]
    q = model.prior if proposal == "prior" else None
    estimate = Estimate.joined([importance_sampling(model, x, draws, proposal=q, generator=generator) for x in rows])
    if q is not None:
        warn_of_few(estimate, "prior sampling")
    elif terms and draws > 1:
        warn_of_tails(estimate)
    nats = -estimate.value if nats is None else nats
    if not terms:
        return Scored(nats, {})
    found = _terms_of(estimate) if q is None else _weighted(estimate)
    return Scored(nats, found | ({} if model.encoder is None else _measures(model, torch.cat(rows), generator)))


def _terms_of(estimate: Estimate) -> dict[str, float]:
    """Reconstruction, KL, and what they make."""
    terms = {name.replace("KL", "kl"): float(part.mean()) for name, part in estimate.terms.items()}
    reconstruction, kl = terms["reconstruction"], terms["kl"]
    found = terms | {"elbo": reconstruction - kl, "rate": kl, "distortion": -reconstruction}
    return found if estimate.draws == 1 else found | _weighted(estimate)


def _weighted(estimate: Estimate) -> dict[str, float]:
    """L_K and how far it is to be trusted."""
    unreliable = above_reliable(estimate)
    return {
        "importance weighted": float(estimate.value.mean()),
        "importance weighted standard error": standard_error(estimate.value),
        "effective sample size": float(estimate.effective_sample_size.mean()),
        **({} if unreliable is None else {"k-hat above 0.7": unreliable}),
    }


def _measures(model: LatentVariable, x: Tensor, generator: torch.Generator) -> dict[str, float]:
    """What is measured over some of the examples together."""
    some = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:EXAMPLES]]
    found = {"latent values": float(model.prior.event.dims)}
    if len(some) > 1:
        found = {"active units": float(active_units(model, some, generator=generator))} | found
    if isinstance(model.prior.event.levels, int):
        codes = {"codes in use": codes_in_use(model, some, generator=generator), "codes": model.prior.event.levels}
        found |= {name: float(number) for name, number in codes.items()}
    scored = some if runs_once(model) else some[:EXAMPLES_SCORED]
    found["mutual information"] = mutual_information(model, scored, generator=generator)
    return found | {"mutual information limit": math.log(len(scored))}
