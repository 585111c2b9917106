"""MixtureCDF against scipy's mixtures, quadrature and known sources."""

import numpy as np
import pytest
import torch
from scipy import special, stats

import likely
from likely import MixtureCDF
from likely.event import Event
from likely.flows import Composition

KERNELS = [("logistic", stats.logistic), ("gaussian", stats.norm)]
PAIR = Event((2,))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fitted_by_chance(event=PAIR, **arguments):
    """A model of standardised data with random mixtures, in float64."""
    model = MixtureCDF(event, **arguments).double()
    x = torch.randn(500, *event.shape, generator=seeded(), dtype=torch.float64) * 3 - 7
    model.initialize(x)
    torch.nn.init.normal_(model.transforms[1].constant, generator=seeded(1))
    return model, x


def two_bumps(n, seed):
    """Half N(0.3, 0.1²), half N(0.8, 0.05²): values (n,) and their log-density."""
    draw = np.random.RandomState(seed)
    x = np.where(draw.rand(n) < 0.5, 0.3 + 0.1 * draw.randn(n), 0.8 + 0.05 * draw.randn(n))
    log_p = np.logaddexp(stats.norm.logpdf(x, 0.3, 0.1), stats.norm.logpdf(x, 0.8, 0.05)) - np.log(2)
    return torch.from_numpy(x).float(), log_p


@pytest.mark.parametrize(("kernel", "law"), KERNELS)
def test_the_density_is_the_product_of_mixtures(kernel, law):
    model, x = fitted_by_chance(components=3, kernel=kernel)
    standardise, mixture, _ = model.transforms
    log_pi, mu, log_s = (part.detach().numpy() for part in mixture.map._parts(mixture.constant))
    z = ((x - standardise.mean) / standardise.deviation).numpy()
    log_p = (
        special.logsumexp(log_pi + law.logpdf(z[..., None], mu, np.exp(log_s)), -1)
        - standardise.deviation.log().numpy()
    )
    torch.testing.assert_close(model.log_prob(x), torch.from_numpy(log_p.sum(1)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("event", [Event(()), Event((1,))])
@pytest.mark.parametrize(("kernel", "law"), KERNELS)
def test_it_integrates_to_one(kernel, law, event):
    model, _ = fitted_by_chance(event, components=4, kernel=kernel)
    grid = torch.linspace(-2000, 2000, 400_001, dtype=torch.float64)
    log_p = model.log_prob(grid.view(-1, *event.shape)).detach()
    assert float(log_p.exp().sum() * 0.01) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("kernel", "law"), KERNELS)
def test_latents_are_normal_and_come_back(kernel, law):
    model, _ = fitted_by_chance(Event(()), components=3, kernel=kernel)
    x = model.sample(20_000, generator=seeded())
    z, ladj = model.transform(x)
    assert stats.kstest(z.detach().numpy(), "norm").pvalue > 1e-3
    back, inverse_ladj = model.transform.inverse(z)
    torch.testing.assert_close(back, x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(inverse_ladj, -ladj, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kernel", "limit"), [("gaussian", 0.002), ("logistic", 0.02)])
def test_a_source_of_known_density(kernel, limit):
    x, _ = two_bumps(10_000, 1)
    model = MixtureCDF(Event(()), components=4, kernel=kernel)
    likely.fit(model, x, budget="800 steps", batch_size=256, learning_rate=0.02)
    fresh, log_p = two_bumps(10_000, 2)
    with torch.no_grad():
        gap = log_p - model.log_prob(fresh).double().numpy()
    error = gap.std() / len(gap) ** 0.5
    assert -3 * error < gap.mean() < limit + 3 * error


def test_a_density_per_label():
    """Of labels that move the same shape, each has its own mixture."""
    generator = seeded()
    labels = torch.randint(3, (3000,), generator=generator)
    x = torch.randn(3000, generator=generator) * 0.5 + 4 * labels
    model = MixtureCDF(Event(()), Event((), levels=3), components=2, kernel="gaussian", features=4)
    likely.fit(model, (x, labels), budget="600 steps", batch_size=256, learning_rate=0.02)
    fresh = torch.randn(3000, generator=generator) * 0.5 + 4 * labels
    with torch.no_grad():
        gap = stats.norm.logpdf(fresh, 4 * labels, 0.5).mean() - float(model.log_prob(fresh, labels).mean())
    assert gap < 0.05


@pytest.mark.parametrize("dequantization", ["uniform", "variational"])
def test_symbols_are_bounded(dequantization):
    """E ln p ≤ ln P(x) and E p = P(x), where P(x) = Φ(z(upper edge)) − Φ(z(lower edge))."""
    model = MixtureCDF(Event((), levels=6), components=3, dequantization=dequantization)
    model.initialize(torch.randint(6, (200,), generator=seeded()))
    with torch.no_grad():
        bound = model.log_prob(torch.arange(6).repeat(5000), generator=seeded()).view(5000, 6).double()
        edges, _ = Composition(list(model.transforms)[1:]).double()(torch.linspace(0, 1, 7, dtype=torch.float64))
    exact = special.ndtr(edges.numpy())
    exact = torch.from_numpy(exact[1:] - exact[:-1])
    error = bound.exp().std(0) / 5000**0.5
    assert model.kind == "lower bound"
    assert ((bound.exp().mean(0) - exact).abs() < 4 * error).all()
    assert (bound.mean(0) < exact.log() + 3 * bound.std(0) / 5000**0.5).all()


def test_far_out_it_is_right_or_refused():
    for kernel, _ in KERNELS:
        model = MixtureCDF(Event(()), kernel=kernel)
        for size in (1e-30, 1.0, 30.0, 1e6):
            x = torch.tensor([-size, size])
            torch.testing.assert_close(
                model.log_prob(x).double(), model.double().log_prob(x.double()), rtol=1e-5, atol=1e-6
            )
            model.float()
        with pytest.raises(likely.InputError, match="log p"):
            model.log_prob(torch.tensor([0.0, 3e38 if kernel == "logistic" else 1e25]))
