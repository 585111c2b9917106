"""A latent-variable model of which everything is known: z ~ N(0, I), x = W z + s ε, ε ~ N(0, I), W (dims, latents).

What other experiments measure with: its evidence and its posterior are Gaussian, and how far the weights of draws from
any other Gaussian vary is a closed form. `Isotropic` is a decoder of this kind that can be fitted.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from likely.data.real_sources import LinearGaussian
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal
from likely.density import Density
from likely.event import Event
from likely.latent import LatentVariable
from likely.nn.network import NetworkSpec, Size


class Affine(Density):
    """N(x; A c, L Lᵀ), both fixed.

    Args:
        weight: A (dims, context dims).
        scale: L, lower triangular (dims, dims).
    """

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        super().__init__(Event((len(weight),)), Event((weight.shape[1],)))
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        epsilon = torch.linalg.solve_triangular(self.scale, (x - context @ self.weight.T).T, upper=False)
        log_det = self.scale.diagonal().log().sum()
        return -(epsilon.square().sum(0) + len(epsilon) * math.log(2 * math.pi)) / 2 - log_det

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        epsilon = torch.randn(n, len(self.scale), generator=generator, dtype=self.scale.dtype)
        return context @ self.weight.T + epsilon @ self.scale.T


@dataclass(frozen=True)
class OneScale(NetworkSpec):
    """A network for means, and one logarithm of a scale for all values."""

    means: NetworkSpec

    def build(self, inputs: Size, outputs: Size, features: int | None = None) -> nn.Module:
        """Return the network, for values without places."""
        return _OneScale(self.means.build(inputs, (outputs[0] // 2,)))


class _OneScale(nn.Module):
    def __init__(self, means: nn.Module) -> None:
        super().__init__()
        self.means, self.log_sigma = means, nn.Parameter(torch.zeros(()))

    def forward(self, context: Tensor) -> Tensor:
        mu = self.means(context)
        return torch.stack([mu, self.log_sigma.expand_as(mu)], -1).flatten(1)


class Isotropic(ConditionalNormal):
    """N(x; μ(c), σ² I), μ from a network and σ one number.

    Args:
        event: of real values.
        context: c.
        network: of the means.
    """

    def __init__(self, event: Event, context: Event, network: NetworkSpec) -> None:
        super().__init__(event, context, network=OneScale(network))

    def initialize(self, x: Tensor, context: Tensor | None = None, *, generator: torch.Generator | None = None) -> None:
        """As always, but with one deviation for all values."""
        super().initialize(x, context, generator=generator)
        self.deviation.fill_(float(self.deviation.square().mean().sqrt()))


def model_of(w: Tensor, noise: float) -> LatentVariable:
    """The model, with its posterior for an encoder."""
    dims, latents = w.shape
    decoder = Affine(w, noise * torch.eye(dims, dtype=w.dtype))
    return LatentVariable(Normal(Event((latents,))).to(w.dtype), decoder, widened(w, noise))


def evidence(w: Tensor, noise: float) -> LinearGaussian:
    """p(x) = N(x; 0, W Wᵀ + s² I), in float64."""
    return LinearGaussian(tuple(map(tuple, w.tolist())), (0.0,) * len(w), noise)


def posterior(w: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """G (latents, dims) and S (latents, latents) of p(z | x) = N(z; G x, S)."""
    covariance = torch.linalg.inv(torch.eye(w.shape[1], dtype=w.dtype) + w.T @ w / noise**2)
    return covariance @ w.T / noise**2, covariance


def widened(w: Tensor, noise: float, factor: float = 1.0) -> Affine:
    """The posterior with scales that are larger by a factor."""
    gain, covariance = posterior(w, noise)
    return Affine(gain, factor * torch.linalg.cholesky(covariance))


def log_second_moment(shift: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """ln ∫ p(z)² / q(z) dz of two Gaussians, (n,): ln E[w²] for w = p(z) / q(z), z ~ q, whose mean is 1.

    K draws count for about K / E[w²] of them, and L_K falls short by about (E[w²] − 1) / 2K. Infinite where q falls off
    faster than p².

    Args:
        shift: difference of the means (n, dims).
        p: covariance (dims, dims).
        q: covariance (dims, dims).
    """
    of_p, of_q = torch.linalg.inv(p), torch.linalg.inv(q)
    both = 2 * of_p - of_q
    if torch.linalg.eigvalsh(both).min() <= 0:
        return torch.full(shift.shape[:1], math.inf, dtype=shift.dtype)
    quadratic = (shift @ (of_p @ torch.linalg.inv(both) @ of_q) * shift).sum(1)
    return quadratic + of_p.logdet() - (of_q.logdet() + both.logdet()) / 2
