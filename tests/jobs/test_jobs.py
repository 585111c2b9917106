"""Evaluate and generate, against enumeration."""

import itertools
import math

import pytest
import torch

import likely
from likely.data import Ising, RoundedGaussian
from likely.density import Autoregressive
from likely.distributions import Bernoulli
from likely.flows import Composition
from likely.jobs.evaluate import negative_log_likelihood

EVENT = likely.Event((1, 2, 3), levels=2)


def redrawn(model, scale=1.0):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.double()


def space(event):
    return torch.tensor(list(itertools.product(*map(range, event.alphabets)))).view(-1, *event.shape)


def g_test(counts, probabilities):
    """p-value of the likelihood-ratio test that counts were drawn with these probabilities."""
    expected = probabilities * counts.sum()
    g = 2 * torch.special.xlogy(counts, counts / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2), g / 2))


def test_every_unit_of_a_report():
    model = redrawn(likely.MADE(EVENT, hidden=(8,)))
    x = model.sample(50, generator=torch.Generator().manual_seed(0))
    report = likely.evaluate(model, x, batch_size=7)
    nats = -model.log_prob(x).detach()
    assert report.n == 50
    assert report.dims == 6
    assert report.nats == pytest.approx(float(nats.mean()))
    assert report.nats_per_dim == pytest.approx(float(nats.mean()) / 6)
    assert report.bits_per_dim == pytest.approx(float(nats.mean()) / 6 / math.log(2))
    assert report.standard_error == pytest.approx(float(nats.std()) / 50**0.5)
    assert report.bits_per_dim_standard_error == pytest.approx(report.standard_error / 6 / math.log(2))
    assert report.kind == "exact"
    assert report.gap is None


def test_the_gap_is_the_divergence_from_the_source():
    source = Ising(2, 0.7)
    model = redrawn(likely.MADE(source.event, hidden=(8,)), 0.3)
    x = space(source.event)
    with torch.no_grad():
        exact = float((source.log_prob(x).exp() * (source.log_prob(x) - model.log_prob(x))).sum())
    draws = source.sample(20_000, generator=torch.Generator().manual_seed(0))
    report = likely.evaluate(model, draws, source=source)
    terms = negative_log_likelihood(model, draws) - negative_log_likelihood(source, draws)
    assert abs(report.gap - exact) < 4 * float(terms.std()) / len(draws) ** 0.5


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_tempered_samples_follow_the_tempered_conditionals(temperature):
    model = redrawn(likely.MADE(EVENT, hidden=(8,)), 0.7)
    x = space(EVENT)
    with torch.no_grad():
        tempered = model.conditionals(x).tempered(temperature).log_prob(x).flatten(1).sum(1).exp()
    draws = likely.sample(model, 20_000, temperature=temperature, generator=torch.Generator().manual_seed(0))
    assert float(tempered.sum()) == pytest.approx(1)
    assert g_test(frequencies(draws), tempered) > 1e-4


def frequencies(x):
    flat = x.flatten(1)
    index = (flat * 2 ** torch.arange(flat.shape[1]).flip(0)).sum(1)
    return torch.bincount(index, minlength=2 ** flat.shape[1]).double()


class Copies(Autoregressive):
    """x is its context, in every ordering."""

    orders = 3

    def _conditionals(self, x, context, order):
        return Bernoulli(100.0 * (2 * context - 1)[..., None])

    def _steps(self, n, context, order):
        return (yield (slice(None),), self._conditionals(None, context, order))


def test_examples_of_several_orderings_have_their_own_contexts():
    context = torch.randint(2, (50, 3), generator=torch.Generator().manual_seed(0))
    model = Copies(likely.Event((3,), levels=2), likely.Event((3,), levels=2))
    assert torch.equal(model.sample(50, context, generator=torch.Generator().manual_seed(1)), context)


@pytest.mark.parametrize("orderings", [1, 3])
def test_infilling_draws_from_the_exact_conditional(orderings):
    """With several orderings this holds only if they are weighed by their posterior."""
    torch.manual_seed(0)
    model = redrawn(likely.MADE(EVENT, hidden=(8,), orderings=orderings))
    model.ordering[1:] = torch.tensor([[1, 0, 2, 5, 4, 3], [2, 1, 0, 4, 3, 5]])[: orderings - 1]  # the top row first
    observed = torch.tensor([1, 0, 1])
    x = torch.zeros(30_000, 1, 2, 3, dtype=torch.int64)
    x[:, 0, 0] = observed
    filled = likely.infill(model, x, "top", generator=torch.Generator().manual_seed(0))
    assert filled.exact
    assert (filled.x[:, 0, 0] == observed).all()
    every = space(EVENT)
    every = every[(every[:, 0, 0] == observed).all(1)]
    with torch.no_grad():
        conditional = model.log_prob(every).softmax(0)
    assert g_test(frequencies(filled.x[:, 0, 1]), conditional) > 1e-4


def test_infilling_says_when_it_is_not_exact():
    model = redrawn(likely.MADE(EVENT, hidden=(8,)))
    x = torch.ones(4, 1, 2, 3, dtype=torch.int64)
    mask = torch.tensor([[[True, False, True], [True, True, True]]])
    filled = likely.infill(model, x, mask)
    assert not filled.exact
    assert (filled.x[:, mask] == 1).all()
    assert likely.infill(model, x, torch.ones(1, 2, 3, dtype=torch.bool)).exact
    independent = likely.IndependentPixels(EVENT)
    assert likely.infill(independent, x, mask).exact


def test_hidden_values_may_be_anything():
    model = redrawn(likely.MADE(EVENT, hidden=(8,)))
    x = torch.full((2, 1, 2, 3), torch.nan)
    x[:, :, 0] = 1.0
    assert likely.infill(model, x, "top").x.shape == (2, 1, 2, 3)
    with pytest.raises(likely.InputError, match="found nan"):
        likely.infill(model, x, "left")


def test_the_same_noise_gives_the_same_samples():
    model = redrawn(likely.MADE(EVENT, hidden=(8,)))
    noise = torch.rand(10, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = likely.sample_from_noise(model, noise)
    with torch.no_grad():
        again = model.conditionals(x).quantile(noise)
    assert torch.equal(x, again)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_temperatures(temperature):
    with pytest.raises(likely.InputError, match="temperature"):
        likely.sample(likely.MADE(EVENT), 3, temperature=temperature)


@pytest.mark.parametrize("bad", [1.0, -0.1, math.nan, torch.zeros(2, 4), torch.zeros(2, 2), torch.zeros(0, 3)])
def test_bad_noise(bad):
    model = likely.MADE(likely.Event((3,), levels=2), hidden=(4,))
    noise = bad if isinstance(bad, torch.Tensor) else torch.full((2, 3), bad)
    with pytest.raises(likely.InputError, match="noise"):
        likely.sample_from_noise(model, noise)
    with pytest.raises(likely.InputError, match="order"):
        likely.sample_from_noise(model, torch.zeros(2, 3), order=1)


def test_importance_samples_tighten_the_bound_in_order():
    """L_1 ≤ L_4 ≤ … ≤ ln P of a Gaussian over dequantised symbols, where P is a difference of its CDF."""
    source = RoundedGaussian(0.3)
    model = likely.AffineFlow(source.event).double()
    model.estimate(source.sample(5000, generator=torch.Generator().manual_seed(0)))
    x = source.sample(3000, generator=torch.Generator().manual_seed(1))
    transform = model.transform
    with torch.no_grad():
        edges = torch.arange(source.event.levels + 1, dtype=torch.float64)[:, None] / source.event.levels
        z = Composition(list(transform)[1:])(edges)[0][:, 0]
    cumulated = torch.special.ndtr(z)
    cumulated[0], cumulated[-1] = 0, 1  # the ends own what lies beyond, which no dequantised value reaches
    exact = cumulated.diff().log()[x[:, 0]]
    bounds = [
        -negative_log_likelihood(
            model, x, importance_samples=k, batch_size=700, generator=torch.Generator().manual_seed(2)
        )
        for k in (1, 4, 32, 256)
    ]
    inner = ((x[:, 0] > 0) & (x[:, 0] < source.event.levels - 1)).nonzero()[:, 0]
    means = [float(bound[inner].mean()) for bound in bounds]
    assert means == sorted(means)
    last = (exact - bounds[-1])[inner]
    assert -4 * float(last.std()) / len(inner) ** 0.5 < float(last.mean()) < 0.01
    assert float((exact - bounds[0])[inner].mean()) > 0.05


def test_the_gap_of_one_draw_is_what_dequantization_costs():
    """Of the affine flow on rounded Gaussians: ln P less the mean of ln p(x + u), both by quadrature over u."""
    source = RoundedGaussian(0.3)
    model = likely.AffineFlow(source.event).double()
    model.estimate(source.sample(5000, generator=torch.Generator().manual_seed(0)))
    x = source.sample(2000, generator=torch.Generator().manual_seed(1))
    report = likely.evaluate(model, x, importance_samples=256)
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    symbols, places = x[:, 0].unique(return_inverse=True)
    values = ((symbols[:, None] + u) / source.event.levels).view(-1, 1)
    with torch.no_grad():
        z, ladj = Composition(list(model.transform)[1:])(values)
        log_p = (model.base.log_prob(z) + ladj).view(len(symbols), -1) - math.log(source.event.levels)
    expected = (log_p.logsumexp(1) - math.log(1000) - log_p.mean(1))[places].mean()
    terms = report.terms
    assert terms["gap of one draw"] == pytest.approx(float(expected), abs=0.01)
    assert terms["gap of one draw"] == pytest.approx(terms["importance weighted"] - terms["elbo"])
    assert report.nats == -terms["importance weighted"]
    assert "gap of one draw" not in likely.evaluate(model, x).terms


def test_importance_samples_that_do_nothing_are_refused():
    model = redrawn(likely.MADE(EVENT, hidden=(8,)))
    x = model.sample(4)
    with pytest.raises(likely.InputError, match="MADE's log p is exact"):
        likely.evaluate(model, x, importance_samples=2)
    with pytest.raises(likely.InputError, match="at least 1"):
        likely.evaluate(model, x, importance_samples=0)
    assert likely.evaluate(model, x).importance_samples == 1


def test_errors_name_the_place_in_all_of_the_data():
    """Not in a batch, nor in what is left after some are held out."""
    model, x = likely.MAF(likely.Event((2,)), layers=1, hidden=(4,)), torch.randn(400, 2)
    x[300, 1] = math.nan
    for job in (lambda: likely.evaluate(model, x), lambda: likely.fit(model, x, budget="1 steps")):
        with pytest.raises(likely.InputError, match=r"found nan at index \(300, 1\)"):
            job()
