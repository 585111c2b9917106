"""Whole numbers of 2⁻²⁴: tables that are complete and in proportion, and symbols coded at their price."""

import math
from fractions import Fraction
from itertools import accumulate, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from likely.coding.rans import Stack
from likely.coding.symbols import Uniform, pop, push
from likely.distributions.frequencies import (
    TOTAL,
    WIDE,
    Cumulative,
    Frequencies,
    LogisticFrequencies,
    digit_table,
    digits,
    sizes,
    softmax,
)

ALPHABETS = (1, 2, 3, 15, 16, 17, 255, 256, 257, 4096, 4097)
quick = settings(max_examples=100, deadline=None)
seeds = st.integers(0, 2**32 - 1)
alphabets = st.sampled_from(ALPHABETS) | st.integers(1, 600)


def edges(p: Frequencies) -> Tensor:
    """F at every edge, (..., levels + 1)."""
    return p.below(torch.arange(p.levels + 1).expand(*p.shape, p.levels + 1))


# Tables of every kind.


def some_weights(rows: int, levels: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """Weights of many magnitudes that add up to 1 … 2³⁸, zeros among them, and half of the time what is allowed."""
    random = np.random.default_rng(seed)
    total = 2.0 ** random.uniform(0, WIDE, (rows, 1))
    parts = random.dirichlet(np.full(levels, 10.0 ** random.uniform(-2, 2)), rows)
    weights = np.floor(parts * total * (1 - 2**-40)).astype(np.int64)
    allowed = np.ones_like(weights) if random.random() < 0.5 else random.integers(0, 2, weights.shape)
    one = random.integers(levels, size=rows)
    allowed[np.arange(rows), one] = 1
    weights *= allowed
    weights[np.arange(rows), one] += weights.sum(1) == 0
    return torch.from_numpy(weights), None if allowed.all() else torch.from_numpy(allowed)


def cumulative(rows: int, levels: int, seed: int) -> Frequencies:
    return Cumulative.of_weights(*some_weights(rows, levels, seed))


def some_logistics(rows: int, levels: int, seed: int) -> LogisticFrequencies:
    """Mixtures of means to ±64 and scales from e⁻⁷ to e⁸ of half an alphabet, and of the smallest inverse."""
    random = np.random.default_rng(seed)
    m = int(random.integers(1, 6))
    weights = np.floor(2.0 ** random.uniform(-3, 21 - math.log2(m), (rows, m))).astype(np.int64)
    weights[:, 0] += weights.sum(1) == 0
    span = max(levels - 1, 1)
    means = random.choice([0.0, 1e-3, 1.0, 64.0]) * random.uniform(-1, 1, (rows, m)) * span * 2**16
    inverses = np.exp(random.uniform(-8, 7, (rows, m))) / span * 2**28
    inverses = np.where(random.random((rows, m)) < 0.1, 1, np.maximum(inverses, 1))
    return LogisticFrequencies(*(torch.from_numpy(a.astype(np.int64)) for a in (weights, means, inverses)), levels)


def uniform(rows: int, levels: int, seed: int) -> Frequencies:
    sizes = np.random.default_rng(seed).integers(1, levels + 1, rows)
    sizes[0] = levels
    return Uniform(torch.from_numpy(sizes))


def tables(kinds: tuple = (cumulative, some_logistics, uniform)) -> st.SearchStrategy[Frequencies]:
    """Three distributions of one kind and alphabet."""
    return st.builds(lambda kind, levels, seed: kind(3, levels, seed), st.sampled_from(kinds), alphabets, seeds)


def drawn(p: Frequencies, seed: int) -> Tensor:
    """A symbol for each distribution, drawn evenly from those that are possible."""
    possible = edges(p).diff() > 0
    noise = torch.rand(possible.shape, generator=torch.Generator().manual_seed(seed))
    return (noise + possible).argmax(-1)


# Tables: complete, and every symbol of the alphabet possible.


@quick
@given(alphabets, seeds)
def test_allowed_symbols_have_a_unit_at_least_and_others_none(levels, seed):
    weights, allowed = some_weights(4, levels, seed)
    f = edges(Cumulative.of_weights(weights, allowed))
    assert (f[:, 0] == 0).all()
    assert (f[:, -1] == TOTAL).all()
    allowed = torch.ones_like(weights) if allowed is None else allowed
    assert (f.diff()[allowed == 1] >= 1).all()
    assert (f.diff()[allowed == 0] == 0).all()


@quick
@given(tables((some_logistics,)))
def test_every_symbol_of_a_mixture_has_a_unit_at_least(p):
    f = edges(p)
    assert (f[:, 0] == 0).all()
    assert (f[:, -1] == TOTAL).all()
    assert (f.diff() >= 1).all()


@quick
@given(tables((uniform,)))
def test_uniform_symbols_differ_by_a_unit_at_most(p):
    for alphabet, f in zip(p.alphabets.tolist(), edges(p), strict=True):
        assert f[0] == 0
        assert (f[alphabet:] == TOTAL).all()
        assert set(f.diff()[:alphabet].tolist()) <= {TOTAL // alphabet, -(-TOTAL // alphabet)}


def proportion(weights: list[int], allowed: list[int]) -> list[Fraction]:
    """A unit for each allowed symbol, and the rest of 2²⁴ in proportion, summed up to every edge."""
    rest, total = TOTAL - sum(allowed), sum(weights)
    below = zip(accumulate(weights, initial=0), accumulate(allowed, initial=0), strict=True)
    return [Fraction(weight * rest, total) + own for weight, own in below]


def assert_in_proportion(weights: Tensor, allowed: Tensor | None = None) -> None:
    """F is a floor of what is exact, at a rate that is itself a floor in units of 2⁻³⁸: two units too few at most."""
    found = edges(Cumulative.of_weights(weights, allowed)).tolist()
    allowed = torch.ones_like(weights) if allowed is None else allowed
    for row, weight, own in zip(found, weights.tolist(), allowed.tolist(), strict=True):
        assert all(0 <= exact - f < 2 for exact, f in zip(proportion(weight, own), row, strict=True))


@quick
@given(st.sampled_from((1, 2, 16, 17, 257)), seeds)
def test_units_are_in_proportion_to_the_weights(levels, seed):
    assert_in_proportion(*some_weights(3, levels, seed))


@pytest.mark.parametrize("levels", [1, 2, 17, 256, 65536])
def test_weights_as_large_as_they_come_are_kept_in_proportion(levels):
    """2³⁸ in sum: all of it on one symbol, or spread evenly."""
    weights = torch.zeros(4, levels, dtype=torch.int64)
    weights[0, 0] = weights[1, -1] = weights[2, levels // 2] = 1 << WIDE
    weights[3] = (1 << WIDE) // levels
    assert_in_proportion(weights)


def test_what_is_allowed_may_be_said_once_for_all():
    weights, allowed = torch.tensor([[5, 0, 7], [0, 0, 1]]), torch.tensor([[1, 0, 1]])
    assert torch.equal(
        edges(Cumulative.of_weights(weights, allowed)), edges(Cumulative.of_weights(weights, allowed.expand(2, 3)))
    )


def sigma(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z > 0 else math.exp(z) / (1 + math.exp(z))


def mixture(p: LogisticFrequencies, row: int, k: int) -> float:
    """Σ w_m σ((k⁻ − μ_m) / s_m), an edge lying half a symbol below its symbol's centre."""
    if k in (0, p.levels):
        return float(k > 0)
    total = 0.0
    for w, mean, inverse in zip(p.weights[row].tolist(), p.means[row].tolist(), p.inverses[row].tolist(), strict=True):
        centre = 2 * k - (p.levels - 1)
        total += w * sigma((centre - 1 - mean / 2**16) * inverse / 2**28)
    return total / sum(p.weights[row].tolist())


@quick
@given(st.sampled_from((1, 2, 3, 17, 256, 65536)), seeds)
def test_mixtures_of_logistics_are_what_they_are_called(levels, seed):
    """F is too small by 64 units at most for the floor of z, in units of 2⁻¹⁶ where σ′ ≤ 1/4, by 2⁷ / Σ w for that of
    a sum of weights in units of 2⁻¹⁷, and by two for the spreading of units; by a quarter for the table's points.
    """
    p = some_logistics(3, levels, seed)
    symbols = torch.arange(0, levels + 1, max(1, levels // 16)).expand(3, -1)
    for row, found in enumerate(p.below(symbols).tolist()):
        for k, f in zip(symbols[row].tolist(), found, strict=True):
            exact = mixture(p, row, k) * (TOTAL - levels) + k
            assert -0.25 <= exact - f <= 66.25 + 128 / int(p.weights[row].sum())


@quick
@given(tables((some_logistics,)))
def test_components_begin_with_nothing_and_end_with_all(p):
    """In units of 2⁻³⁰, however far out their means are."""
    below = p.components_below(torch.arange(p.levels + 1).expand(3, -1))
    assert (below[:, 0] == 0).all()
    assert (below[:, -1] == 1 << 30).all()
    assert (below.diff(dim=1) >= 0).all()


@pytest.mark.parametrize("levels", [2, 256, 65536])
@pytest.mark.parametrize("mean", [-66, -1, 0, 1, 66])
@pytest.mark.parametrize("log_scale", [-7, 0, 8])
def test_the_largest_numbers_of_heads_do_not_overflow(levels, mean, log_scale):
    """Means to ±64 and two couplings, in half alphabets."""
    span = levels - 1
    inverse = max(1, int(math.exp(-log_scale) * 2**28 / span))
    p = LogisticFrequencies(*(torch.tensor([[v]]) for v in (1 << 21, mean * span << 16, inverse)), levels)
    f = edges(p)[0]
    assert (f[0], f[-1]) == (0, TOTAL)
    assert (f.diff() >= 1).all()
    for k in (1, levels // 2, levels - 1):
        exact = mixture(p, 0, k) * (TOTAL - levels) + k
        assert -0.25 <= exact - f[k] <= 66.25


# Digits.


def possible(p: Frequencies) -> tuple[Frequencies, Tensor]:
    """Copies of a single distribution, and a possible symbol for each."""
    symbols = torch.arange(p.levels)[edges(p)[0].diff() > 0]
    return p.map(lambda parameter: parameter.expand(len(symbols), *parameter.shape[1:])), symbols


@quick
@given(tables())
def test_digits_split_the_whole_at_every_step(p):
    """For each prefix of digits, its continuations own [0, 2²⁴) in turn, each a unit at least where it is possible."""
    copies, symbols = possible(p[:1])
    parts = [torch.stack(pair, -1).tolist() for pair in digits(copies, symbols)]
    for part, size in zip(parts, sizes(copies.levels), strict=True):
        owned: dict[int, dict[int, list[int]]] = {}
        for symbol, interval in zip(symbols.tolist(), part, strict=True):
            place = owned.setdefault(symbol // (16 * size), {})
            assert place.setdefault(symbol // size % 16, interval) == interval
        for place in owned.values():
            end = 0
            for start, width in (place[k] for k in sorted(place)):
                assert start == end
                assert width >= 1
                end = start + width
            assert end == TOTAL


def digit_by_digit(p: Frequencies, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Start and width of each digit, read from the tables that decoding reads."""
    low, high, found = torch.zeros_like(x), torch.full_like(x, p.levels), []
    for size in sizes(p.levels):
        table, digit = digit_table(p, low, high, size), (x - low) // size
        start, stop = (table.gather(-1, (digit + k)[..., None])[..., 0] for k in (0, 1))
        found.append((start, stop - start))
        assert table.shape[-1] <= 17
        assert (table[..., 0] == 0).all()
        assert (table[..., -1] == TOTAL).all()
        assert (table.diff() >= 0).all()
        low = low + digit * size
        high = torch.minimum(low + size, high)
    return found


@quick
@given(tables(), seeds)
def test_decoding_reads_the_intervals_that_encoding_writes(p, seed):
    x = drawn(p, seed)
    for (start, width), (a, b) in zip(digits(p, x), digit_by_digit(p, x), strict=True):
        assert torch.equal(start, a)
        assert torch.equal(width, b)


@pytest.mark.parametrize("levels", [*ALPHABETS, 65536])
def test_an_alphabet_is_divided_by_sixteens(levels):
    units = sizes(levels)
    assert units[-1] == 1
    assert all(a == 16 * b for a, b in pairwise(units))
    assert units[0] * 16 >= levels
    assert len(units) == 1 or units[0] < levels


# Probabilities.


@quick
@given(tables())
def test_probabilities_add_up_to_one(p):
    """Exactly, as fractions of products of widths, and as log_prob states them."""
    for row in range(3):
        copies, symbols = possible(p[row : row + 1])
        widths = torch.stack([width for _, width in digits(copies, symbols)], -1).tolist()
        assert sum(Fraction(math.prod(w), TOTAL ** len(w)) for w in widths) == 1
        logs = [sum(map(math.log, w)) - len(w) * math.log(TOTAL) for w in widths]
        np.testing.assert_allclose(copies.log_prob(symbols), logs, atol=1e-9)


@quick
@given(tables(), seeds)
def test_the_table_is_the_log_probability_of_every_symbol(p, seed):
    x = drawn(p, seed)
    assert torch.equal(p.log_table().gather(-1, x[:, None])[:, 0], p.log_prob(x))


@quick
@given(tables(), seeds)
def test_digits_multiply_to_what_the_table_says(p, seed):
    """Each digit's width is the difference of two floors, less than a unit from what is exact."""
    x = drawn(p, seed)
    f, widths = edges(p).tolist(), torch.stack([width for _, width in digits(p, x)], -1).tolist()
    for row, symbol, w in zip(f, x.tolist(), widths, strict=True):
        exact = Fraction(row[symbol + 1] - row[symbol], TOTAL) * TOTAL ** len(w)
        assert math.prod(v - 1 for v in w) < exact < math.prod(v + 1 for v in w)


@quick
@given(tables(), seeds)
def test_indexing_and_reshaping_keep_the_distributions(p, seed):
    x = drawn(p, seed)
    logs = p.log_prob(x)
    assert torch.equal(p.reshape(1, 3).log_prob(x.view(1, 3)), logs.view(1, 3))
    assert p.reshape(3, 1).shape == (3, 1)
    for row in range(3):
        assert torch.equal(p[row].log_prob(x[row]), logs[row])


# The stack.


def size_of(stack: Stack) -> float:
    """log2 of the whole stack as one number, in bits."""
    number = stack.state
    for word in reversed(stack.words):
        number = number << stack.word_bits | word
    return math.log2(number)


@quick
@given(st.lists(st.tuples(st.sampled_from((cumulative, some_logistics, uniform)), alphabets, seeds), max_size=4), seeds)
def test_popping_gives_back_what_was_pushed_at_its_price(found, seed):
    """−log2 p bits, and 2⁻²⁴ nats a digit more or less."""
    ps = [kind(1 + seed % 5, levels, seed) for kind, levels, seed in found]
    xs = [drawn(p, seed) for p in ps]
    stack = Stack()
    for p, x in zip(ps, xs, strict=True):
        before = size_of(stack)
        push(stack, p, x)
        price = -p.log_prob(x).sum().item() / math.log(2)
        assert abs(size_of(stack) - before - price) <= 2 * x.numel() * len(sizes(p.levels)) * 2.0**-24 + 1e-9
    stack = Stack.from_bytes(stack.to_bytes())
    for p, x in zip(reversed(ps), reversed(xs), strict=True):
        assert torch.equal(pop(stack, p), x)
    assert stack == Stack()


@pytest.mark.parametrize("kind", [cumulative, some_logistics, uniform])
@pytest.mark.parametrize("levels", [1, 2, 16, 17, 256, 257, 4096])
@pytest.mark.parametrize("shape", [(), (1,), (2, 1, 3)], ids=str)
def test_batches_of_any_shape_come_back(kind, levels, shape):
    p = kind(max(1, math.prod(shape)), levels, 5).reshape(*shape)
    x = drawn(p, 7)
    for word_bits in (16, 32):
        stack = Stack(word_bits=word_bits)
        push(stack, p, x)
        assert torch.equal(pop(stack, p), x)
        assert stack == Stack(word_bits=word_bits)


@pytest.mark.parametrize("kind", [cumulative, some_logistics])
@pytest.mark.parametrize("levels", [1, 16, 257])
def test_nothing_costs_nothing(kind, levels):
    p = kind(2, levels, 0)[:0]
    stack = Stack(12345)
    push(stack, p, torch.zeros(0, dtype=torch.int64))
    assert stack == Stack(12345)
    assert pop(stack, p).shape == (0,)
    assert stack == Stack(12345)


@quick
@given(tables(), st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**16 - 1), max_size=12))
def test_pushing_brings_back_what_any_stack_gave(p, state, words):
    """As bits back does: pop first, from noise and beyond its end."""
    stack = Stack(state, words)
    x = pop(stack, p)
    assert (edges(p).diff().gather(-1, x[:, None]) > 0).all()
    push(stack, p, x)
    assert stack == Stack(state, words)


def test_one_symbol_alone_is_free():
    for kind in (cumulative, some_logistics, uniform):
        stack = Stack()
        push(stack, kind(100, 1, 0), torch.zeros(100, dtype=torch.int64))
        assert stack == Stack()


def test_symbols_popped_from_noise_follow_their_distribution():
    """χ² within six of its standard deviations."""
    n, noise = 20_000, np.random.default_rng(0).integers(0, 2**16, 20_000)
    p = Cumulative.of_weights(torch.arange(1, 41).expand(n, -1))
    stack = Stack(1 << 63, noise.tolist())
    found = torch.bincount(pop(stack, p), minlength=40)
    assert stack.words
    expected = n * torch.arange(1, 41) / 820
    assert ((found - expected) ** 2 / expected).sum() < 39 + 6 * math.sqrt(2 * 39)


# Softmax.


@quick
@given(st.integers(1, 300), st.integers(10, 30), st.sampled_from((1, 1000, 30_000, 1 << 30)), seeds)
def test_the_integer_softmax_is_the_real_one(k, bits, reach, seed):
    """Weights are floors of e^(l − max l) 2^bits, so that a probability is off by k 2^−bits at most."""
    logits = torch.randint(-reach, reach + 1, (4, k), generator=torch.Generator().manual_seed(seed))
    weights = softmax(logits, bits)
    exact = (logits - logits.amax(-1, keepdim=True)).double().div(1024).exp() * 2.0**bits
    assert (weights.amax(-1) == 1 << bits).all()
    assert (exact - weights > -1e-6).all()
    assert (exact - weights < 1 + 1e-6).all()
    difference = weights.double() / weights.sum(-1, keepdim=True) - (logits.double() / 1024).softmax(-1)
    assert difference.abs().max() <= k * 2.0**-bits


@quick
@given(st.integers(1, 20), seeds, st.integers(-(1 << 40), 1 << 40))
def test_the_integer_softmax_knows_differences_only(k, seed, shift):
    logits = torch.randint(-9999, 9999, (4, k), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(softmax(logits, 30), softmax(logits + shift, 30))
