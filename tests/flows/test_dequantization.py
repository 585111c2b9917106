"""Dequantisation by fitted noise: a density inside the cells, uniform at first; its bound, against what is bounded."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import likely
from likely.data.real_sources import RoundedGaussian
from likely.densities.bases import Normal
from likely.event import Event
from likely.flows import Affine, Composition, Elementwise, Flow
from likely.flows.dequantization import Dequantize, noise_for, preprocessing
from likely.flows.noise import SymbolNoise, UnitSpline, variational_noise
from likely.flows.transforms.coupling import Coupling
from likely.flows.transforms.standardization import LogitWithMargin, Standardize
from likely.nn.network import ResidualNetwork

EVENTS = {
    "one": Event((1,), levels=4),
    "single value": Event((), levels=4),
    "vector": Event((3,), levels=4),
    "table": Event((2,), levels=(3, 5)),
    "image": Event((1, 2, 3), levels=4),
    "line": Event((1, 1, 3), levels=4),
}


def moved(module, size=0.5, seed=0):
    """With every weight moved a little, in float64."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        inputs = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
        parameter.data += size * inputs**-0.5 * torch.randn(parameter.shape, generator=generator)
    return module.double()


def symbols(event, n, seed=0):
    """Random examples (n, *shape)."""
    u = torch.rand(n, *event.shape, generator=torch.Generator().manual_seed(seed))
    return (u * torch.tensor(event.alphabets).view(event.shape)).long()


def nodes(count):
    """Gauss–Legendre nodes inside (0, 1) and their weights, float64."""
    at, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy((at + 1) / 2), torch.from_numpy(weights / 2)


def test_a_spline_of_the_unit_interval():
    spline, theta = UnitSpline(), 2 * torch.randn(50, UnitSpline().count, dtype=torch.float64)
    x = torch.rand(50, dtype=torch.float64)
    z, ladj = spline.forward(x, theta)
    assert ((z > 0) & (z < 1)).all()
    back, inverse_ladj = spline.inverse(z, theta)
    torch.testing.assert_close(back, x, atol=1e-9, rtol=0)
    torch.testing.assert_close(inverse_ladj, -ladj, atol=1e-6, rtol=1e-6)
    slopes = torch.autograd.functional.jacobian(lambda v: spline.forward(v, theta)[0], x).diagonal()
    torch.testing.assert_close(ladj, slopes.log())
    ends = torch.tensor([1e-30, 1e-8, 1 - 2**-24]).expand(50, 3).reshape(-1)
    z, ladj = spline.forward(ends, theta.float().repeat_interleave(3, 0))
    assert ((z > 0) & (z < 1)).all()
    assert ladj.isfinite().all()
    for outside in (0.0, 1.0, math.nan):
        with pytest.raises(likely.InputError, match=r"inside \(0, 1\)"):
            spline.forward(torch.tensor([outside]), theta[:1].float())


NOISES = {"factorized": SymbolNoise, "variational": variational_noise}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("kind", EVENTS)
def test_noise_is_uniform_at_first(kind, noise):
    event = EVENTS[kind]
    x = symbols(event, 2000)
    u, log_q = NOISES[noise](event).draw(2000, x, generator=torch.Generator().manual_seed(0))
    assert u.shape == x.shape
    torch.testing.assert_close(log_q, torch.zeros(2000), atol=1e-5, rtol=0)
    counts = torch.histc(u, 10, 0, 1) / u.numel()
    assert (counts - 0.1).abs().max() < 5 * (0.09 / u.numel()) ** 0.5


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("kind", EVENTS)
def test_a_draw_of_noise_comes_with_its_density(kind, noise):
    event = EVENTS[kind]
    noise, x = moved(NOISES[noise](event), 1.0), symbols(event, 30)
    u, log_q = noise.draw(30, x, generator=torch.Generator().manual_seed(0))
    assert ((u > 0) & (u < 1)).all()
    torch.testing.assert_close(noise.log_prob(u, x), log_q, atol=1e-6, rtol=1e-6)
    assert log_q.std() > 0.1
    first, last = torch.zeros(1, *event.shape, dtype=torch.int64), symbols(event, 1, 3) * 0 + 2
    assert not torch.allclose(noise.log_prob(u[:1], first), noise.log_prob(u[:1], last))


@pytest.mark.parametrize("noise", NOISES)
def test_the_density_of_noise_integrates_to_one_for_every_symbol(noise):
    event = EVENTS["one"]
    noise = moved(NOISES[noise](event))
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    for symbol in range(4):
        with torch.no_grad():
            log_q = noise.log_prob(u[:, None], torch.full((20_000, 1), symbol))
        assert log_q.std() > 0.1
        assert abs(float(log_q.exp().mean()) - 1) < 1e-4


def small_flow(event, kind):
    """A flow over two symbols with random weights; images by convolutions."""
    conditioner = ResidualNetwork(4, 1) if len(event.shape) == 3 else None
    couplings = [Coupling(Affine(), event.shape, swapped=swapped, conditioner=conditioner) for swapped in (False, True)]
    start = [Dequantize(event.levels, noise_for(event, kind)), LogitWithMargin(0.05), Standardize(event.shape)]
    flow = Flow(Normal(Event(event.shape)), [*start, *couplings])
    flow.initialize(symbols(event, 200), generator=torch.Generator().manual_seed(1))
    return moved(flow, 0.2)


def log_probability(flow, x, count):
    """ln P(x) = ln ∫ p(x + u) du of examples (n, *shape), by quadrature."""
    dequantize, *others = flow.transforms
    at, weights = nodes(count)
    dims = x[0].numel()
    u, weight = torch.cartesian_prod(*[at] * dims), torch.cartesian_prod(*[weights] * dims).prod(1)
    found = []
    for row in x:
        z, ladj = Composition(others)((row + u.view(-1, *row.shape)) / dequantize.levels)
        log_p = flow.base.log_prob(z) + ladj - dims * math.log(dequantize.levels)
        found.append((log_p + weight.log()).logsumexp(0))
    return torch.stack(found)


@pytest.mark.parametrize("kind", ["uniform", "factorized", "variational"])
@pytest.mark.parametrize(("shape", "levels", "count"), [((2,), 3, 20), ((1, 2, 2), 2, 8)], ids=["vector", "image"])
def test_the_bound_is_below_and_unbiased_before_the_logarithm(kind, shape, levels, count):
    """E_q[p(x + u) / q(u | x)] = P(x) and E_q[ln p − ln q] ≤ ln P(x), for every state."""
    event, draws = Event(shape, levels=levels), 4000 // math.prod(shape)
    flow = small_flow(event, kind)
    states = torch.cartesian_prod(*[torch.arange(levels)] * event.dims).view(-1, *shape)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        exact = log_probability(flow, states, count)
        assert 0.1 < exact.exp().sum() < 1 + 1e-6
        repeated = states.repeat_interleave(draws, 0)
        weights = (flow.log_prob(repeated, generator=generator).view(-1, draws) - exact[:, None]).double()
    error = weights.exp().std(1) / draws**0.5
    assert ((weights.exp().mean(1) - 1).abs() < 5 * error).all()
    assert (weights.mean(1) < 5 * weights.std(1) / draws**0.5).all()
    assert weights.mean() < -0.01
    assert flow.kind == "lower bound"


def gap(noise, source, steps):
    """What a Gaussian with this noise pays above the entropy after a short fit, and its standard error, in bits."""
    shape = source.event.shape
    transforms = [Dequantize(source.event.levels, noise), Standardize(shape), Elementwise(Affine(), shape)]
    flow = Flow(Normal(Event(shape)), transforms)
    generator = torch.Generator().manual_seed(0)
    x, fresh = source.sample(20_000, generator=generator), source.sample(20_000, generator=generator)
    flow.initialize(x, generator=generator)
    if steps:
        likely.fit(flow, x, budget=f"{steps} steps", batch_size=256, learning_rate=1e-2, average=0.98)
    with torch.no_grad():
        excess = (source.log_prob(fresh) - flow.log_prob(fresh, generator=generator)).double() / math.log(2)
    return float(excess.mean()), float(excess.std()) / len(fresh) ** 0.5


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("deviation", [0.3, 1.0])
def test_fitted_noise_closes_the_gap_of_rounded_gaussians(deviation, kind):
    """The gap of uniform noise is known: at least four fifths of it are closed."""
    source = RoundedGaussian(deviation)
    known = source.dequantization_gap() / math.log(2)
    uniform, error = gap(None, source, 0)
    assert abs(uniform - known) < 5 * error + 1e-3
    closed, error = gap(NOISES[kind](source.event), source, 600 if kind == "factorized" else 300)
    assert -4 * error < closed < 0.2 * known


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("shape", [(2,), (1, 2, 2)], ids=str)
def test_the_loss_reaches_the_noise(shape, noise):
    event = Event(shape, levels=5)
    flow = Flow(Normal(Event(shape)), [*preprocessing(event, noise), Elementwise(Affine(), shape)])
    x = symbols(event, 64)
    flow.initialize(x)
    moved(flow).float()
    flow.loss(x).backward()
    unused = [name for name, p in flow.named_parameters() if p.numel() and (p.grad is None or not p.grad.any())]
    assert unused == []


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("kind", ["vector", "table", "image"])
def test_a_flow_with_fitted_noise_is_saved_whole(kind, noise, tmp_path):
    event = EVENTS[kind]
    flow = Flow(Normal(Event(event.shape)), preprocessing(event, noise))
    x = symbols(event, 50)
    flow.initialize(x)
    moved(flow).float()
    likely.save(flow, tmp_path / "run")
    again = likely.load(tmp_path / "run")
    log_probs = [model.log_prob(x, generator=torch.Generator().manual_seed(0)) for model in (flow.eval(), again)]
    assert torch.equal(*log_probs)


@pytest.mark.parametrize("levels", [0, -3, (3, 0)], ids=str)
def test_an_alphabet_has_symbols(levels):
    with pytest.raises(likely.InputError, match=r"levels must be at least 1, found (0|-3)"):
        Dequantize(levels)


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf])
def test_a_margin_is_positive(margin):
    with pytest.raises(likely.InputError, match="margin: a positive number is expected, found"):
        LogitWithMargin(margin)


@pytest.mark.parametrize("levels", [2, 256, 4096, 65536])
def test_uniform_noise_is_uniform(levels):
    """As its term says it is, up to the ends of the cells: no part of it sits on one value."""
    model = likely.MAF(Event((1,), levels), layers=1, hidden=(4,))
    x = torch.full((20_000, 1), levels - 1)
    model.initialize(torch.arange(levels)[:, None].double()[:: max(1, levels // 512)].long())
    first = model.transforms[0]
    z, ladj = first(x, None, torch.Generator().manual_seed(0))
    u = z.double() * levels - x
    assert stats.kstest(u[:, 0].numpy(), stats.uniform.cdf).pvalue > 1e-4
    assert len(u.unique()) > 19_000 or levels == 256
    assert float(u.max()) < 1
    assert torch.equal(first.inverse(z)[0], x)
    assert ladj == pytest.approx(-math.log(levels), rel=1e-6)
    assert model.log_prob(x[:5]).dtype == torch.float64


def test_no_bound_above_the_probability_of_many_levels():
    """Symbols 0 and 1 of 65,536, at equal frequency: at most −ln 2."""
    x = torch.arange(2)[:, None].repeat(1000, 1)
    model = likely.fit(likely.NeuralSplineFlow(Event((1,), 65536), layers=1, hidden=(4,)), x, budget="300 steps")
    bound = likely.evaluate(model, x, importance_samples=16).nats
    assert math.log(2) - 0.005 < bound
