"""GaussianMixture and AffineFlow's estimates against scipy, scikit-learn, closed forms and quadrature."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as Reference

import likely
from likely.classical.expectation_maximization import expectation_maximization, k_means_start, maximize
from likely.data import load, source_of
from likely.nn.moments import location_and_scale, whitening
from likely.runs import store

VECTOR = likely.Event((3,))
KINDS = {"full": "full", "diagonal": "diag"}  # ours: scikit-learn's


def gaussian(rows, x):
    """ln of the most likely Gaussian over some rows at x, in units in which scipy can invert its covariance."""
    scale = rows.std(0, correction=0)
    rows, x = (rows / scale).numpy(), (x / scale).numpy()
    return multivariate_normal(rows.mean(0), np.cov(rows.T, bias=True)).logpdf(x) - float(scale.log().sum())


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clusters(n=600, seed=0):
    """Three stretched clusters in three dimensions, in units of very different size."""
    x = torch.randn(n, 3, generator=seeded(seed), dtype=torch.float64)
    which = torch.arange(n) % 3
    turn = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -0.7], [0.3, 0.0, 0.4]], dtype=torch.float64)
    centres = torch.tensor([[0.0, 0.0, 0.0], [8.0, 0.0, 3.0], [-4.0, 7.0, 0.0]], dtype=torch.float64)
    return (x @ turn * (1 + which[:, None]) + centres[which]) * torch.tensor([1e-3, 1.0, 50.0]), which


def fitted(covariance="full", **settings):
    x, _ = clusters()
    model = likely.GaussianMixture(VECTOR, components=3, covariance=covariance, **settings).double()
    model.estimate(x, generator=seeded())
    return model, x


@pytest.mark.parametrize("covariance", KINDS)
def test_equal_parameters_give_the_likelihood_of_scikit_learn(covariance):
    x, _ = clusters()
    reference = Reference(4, covariance_type=KINDS[covariance], random_state=0, reg_covar=1e-12).fit(x.numpy())
    parameters = [torch.from_numpy(p) for p in (reference.weights_, reference.means_, reference.covariances_)]
    for estimated in (False, True):  # in the data's units, and in those that an estimate standardises to
        model = likely.GaussianMixture(VECTOR, components=4, covariance=covariance, floor=1e-12).double()
        if estimated:
            model.estimate(x, generator=seeded())
        model.assign(*parameters)
        expected = reference.score_samples(x.numpy())
        assert np.abs(model.log_prob(x).detach().numpy() - expected).max() <= 1e-8


@pytest.mark.parametrize("covariance", KINDS)
@pytest.mark.parametrize("floor", [1e-6, 0.05])
def test_expectation_maximisation_never_falls(covariance, floor):
    for seed in range(5):
        x = clusters(300, seed)[0]
        x = (x - x.mean(0)) / x.std(0)
        start = maximize(x, k_means_start(x, 6, seeded(seed)), covariance, floor)
        components, trace = expectation_maximization(x, start, floor, 200, 0.0)
        steps = np.diff(trace)
        assert len(steps) > 10
        assert steps.min() >= -1e-12
        assert float(components.log_joint(x).logsumexp(1).mean()) >= trace[-1] - 1e-12
        if covariance == "full":
            covariances = torch.linalg.inv(components.whitening.mT @ components.whitening)
            assert torch.linalg.eigvalsh(covariances).min() >= floor * (1 - 1e-6)


def test_a_step_is_the_maximum_of_what_it_maximises():
    """Q = Σ r_nk ln π_k N(x_n; k), whose gradient in weights, means and factors vanishes at the step."""
    x = clusters(200)[0]
    x = (x - x.mean(0)) / x.std(0)
    r = torch.rand(200, 3, generator=seeded(), dtype=torch.float64).softmax(1)
    step = maximize(x, r, "full", 1e-9)
    logits, means, w = (part.clone().requires_grad_() for part in step)
    q = (r * type(step)(logits.log_softmax(0), means, w).log_joint(x)).sum()
    gradients = torch.autograd.grad(q, (logits, means, w))
    assert max(float(g.tril().abs().max() if g.ndim == 3 else g.abs().max()) for g in gradients) < 1e-9


def test_the_floor_gives_the_most_likely_covariance_above_it():
    """Against a projected search over covariances with eigenvalues of at least the floor."""
    generator = seeded(1)
    a = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    s = a @ a.T @ torch.tensor([1.0, 1e-3, 1e-6, 0.5], dtype=torch.float64).diag() @ a @ a.T
    s = (s + s.T) / 2
    s = s @ s / s.square().sum().sqrt()  # symmetric, positive

    def score(covariance):
        return -0.5 * (torch.linalg.slogdet(covariance)[1] + torch.linalg.solve(covariance, s).trace())

    floor = 0.05
    w = whitening(s, floor)
    assert torch.equal(w, w.tril())
    best = torch.linalg.inv(w.T @ w)
    assert torch.linalg.eigvalsh(best).min() >= floor * (1 - 1e-9)
    for _ in range(300):
        step = torch.randn(4, 4, generator=generator, dtype=torch.float64)
        values, vectors = torch.linalg.eigh(best + 0.02 * (step + step.T))
        other = vectors @ values.clamp_min(floor).diag() @ vectors.T
        assert score(other) <= score(best)


@pytest.mark.parametrize("covariance", KINDS)
def test_as_likely_as_scikit_learn(covariance):
    model, x = fitted(covariance)
    reference = Reference(3, covariance_type=KINDS[covariance], tol=1e-7, max_iter=1000, n_init=5, random_state=0)
    scaled = (x - x.mean(0)) / x.std(0, correction=0)
    expected = reference.fit(scaled.numpy()).score(scaled.numpy()) - float(x.std(0, correction=0).log().sum())
    assert float(model.log_prob(x).mean().detach()) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("covariance", KINDS)
def test_it_integrates_to_one_and_samples_follow(covariance):
    event = likely.Event((2,))
    model = likely.GaussianMixture(event, components=4, covariance=covariance).double()
    model.estimate(load("moons", "train").x[:2000], generator=seeded())
    line = torch.linspace(-4, 5, 700, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        p = model.log_prob(grid).exp() * float(line[1] - line[0]) ** 2
    assert float(p.sum()) == pytest.approx(1, abs=1e-3)
    x = model.sample(50_000, generator=seeded(3))
    for power in (1, 2):
        for i in range(2):
            moment = float((p * grid[:, i] ** power).sum())
            drawn = x[:, i] ** power
            assert abs(float(drawn.mean()) - moment) < 4 * float(drawn.std()) / len(x) ** 0.5
    with torch.no_grad():
        entropy = -float(torch.xlogy(p, p / float(line[1] - line[0]) ** 2).sum())
        nats = -model.log_prob(x)
    assert abs(float(nats.mean()) - entropy) < 4 * float(nats.std()) / len(x) ** 0.5


def test_eight_gaussians_are_found():
    source, model = source_of("eight-gaussians"), likely.GaussianMixture(likely.Event((2,)))
    likely.fit(model, load("eight-gaussians", "train"))
    report = likely.evaluate(model, load("eight-gaussians", "test").x, source=source)
    assert -0.001 < report.gap < 0.004


def test_one_mixture_per_label():
    x, which = clusters()
    model = likely.GaussianMixture(VECTOR, likely.Event((), levels=3), components=1).double()
    model.estimate((x, which), generator=seeded())
    for label in range(3):
        expected = gaussian(x[which == label], x)
        found = model.log_prob(x, torch.full((len(x),), label)).detach().numpy()
        assert np.allclose(found, expected, rtol=1e-9, atol=1e-9)
    mixed = model.log_prob(x, which).detach()
    alone = torch.cat([model.log_prob(x[i : i + 1], which[i : i + 1]).detach() for i in range(9)])
    torch.testing.assert_close(mixed[:9], alone)
    drawn = model.sample(6000, which.repeat(10), generator=seeded())
    for label in range(3):
        rows, theirs = drawn[which.repeat(10) == label], x[which == label]
        assert ((rows.mean(0) - theirs.mean(0)).abs() < 5 * theirs.std(0) / len(rows) ** 0.5).all()
    with pytest.raises(likely.InputError, match="of label 3"):
        likely.GaussianMixture(VECTOR, likely.Event((), levels=4), components=1).estimate((x, which))


def test_gradient_steps_go_on_from_the_estimate(tmp_path):
    x = load("moons", "train").x[:4000]
    model = likely.GaussianMixture(likely.Event((2,)), components=8, iterations=3, starts=1)
    likely.fit(model, x, budget="300 steps", batch_size=500, learning_rate=1e-2, out=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / store.METRICS).read_text().splitlines()]
    judged = [line["valid_bits_per_dim"] for line in lines]
    assert lines[0]["step"] == 0
    assert min(judged) < judged[0] - 0.005
    again = likely.load(tmp_path / "run")
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    assert json.loads((tmp_path / "run" / store.CONFIG).read_text())["model"]["arguments"]["components"] == 8


def test_gradients_of_log_prob():
    model, x = fitted()
    names, values = zip(*model.named_parameters(), strict=True)

    def log_prob(*parameters):
        return torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (x[:5],))

    model.forward = model.log_prob
    assert torch.autograd.gradcheck(log_prob, values)


def test_repeated_rows_do_not_make_the_likelihood_unbounded():
    x = torch.randn(200, 3, generator=seeded(), dtype=torch.float64)
    x[:100] = x[0]
    model = likely.GaussianMixture(VECTOR, components=4, floor=1e-4).double()
    model.estimate(x, generator=seeded())
    bound = -0.5 * 3 * math.log(2 * math.pi * 1e-4) - float(x.std(0, correction=0).log().sum())
    assert float(model.log_prob(x).max().detach()) <= bound + 1e-6
    again = likely.GaussianMixture(VECTOR, components=4, floor=1e-4, starts=1, iterations=1)
    likely.fit(again, x.float(), budget="150 steps", learning_rate=0.3)
    assert float(again.log_prob(x.float()).max().detach()) <= bound + 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 1e6])
def test_values_far_out(dtype, size):
    model = likely.GaussianMixture(likely.Event((2, 2)), components=3).to(dtype)
    x = size * torch.tensor([[[1.0, -1.0], [0.5, 1.0]]], dtype=dtype)
    found = float(model.log_prob(x).detach())
    assert model.log_prob(x).dtype == dtype
    precise = float(model.double().log_prob(x.double()).detach())
    assert found == pytest.approx(precise, rel=1e-5)


def test_what_is_refused():
    x, which = clusters()
    with pytest.raises(likely.InputError, match="without bound on symbols"):
        likely.GaussianMixture(likely.Event((3,), levels=4))
    with pytest.raises(likely.InputError, match="one mixture per label"):
        likely.GaussianMixture(VECTOR, likely.Event((2,)))
    for bad in ({"components": 0}, {"floor": 0.0}, {"floor": 1.0}, {"tolerance": -1.0}):
        with pytest.raises(likely.InputError, match=next(iter(bad))):
            likely.GaussianMixture(VECTOR, **bad)
    model = likely.GaussianMixture(VECTOR, components=3)
    with pytest.raises(likely.InputError, match="need as many examples, found 2"):
        model.estimate(x[:2])
    with pytest.raises(likely.InputError, match="column 2 is 7 in all of 600 examples"):
        model.estimate(x * torch.tensor([1, 0, 1]) + torch.tensor([0, 7, 0]))
    with pytest.raises(likely.InputError, match="whole numbers"):
        model.estimate(which[:, None].expand(-1, 3))
    with pytest.raises(likely.InputError, match="finite"):
        model.log_prob(torch.full((1, 3), torch.nan))


def test_moments_are_numpys():
    x = clusters()[0] + 1e6
    mean, deviation = location_and_scale(x)
    assert np.allclose(mean, x.numpy().mean(0), rtol=1e-14)
    assert np.allclose(deviation, x.numpy().std(0), rtol=1e-9)
