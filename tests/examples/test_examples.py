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

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "experiments.md"
QUICK = {  # experiment: arguments of its main, constants of its module
    "coupling_masks": (
        {"steps": 2},
        {"TRAIN": 200, "FRESH": 50, "CELLS": 21, "LAYERS": 2, "SHOWN": 4, "KINDS": [("checkerboard", True)]},
    ),
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
    "kl_two_ways": ({"steps": 2}, {"CELLS": 7, "FINE": 7, "TRAIN": 100, "FRESH": 50}),
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
def same_threads():
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
    assert scripts - {"demo", "baselines"} == set(QUICK)


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
