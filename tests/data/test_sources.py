"""Sources against independent truth: enumeration, Monte Carlo, counts."""

import itertools
import math

import pytest
import torch

from likely.data import Coins, ColourChain, Ising, Upsampled
from likely.errors import InputError

SMALL = {
    "coins": lambda: Coins((0.1, 0.5, 0.9)),
    "ising": lambda: Ising(3, 0.7),
    "colour": lambda: ColourChain(2, 1, levels=3, noise=0.4),
    "colour row": lambda: ColourChain(1, 2, levels=3, noise=1.0),
    "upsampled": lambda: Upsampled(2, 2, levels=4, noise=0.6, stay=0.3),
    "upsampled tall": lambda: Upsampled(4, 2, levels=2, noise=0.8, stay=0.6),
}
LARGE = {
    "coins": lambda: Coins(tuple(torch.linspace(0.01, 0.9, 20).tolist())),
    "ising": lambda: Ising(),
    "colour": lambda: ColourChain(8, 8),
    "upsampled": lambda: Upsampled(8, 6),
}


def every(event):
    """All events (states, *shape)."""
    states = itertools.product(range(event.levels), repeat=event.dims)
    return torch.tensor(list(states)).view(-1, *event.shape)


def contexts(source, n):
    """n contexts drawn evenly, None where there are none."""
    if source.context is None:
        return None
    return torch.randint(source.context.levels, (n, *source.context.shape), generator=torch.Generator().manual_seed(7))


def repeated(context, n):
    return None if context is None else context.expand(n, *context.shape[1:])


@pytest.mark.parametrize("name", list(SMALL))
def test_normalised_and_entropy_by_enumeration(name):
    source = SMALL[name]()
    x = every(source.event)
    for context in [contexts(source, 3)] if source.context is None else contexts(source, 3).split(1):
        log_p = source.log_prob(x, repeated(context, len(x)))
        assert log_p.dtype == torch.float64
        assert abs(log_p.exp().sum() - 1) <= 1e-12
        assert abs(-(log_p.exp() * log_p).sum() - source.entropy()) <= 1e-10


@pytest.mark.parametrize("name", list(SMALL))
def test_samples_follow_the_density(name):
    """G-test at 5 standard deviations of χ², over states expected at least 5 times and the rest pooled."""
    source, n = SMALL[name](), 40_000
    context = contexts(source, 1)
    x = source.sample(n, context, generator=torch.Generator().manual_seed(1))
    states = every(source.event)
    weights = source.event.levels ** torch.arange(source.event.dims).flip(0)
    counts = torch.bincount((x.flatten(1) * weights).sum(1), minlength=len(states)).double()
    expected = n * source.log_prob(states, repeated(context, len(states))).exp()
    often = expected >= 5
    counts, expected = (torch.cat([t[often], t[~often].sum(0, keepdim=True)]) for t in (counts, expected))
    g = 2 * torch.xlogy(counts, counts / expected.clamp(min=1e-9)).sum()
    freedom = int((expected > 0).sum()) - 1
    assert g < freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("name", list(LARGE))
def test_entropy_by_monte_carlo(name):
    source, n = LARGE[name](), 4000
    context = contexts(source, n)
    x = source.sample(n, context, generator=torch.Generator().manual_seed(2))
    assert x.dtype == torch.int64
    nats = -source.log_prob(x, context)
    assert abs(nats.mean() - source.entropy()) < 4 * nats.std() / math.sqrt(n)


def test_ising_is_normalised_and_as_stated():
    source = Ising(4, 0.44)
    x = every(source.event)
    log_p = source.log_prob(x)
    assert abs(log_p.exp().sum() - 1) <= 1e-12
    aligned, chequered = x.new_ones(1, 1, 4, 4), (torch.arange(16).view(1, 1, 4, 4) // 4 + torch.arange(4)) % 2
    difference = source.log_prob(aligned) - source.log_prob(chequered)
    assert abs(difference - 0.44 * 48) <= 1e-10
    assert abs(Ising(4, 0.0).entropy() - 16 * math.log(2)) <= 1e-10


def test_entropies_at_the_limits():
    assert abs(ColourChain(4, 5, levels=4, noise=1.0).entropy() - 60 * math.log(4)) <= 1e-10
    assert abs(Upsampled(4, 4, levels=4, noise=1.0, stay=0.0).entropy() - 16 * math.log(4)) <= 1e-10
    assert Coins((0.0, 1.0)).entropy() == 0
    assert Coins((0.0, 1.0)).log_prob(torch.tensor([[0, 1], [1, 1]])).tolist() == [0, -math.inf]


def test_upsampled_needs_both_context_and_neighbours():
    """Knowing only the context, or only what came before, costs what the closed form saves."""
    source = Upsampled(8, 8)
    n = 4000
    context = contexts(source, n)
    x = source.sample(n, context, generator=torch.Generator().manual_seed(3))
    marginal = -(source.q * source.q.log()).sum() * source.event.dims
    assert source.entropy() < 0.8 * marginal
    wrong = -source.log_prob(x, context.roll(1, 0)).mean()
    assert wrong > 1.5 * source.entropy()


def test_equal_generators_give_equal_samples():
    for make in LARGE.values():
        source = make()
        context = contexts(source, 1)
        a, b, c = (source.sample(50, context, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Coins((0.5, 1.5)),
        lambda: Ising(5),
        lambda: Ising(0),
        lambda: ColourChain(2, 2, noise=0.0),
        lambda: Upsampled(3, 2),
        lambda: Upsampled(2, 2, stay=1.0),
    ],
)
def test_bad_arguments_are_refused(make):
    with pytest.raises(InputError, match=r"expected, found"):
        make()
