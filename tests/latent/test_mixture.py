"""Mixtures against brute force, sums over an explicit latent, and what expectation maximisation promises."""

import itertools
import math

import pytest
import torch

import likely
from likely.classical import GaussianMixture, IndependentPixels
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal
from likely.density import run
from likely.errors import InputError
from likely.latent import LatentVariable, Mixture, MixtureOf, enumeration
from likely.latent.mixture import ExpectedCounts, expect, expectation_maximization, maximize, penalty, pseudo_counts
from likely.runs import store

TABLE = likely.Event((3,), (2, 3, 4))
STATES = torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4))
LABEL = likely.Event((), levels=2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clusters(n=400, seed=0):
    """A mixed table with three kinds of rows."""
    g = seeded(seed)
    kind = torch.randint(3, (n,), generator=g)
    noise = torch.stack([torch.randint(levels, (n,), generator=g) for levels in (2, 3, 4)], 1)
    centre = torch.tensor([[0, 0, 0], [1, 2, 1], [0, 1, 3]])[kind]
    return torch.where(torch.rand(n, 3, generator=g) < 0.3, noise, centre)


def by_hand(model, x, label=0):
    """Σ_k π_k ∏_i p_ki(x_i), one product at a time."""
    log_weights, log_tables = (part[label].exp().tolist() for part in model.products())
    total = 0.0
    for k in range(model.components):
        total += log_weights[k] * math.prod(log_tables[i][s][k] for i, s in enumerate(x.tolist()))
    return math.log(total)


def test_equals_brute_force_and_sums_to_one():
    model = Mixture(TABLE, LABEL, components=5).double()
    for label in range(2):
        log_prob = model.log_prob(STATES, torch.full((len(STATES),), label))
        expected = torch.tensor([by_hand(model, x, label) for x in STATES], dtype=torch.float64)
        assert (log_prob - expected).abs().max() < 1e-10
        assert abs(log_prob.exp().sum() - 1) < 1e-12


def explicit(model):
    """The same mixture with its component as a latent symbol."""
    which, (log_weights, log_tables) = likely.Event((), model.components), model.products()
    prior, decoder = IndependentPixels(which).double(), IndependentPixels(model.event, which).double()
    prior.table.copy_(log_weights.detach().exp().view_as(prior.table))
    decoder.table.copy_(log_tables[0].detach().exp().movedim(-1, 0))
    return LatentVariable(prior, decoder)


def test_equals_the_sum_over_an_explicit_latent():
    model = Mixture(TABLE, components=5).double()
    model.estimate(clusters(), generator=seeded())
    latent = explicit(model)
    assert (model.log_prob(STATES) - enumeration(latent, STATES).value).abs().max() < 1e-10
    z = torch.arange(5)
    for x, found in zip(STATES, model.responsibilities(STATES), strict=True):
        joint = latent.decoder.log_prob(x.expand(5, 3), z) + latent.prior.log_prob(z)
        assert (found - joint.softmax(0)).abs().max() < 1e-10  # Bayes' rule


def test_conditionals_are_ratios_of_marginals():
    model = Mixture(TABLE, components=4).double()
    joint = model.log_prob(STATES).exp().view(2, 3, 4)
    table = model.conditionals(STATES).table()
    for x, found in zip(STATES.tolist(), table, strict=True):
        expected = (
            joint.sum((1, 2)),
            joint[x[0]].sum(1) / joint[x[0]].sum(),
            joint[x[0], x[1]] / joint[x[0], x[1]].sum(),
        )
        for i, p in enumerate(expected):
            assert (found[i, : len(p)] - p).abs().max() < 1e-12
            assert not found[i, len(p) :].any()


def test_completes_what_is_observed_by_its_posterior():
    model = Mixture(TABLE, components=4).double()
    x = run(model.steps(4000), lambda where, p: torch.ones(4000).long() if where[1] < 2 else p.sample(seeded()))
    joint = model.log_prob(STATES).exp().view(2, 3, 4)[1, 1]
    found = x[:, 2].bincount(minlength=4) / 4000
    assert (found - joint / joint.sum()).abs().max() < 4 * 0.5 / math.sqrt(4000)


def test_expected_counts_are_gradients():
    """The gradient of Σ ln p(x) in ln π and ln p_ki(l) counts how often each is used."""
    model, x = Mixture(TABLE, components=3).double(), clusters(100)
    log_weights, log_tables = (part[0].detach().requires_grad_() for part in model.products())
    rows = torch.stack([log_tables[i, x[:, i]] for i in range(3)]).sum(0)
    score = (log_weights + rows).logsumexp(1).sum()
    gradients = torch.autograd.grad(score, (log_weights, log_tables))
    found, counts = expect(x, type(model.products())(log_weights.detach(), log_tables.detach()))
    assert abs(found - score) < 1e-9
    assert all((a - b).abs().max() < 1e-9 for a, b in zip(counts, gradients, strict=True))


@pytest.mark.parametrize("smoothing", [1e-3, 1.0, 30.0])
def test_expectation_maximisation_never_falls(smoothing):
    x = clusters()
    model = Mixture(TABLE, components=6)
    more = pseudo_counts(x, model.allowed.double(), smoothing)
    assert torch.allclose(more.sum((1, 2)), torch.full((3,), smoothing, dtype=torch.float64))
    for seed in range(4):
        belongs = torch.rand(len(x), 6, generator=seeded(seed), dtype=torch.float64).softmax(1)
        start = maximize(ExpectedCounts.of(x, belongs, 4), more)
        products, trace = expectation_maximization(x, start, more, 100, 0.0)
        steps = torch.tensor(trace).diff()
        assert len(steps) > 10
        assert steps.min() >= -1e-12
        assert abs((expect(x, products)[0] + penalty(products, more)) / len(x) - trace[-1]) < 1e-12


def test_a_step_is_the_maximum_of_what_it_maximises():
    """Q = Σ counts · ln parameters and the penalty, whose gradient within the simplices vanishes at the step."""
    x, g = clusters(100), seeded()
    more = pseudo_counts(x, Mixture(TABLE).allowed.double(), 0.5)
    belongs = torch.rand(100, 3, generator=g, dtype=torch.float64).softmax(1)
    counts = ExpectedCounts.of(x, belongs, 4)
    step = maximize(counts, more)
    logits, tables = (part.clone().requires_grad_() for part in step)
    log_weights, log_tables = logits.log_softmax(0), tables.log_softmax(1)
    usable = ~step.log_tables.isinf()
    q = (counts.components + 0.5) @ log_weights + ((counts.symbols + more) * log_tables)[usable].sum()
    gradients = torch.autograd.grad(q, (logits, tables))
    assert max(float(g[g.isfinite()].abs().max()) for g in gradients) < 1e-9


def test_one_component_is_independent_symbols():
    x, smoothing = clusters(), 2.0
    model = Mixture(TABLE, components=1, smoothing=smoothing).double()
    model.estimate(x, generator=seeded())
    for i, levels in enumerate((2, 3, 4)):
        counts = x[:, i].bincount(minlength=levels).double()
        spread = (counts + 1 / levels) / (len(x) + 1)
        expected = (counts + smoothing * spread) / (len(x) + smoothing)
        assert (model.products().log_tables[0, i, :levels, 0].exp() - expected).abs().max() < 1e-12


def test_finds_a_mixture_that_made_the_data():
    source = Mixture(TABLE, components=2).double()
    x = source.sample(20000, generator=seeded())
    model = Mixture(TABLE, components=2, smoothing=0.1, iterations=3000, tolerance=1e-8).double()
    model.estimate(x, generator=seeded())
    gap = source.log_prob(x) - model.log_prob(x)
    assert gap.mean() < 3 * gap.std() / math.sqrt(len(x))


def test_labels_have_mixtures_of_their_own():
    x, labels = clusters(), torch.arange(400) % 2
    x[labels == 1] = 0
    model = Mixture(TABLE, LABEL, components=3, smoothing=0.1)
    model.estimate((x, labels), generator=seeded())
    alone = Mixture(TABLE, components=3, smoothing=0.1)
    alone.estimate(x[labels == 1], generator=seeded())
    ones = torch.ones(len(STATES)).long()
    assert (model.log_prob(STATES, ones) - alone.log_prob(STATES)).abs().max() < 1e-4
    with pytest.raises(InputError, match="none of label 0"):
        model.estimate((x, labels * 0 + 1), generator=seeded())


def test_is_estimated_and_goes_on_only_with_a_budget(tmp_path):
    x = clusters()
    model = likely.fit(Mixture(TABLE, components=3), x, out=tmp_path / "run")
    again = Mixture(TABLE, components=3)
    again.estimate(x, generator=seeded(5))
    assert abs((model.log_prob(x) - again.log_prob(x)).mean()) < 0.02
    assert torch.equal(store.load(tmp_path / "run").log_prob(x), model.log_prob(x))
    on = likely.fit(Mixture(TABLE, components=3), x, budget="20 steps")
    assert not torch.equal(on.symbols, model.symbols)
    assert on.symbols.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event": likely.Event((2,))}, "real values"),
        ({"event": TABLE, "context": likely.Event((2,))}, "per label"),
        ({"event": TABLE, "components": 0}, "at least 1"),
        ({"event": TABLE, "smoothing": 0.0}, "smoothing: a positive number"),
        ({"event": TABLE, "smoothing": math.inf}, "smoothing: a positive number"),
        ({"event": TABLE, "tolerance": math.nan}, "tolerance: a finite number of at least 0"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        Mixture(**arguments)


# Mixtures of any densities


def test_a_mixture_of_densities_is_their_weighted_sum():
    parts = [IndependentPixels(TABLE), likely.MADE(TABLE, hidden=(8,)), Mixture(TABLE, components=2)]
    model = MixtureOf(parts).double()
    model.logits.data.copy_(torch.tensor([0.5, -1.0, 0.2]))
    weights = model.logits.softmax(0)
    expected = sum(w * part.log_prob(STATES).exp() for w, part in zip(weights, parts, strict=True))
    assert (model.log_prob(STATES) - expected.log()).abs().max() < 1e-10
    assert abs(model.log_prob(STATES).exp().sum() - 1) < 1e-10
    joint = torch.stack([part.log_prob(STATES) for part in parts], 1) + weights.log()
    assert (model.responsibilities(STATES) - joint.softmax(1)).abs().max() < 1e-10
    assert model.kind == "exact"


def test_samples_of_a_mixture_come_in_its_proportions():
    model = MixtureOf([Normal(likely.Event(())), likely.AffineFlow(likely.Event(()))])
    model.components[1].initialize(100 + torch.randn(50, generator=seeded()))
    model.logits.data.copy_(torch.tensor([0.8, 0.2]).log())
    x = model.sample(4000, generator=seeded())
    assert abs(float((x > 50).float().mean()) - 0.2) < 4 * 0.4 / math.sqrt(4000)
    assert (model.responsibilities(x).argmax(1) == (x > 50)).all()


def test_a_mixture_of_densities_is_fitted_and_saved(tmp_path):
    plane = likely.Event((2,))
    x = torch.randn(400, 2, generator=seeded()) + 4 * (torch.arange(400) % 2)[:, None]
    model = MixtureOf([likely.RealNVP(plane, layers=2, width=8, seed=k) for k in range(2)])
    before = model.log_prob(x).mean()
    likely.fit(model, x, budget="60 steps", out=tmp_path / "run")
    loaded = store.load(tmp_path / "run")
    assert isinstance(loaded, MixtureOf)
    assert torch.equal(loaded.log_prob(x), model.log_prob(x))
    assert model.log_prob(x).mean() > before
    with torch.no_grad():
        parts = [part.log_prob(x).mean() for part in model.components]
    assert model.log_prob(x).mean() >= max(parts) - math.log(2)


def test_a_mixture_with_a_bound_is_a_bound_and_differing_parts_are_refused():
    plane = likely.Event((2,))
    assert MixtureOf([likely.VAE(plane, latent=2, hidden=(8,)), Normal(plane)]).kind == "lower bound"
    with pytest.raises(InputError, match="at least one density"):
        MixtureOf([])
    with pytest.raises(InputError, match="one event"):
        MixtureOf([Normal(plane), Normal(likely.Event((3,)))])
    with pytest.raises(InputError, match="one context"):
        MixtureOf([Normal(plane), ConditionalNormal(plane, LABEL)])
    with pytest.raises(InputError, match="one support"):
        MixtureOf([Normal(plane), likely.densities.bases.Uniform(plane)])


def test_a_mixture_of_gaussians_is_that_of_the_classical_model():
    plane = likely.Event((2,))
    mixture = GaussianMixture(plane, components=2).double()
    singles = [GaussianMixture(plane, components=1).double() for _ in range(2)]
    weights, means = torch.tensor([0.3, 0.7]), torch.tensor([[0.0, 1.0], [2.0, -1.0]])
    covariances = torch.stack([torch.eye(2), torch.tensor([[1.0, 0.5], [0.5, 2.0]])])
    mixture.assign(weights, means, covariances)
    for k, single in enumerate(singles):
        single.assign(torch.ones(1), means[k : k + 1], covariances[k : k + 1])
    model = MixtureOf(singles).double()
    model.logits.data.copy_(weights.log())
    x = torch.randn(50, 2, generator=seeded(), dtype=torch.float64)
    assert (model.log_prob(x) - mixture.log_prob(x)).abs().max() < 1e-6


def test_components_are_a_matter_of_order():
    model = Mixture(TABLE, components=3).double()
    for order in itertools.permutations(range(3)):
        other = Mixture(TABLE, components=3).double()
        other.logits.data.copy_(model.logits[:, list(order)])
        other.symbols.data.copy_(model.symbols[..., list(order)])
        assert (other.log_prob(STATES) - model.log_prob(STATES)).abs().max() < 1e-12
