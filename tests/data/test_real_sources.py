"""Real-valued sources against independent truth: quadrature by scipy, closed forms, Monte Carlo, counts."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from likely.data import BlurredArcs, Checkerboard, LinearGaussian, RoundedGaussian
from likely.data.generated import GENERATED, source_of
from likely.data.real_sources import eight_gaussians, moons, smiley, stretched_gaussian
from likely.errors import InputError

ARCS = {"moons": moons, "smiley": smiley, "eight-gaussians": eight_gaussians}
REAL = {**ARCS, "checkerboard": Checkerboard, "stretched": stretched_gaussian}
PPCA = ((1.0, 0.5), (-0.3, 2.0), (0.7, 0.1)), (1.0, 2.0, 3.0), 0.4


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def integrated(source, x):
    """ln p of one point, arc by arc, by scipy's adaptive quadrature around the highest point of the integrand."""
    parts = []
    for centre_x, centre_y, radius, start, end in source.arcs:

        def exponent(t, c=(centre_x, centre_y), r=radius):
            return -((x[0] - c[0] - r * np.cos(t)) ** 2 + (x[1] - c[1] - r * np.sin(t)) ** 2) / (2 * source.noise**2)

        grid = np.linspace(start, end, 20_001)
        top = exponent(grid).argmax()
        peak = exponent(grid)[top]
        steps = [grid[top] + sign * width for sign in (-1, 1) for width in (1e-3, 1e-2, 0.1, 0.5)]
        edges = sorted({start, end, grid[top], *np.clip(steps, start, end)})
        pieces = [
            quad(lambda t, f=exponent, p=peak: np.exp(f(t) - p), low, high, epsabs=0, epsrel=1e-11)[0]
            for low, high in pairwise(edges)
        ]
        parts.append(peak + math.log(sum(pieces)) - math.log(end - start) - math.log(2 * math.pi * source.noise**2))
    return np.logaddexp.reduce(parts) - math.log(len(parts))


@pytest.mark.filterwarnings("ignore:The occurrence of roundoff error")
@pytest.mark.parametrize("name", list(ARCS))
def test_the_integral_over_the_arc(name):
    source = ARCS[name]()
    points = [
        (0.0, 0.0),
        (1e-30, 0.0),
        (1.0, 0.5),
        (0.3, -0.2),
        (0.0, -3.0),
        (0.0, 4.0),
        (30.0, -50.0),
        (-900.0, 900.0),
    ]
    found = source.log_prob(torch.tensor(points, dtype=torch.float64))
    for point, value in zip(points, found.tolist(), strict=True):
        assert value == pytest.approx(integrated(source, point), rel=1e-12, abs=1e-9)


def test_the_integral_is_right_very_far_out():
    """Beside an arc, ln p → −(ρ − r)² / 2s² + ½ ln(2π s² / ρ r) − ln(arc) − ln 2πs² (Laplace), up to O(1 / κ)."""
    source = BlurredArcs(((0.0, 0.0, 2.0, 0.0, math.pi),), 0.1)
    x = torch.tensor([[0.0, 1e6]], dtype=torch.float64)
    curve = 0.5 * math.log(2 * math.pi * 0.01 / 2e6) - math.log(math.pi) - math.log(2 * math.pi * 0.01)
    assert float(source.log_prob(x)) + (1e6 - 2) ** 2 / 0.02 == pytest.approx(curve, abs=0.01)  # of 5e13


@pytest.mark.parametrize("name", list(ARCS))
def test_entropy_by_quadrature_over_other_points(name):
    source = ARCS[name]()
    step = 0.0371 if name == "moons" else 0.0731  # the narrow ends of its arcs
    line = torch.arange(-6.0, 6.0, step, dtype=torch.float64)
    log_p = source.log_prob(torch.cartesian_prod(line + 0.3, line + 1.2))
    assert float(log_p.exp().sum()) * step**2 == pytest.approx(1, abs=1e-9)
    assert -float((log_p.exp() * log_p).sum()) * step**2 == pytest.approx(source.entropy(), abs=1e-7)


def test_stated_entropies():
    assert moons().entropy() == pytest.approx(1.0076, abs=5e-5)
    assert smiley().entropy() == pytest.approx(1.4121, abs=5e-5)
    assert Checkerboard().entropy() == pytest.approx(2.0794, abs=5e-5)
    assert stretched_gaussian().entropy() == pytest.approx(4.4473, abs=5e-5)
    assert stretched_gaussian(turned=True).entropy() == pytest.approx(4.4473, abs=5e-5)
    apart = math.log(8) + math.log(2 * math.pi * math.e * 0.2**2)  # if the blobs did not overlap at all: 1.6984
    assert 0 < apart - eight_gaussians().entropy() < 5e-4


def test_eight_gaussians_entropy_by_the_chain_rule():
    """H(X) = H(blob) + H(X | blob) − H(blob | X), whose last term is small and has a small standard error."""
    source = eight_gaussians()
    x = source.sample(200_000, generator=seeded(4))
    distance = torch.cdist(x, source.table[:, :2]).square() / (2 * 0.2**2)
    log_posterior = (-distance).log_softmax(1)
    unsure = -(log_posterior.exp() * log_posterior).sum(1)
    expected = math.log(8) + math.log(2 * math.pi * math.e * 0.04) - float(unsure.mean())
    assert abs(expected - source.entropy()) < 4 * float(unsure.std()) / len(x) ** 0.5


@pytest.mark.parametrize("name", list(GENERATED))
def test_entropy_by_monte_carlo(name):
    source, n = source_of(f"{name}:test"), 40_000
    nats = -source.log_prob(source.sample(n, generator=seeded(1)))
    assert nats.dtype == torch.float64
    assert abs(nats.mean() - source.entropy()) <= 4 * nats.std() / math.sqrt(n) + 1e-14


@pytest.mark.parametrize("name", list(REAL))
def test_samples_follow_the_density(name):
    """χ² over a grid of cells that hold at least 20 expected samples, the rest in one; at 5 standard deviations."""
    source, n, step, reach = REAL[name](), 100_000, 0.25, 20.0 if name == "stretched" else 5.0
    x = source.sample(n, generator=seeded(2))
    assert x.dtype == torch.float64
    fine = (torch.arange(4, dtype=torch.float64) + 0.5) / 4 * step
    edges = torch.arange(-reach, reach, step, dtype=torch.float64)
    points = (edges[:, None] + fine).flatten()
    p = source.log_prob(torch.cartesian_prod(points, points)).exp().view(len(edges), 4, len(edges), 4)
    expected = n * p.mean((1, 3)).flatten() * step**2
    cell = ((x + reach) / step).floor().long().clamp(0, len(edges) - 1)
    counts = torch.bincount(cell[:, 0] * len(edges) + cell[:, 1], minlength=len(expected)).double()
    often = expected >= 20
    counts = torch.cat([counts[often], counts[~often].sum(0, keepdim=True)])
    expected = torch.cat([expected[often], n - expected[often].sum(0, keepdim=True)])
    filled = expected > 1e-6 * n
    chi = ((counts - expected)[filled].square() / expected[filled]).sum()
    freedom = int(filled.sum()) - 1
    assert chi < freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("arguments", [PPCA, (((5.0, 0.0), (0.0, 1.0)), (1.0, 2.0)), (((3.0,),), (-1.0,))])
def test_linear_gaussian_is_scipys(arguments):
    source = LinearGaussian(*arguments)
    w = np.array(source.weight)
    reference = multivariate_normal(source.bias, w @ w.T + source.noise**2 * np.eye(len(w)))
    x = source.sample(500, generator=seeded(3))
    assert np.allclose(source.log_prob(x), reference.logpdf(x.numpy()), atol=1e-10, rtol=1e-10)
    assert source.entropy() == pytest.approx(reference.entropy(), abs=1e-10)


def test_linear_gaussian_samples_have_its_covariance():
    source, n = LinearGaussian(*PPCA), 100_000
    w = torch.tensor(source.weight, dtype=torch.float64)
    covariance = w @ w.T + source.noise**2 * torch.eye(3)
    found = source.sample(n, generator=seeded(5)).T.cov()
    spread = ((covariance.diagonal()[:, None] * covariance.diagonal() + covariance**2) / n).sqrt()
    assert ((found - covariance).abs() < 5 * spread).all()


@pytest.mark.parametrize("deviation", [0.05, 0.3, 1.0, 10.0])
def test_rounded_gaussian_is_the_difference_of_the_distribution_function(deviation):
    source = RoundedGaussian(deviation, dims=2)
    k = (source.event.levels - 1) // 2
    symbols = np.arange(-k, k + 1)
    with np.errstate(under="ignore"):
        p = norm.cdf(-np.abs(symbols) + 0.5, scale=deviation) - norm.cdf(-np.abs(symbols) - 0.5, scale=deviation)
    x = torch.arange(2 * k + 1)[1:-1, None].expand(-1, 2)
    assert np.allclose(source.log_prob(x), 2 * np.log(p[1:-1]), rtol=1e-10)
    every = torch.cartesian_prod(torch.arange(2 * k + 1), torch.arange(2 * k + 1))
    log_p = source.log_prob(every)
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-12)
    assert -float(torch.xlogy(log_p.exp(), log_p.exp()).sum()) == pytest.approx(source.entropy(), abs=1e-10)


def test_the_price_of_uniform_dequantisation():
    """A Gaussian over x + u, with the moments of x + u, by quadrature over u: E[−ln N(x + u)] − H."""
    for deviation, bits in [(0.3, 0.2554), (1.0, 0.0535)]:
        source = RoundedGaussian(deviation)
        p, u = source.table, (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
        y = torch.arange(len(p), dtype=torch.float64)[:, None] + u
        weight = p[:, None] / len(u)
        mean = (weight * y).sum()
        variance = (weight * (y - mean) ** 2).sum()
        nats = (weight * ((y - mean) ** 2 / (2 * variance) + 0.5 * (2 * math.pi * variance).log())).sum()
        assert source.dequantization_gap() == pytest.approx(float(nats) - source.entropy(), abs=1e-5)
        assert source.dequantization_gap() / math.log(2) == pytest.approx(bits, abs=5e-5)


def test_equal_generators_give_equal_samples():
    for build in (*REAL.values(), lambda: LinearGaussian(*PPCA), lambda: RoundedGaussian(1.0)):
        a, b, c = (build().sample(50, generator=seeded(s)) for s in (1, 1, 2))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@pytest.mark.parametrize(
    "build",
    [
        lambda: BlurredArcs((), 0.1),
        lambda: BlurredArcs(((0.0, 0.0, -1.0, 0.0, 1.0),), 0.1),
        lambda: BlurredArcs(((0.0, 0.0, 1.0, 1.0, 1.0),), 0.1),
        lambda: BlurredArcs(((0.0, 0.0, 1.0, 0.0, 1.0),), 0.0),
        lambda: LinearGaussian(((1.0, 0.0),), (1.0, 2.0)),
        lambda: LinearGaussian(((1.0,), (2.0,)), (1.0, 2.0)),
        lambda: RoundedGaussian(0.0),
    ],
)
def test_bad_arguments_are_refused(build):
    with pytest.raises(InputError, match=r"expected, found"):
        build()
