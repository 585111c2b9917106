"""Independent dimensions against models and entropies of them; a fit starts there, and says how it stands."""

import logging
import math

import pytest
import torch
from scipy import stats

import likely
from likely.distributions import DiscretizedLogistics
from likely.nn.heads import CategoricalHead, LogisticsHead
from likely.rows import Rows
from likely.training.independent import independent_bits


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def symbols(n, shape, levels, seed=0):
    """Symbols with other frequencies at every place."""
    weights = torch.rand(math.prod(shape), levels, generator=seeded(1)) ** 3
    return torch.multinomial(weights, n, True, generator=seeded(seed)).T.reshape(n, *shape)


@pytest.mark.parametrize(("shape", "levels"), [((3, 4, 4), 5), ((6,), (2, 3, 4, 5, 2, 7)), ((), 4)])
def test_independent_symbols_are_those_of_the_model(shape, levels):
    event = likely.Event(shape, levels=levels)
    few = min(levels) if isinstance(levels, tuple) else levels
    x, fresh = symbols(500, shape, few), symbols(300, shape, few, 2)
    model = likely.fit(likely.IndependentPixels(event), x)
    found = independent_bits(event, x, Rows.of(fresh))
    assert found == pytest.approx(likely.evaluate(model, fresh).bits_per_dim, abs=1e-5)


def test_independent_real_values_come_near_to_their_entropy():
    x = torch.stack([torch.randn(4000, generator=seeded()), 5 * torch.randn(4000, generator=seeded(1)).exp()], 1)
    fresh = torch.stack([torch.randn(4000, generator=seeded(2)), 5 * torch.randn(4000, generator=seeded(3)).exp()], 1)
    entropy = (stats.norm.entropy() + stats.lognorm(1, scale=5).entropy()) / 2
    found = independent_bits(likely.Event((2,)), x, Rows.of(fresh)) * math.log(2)
    assert abs(found - entropy) < 0.06


def test_the_histogram_of_real_values_is_a_density():
    x = torch.randn(60, 1, generator=seeded()).round(decimals=1)  # some values more than once
    grid = torch.linspace(-40, 40, 400_001, dtype=torch.float64)[:, None]
    from likely.training.independent import _histograms

    density = _histograms(x.double())(grid).exp()
    assert torch.trapezoid(density[0], grid[:, 0]).item() == pytest.approx(1, abs=2e-3)


def test_the_marginals_of_symbols_are_their_frequencies():
    x = symbols(2000, (3, 2), 4)
    p = CategoricalHead((4,) * 3)
    parameters = p.marginals(x)
    assert parameters.shape == (2, 12)
    table = p(parameters[None]).table()[0]  # (3, 2, levels)
    frequencies = torch.nn.functional.one_hot(x, 4).double().mean(0)
    torch.testing.assert_close(table.double(), frequencies, atol=1e-3, rtol=0)
    head = CategoricalHead((2, 2))
    coins = symbols(2000, (2,), 2)
    ones = head(head.marginals(coins)[None]).table()[0, :, 1]
    torch.testing.assert_close(ones, coins.float().mean(0), atol=1e-3, rtol=0)


def test_the_marginals_of_a_mixture_of_logistics_come_near_to_the_frequencies():
    generator = seeded()
    low, high = 40 + 8 * torch.randn(3000, 1, generator=generator), 180 + 30 * torch.randn(3000, 1, generator=generator)
    base = torch.where(torch.rand(3000, 1, generator=generator) < 0.3, low, high)
    x = (base + 4 * torch.randn(3000, 3, generator=generator)).round().clamp(0, 255).long()
    head = LogisticsHead(256, 3, 5)
    p = head(head.marginals(x)[None].expand(len(x), -1), x)
    assert isinstance(p, DiscretizedLogistics)
    nats = -p.log_prob(x).mean(0)
    counts = [column.bincount().double() / len(x) for column in x.T]
    entropies = [float(torch.special.entr(count).sum()) for count in counts]
    assert nats[0] < entropies[0] + 0.15
    assert nats[1:].mean() < entropies[1] - 1  # a channel is given those before it


@pytest.mark.parametrize(
    "model",
    [
        likely.MADE(likely.Event((3, 4, 4), 5), hidden=(16,)),
        likely.GatedPixelCNN(likely.Event((3, 4, 4), 5), channels=6, layers=1),
        likely.GatedPixelCNN(likely.Event((3, 4, 4), 5), channels=6, layers=1, head="logistics"),
        likely.VAE(likely.Event((3, 4, 4), 5), latent=2, hidden=(8,)),
        likely.VAE(likely.Event((3, 4, 4), 5), latent=2, hidden=(8,), channels=4),
        likely.VAE(likely.Event((3, 4, 4), 5), latent=2, hidden=(8,), head="logistics"),
    ],
    ids=["MADE", "PixelCNN", "logistics", "perceptron", "convolutions", "perceptron to logistics"],
)
def test_a_model_starts_at_the_marginals(model):
    """The last layer's biases alone are the marginals: without the rest of the network, nothing is lost."""
    x = (symbols(600, (1, 4, 4), 3) + torch.tensor([0, 1, 2])[:, None, None]).clamp(max=4)
    model.initialize(x, generator=seeded())
    part = model.decoder if isinstance(model, likely.VAE) else model
    from likely.nn.start import last_layer

    network = part.body if isinstance(model, likely.VAE) else part.output
    torch.nn.init.zeros_(last_layer(network).weight)
    z = torch.zeros(len(x), 2) if isinstance(model, likely.VAE) else None
    bits = -part.log_prob(x, z).mean().item() / 48 / math.log(2)
    counts = [torch.nn.functional.one_hot(x[:, c], 5).double().flatten(0, 2).mean(0) for c in range(3)]
    by_channel = sum(float(torch.special.entr(count).sum()) for count in counts) / 3 / math.log(2)
    assert bits < by_channel + 0.1


def test_a_fit_stands_beside_independent_dimensions(caplog):
    """Noise: nothing is to be learnt but the marginals, and a large model on few data ends above them."""
    x = symbols(80, (6,), 3)
    seen = []
    with caplog.at_level(logging.INFO, "likely"):
        settings = {"budget": "40 steps", "learning_rate": 0.1, "patience": 50, "evaluations": 1}
        likely.fit(likely.MADE(likely.Event((6,), 3), hidden=(64,)), x, watch=seen.append, **settings)
    assert math.isfinite(seen[-1].independent)
    above = [record.message for record in caplog.records if "ends above independent dimensions" in record.message]
    assert bool(above) == (seen[-1].best > seen[-1].independent)
