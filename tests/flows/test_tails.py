"""Heavy tails: every named flow of real values fits them as it is."""

import math

import pytest
import torch
from scipy import stats

import likely
from likely.catalogue import is_model
from likely.densities.bases import Normal
from likely.flows import Flow
from likely.flows.dequantization import preprocessing
from likely.flows.transforms.tails import StandardizeTails
from likely.runs.store import load, save

PAIR = likely.Event((2,))
SOURCES = {"lognormal": stats.lognorm(1.5), "Cauchy": stats.cauchy(3, 10)}
STEPS = {  # each a few seconds
    likely.AutoregressiveMixtureCDF: 200,
    likely.FFJORD: 5,
    likely.FlowPlusPlus: 60,
    likely.Glow: 30,
    likely.IAF: 30,
    likely.MAF: 30,
    likely.MixtureCDF: 30,
    likely.NICE: 30,
    likely.NeuralAutoregressiveFlow: 30,
    likely.NeuralSplineCoupling: 30,
    likely.NeuralSplineFlow: 30,
    likely.RealNVP: 30,
}


def drawn(name: str, n: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(SOURCES[name].rvs((n, 1), random_state=seed))


def both(n: int, seed: int) -> torch.Tensor:
    return torch.cat([drawn(name, n, seed) for name in SOURCES], 1)


def test_every_flow_of_real_values_is_here():
    named = [getattr(likely.flows, name) for name in likely.flows.__all__]
    flows = {value for value in named if is_model(value)}
    assert set(STEPS) == flows - {likely.AffineFlow}  # a Gaussian


@pytest.mark.parametrize("build", STEPS, ids=lambda cls: cls.__name__)
def test_heavy_tails_are_fitted_at_default_settings(build):
    """A lognormal of sigma 1.5 and a Cauchy distribution, side by side."""
    model = likely.fit(build(PAIR), both(4000, 0), budget=f"{STEPS[build]} steps")
    x = both(4000, 1)
    columns = zip(SOURCES.values(), x.T.numpy(), strict=True)
    truth = sum(torch.from_numpy(source.logpdf(column)) for source, column in columns)
    assert float((truth - model.log_prob(x).detach()).mean()) < 0.1


def started(x: torch.Tensor) -> StandardizeTails:
    transform = StandardizeTails(tuple(x.shape[1:]))
    transform.initialize(x)
    return transform


def test_tails_become_normal():
    z, ladj = started(both(4000, 0))(both(4000, 0))
    for column in z.T:
        assert stats.kstest(column.numpy(), stats.norm.cdf).statistic < 0.05
    expected = -sum(float(source.entropy()) for source in SOURCES.values())
    found = float((ladj - (z.double().square() / 2 + math.log(2 * math.pi) / 2).sum(1)).mean())
    assert found == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("where", [0.0, 1.0, 1e6])
def test_log_determinant_and_inverse(where):
    transform = started(torch.cat([drawn("lognormal", 500, 0), torch.randn(500, 1).double()], 1)).double()
    x = torch.tensor([[0.3 + where, -2.0]]).double()
    z, ladj = transform(x)
    jacobian = torch.func.jacrev(lambda row: transform.forward(row[None])[0][0])(x[0])
    assert ladj == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), abs=1e-9)
    back, other = transform.inverse(z)
    assert back == pytest.approx(x, rel=1e-12)
    assert other == pytest.approx(-ladj, abs=1e-9)


def test_light_tails_are_only_standardised(tmp_path):
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * 3 + 1
    transform = started(x)
    assert not transform.heavy.any()
    assert set(transform.state_dict()) == {"mean", "deviation", "initialized"}
    z, _ = transform(x)
    assert torch.allclose(z, (x - x.mean(0)) / x.std(0, correction=0), atol=1e-5)


def test_tails_are_saved(tmp_path):
    model = Flow(Normal(PAIR), preprocessing(PAIR))
    x = both(1000, 0)
    model.initialize(x)
    save(model, tmp_path / "run")
    assert torch.equal(load(tmp_path / "run").log_prob(x), model.log_prob(x))
    assert model.float().transforms[0].centre.dtype == torch.float64
