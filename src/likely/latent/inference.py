"""Variational inference for each example by itself, started from the encoder's parameters."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from likely.densities.conditional import ConditionalNormal
from likely.distributions.discrete import standard_normal
from likely.errors import InputError, require_positive, require_sizes
from likely.event import REAL
from likely.latent.diagnostics import posterior_means
from likely.latent.latent import LatentVariable, draw_latents, draw_terms, latent_variable

DRAWS = 8  # of every example, per step
ROUNDS = 16  # of as many draws, that an evidence lower bound is estimated from
UNIT_DRAWS = 1024  # from the prior, for its deviation
BETAS = (0.9, 0.95)  # of Adam: the gradients of a q that is much too wide fall by orders of magnitude
NARROW = 1e-4  # smallest scale to start from


@dataclass(frozen=True)
class Inferred:
    """q(z) = N(z; mean, diag scale²) of every example, and its gain.

    Attributes:
        elbo: the evidence lower bound under q, nats (n,); at most ln p(x) in expectation.
        amortized: that of the model's encoder (n,).
        mean, scale: of q (n, *latent shape).
    """

    elbo: Tensor
    amortized: Tensor
    mean: Tensor
    scale: Tensor


@dataclass(frozen=True)
class AmortizationGap:
    """Mean gain of per-example inference in the evidence lower bound, nats; and its standard error."""

    mean: float
    standard_error: float


def infer(
    model: LatentVariable,
    x: Tensor,
    *,
    steps: int = 300,
    rate: float = 0.03,
    batch_size: int = 512,
    generator: torch.Generator | None = None,
) -> Inferred:
    """Maximise the evidence lower bound of every example over a diagonal Gaussian q of its own; the model stays.

    Adam on μ (in units of the prior's deviation) and ln σ, by reparametrised draws, with a rate that falls to zero;
    started from the encoder's mean and scale. Both bounds are estimated afterwards from fresh draws, so neither is
    flattered by the optimisation. Where the encoder is no diagonal Gaussian, q starts as the one with its moments, and
    may stay below.

    Args:
        model: with an encoder, and real latents.
        x: examples (n, *event.shape).
        steps: of Adam.
        rate: of the first step.
        batch_size: examples at a time; they do not depend on one another.
        generator: of z.

    Raises:
        InputError: data that are not the model's, no encoder, a latent of symbols, or steps, rate or batch size out of
            range.
    """
    if latent_variable(model).prior.event.discrete or model.prior.support != REAL:
        raise InputError(
            f"a Gaussian q takes latents of any real value, found {model.prior.event}, values in {model.prior.support}"
        )
    require_sizes(steps=steps, batch_size=batch_size)
    require_positive(rate=rate)
    batches = model.check(x).split(batch_size)
    unit = model.prior.sample(UNIT_DRAWS, generator=generator).std(0)
    parts = [_inferred(model, rows, unit, steps, rate, generator) for rows in batches]
    return Inferred(*(torch.cat(found) for found in zip(*parts, strict=True)))


def amortization_gap(model: LatentVariable, x: Tensor, **options) -> AmortizationGap:
    """How much the encoder loses by serving all examples with one network: the mean gain of `infer`, and its error.

    An estimate from below of the gap to the best diagonal Gaussian, as Adam may not arrive there.

    Paper: Inference Suboptimality in Variational Autoencoders (Cremer, Li, Duvenaud, 2018),
    https://arxiv.org/abs/1801.03558

    Args:
        model: as for `infer`.
        x: examples (n, *event.shape).
        options: those of `infer`.
    """
    found = infer(model, x, **options)
    gain = found.elbo - found.amortized
    if len(gain) > 1:
        error = float(gain.std()) / math.sqrt(len(gain))
    else:
        error = math.nan
    return AmortizationGap(float(gain.mean()), error)


def _inferred(
    model: LatentVariable, x: Tensor, unit: Tensor, steps: int, rate: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with torch.no_grad():
        mean, scale = _moments(model, x, generator)
        amortized = _mean(lambda: draw_terms(model, x, DRAWS, generator).log_weight.mean(0))
    shift, log_ratio = (torch.zeros_like(mean, requires_grad=True) for _ in range(2))

    rows = x.repeat(DRAWS, *[1] * (x.ndim - 1))

    def bound() -> Tensor:
        log_sigma = scale.log() + log_ratio
        epsilon = _normal(DRAWS, mean, generator)
        z = (mean + unit * shift + log_sigma.exp() * epsilon).flatten(0, 1)  # (draws · n, *latent)
        joint = model.decoder._log_prob(rows, z, generator) + model.prior._log_prob(z, None, generator)
        log_q = -(0.5 * epsilon.square() + log_sigma + 0.5 * math.log(2 * math.pi)).reshape(DRAWS, len(x), -1).sum(2)
        return (joint.view(DRAWS, len(x)) - log_q).mean(0)

    optimizer = torch.optim.Adam([shift, log_ratio], lr=rate, betas=BETAS)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    with torch.enable_grad():
        for _ in range(steps):
            # Not backward(), which would leave gradients at the model's weights.
            gradients = torch.autograd.grad(-bound().sum(), [shift, log_ratio])
            shift.grad, log_ratio.grad = gradients
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return _mean(bound), amortized, mean + unit * shift, scale * log_ratio.exp()


def _moments(model: LatentVariable, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Mean and scale of q(z | x), (n, *latent shape) each: exact for a diagonal Gaussian, else of draws."""
    encoder = model.encoder
    if isinstance(encoder, ConditionalNormal) and encoder.covariance == "diagonal":
        sigma = encoder.parameters_of(x).log_sigma.exp().view(-1, *encoder.event.shape)
        return posterior_means(model, x), encoder.scaled(sigma)
    draws = DRAWS * ROUNDS
    z = draw_latents(model, x, draws, generator)[0].unflatten(0, (draws, len(x)))
    return z.mean(0), z.std(0).clamp_min(NARROW)


def _mean(estimate: Callable[[], Tensor]) -> Tensor:
    return torch.stack([estimate() for _ in range(ROUNDS)]).mean(0)


def _normal(draws: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    return standard_normal((draws, *like.shape), generator, like)
