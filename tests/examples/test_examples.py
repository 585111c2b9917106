"""The experiments run, in a small way; and what they measure with is right."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from scipy import stats

import likely
from likely.data.real_sources import LinearGaussian, smiley
from likely.latent import importance_sampling
from likely.latent.inference import Inferred
from likely.latent.latent import draw_terms

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "experiments.md"
SHARED = {"baselines", "fitted_digits", "linear_gaussian"}  # what experiments import
QUICK = {  # experiment: arguments of its main, constants of its module
    "amortization_gap": ({"steps": 2}, {"EXAMPLES": 8, "STEPS": 2, "PARTS": 2, "PART": 3}),
    "coupling_masks": (
        {"steps": 2},
        {"TRAIN": 200, "FRESH": 50, "CELLS": 21, "LAYERS": 2, "SHOWN": 4, "KINDS": [("checkerboard", True)]},
    ),
    "effective_sample_size": ({"draws": 40}, {"DIMENSIONS": (1, 3, 16), "EXAMPLES": 5}),
    "ffjord_tolerance": ({"steps": 2, "points": 4}, {"TOLERANCES": [1e-2, 1e-6], "TRAIN": 100}),
    "gradient_variance": ({"steps": 2}, {"COUNTS": (2, 4), "ESTIMATES": 2, "BATCH": 2}),
    "growing_dimension": (
        {"steps": 2},
        {
            "DIMENSIONS": (2, 3),
            "KINDS": [("full", 1), ("diagonal", 2)],
            "PIXELS": (1, 2),
            **dict.fromkeys(("POINTS", "SYMBOLS", "FRESH", "DRAWN"), 100),
            "COMPONENTS": 3,
        },
    ),
    "importance_weighted_bound": ({"steps": 4}, {"COUNTS": (2, 4), "EXAMPLES": 3, "BLOCKS": 3, "DRAWS": 40}),
    "kl_two_ways": ({"steps": 2}, {"CELLS": 7, "FINE": 7, "TRAIN": 100, "FRESH": 50}),
    "latent_traversals": ({"steps": 2}, {"PAIRS": 2}),
    "posterior_collapse": (
        {"steps": 2},
        {
            **dict.fromkeys(("TRAIN", "FRESH"), 100),
            "DRAWS": 2,
            "SIZES": {"latent": 2, "hidden": 8, "channels": 2, "features": 2},
            "AIDS": {"neither": (0.0, 0.0), "both": (0.5, 4.0)},
        },
    ),
    "probabilistic_pca": ({"steps": 2}, {"EXAMPLES": 100, "FITTED": {1: (0, 0, 0), 2: (0, 0, 0)}}),
    "rate_distortion": ({"steps": 2}, {"BETAS": (0.5, 1.0), "DRAWS": 2}),
    "rounded_gaussians": ({"steps": 2}, {"TRAIN": 100, "FRESH": 50}),
    "universality": ({"steps": 2}, {"TRAIN": 100, "FRESH": 50}),
}


def experiment(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def as_if_run_as_a_script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", QUICK)
def test_it_runs(name, tmp_path, monkeypatch, capsys):
    module, (arguments, constants) = experiment(name), QUICK[name]
    for constant, value in constants.items():
        monkeypatch.setattr(module, constant, value)
    module.main(**arguments, out=tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 600
    assert "┃" in capsys.readouterr().out


@pytest.mark.parametrize("name", QUICK)
def test_it_is_on_the_page(name):
    assert f"python examples/{name}.py" in PAGE.read_text("utf-8")
    assert f"python examples/{name}.py" in experiment(name).__doc__


def test_every_experiment_is_tested():
    scripts = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert scripts - {"demo"} - SHARED == set(QUICK)


def test_the_entropy_from_neighbours_is_that_of_a_gaussian():
    points = torch.randn(5000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = experiment("kl_two_ways").entropy(points @ torch.tensor([[1.0, 0.0], [2.0, 0.5]]).double())
    assert abs(found - math.log(0.5 * 2 * math.pi * math.e)) < 4 * 5000**-0.5 * math.sqrt(1 + math.pi**2 / 6)


def test_the_quadrature_of_the_gap_is_its_closed_form():
    module = experiment("rounded_gaussians")
    for deviation in (0.3, 1.0, 10.0):
        source = module.RoundedGaussian(deviation)
        assert abs(module.gap_by_quadrature(source) - source.dequantization_gap() / math.log(2)) < 1e-9


def test_the_distance_of_kolmogorov():
    u = torch.rand(300, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 1.1
    assert abs(experiment("universality").kolmogorov(u) - stats.kstest(u.numpy(), "uniform").statistic) < 1e-12


@pytest.mark.parametrize("name", ["two Gaussians", "claw", "Gumbel"])
def test_the_densities_are_the_derivatives_of_their_distribution_functions(name):
    density = experiment("universality").DENSITIES[name]
    x = torch.linspace(-3, 6, 91, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(density.cdf(x).sum(), x)
    torch.testing.assert_close(density.log_prob(x).exp(), slope, atol=1e-12, rtol=1e-9)
    fresh = density.cdf(density.sample(2000, torch.Generator().manual_seed(0)))
    assert stats.kstest(fresh.detach().numpy(), "uniform").pvalue > 1e-3


def test_the_least_of_a_gaussian_is_its_entropy():
    module = experiment("coupling_masks")
    source = LinearGaussian(((0.5, 0.0), (0.4, 0.3)), (0.2, -0.1))
    assert abs(module.least(source) - source.entropy()) < 1e-9


def test_the_least_of_a_smiley_is_what_its_moments_say():
    module, source = experiment("coupling_masks"), smiley()
    x, y = source.sample(200_000, generator=torch.Generator().manual_seed(0)).T
    order = x.argsort()
    within = y[order].view(-1, 500).var(1)  # of y among neighbours in x, between which its mean hardly moves
    sampled = (math.log(2 * math.pi * math.e * x.var()) + (2 * math.pi * math.e * within).log().mean()) / 2
    assert abs(module.least(source) - sampled) < 0.02


def test_the_density_of_a_chain_is_that_of_its_noise():
    chain = experiment("growing_dimension").Chain(3)
    x = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    means = [0.0, math.sin(3 * x[0, 0]), math.sin(3 * x[0, 1])]
    assert float(chain.log_prob(x)) == pytest.approx(stats.norm.logpdf(x[0], means, 0.3).sum(), rel=1e-12)
    drawn = chain.log_prob(chain.sample(20_000, generator=torch.Generator().manual_seed(0)))
    assert abs(float(drawn.mean()) + chain.entropy()) < 4 * (3 / 2 / 20_000) ** 0.5


def test_the_distance_to_the_mean_is_that_of_a_chi_variable():
    module, dims = experiment("growing_dimension"), 16
    for covariance in ("full", "diagonal"):
        model = likely.GaussianMixture(likely.Event((dims,)), components=2, covariance=covariance).double()
        variances = torch.ones(2, dims) * torch.tensor([[4.0], [0.25]])
        means = torch.tensor([[0.0], [100.0]]).expand(2, dims)
        model.assign(torch.ones(2) / 2, means, variances if covariance == "diagonal" else variances.diag_embed())
        with torch.no_grad():
            found = module.distances(model, model.sample(20_000, generator=torch.Generator().manual_seed(0)))
        assert stats.kstest(found * dims**0.5, stats.chi(dims).cdf).pvalue > 1e-3


def test_neighbours_alike():
    noise = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    alike = experiment("growing_dimension").alike
    assert abs(alike(noise)) < 4 / (2000 * 56) ** 0.5
    assert alike(noise[:, :1].expand(-1, 64)) == pytest.approx(1.0)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_draws_from_the_posterior_say_the_evidence():
    module, w, noise = experiment("linear_gaussian"), randn(5, 3), 0.7
    x = 2 * randn(20, 5, seed=1)
    found = module.model_of(w, noise).log_prob(x)
    covariance = w @ w.T + noise**2 * torch.eye(5).double()
    expected = stats.multivariate_normal.logpdf(x, cov=covariance)
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-9, rtol=0.0)
    torch.testing.assert_close(module.evidence(w, noise).log_prob(x), found, atol=1e-9, rtol=0.0)


def test_the_second_moment_of_weights_is_an_integral():
    module = experiment("linear_gaussian")
    line = torch.linspace(-14, 14, 561, dtype=torch.float64)
    z = torch.cartesian_prod(line, line)
    factors, shift = randn(2, 2, 2), torch.tensor([[0.3, -0.5], [0.0, 0.0]], dtype=torch.float64)
    p, q = 0.3 * torch.eye(2) + 0.2 * factors[0] @ factors[0].T, torch.eye(2) + factors[1] @ factors[1].T
    for found, mean in zip(module.log_second_moment(shift, p, q), shift.double(), strict=True):
        logs = (stats.multivariate_normal.logpdf(z, m, c) for m, c in ((mean, p), ((0, 0), q)))
        log_p, log_q = map(torch.from_numpy, logs)
        integral = (2 * log_p - log_q).exp().sum() * (line[1] - line[0]) ** 2
        assert float(found.exp()) == pytest.approx(float(integral), rel=1e-6)
    assert torch.isinf(module.log_second_moment(shift, p, p / 2)).all()


def test_the_best_diagonal_has_the_least_divergence():
    module, w = experiment("importance_weighted_bound"), randn(6, 3)
    q, exact = module.best_diagonal(w), experiment("linear_gaussian").widened(w, module.NOISE)

    def divergence(scale):
        parts = (
            torch.distributions.MultivariateNormal(torch.zeros(3).double(), scale_tril=s) for s in (scale, exact.scale)
        )
        return float(torch.distributions.kl_divergence(*parts))

    assert all(divergence(q.scale @ (1 + 0.05 * randn(3, seed=k)).diag()) > divergence(q.scale) for k in range(20))


def test_moments_of_an_encoder_with_a_network_are_those_of_its_draws():
    module, w = experiment("importance_weighted_bound"), randn(6, 3)
    source = experiment("linear_gaussian").evidence(w, module.NOISE)
    x = source.sample(500, generator=torch.Generator().manual_seed(0))
    q, rows = module.trained(w, 300, x), x[:2]
    model = experiment("linear_gaussian").model_of(w, module.NOISE)
    with torch.no_grad():
        log_w = draw_terms(model, rows, 200_000, torch.Generator().manual_seed(0), q).log_weight
        squares = (2 * (log_w - source.log_prob(rows))).exp()
        found = module.moments(q, rows, w).exp()
    assert ((squares.mean(0) - found).abs() < 4 * squares.std(0) / len(squares) ** 0.5).all()


def test_the_slope_and_its_error():
    module = experiment("importance_weighted_bound")
    counts, rounds = torch.tensor(module.COUNTS).double(), 200
    slope, error = module.slope_and_error((3 / counts).expand(20, -1))
    assert slope == pytest.approx(-1, abs=1e-12)
    assert error == pytest.approx(0, abs=1e-12)
    noisy = 3 / counts * (1 + 0.1 * randn(rounds, 20, len(counts)))
    slopes, errors = torch.tensor([module.slope_and_error(found) for found in noisy]).T
    assert abs(slopes.mean() + 1) < 4 * slopes.std() / rounds**0.5
    assert float(errors.mean()) == pytest.approx(float(slopes.std()), rel=0.2)


def test_a_bound_from_the_posterior_is_the_evidence():
    module, linear = experiment("amortization_gap"), experiment("linear_gaussian")
    w, x = torch.linalg.qr(randn(4, 4))[0], randn(7, 4, seed=1)
    gain, covariance = linear.posterior(w, 0.5)
    q = Inferred(torch.zeros(7), torch.zeros(7), x @ gain.T, covariance.diagonal().sqrt().expand(7, -1))
    found = module.bound(linear.model_of(w, 0.5), x, q, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, linear.evidence(w, 0.5).log_prob(x), atol=1e-9, rtol=0.0)


def test_the_divergence_of_every_latent_value_adds_up():
    module, x = experiment("latent_traversals"), randn(6, 5)
    model = likely.VAE(likely.Event((5,)), latent=3, hidden=(4,)).double()
    model.encoder.mean.fill_(0.3)
    model.encoder.deviation.fill_(0.6)
    kl = module.kl_by_value(model, x)
    drawn = importance_sampling(model, x, 20_000, generator=torch.Generator().manual_seed(0)).terms["KL"].mean()
    assert float(kl.sum()) == pytest.approx(float(drawn), abs=0.02)


def test_the_maximum_is_that_of_probabilistic_pca():
    module, x = experiment("probabilistic_pca"), randn(100, 6) @ randn(6, 6, seed=1)
    covariance = torch.cov(x.T, correction=0)
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    best, s = module.maximum(eigenvalues.flip(0), 2)
    w = vectors[:, -2:] * (eigenvalues[-2:] - s**2).sqrt()
    centred = x - x.mean(0)

    def mean(w, s):
        return stats.multivariate_normal.logpdf(centred, cov=w @ w.T + s**2 * torch.eye(6)).mean()

    assert best == pytest.approx(mean(w, s), abs=1e-9)
    assert all(mean(w + 0.1 * randn(6, 2, seed=k), s) < best for k in range(10))


def test_what_is_decoded_is_what_is_drawn():
    module = experiment("probabilistic_pca")
    model = module.linear_vae(2)
    model.initialize(3 * randn(50, module.DIMS))
    eigenvalues, s = module.decoded(model)
    drawn = model.sample(50_000, generator=torch.Generator().manual_seed(0)).detach()
    expected = torch.linalg.eigvalsh(torch.cov(drawn.T)).flip(0)
    torch.testing.assert_close(eigenvalues, expected, rtol=0.05, atol=0.0)
    assert s**2 == pytest.approx(float(eigenvalues[2:].mean()))


def test_outlines_are_one_deviation_from_the_mean():
    module = experiment("posterior_collapse")
    model = module.isotropic_vae()
    model.initialize(randn(100, 2).float() * torch.tensor([5.0, 1.0]))
    around, z = module.outlines(model), torch.linspace(-1.5, 1.5, 7)[:, None]
    with torch.no_grad():
        at_mean = model.decoder.log_prob(around[:, :-1].mean(1), z)
        for place in range(0, 60, 7):
            torch.testing.assert_close(model.decoder.log_prob(around[:, place], z), at_mean - 0.5, atol=1e-4, rtol=0.0)
