"""Scores of a latent-variable model: the bound of one draw or of many, and its terms."""

import math

import torch
from torch import Tensor

from likely.density import Density
from likely.latent.bounds import Estimate, above_reliable, importance_sampling, warn_of_few, warn_of_tails
from likely.latent.diagnostics import active_units, codes_in_use, mutual_information, runs_once
from likely.latent.latent import LatentVariable
from likely.rows import Rows
from likely.scoring import Scored, Scoring, standard_error

EXAMPLES = 1024  # at most, that latents are compared over, and scored under: all pairs
EXAMPLES_SCORED = 128  # where an encoder's network runs for every pair


def score_latent(model: LatentVariable, rows: Rows, how: Scoring, generator: torch.Generator | None) -> Scored:
    """Score by the model's own log_prob, if by one draw from the encoder; else by importance sampling.

    With terms, those of a single draw are of the same latents as its log_prob.
    """
    generator = generator or torch.Generator(model.device).manual_seed(0)
    nats = None
    if how.draws == 1 and how.proposal == "encoder":
        again = torch.Generator(generator.device)
        again.set_state(generator.get_state())
        nats = Density._score(model, rows, how._replace(terms=False), generator).nats
        if not how.terms or model.encoder is None:
            return Scored(nats, {})
        generator = again
    estimate = _estimated(model, rows, how, generator)
    nats = -estimate.value if nats is None else nats
    if not how.terms:
        return Scored(nats, {})
    return Scored(nats, _terms(model, rows, how, estimate, generator))


def _estimated(model: LatentVariable, rows: Rows, how: Scoring, generator: torch.Generator) -> Estimate:
    q = model.prior if how.proposal == "prior" else None
    found = []
    for part in rows.batches(how.batch_size):
        with part.named():
            x, context = part.read()
            model.check_context(context, len(x))
            found.append(importance_sampling(model, x, how.draws, proposal=q, generator=generator))
    estimate = Estimate.joined(found)
    if q is not None:
        warn_of_few(estimate, "prior sampling")
    elif how.terms and how.draws > 1:
        warn_of_tails(estimate)
    return estimate


def _terms(
    model: LatentVariable, rows: Rows, how: Scoring, estimate: Estimate, generator: torch.Generator
) -> dict[str, float]:
    found = _parts_of(estimate) if how.proposal == "encoder" else _weighted(estimate)
    if model.encoder is None:
        return found
    return found | _measures(model, rows, generator)


def _parts_of(estimate: Estimate) -> dict[str, float]:
    """Return reconstruction, KL, and their sum."""
    terms = {name.replace("KL", "kl"): float(part.mean()) for name, part in estimate.terms.items()}
    reconstruction, kl = terms["reconstruction"], terms["kl"]
    found = terms | {"elbo": reconstruction - kl, "rate": kl, "distortion": -reconstruction}
    if estimate.draws == 1:
        return found
    return found | _weighted(estimate)


def _weighted(estimate: Estimate) -> dict[str, float]:
    """Return L_K and how far it is to be trusted."""
    found = {
        "importance weighted": float(estimate.value.mean()),
        "importance weighted standard error": standard_error(estimate.value),
        "effective sample size": float(estimate.effective_sample_size.mean()),
    }
    unreliable = above_reliable(estimate)
    if unreliable is not None:
        found["k-hat above 0.7"] = unreliable
    return found


def _measures(model: LatentVariable, rows: Rows, generator: torch.Generator) -> dict[str, float]:
    """Return the measures of some of the examples together."""
    some = _some(model, rows)
    found = {"latent values": float(model.prior.event.dims)}
    if len(some) > 1:
        found = {"active units": float(active_units(model, some, generator=generator))} | found
    levels = model.prior.event.one_alphabet
    if levels is not None:
        codes = {"codes in use": codes_in_use(model, some, generator=generator), "codes": levels}
        found |= {name: float(number) for name, number in codes.items()}
    if runs_once(model):
        scored = some
    else:
        scored = some[:EXAMPLES_SCORED]
    found["mutual information"] = mutual_information(model, scored, generator=generator)
    return found | {"mutual information limit": math.log(len(scored))}


def _some(model: LatentVariable, rows: Rows) -> Tensor:
    return model.check(rows.shuffled(torch.Generator().manual_seed(0))[:EXAMPLES].x)
