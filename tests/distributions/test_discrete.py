"""Distributions: one formula, its table, and what is read from the table, at ordinary and at extreme parameters."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from likely.distributions import Bernoulli, Categorical, DiscretizedLogistics, Table

BATCH = 6
EXTREME = [0.0, 1e-30, -1e-3, 1.0, 30.0, -90.0, 200.0, -1e4, 1e30]


def categorical(levels, dtype):
    values = torch.tensor(EXTREME, dtype=dtype)
    return Categorical(values[torch.randint(len(EXTREME), (20, levels))])


def forbidding(levels, dtype):
    logits = torch.randn(BATCH, levels, dtype=dtype)
    logits[:, 1::2] = -torch.inf
    return Categorical(logits)


def logistics(levels, dtype):
    scales = [-1e4, -30.0, -7.0, -2.0, 0.0, 5.0, 40.0]
    means = [0.0, 1.0, -1.0, 0.37, 3.0, -40.0, 1e4]
    grid = torch.cartesian_prod(torch.tensor(means), torch.tensor(scales)).to(dtype)
    means, scales = torch.stack([grid, grid.flip(0)], 1).unbind(-1)  # a mixture of two
    return DiscretizedLogistics(torch.randn_like(means), means, scales, levels)


MAKERS = {
    "bernoulli": lambda levels, dtype: Bernoulli(torch.tensor(EXTREME + [-x for x in EXTREME], dtype=dtype)[:, None]),
    "categorical": categorical,
    "forbidding": forbidding,
    "table": lambda levels, dtype: Table(torch.randn(BATCH, levels, dtype=dtype).log_softmax(-1)),
    "logistics": logistics,
}
CASES = [
    pytest.param(make, levels, dtype, id=f"{name}-{levels}-{str(dtype)[6:]}")
    for name, make in MAKERS.items()
    for levels in (2, 17, 256)
    for dtype in (torch.float32, torch.float64)
    if name != "bernoulli" or levels == 2
]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("make", "levels", "dtype"), CASES)
def test_laws_of_one_distribution(make, levels, dtype):
    p = make(levels, dtype)
    table, log_table = p.table(), p.log_table()
    assert p.levels == levels
    assert table.shape == (*p.shape, levels)

    total = table.double().sum(-1)
    assert (total - 1).abs().max() <= (1e-5 if dtype == torch.float32 else 1e-12)

    for symbol in range(levels):  # the table is the formula at every symbol, to the bit up to the kernel's tails
        found = p.log_prob(torch.full(p.shape, symbol))
        torch.testing.assert_close(found, log_table[..., symbol], rtol=4 * torch.finfo(dtype).eps, atol=0)

    nats = -(table * torch.where(table > 0, log_table, 0)).sum(-1)
    torch.testing.assert_close(p.entropy(), nats, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("make", "levels", "dtype"), CASES)
def test_the_quantile_is_the_inverse_of_the_distribution_function(make, levels, dtype):
    p = make(levels, dtype)
    table = p.table()
    # The definition, one at a time: the first symbol whose cumulative probability exceeds u's share of the total.
    for u in (0.0, 1e-12, 0.25, 0.5, 0.999, 1 - torch.finfo(dtype).eps / 2):
        found = p.quantile(torch.full(p.shape, u, dtype=dtype))
        for row, symbol in zip(table, found.tolist(), strict=True):
            cumulative = row.cumsum(0)
            assert symbol == int((cumulative > u * cumulative[-1]).nonzero()[0])
            assert row[symbol] > 0
    # Just below and just above the first edge.
    cumulative = table.cumsum(-1)
    assert (p.quantile(cumulative[..., 0] / cumulative[..., -1] * (1 - 1e-5)) == 0)[table[..., 0] > 0].all()
    above = cumulative[..., 0] / cumulative[..., -1] * (1 + 1e-5)
    assert (p.quantile(above) > 0)[above < 1].all()


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "forbidding", "table", "logistics"])
def test_tempered_is_a_power_of_the_probabilities(name):
    p = MAKERS[name](2 if name == "bernoulli" else 5, torch.float64)
    torch.testing.assert_close(p.tempered(1.0).table(), p.table(), rtol=1e-12, atol=1e-300)
    log_table = p.log_table()
    for temperature in (0.5, 0.9, 3.0):
        power = log_table / temperature
        expected = (power - power.logsumexp(-1, keepdim=True)).exp()
        torch.testing.assert_close(p.tempered(temperature).table(), expected, rtol=1e-10, atol=1e-300)


def test_the_coldest_draws_are_the_likeliest_symbol_and_the_hottest_are_uniform():
    p = Categorical(torch.tensor([0.1, 0.2, 0.7, 0.0]).log())
    for temperature in (1e-320, 1e-40, 1e-30):
        assert p.tempered(temperature).table().tolist() == [0, 0, 1, 0]
    torch.testing.assert_close(p.tempered(1e300).table(), torch.tensor([1 / 3, 1 / 3, 1 / 3, 0]))


@pytest.mark.parametrize(("make", "levels", "dtype"), CASES)
def test_gradients_are_finite(make, levels, dtype):
    p = make(levels, dtype)
    parameters = []

    def leaf(parameter):
        parameters.append(parameter.clone().requires_grad_())
        return parameters[-1]

    p = p.map(leaf)
    possible = p.table().detach() > 0
    for symbol in {0, levels // 2, levels - 1}:
        log_prob = p.log_prob(torch.full(p.shape, symbol))
        chosen = log_prob[possible[..., symbol]]
        if len(chosen):
            for gradient in torch.autograd.grad(chosen.sum(), parameters):
                assert gradient.isfinite().all()


def test_a_bernoulli_is_a_categorical_of_two():
    logit = torch.linspace(-20, 20, 101, dtype=torch.float64)[:, None]
    p, q = Bernoulli(logit), Categorical(torch.cat([torch.zeros_like(logit), logit], -1))
    torch.testing.assert_close(p.log_table(), q.log_table())
    u = torch.rand(1000, 101, dtype=torch.float64)
    one = Bernoulli(logit.expand(1000, 101, 1))
    assert torch.equal(one.quantile(u), (one.table()[..., 0] <= u).long())


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_logistics_are_differences_of_the_logistic_distribution_function(levels):
    logits, means, log_scales = torch.randn(3, 8, 4, dtype=torch.float64)
    p = DiscretizedLogistics(logits, means, log_scales - 1, levels)
    edges = (2 * np.arange(levels - 1) + 1) / (levels - 1) - 1
    cdf = stats.logistic.cdf(edges, means[..., None].numpy(), (log_scales - 1).exp()[..., None].numpy())  # (8, 4, ·)
    bins = np.diff(np.pad(np.pad(cdf, ((0, 0), (0, 0), (0, 1)), constant_values=1), ((0, 0), (0, 0), (1, 0))))
    expected = np.einsum("nk,nkx->nx", logits.softmax(-1).numpy(), bins)
    np.testing.assert_allclose(p.table().numpy(), expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("scales", [(-7, -50), (8, 90), (8, 1e4)])
def test_a_scale_has_a_floor_and_a_ceiling(scales):
    one = torch.zeros(1, 1)
    tables = [DiscretizedLogistics(one, one, one + scale, 256).table() for scale in scales]
    assert torch.equal(*tables)
    assert (tables[0][0, 1:-1] > 0).all() or scales[0] < 0  # else the channels before may leave nothing to weigh


def test_indexing_and_reshaping_keep_each_distribution():
    for p in (logistics(5, torch.float64), categorical(5, torch.float64)):
        assert torch.equal(p[3].log_table(), p.log_table()[3])
        assert torch.equal(p[1:4].log_table(), p.log_table()[1:4])
        assert torch.equal(p.reshape(1, *p.shape).log_table(), p.log_table()[None])


def test_draws_follow_the_table_and_their_generator():
    p = Categorical(torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(20_000, 4))
    draws = [p.sample(torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    expected = 20_000 * np.array([0.1, 0.2, 0.3, 0.4])
    assert stats.power_divergence(draws[0].bincount().numpy(), expected, lambda_="log-likelihood").pvalue > 1e-3
    assert math.isclose(float(p.entropy()[0]), stats.entropy([0.1, 0.2, 0.3, 0.4]), rel_tol=1e-6)
