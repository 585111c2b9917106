"""Linear Gaussian models: likelihood, posterior and maximum-likelihood fit (probabilistic PCA) are closed forms."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal
from likely.event import Event
from likely.latent import VAE, LatentVariable
from likely.latent.bounds import importance_weighted_bound
from likely.latent.latent import draw_terms
from likely.nn.network import NetworkSpec, Perceptron

X, Z = Event((4,)), Event((2,))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


@dataclass(frozen=True)
class OneScale(NetworkSpec):
    """Means linear in the context, and one scale that is the same everywhere."""

    def build(self, inputs, outputs, features=None):
        return _OneScale(inputs[0], outputs[0] // 2)


class _OneScale(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.mean, self.log_sigma = nn.Linear(inputs, outputs), nn.Parameter(torch.zeros(()))

    def forward(self, context):
        mu = self.mean(context)
        return torch.stack([mu, self.log_sigma.expand_as(mu)], -1).flatten(1)


def assign(density, weight, bias, scale):
    """Make it N(W c + b, L Lᵀ), L (dims, dims) or, where the covariance is diagonal, its diagonal."""
    (layer,) = (part for part in density.body.modules() if isinstance(part, nn.Linear))
    with torch.no_grad():
        layer.weight[0::2], layer.weight[1::2] = weight, 0.0
        layer.bias[0::2], layer.bias[1::2] = bias, (scale if scale.ndim == 1 else scale.diagonal()).log()
        if density.corner is not None:
            density.corner[-1].weight.zero_()
            density.corner[-1].bias.copy_(torch.cat([row[:i] for i, row in enumerate(scale)]))


def with_posterior(widening=1.0, sigma=0.7):
    """x = W z + b + σ ε, an encoder that is its posterior but for scales that are larger by a factor; and p(x)."""
    network = Perceptron((), "relu")
    encoder = ConditionalNormal(Z, X, network=network, covariance="full")
    model = LatentVariable(Normal(Z), ConditionalNormal(X, Z, network=network), encoder).double()
    w, b = randn(4, 2, seed=1), randn(4, seed=2)
    covariance = torch.linalg.inv(torch.eye(2).double() + w.T @ w / sigma**2)
    gain = covariance @ w.T / sigma**2
    assign(model.decoder, w, b, torch.full((4,), sigma, dtype=torch.float64))
    assign(model.encoder, gain, -gain @ b, widening * torch.linalg.cholesky(covariance))
    evidence = torch.distributions.MultivariateNormal(b, w @ w.T + sigma**2 * torch.eye(4).double())
    return model.requires_grad_(False), evidence


def test_every_draw_from_the_posterior_says_the_evidence():
    model, evidence = with_posterior()
    x = 3 * randn(50, 4)
    log_weights = draw_terms(model, x, 6, seeded()).log_weight
    assert (log_weights - evidence.log_prob(x)).abs().max() < 1e-8
    assert (model.log_prob(x) - evidence.log_prob(x)).abs().max() < 1e-8


def test_the_gap_falls_as_one_over_k():
    model, evidence = with_posterior(widening=1.3)
    x, most = 1.5 * randn(1, 4), 64
    excess = draw_terms(model, x, 2**17, seeded()).log_weight[:, 0] - evidence.log_prob(x)
    counts, gaps = [4, 8, 16, 32, most], []
    for k in counts:
        ratio = importance_weighted_bound(excess.view(k, -1))  # of the mean of K weights to p(x), its logarithm
        gaps.append((ratio.exp() - 1 - ratio).mean())  # E[ratio] = 1, known exactly, steadies E[ln ratio]
    log_k, log_gap = torch.tensor(counts).double().log(), torch.stack(gaps).log()
    centred = log_k - log_k.mean()
    assert float(centred @ log_gap / centred.square().sum()) == pytest.approx(-1, abs=0.15)
    variance = excess.exp().var()
    assert float(gaps[-1] * most) == pytest.approx(float(variance) / 2, rel=0.05)


def test_a_fit_finds_probabilistic_pca():
    x = randn(300, 2, seed=3) @ randn(2, 4, seed=1) + 0.5 * randn(300, 4, seed=4) + randn(4, seed=2)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0))
    noise = eigenvalues[:2].mean()  # the maximum of the likelihood: Tipping and Bishop, 1999
    best = -(4 * math.log(2 * math.pi) + eigenvalues[2:].log().sum() + 2 * noise.log() + 4) / 2

    decoder = ConditionalNormal(X, Z, network=OneScale())
    encoder = ConditionalNormal(Z, X, network=Perceptron((), "relu"))  # turns z so that its posterior is diagonal
    model = LatentVariable(Normal(Z), decoder, encoder).double()
    steps, rate, generator = 250, 0.05, seeded()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        model.loss(x, generator=generator).backward()
        optimizer.step()

    with torch.no_grad():
        network = decoder.body[-1]
        w, b, sigma = network.mean.weight, network.mean.bias, network.log_sigma.exp()
        evidence = torch.distributions.MultivariateNormal(b, w @ w.T + sigma**2 * torch.eye(4).double())
        found, bound = evidence.log_prob(x).mean(), draw_terms(model, x, 100, generator).log_weight.mean()
    assert float(best) - 0.01 < float(bound) < float(found) + 1e-3
    assert float(found) <= float(best) + 1e-9


def test_the_covariance_of_a_vae():
    full = VAE(X, latent=3, hidden=(4,), covariance="full")
    p = full.encoder.parameters_of(torch.zeros(1, 4))
    assert p.corner.shape == (1, 3)
    assert VAE(X, latent=3, hidden=(4,)).encoder.corner is None
