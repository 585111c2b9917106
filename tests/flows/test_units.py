"""Values and contexts of any size: location and scale are taken out in float64, counted in log p, undone in draws."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import likely
from likely.densities.bases import Normal, Uniform
from likely.errors import DataWarning
from likely.flows import Elementwise, Flow, Inverse
from likely.flows.maps.activation import Logit, Softplus, Tanh
from likely.runs.store import load, save

LINE, PAIR = likely.Event((1,)), likely.Event((2,))
CLOCK = stats.norm(1.7e9, 60)  # a Unix time
ENTROPY = float(CLOCK.entropy())


def times(n: int, seed: int = 0) -> np.ndarray:
    return CLOCK.rvs((n, 1), random_state=seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("model", "budget"),
    [
        (lambda: likely.AffineFlow(LINE), {}),
        (lambda: likely.GaussianMixture(LINE, components=2), {}),
        (lambda: likely.NeuralSplineFlow(LINE, layers=1, hidden=(8,)), {"budget": "30 steps"}),
        (lambda: likely.MixtureCDF(LINE, components=4), {"budget": "30 steps"}),
        (lambda: likely.VAE(LINE, latent=1, hidden=(8,)), {"budget": "300 steps", "learning_rate": 3e-3}),
    ],
    ids=["affine flow", "mixture", "spline flow", "mixture CDF", "VAE"],
)
def test_a_clock(model, budget, dtype):
    """4,000 distinct values, of which float32 has five."""
    found = likely.fit(model().to(dtype), times(4000), **budget)
    nats = likely.evaluate(found, times(4000, 1)).nats
    assert nats == pytest.approx(ENTROPY, abs=0.05)
    drawn = found.sample(2000, generator=torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.float64
    assert len(drawn.unique()) > 1990
    assert stats.kstest(drawn[:, 0].numpy(), CLOCK.cdf).statistic < 0.08


def test_location_and_scale_keep_their_digits(tmp_path):
    model = likely.fit(likely.AffineFlow(LINE), times(100))
    x = times(5, 2)
    known, log_p = model.transforms[0].mean.clone(), model.log_prob(x).detach()
    assert float(known) == pytest.approx(times(100).mean(), rel=1e-15)
    save(model, tmp_path / "run")
    assert torch.equal(load(tmp_path / "run").log_prob(x), log_p)
    again = model.to(torch.bfloat16).double()
    assert torch.equal(again.transforms[0].mean, known)
    assert float((again.log_prob(x).detach() - log_p).abs().max()) < 0.2  # what bfloat16 leaves of the other weights


def test_before_data_are_seen_values_stay_as_they_are():
    model = likely.AffineFlow(PAIR)
    x = torch.randn(5, 2)
    assert torch.equal(model.log_prob(x), Normal(PAIR).log_prob(x))
    assert model.sample(3).dtype == torch.float32


@pytest.mark.parametrize("build", [likely.AffineFlow, likely.MAF], ids=lambda cls: cls.__name__)
def test_beyond_the_precision_is_named_as_given(build):
    model = build(PAIR)
    model.initialize(torch.randn(100, 2).double())
    x = torch.zeros(4, 2).double()
    x[3, 1] = 1e39
    with pytest.raises(likely.InputError, match=r"found 1e\+39 at index \(3, 1\); values within the range of float32"):
        model.log_prob(x)
    assert build(PAIR).double().log_prob(x[:3]).isfinite().all()


def test_beyond_float32_in_training_is_no_trouble():
    x = np.random.default_rng(0).normal(size=(200, 1))
    x[7] = 1e39
    model = likely.fit(likely.GaussianMixture(LINE, components=2, starts=1), x)
    assert model.log_prob(x).isfinite().all()


def test_what_no_unit_holds_leaves_no_run(tmp_path):
    x = np.array([[1.7e308], [-1.7e308]] * 10)
    for model in (likely.GaussianMixture(LINE), likely.MAF(LINE)):
        with pytest.raises(likely.InputError, match="varies by more than float64 can hold"):
            likely.fit(model, x, out=tmp_path / "run", budget="2 steps")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("transform", "base"),
    [
        (Elementwise(Logit(), (2,)), Normal(PAIR)),
        (Inverse(Elementwise(Tanh(), (2,))), Normal(PAIR)),
        (Inverse(Elementwise(Softplus(), (2,))), Normal(PAIR)),
    ],
    ids=["logit", "tanh", "softplus"],
)
def test_draws_that_saturate_become_the_nearest_inside(transform, base):
    class Wide(type(base)):
        def _sample(self, n, context, generator):
            return 40 * super()._sample(n, context, generator)

    model = Flow(Wide(PAIR), [transform])
    x = model.sample(1000, generator=torch.Generator().manual_seed(0))
    low, high = model.support.low, model.support.high
    assert ((x > low) & (x < high)).all()
    assert model.log_prob(x).isfinite().all()
    z = 40 * torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)).double()
    exact, _ = transform.preimage(z)
    assert (x - exact).abs().max() < 1e-6 * max(1, float(exact.abs().max()))


def test_forward_still_refuses_what_saturates():
    flow = Flow(Uniform(PAIR), [Inverse(Elementwise(Logit(), (2,)))])
    with pytest.raises(likely.InputError, match="inside"):
        flow.log_prob(torch.full((1, 2), 50.0))


def test_a_regression_does_without_directions_of_no_size():
    """E[x | c] = c / 2: right at contexts beyond those seen, and the same alone as in a batch."""
    chance = np.random.default_rng(0)
    c = chance.normal(size=(4000, 1))
    x = c / 2 + 0.1 * chance.normal(size=(4000, 1))
    model = likely.fit(likely.AffineFlow(LINE, LINE), (x, c))
    truth = stats.norm(2.5, 0.1).logpdf(2.5)
    assert float(model.log_prob(np.array([[2.5]]), np.array([[5.0]])).detach()) == pytest.approx(truth, abs=1.0)
    together = model.log_prob(x[:50], c[:50])
    alone = torch.cat([model.log_prob(x[k : k + 1], c[k : k + 1]) for k in range(50)])
    assert torch.allclose(together, alone, atol=1e-4)
    seen = math.log(0.1) + 0.5 * math.log(2 * math.pi) + 0.5
    assert likely.evaluate(model, (x, c)).nats == pytest.approx(seen, abs=0.02)


@pytest.mark.parametrize("build", [likely.GaussianMixture, likely.AffineFlow], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("value", [-999999.0, 999.0])
def test_values_that_stand_for_missing_ones_are_named(build, value):
    x = np.random.default_rng(0).normal(size=(1000, 2))
    x[::200, 1] = value
    with pytest.warns(DataWarning, match=rf"^column 2: {value:g} in 5 of 1000 examples, far from all others"):
        likely.fit(build(PAIR), x)


def test_near_constant_columns_are_the_same_in_both_precisions():
    """1 ± 1e-9: float32 has no digits for it, and takes part all the same."""
    x = np.random.default_rng(0).normal([1.0, 0.0], [1e-9, 1.0], (1000, 2))
    truth = stats.norm([1.0, 0.0], [1e-9, 1.0]).logpdf(x).sum(1).mean()
    for build in (likely.AffineFlow, lambda event: likely.GaussianMixture(event, components=1)):
        single, double = (likely.fit(build(PAIR).to(dtype), x) for dtype in (torch.float32, torch.float64))
        found = [likely.evaluate(model, x).nats for model in (single, double)]
        assert found[0] == pytest.approx(found[1], abs=1e-3)
        assert found[1] == pytest.approx(-truth, abs=0.01)
