"""AffineFlow's closed form against scipy's Gaussian, regression by numpy, and the known price of dequantisation."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import likely
from likely.data import RoundedGaussian, load, source_of


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def correlated(n=500, dims=5):
    x = torch.randn(n, dims, generator=seeded(), dtype=torch.float64)
    mix = torch.randn(dims, dims, generator=seeded(1), dtype=torch.float64)
    return (x @ mix + 3) * torch.logspace(-3, 4, dims, dtype=torch.float64)


def best_gaussian(x):
    """ln of the most likely Gaussian at its data, in units in which scipy can invert its covariance."""
    rows = x.reshape(len(x), -1).double()
    scale = rows.std(0, correction=0)
    rows = (rows / scale).numpy()
    covariance = np.atleast_2d(np.cov(rows.T, bias=True))
    return multivariate_normal(rows.mean(0), covariance).logpdf(rows) - float(scale.log().sum())


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("shape", [(5,), (1,), (), (1, 2, 2)])
def test_the_estimate_is_the_most_likely_gaussian(dtype, limit, shape):
    dims = math.prod(shape)
    x = correlated(dims=dims).view(-1, *shape)
    model = likely.fit(likely.AffineFlow(likely.Event(shape)).to(dtype), x)
    found = model.log_prob(x).detach().double().numpy()
    assert abs(found.mean() - best_gaussian(x).mean()) <= limit
    assert np.abs(found - best_gaussian(x)).max() <= 100 * limit
    assert model.kind == "exact"


def test_stretched_gaussian():
    for name in ("stretched-gaussian", "turned-gaussian"):
        model = likely.fit(likely.AffineFlow(likely.Event((2,))), load(name, "train"))
        report = likely.evaluate(model, load(name, "test").x, source=source_of(name))
        assert -0.002 < report.gap <= 2 * 0.002


def test_samples_have_the_mean_and_the_covariance():
    x = correlated(dims=3)
    model = likely.fit(likely.AffineFlow(likely.Event((3,))).double(), x)
    drawn = model.sample(100_000, generator=seeded(2))
    scale = x.std(0)
    assert ((drawn.mean(0) - x.mean(0)).abs() < 5 * scale / 100_000**0.5).all()
    ratio = (drawn.T.cov() - x.T.cov(correction=0)) / (scale[:, None] * scale)
    assert ratio.abs().max() < 5 * (2 / 100_000) ** 0.5


def test_a_label_has_a_mean_of_its_own():
    labels = torch.arange(600) % 3
    centres = torch.tensor([[0.0, 0.0], [5.0, 1.0], [-2.0, 9.0]], dtype=torch.float64)
    x = correlated(600, 2) * torch.tensor([1e2, 1e-4]) + centres[labels]
    model = likely.AffineFlow(likely.Event((2,)), likely.Event((), levels=3)).double()
    model.estimate((x, labels), generator=seeded())
    means = torch.stack([x[labels == k].mean(0) for k in range(3)])
    expected = best_gaussian(x - means[labels])
    assert np.allclose(model.log_prob(x, labels).detach(), expected, atol=1e-8)


def test_a_context_of_numbers_is_regressed_on():
    c = torch.randn(400, 2, generator=seeded(3), dtype=torch.float64)
    x = torch.stack([c[:, 0] - 2 * c[:, 1], c[:, 1]], 1) + 0.1 * torch.randn(400, 2, generator=seeded(4))
    model = likely.AffineFlow(likely.Event((2,)), likely.Event((2,)), features=8).double()
    model.estimate((x, c), generator=seeded())
    with torch.no_grad():
        features = torch.cat([model.encoded(c), torch.ones(400, 1)], 1).numpy()
    residual = torch.from_numpy(x.numpy() - features @ np.linalg.lstsq(features, x.numpy(), rcond=None)[0])
    assert np.allclose(model.log_prob(x, c).detach(), best_gaussian(residual), atol=1e-7)


def test_the_floor_holds_columns_that_repeat_each_other():
    x = torch.randn(300, 1, generator=seeded(), dtype=torch.float64).expand(-1, 3).clone()
    model = likely.fit(likely.AffineFlow(likely.Event((3,)), floor=1e-4).double(), x)
    deviation = float(x[:, 0].std(correction=0))
    eigenvalues = [3.0, 1e-4, 1e-4]  # of the covariance of three equal columns, standardised and floored
    z = (x[:, 0] - x[:, 0].mean()) / deviation
    expected = -0.5 * (z.square() + sum(math.log(2 * math.pi * v) for v in eigenvalues)) - 3 * math.log(deviation)
    torch.testing.assert_close(model.log_prob(x).detach(), expected, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize(("deviation", "bits"), [(0.3, 0.2554), (1.0, 0.0535)])
def test_the_price_of_uniform_dequantisation_is_the_known_one(deviation, bits):
    source = RoundedGaussian(deviation)
    model = likely.AffineFlow(source.event).double()
    model.estimate(source.sample(100_000, generator=seeded(5)), generator=seeded(6))
    x = source.sample(200_000, generator=seeded(7))
    report = likely.evaluate(model, x, source=source, generator=seeded(8), batch_size=10_000)
    assert report.kind == "lower bound"
    assert abs(report.gap / math.log(2) - bits) < 0.01
    assert source.dequantization_gap() / math.log(2) == pytest.approx(bits, abs=5e-5)


def test_saved_and_loaded(tmp_path):
    x = correlated(dims=4)
    model = likely.fit(likely.AffineFlow(likely.Event((4,)), floor=1e-5), x, out=tmp_path / "run")
    again = likely.load(tmp_path / "run")
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    assert again.floor == 1e-5


def test_what_is_refused():
    x = correlated()
    x[:, 2] = 3
    with pytest.raises(likely.InputError, match="column 3 is 3 in all of 500"):
        likely.fit(likely.AffineFlow(likely.Event((5,))), x)
    with pytest.raises(likely.InputError, match="floor"):
        likely.AffineFlow(likely.Event((5,)), floor=0.0)
    with pytest.raises(likely.InputError, match="whole numbers"):
        likely.AffineFlow(likely.Event((5,))).log_prob(torch.ones(2, 5, dtype=torch.int64))
