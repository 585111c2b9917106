"""The experiments run, in a small way; and what they measure with is right."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from scipy import stats

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "experiments.md"
QUICK = {  # experiment: arguments of its main, constants of its module
    "ffjord_tolerance": ({"steps": 2, "points": 4}, {"TOLERANCES": [1e-2, 1e-6], "TRAIN": 100}),
    "gradient_variance": ({"steps": 2}, {"COUNTS": (2, 4), "ESTIMATES": 2, "BATCH": 2}),
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
