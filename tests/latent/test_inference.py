"""Variational inference for each example, against closed forms and quadrature."""

import math

import pytest
import torch

from likely.classical import IndependentPixels
from likely.densities.bases import Normal, Uniform
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.errors import InputError
from likely.event import Event
from likely.latent import LatentVariable
from likely.latent.inference import amortization_gap, infer
from likely.nn.network import Perceptron

LINE, PLANE, TABLE = Event((1,)), Event((2,)), Event((5,), 3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(event, context, slope, sigma):
    density = ConditionalNormal(event, context, network=Perceptron((), "relu")).double().requires_grad_(False)
    (layer,) = (part for part in density.modules() if isinstance(part, torch.nn.Linear))
    layer.weight[0::2], layer.weight[1::2] = slope * torch.eye(event.dims), 0.0
    layer.bias[0::2], layer.bias[1::2] = 0.0, math.log(sigma)
    return density


def gaussian(slope, sigma):
    """z ~ N(0, I), x ~ N(z, ½² I): the posterior is N(0.8 x, 0.2 I)."""
    return LatentVariable(Normal(PLANE).double(), linear(PLANE, PLANE, 1.0, 0.5), linear(PLANE, PLANE, slope, sigma))


def curved():
    """One latent value behind a network, examples of five symbols, an encoder that knows nothing."""
    decoder = ConditionalSymbols(TABLE, LINE, network=Perceptron((8,), "relu"))
    model = LatentVariable(Normal(LINE), decoder, ConditionalNormal(LINE, TABLE, network=Perceptron((4,), "relu")))
    with torch.no_grad():
        for part, scale in ((model.decoder, 1.0), (model.encoder, 0.1)):
            for parameter in part.parameters():
                parameter.copy_(scale * torch.randn(parameter.shape, generator=seeded(4)))
    return model.double()


def test_where_the_posterior_is_gaussian_all_of_the_gap_is_found():
    """The gap is the mean of KL(q(z | x) ‖ p(z | x))."""
    model, x = gaussian(0.2, 0.9), torch.randn(60, 2, generator=seeded(1)).double()
    found = infer(model, x, generator=seeded())
    exact = torch.distributions.Normal(0, 1.25**0.5).log_prob(x).sum(1)
    assert float((exact - found.elbo).mean()) == pytest.approx(0, abs=0.01)
    assert found.mean.numpy() == pytest.approx((0.8 * x).numpy(), abs=0.1)
    assert found.scale.log().mean() == pytest.approx(0.5 * math.log(0.2), abs=0.03)
    variance = 0.9**2 / 0.2
    divergence = 0.5 * ((0.6 * x).square() / 0.2 + variance - 1 - math.log(variance)).sum(1)
    gap = amortization_gap(model, x, steps=100, rate=0.1, batch_size=40, generator=seeded())
    assert gap.mean == pytest.approx(float(divergence.mean()), abs=4 * gap.standard_error)
    assert gap.mean > 10 * gap.standard_error > 0


def test_nothing_is_gained_on_a_posterior():
    model, x = gaussian(0.8, 0.2**0.5), torch.randn(50, 2, generator=seeded(1)).double()
    gap = amortization_gap(model, x, steps=100, generator=seeded())
    assert gap.mean == pytest.approx(0, abs=0.01)


def test_bounds_are_below_a_quadrature():
    model = curved()
    x = model.sample(60, generator=seeded())
    z = torch.linspace(-8, 8, 801).double()[:, None]
    with torch.no_grad():
        joint = model.decoder.log_prob(x.repeat(801, 1), z.repeat_interleave(60, 0)).view(801, 60)
        exact = (joint + model.prior.log_prob(z)[:, None]).logsumexp(0) + math.log(16 / 800)
    found = infer(model, x, generator=seeded())
    left = exact - found.elbo
    error = float(left.std()) / 60**0.5
    assert -4 * error < float(left.mean()) < 0.2
    gain = found.elbo - found.amortized
    assert float(gain.mean()) > 4 * float(gain.std()) / 60**0.5
    assert float(gain.min()) > -0.2


def test_the_model_is_left_as_it_is():
    model, x = curved(), torch.zeros(3, 5, dtype=torch.int64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = infer(model, x, steps=3, generator=seeded())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not found.elbo.requires_grad
    again = infer(model, x, steps=3, generator=seeded())
    assert torch.equal(found.elbo, again.elbo)


def test_an_encoder_that_is_no_diagonal_gaussian():
    """q starts as the Gaussian with its moments."""
    full = ConditionalNormal(PLANE, PLANE, network=Perceptron((), "relu"), covariance="full").double()
    model = LatentVariable(Normal(PLANE).double(), linear(PLANE, PLANE, 1.0, 0.5), full)
    x = torch.randn(50, 2, generator=seeded(1)).double()
    exact = torch.distributions.Normal(0, 1.25**0.5).log_prob(x).sum(1)
    found = infer(model, x, generator=seeded())
    assert float((exact - found.amortized).mean()) > 10
    assert float((exact - found.elbo).mean()) == pytest.approx(0, abs=0.05)


def test_refusals():
    model, x = gaussian(0.8, 0.5), torch.zeros(3, 2).double()
    for options in ({"steps": 0}, {"batch_size": 0}, {"rate": 0.0}, {"rate": math.nan}):
        with pytest.raises(InputError, match=r"must be at least 1|positive number"):
            infer(model, x, **options)
    with pytest.raises(InputError, match="no encoder"):
        infer(LatentVariable(model.prior, model.decoder), x)
    symbols = Event((2,), 3)
    of_symbols = LatentVariable(
        IndependentPixels(symbols), ConditionalSymbols(TABLE, symbols), ConditionalSymbols(symbols, TABLE)
    )
    with pytest.raises(InputError, match="a Gaussian q takes latents of any real value"):
        infer(of_symbols, torch.zeros(3, 5, dtype=torch.int64))
    with pytest.raises(InputError, match="a Gaussian q takes latents of any real value"):
        infer(LatentVariable(Uniform(PLANE), ConditionalNormal(PLANE, PLANE)), x)
    with pytest.raises(InputError, match="found nan"):
        infer(model, x * math.nan)
