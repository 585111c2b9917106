"""How a latent-variable model uses its latent: rate and distortion, mutual information, active values.

All of them are of the model as it is, with a weight of one on the KL divergence, whatever it was trained on.
"""

import math
from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple

import torch
from torch import Tensor

from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.density import Density
from likely.errors import InputError
from likely.latent.bounds import CHUNK, importance_sampling
from likely.latent.latent import LatentVariable, Layered, draw_latents, latent_variable, require_draws

DRAWS = 64  # of z, for a posterior mean that has no closed form
ACTIVE = 0.01  # variance of the posterior mean, above which a latent value is active
PAIRS = 2**16  # of a latent and an example at once


class RateDistortion(NamedTuple):
    """Both in nats, means over examples; −ELBO is their sum.

    Attributes:
        rate: E[KL(q(z | x) ‖ p(z))]: the cost of sending z. At least I(x; z).
        distortion: −E[ln p(x | z)]: the cost of sending x, given z.
    """

    rate: float
    distortion: float


def rate_and_distortion(
    model: LatentVariable, x: Tensor, draws: int = 1, *, generator: torch.Generator | None = None
) -> RateDistortion:
    """Rate and distortion of examples (n, *event.shape): unbiased estimates from `draws` latents of each.

    A deterministic encoder has ln q = 0: the rate is the prior's −ln p(z), and nothing is estimated.

    Paper: Fixing a Broken ELBO (Alemi, Poole, Fischer, Dillon, Saurous, Murphy, 2018),
    https://arxiv.org/abs/1711.00464

    Raises:
        InputError: data that are not the model's, no draws, or no encoder.
    """
    terms = importance_sampling(model, x, draws, generator=generator).terms
    return RateDistortion(float(terms["KL"].mean()), -float(terms["reconstruction"].mean()))


@torch.no_grad()
def mutual_information(model: LatentVariable, x: Tensor, *, generator: torch.Generator | None = None) -> float:
    """A lower bound in expectation of I(x; z) under p_data(x) q(z | x), in nats.

    It is the mean over examples of ln q(z_i | x_i) − ln 1/n Σ_j q(z_i | x_j), z_i ~ q(z | x_i): an estimate of the
    information that z has on the example it came from, one of n: at most ln n. It rises to I(x; z) with n, and says
    nothing more where it comes close to ln n. Every latent is scored under every example.

    Papers: ELBO surgery (Hoffman, Johnson, 2016), http://approximateinference.org/accepted/HoffmanJohnson2016.pdf; as a
    bound: On Variational Bounds of Mutual Information (Poole, Ozair, van den Oord, Alemi, Tucker, 2019),
    https://arxiv.org/abs/1905.06922

    Raises:
        InputError: data that are not the model's, or no encoder.
    """
    encoder, x = _encoder(model), model.check(x)
    z = torch.cat([draw_latents(model, rows, 1, generator)[0] for rows in x.split(CHUNK)])
    under_all = scorer(encoder, x)
    table = torch.cat([under_all(part) for part in z.split(max(1, PAIRS // len(x)))]).double()  # ln q(z_i | x_j)
    return float((table.diagonal() - table.logsumexp(1)).mean()) + math.log(len(x))


@singledispatch
def scorer(encoder: Density, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function from latents (m, *latent shape) to ln q under each of the examples (n, *event.shape), (m, n).

    The encoder's network runs once for an example where it is known how, as here, else for every pair.
    """
    return lambda z: encoder._log_prob(*_pairs(z, x), None).view(len(z), len(x))


def runs_once(model: LatentVariable) -> bool:
    """Whether `scorer` runs the encoder's network once for an example, and not for every pair."""
    return scorer.dispatch(type(model.encoder)) is not scorer.dispatch(Density)


def _pairs(z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Every latent with the examples in turn."""
    return z.repeat_interleave(len(x), 0), x.repeat(len(z), *[1] * (x.ndim - 1))


@scorer.register
def _(encoder: ConditionalNormal, x: Tensor) -> Callable[[Tensor], Tensor]:
    p = encoder.parameters_of(x)
    return lambda z: encoder._scored(z.repeat_interleave(len(x), 0), p.repeated(len(z))).view(len(z), len(x))


@scorer.register
def _(encoder: Layered, x: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda z: encoder._factors(z.repeat_interleave(len(x), 0), x).sum(0).view(len(z), len(x))


@scorer.register
def _(encoder: ConditionalSymbols, x: Tensor) -> Callable[[Tensor], Tensor]:
    if encoder.head != "categorical":
        return scorer.dispatch(Density)(encoder, x)
    logs = _table(encoder, x).log()  # (n, latent values, levels)
    return lambda z: (
        logs.expand(len(z), *logs.shape).gather(3, z.view(len(z), 1, -1, 1).expand(-1, len(x), -1, 1)).sum((2, 3))
    )


def _table(encoder: ConditionalSymbols, x: Tensor) -> Tensor:
    """q of every symbol, (n, latent values, levels), where symbols are independent given x."""
    z = torch.zeros(len(x), *encoder.event.shape, dtype=torch.int64, device=x.device)
    return encoder._conditionals(z, x, 0).table().reshape(len(x), encoder.event.dims, -1)


def active_units(model: LatentVariable, x: Tensor, *, generator: torch.Generator | None = None) -> int:
    """How many latent values have a posterior mean that varies over examples: Var_x E[z | x] > 0.01.

    `spread` has the variances, and says where they are exact.

    Paper: Importance Weighted Autoencoders (Burda, Grosse, Salakhutdinov, 2016), https://arxiv.org/abs/1509.00519
    """
    return int((spread(model, x, generator=generator) > ACTIVE).sum())


@torch.no_grad()
def codes_in_use(model: LatentVariable, x: Tensor, *, generator: torch.Generator | None = None) -> int:
    """How many symbols of the latent's alphabet occur in one draw of z for each example (n, *event.shape).

    Of a `VQVAE`, where z is not drawn: how many entries of its codebook the examples use.

    Raises:
        InputError: data that are not the model's, no encoder, or a latent that is not of one alphabet.
    """
    _encoder(model)
    x = model.check(x)
    if model.prior.event.one_alphabet is None:
        raise InputError(f"a latent of symbols of one alphabet is expected, found {model.prior.event}")
    z = torch.cat([draw_latents(model, rows, 1, generator)[0] for rows in x.split(CHUNK)])
    return len(z.unique())


@torch.no_grad()
def spread(model: LatentVariable, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Var_x E[z | x] over examples (n, *event.shape), of every latent value: (*latent shape,), float64.

    The variance over these examples is exact where the posterior mean is (`ConditionalNormal`, `ConditionalSymbols`).
    Else it is the covariance of two means over 32 draws each, an unbiased estimate. Of a latent of symbols, the
    variances of the probabilities of all symbols are added up.

    Raises:
        InputError: data that are not the model's, fewer than two examples, or no encoder.
    """
    encoder, x, event = _encoder(model), model.check(x), model.prior.event
    if len(x) < 2:
        raise InputError("a variance over examples takes at least two of them, found 1")
    exact = _exact_spread(encoder, x)
    if exact is not None:
        return exact
    draws = _draws(model, x, DRAWS, generator).reshape(DRAWS, len(x), -1).movedim(2, 0)  # (latent values, draws, n)
    if event.discrete:
        values = (_one_hot(z, levels) for z, levels in zip(draws, event.alphabets, strict=True))
    else:
        values = (z[..., None].double() for z in draws)
    return torch.stack([_covariance(value).sum() for value in values]).view(event.shape)


def _covariance(z: Tensor) -> Tensor:
    """Over examples, of means over either half of the draws: (draws, n, values) → (values,)."""
    first, second = (half.mean(0) for half in z.tensor_split(2))
    return ((first - first.mean(0)) * (second - second.mean(0))).sum(0) / (z.shape[1] - 1)


def _one_hot(z: Tensor, levels: int) -> Tensor:
    return torch.nn.functional.one_hot(z, levels).double()


@torch.no_grad()
def posterior_means(
    model: LatentVariable, x: Tensor, *, draws: int = DRAWS, generator: torch.Generator | None = None
) -> Tensor:
    """E[z | x] under the encoder (n, *latent shape); of symbols, the likeliest.

    Exact for `ConditionalNormal` and `ConditionalSymbols`; else the mean of `draws`, or the symbol drawn most often:
    the code itself where x determines it.

    Raises:
        InputError: data that are not the model's, or no encoder.
    """
    require_draws(draws)
    encoder, x = _encoder(model), model.check(x)
    exact = _exact_mean(encoder, x)
    if exact is not None:
        return exact
    z = _draws(model, x, draws, generator)
    if encoder.event.discrete:
        return z.mode(0)[0]
    return z.mean(0)


@singledispatch
def _exact_mean(encoder: Density, x: Tensor) -> Tensor | None:
    """Return E[z | x] (n, *latent shape), of symbols the likeliest, where the encoder tells; else None."""
    return None


@_exact_mean.register
def _(encoder: ConditionalNormal, x: Tensor) -> Tensor | None:
    mu = torch.cat([encoder.parameters_of(rows).mu for rows in x.split(CHUNK)])
    return encoder.in_units(mu.view(-1, *encoder.event.shape))


@_exact_mean.register
def _(encoder: ConditionalSymbols, x: Tensor) -> Tensor | None:
    if encoder.head != "categorical":
        return None
    likeliest = torch.cat([_table(encoder, rows).argmax(2) for rows in x.split(CHUNK)])
    return likeliest.view(-1, *encoder.event.shape)


@singledispatch
def _exact_spread(encoder: Density, x: Tensor) -> Tensor | None:
    """Return Var_x E[z | x] of every latent value, where the encoder tells E[z | x]; else None."""
    return None


@_exact_spread.register
def _(encoder: ConditionalNormal, x: Tensor) -> Tensor | None:
    mean = _exact_mean(encoder, x)
    assert mean is not None
    return mean.double().var(0)


@_exact_spread.register
def _(encoder: ConditionalSymbols, x: Tensor) -> Tensor | None:
    if encoder.head != "categorical":
        return None
    return _table(encoder, x).double().var(0).sum(1).view(encoder.event.shape)


def _draws(model: LatentVariable, x: Tensor, draws: int, generator: torch.Generator | None) -> Tensor:
    """Latents (draws, n, *latent shape)."""
    parts = [
        draw_latents(model, rows, draws, generator)[0].unflatten(0, (draws, len(rows)))
        for rows in x.split(max(1, CHUNK // draws))
    ]
    return torch.cat(parts, 1)


def _encoder(model: LatentVariable) -> Density:
    encoder = latent_variable(model).encoder
    if encoder is None:
        raise InputError(f"this {type(model).__name__} has no encoder q(z | x), which says what z stands for x")
    return encoder
