"""Bits back: what is decoded is what was encoded, at the price of the bound; on any machine, as the matrix holds."""

import io
import math

import numpy as np
import pytest
import torch
from torch.special import ndtr, ndtri

import likely
from likely.bases import Normal
from likely.coding import integers
from likely.coding.bits_back import PART_BITS, latent_groups, latents, pop_latents, push_latents
from likely.coding.exact import normal_frequencies
from likely.coding.rans import Stack
from likely.conditional import ConditionalNormal, ConditionalSymbols
from likely.data import load
from likely.event import Event
from likely.latent import VAE, LatentVariable, Mixture, enumeration
from likely.nn.network import MultilayerPerceptron

DIGITS = Event((1, 8, 8), levels=17)


@pytest.fixture(scope="module")
def digits():
    return load("digits", "train").x[:, None]


@pytest.fixture(scope="module")
def vae(digits):
    model = VAE(DIGITS, latent=4, hidden=(32,))
    return likely.fit(model, digits, budget="150 steps", learning_rate=5e-3)


@pytest.fixture(scope="module")
def frozen(vae, digits):
    return likely.freeze(vae, digits)


def coded(frozen, array, **settings):
    """The size of a file, after it was decompressed and compared."""
    file = io.BytesIO()
    found = likely.compress(frozen, array, file, **settings)
    file.seek(0)
    back = likely.decompress(file, frozen)
    assert back.tobytes() == array.tobytes()
    return found


def test_the_normal_distribution_in_integers():
    table = integers.normal()
    exact = ndtr(torch.arange(len(table), dtype=torch.float64) / integers.STEPS - integers.TAILS) * 2**integers.UNIT
    assert (table - exact).abs().max() <= 1
    assert torch.equal(table, (1 << integers.UNIT) - table.flip(0))
    quantiles = integers.normal_quantiles(1 << 8)
    exact = ndtri(torch.arange(1, 256, dtype=torch.float64) / 256) * 2**16
    assert (quantiles[1:-1] - exact).abs().max() <= 2


def test_frequencies_of_a_normal_variable():
    edges = integers.normal_quantiles(1 << PART_BITS)
    mu = torch.tensor([0.0, 0.5, -3.25, 40.0], dtype=torch.float64)
    log_sigma = torch.tensor([0.0, -2.0, -5.0, 1.0], dtype=torch.float64)
    below = normal_frequencies(mu, log_sigma, edges).below(torch.arange(len(edges)).expand(4, -1))
    assert (below[:, 0] == 0).all()
    assert (below[:, -1] == 1 << 24).all()
    assert (below.diff() >= 1).all()
    exact = ndtr((edges / 2**16 - mu[:, None]) / log_sigma.exp()[:, None])
    assert (below / 2**24 - exact)[:, 1:-1].abs().max() < 1e-5 + 2.0 ** (PART_BITS - 24)


def test_the_middle_of_a_part_is_its_median():
    z = latents(Event((3,)), torch.tensor([[0, 1 << (PART_BITS - 1), (1 << PART_BITS) - 1]]))
    expected = ndtri((torch.tensor([0.5, 2.0 ** (PART_BITS - 1) + 0.5, 2.0**PART_BITS - 0.5])) / 2**PART_BITS)
    torch.testing.assert_close(z[0], expected.double(), atol=2e-4, rtol=0)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_digits_come_back(frozen, digits, batch):
    coded(frozen, digits[:60].numpy().astype(np.uint8), batch=batch)


def test_the_price_is_the_bound(vae, frozen, digits):
    """Within half a percent of it, initial bits apart: what one more chunk of the same items adds is compared."""
    array = digits.numpy().astype(np.uint8)
    sizes = [8 * coded(frozen, array[:n], chunk_items=n).file_bytes for n in (300, 1500)]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        bound = sum(-vae.log_prob(digits[300:1500], generator=generator).sum() for _ in range(20)) / 20
    assert abs((sizes[1] - sizes[0]) / (float(bound) / math.log(2)) - 1) < 0.005


def test_noise_and_constants_are_stored_at_worst(frozen):
    noise = np.random.default_rng(0).integers(0, 17, (50, 1, 8, 8)).astype(np.uint8)
    for array in (noise, np.zeros_like(noise)):
        found = coded(frozen, array)
        assert found.file_bytes <= array.nbytes + 48 * found.chunks + 400


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_few_items(frozen, digits, n):
    coded(frozen, digits[:n].numpy())


def test_groups_cover_all_items_once(vae):
    for n in (0, 1, 5, 100, 1000):
        plain, groups = latent_groups(vae, n, 64)
        assert [i for rows in groups for i in range(n)[rows]] == list(range(n - plain))


def test_latents_are_popped_and_pushed_back(frozen, digits):
    stack = Stack(12345, range(4000))
    state, words = stack.state, stack.words[:]
    x = digits[:50].long()
    parts = pop_latents(frozen.model.encoder, stack, 50, x, 8)
    assert (stack.state, stack.words) != (state, words)
    push_latents(frozen.model.encoder, stack, parts, x, 8)
    assert (stack.state, stack.words) == (state, words)


def test_a_discrete_latent_with_a_prior_that_is_learnt():
    """Symbols of z are popped by q(z | x); the price is the bound, which the sum over z is not far above."""
    event, z = Event((1, 2, 3), levels=3), Event((), levels=4)
    network = MultilayerPerceptron((8,))
    model = LatentVariable(
        likely.IndependentPixels(z),
        ConditionalSymbols(event, z, network=network),
        ConditionalSymbols(z, event, network=network, seed=1),
    )
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(400, 6, generator=generator) < 0.3
    x = torch.randint(0, 3, (400, 1), generator=generator)
    x = torch.where(noise, torch.randint(0, 3, (400, 6), generator=generator), x).view(400, 1, 2, 3)
    likely.fit(model, x, budget="200 steps", learning_rate=1e-2)
    found = coded(likely.freeze(model, x), x.numpy().astype(np.uint8))
    assert found.stored_chunks == 0
    bits = -float(enumeration(model, x).value.sum()) / math.log(2)
    assert 8 * found.file_bytes > bits


def test_a_mixture_costs_what_it_says():
    """The component is got back by its exact posterior: ln p(x) is paid, and not a bound of it."""
    event = Event((12,), levels=(2, 3, 5) * 4)
    generator = torch.Generator().manual_seed(0)
    centres = torch.stack([torch.randint(k, (4,), generator=generator) for k in event.alphabets], 1)
    noise = torch.stack([torch.randint(k, (600,), generator=generator) for k in event.alphabets], 1)
    kept = torch.rand(600, 12, generator=generator) < 0.7
    x = torch.where(kept, centres[torch.randint(4, (600,), generator=generator)], noise)
    model = Mixture(event, components=4)
    likely.fit(model, x)
    found = coded(likely.freeze(model, x), x.numpy().astype(np.uint8))
    with torch.no_grad():
        bits = -float(model.log_prob(x).sum()) / math.log(2)
    assert found.stored_chunks == 0
    assert bits < 8 * found.file_bytes < 1.01 * bits + 8 * (220 + 2 * 4)


def test_what_cannot_be_frozen_says_why():
    normal = ConditionalNormal(Event((2,)), DIGITS, covariance="full", network=MultilayerPerceptron((4,)))
    decoder = ConditionalSymbols(DIGITS, Event((2,)), network=MultilayerPerceptron((4,)))
    x = torch.zeros(4, 1, 8, 8, dtype=torch.int64)
    with pytest.raises(NotImplementedError, match="full covariance"):
        likely.freeze(LatentVariable(Normal(Event((2,))), decoder, normal), x)
    with pytest.raises(NotImplementedError, match="over real values"):
        likely.freeze(VAE(Event((2,))), torch.randn(4, 2))
    with pytest.raises(NotImplementedError, match="an encoder are needed"):
        likely.freeze(LatentVariable(Normal(Event((2,))), decoder), x)
