"""The integer tables against sixty decimal digits, and what is promised of them between their points."""

from decimal import ROUND_FLOOR, Decimal, localcontext
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.distributions import integers
from likely.distributions.integers import (
    REACH,
    STEPS,
    UNIT,
    exponential,
    inverse_scale,
    log2,
    logistic,
    logistic_steps,
    look_up,
    narrowing,
    tangent,
)

END = REACH * STEPS


@pytest.fixture(autouse=True)
def sixty_digits():
    with localcontext(prec=60):
        yield


@cache
def decay() -> list[Decimal]:
    """e^(−i / 1024), each from an exponential of its own where i is a multiple of 1024."""
    step = (Decimal(-1) / STEPS).exp()
    within = [step**i for i in range(STEPS)]
    return [(-Decimal(whole)).exp() * part for whole in range(REACH) for part in within] + [(-Decimal(REACH)).exp()]


@cache
def sigmoids() -> list[Decimal]:
    """σ(i / 1024 − 24)."""
    return [e / (1 + e) for e in reversed(decay())] + [1 / (1 + e) for e in decay()[1:]]


def floor(x: Decimal) -> int:
    return int(x.to_integral_value(ROUND_FLOOR))


def logarithm(x: int) -> Decimal:
    """log2(x) in units of 2⁻²⁰, to 40 places, so that whole ones are whole."""
    return round(Decimal(x).ln() / Decimal(2).ln() * 2**20, 40)


def test_the_exponential_is_the_floor_of_the_real_one():
    assert exponential().tolist() == [floor(e * 2**UNIT) for e in decay()]


def test_the_exponential_falls_from_one_to_nothing():
    table = exponential()
    assert len(table) == END + 1
    assert table[0] == 1 << UNIT
    assert table[-1] == 0  # e⁻²⁴ < 2⁻³⁴
    assert (table.diff() <= 0).all()


def test_the_logistic_is_the_floor_below_its_middle_and_the_ceiling_above():
    expected = [floor(s * 2**UNIT) for s in sigmoids()[: END + 1]]
    expected += [-floor(-s * 2**UNIT) for s in sigmoids()[END + 1 :]]
    assert logistic().tolist() == expected


def test_the_logistic_and_its_mirror_add_up_to_one():
    table = logistic()
    assert len(table) == 2 * END + 1
    assert table[END] == 1 << (UNIT - 1)
    assert (table + table.flip(0) == 1 << UNIT).all()
    assert (table.diff() >= 0).all()
    assert table[[0, -1]].tolist() == [0, 1 << UNIT]


def test_the_steps_of_the_logistic_lead_from_each_entry_to_the_next():
    table, steps = logistic(), logistic_steps()
    assert torch.equal(table[:-1] + steps[:-1], table[1:])
    assert steps[-1] == 0


def test_the_hyperbolic_tangent_is_two_units_off_at_most():
    """tanh(x) = (1 − e^(−2x)) / (1 + e^(−2x))."""
    table = tangent().tolist()
    upper = [(1 - e) / (1 + e) for e in decay()[::2]]  # of 0, 1/1024, …, 12
    assert len(table) == END + 1
    assert all(abs(value - t * 2**UNIT) < 2 for value, t in zip(table[END // 2 :], upper, strict=True))


def test_the_hyperbolic_tangent_is_odd_and_rises_between_minus_one_and_one():
    table = tangent()
    assert (table == -table.flip(0)).all()
    assert (table.diff() >= 0).all()
    assert table[-1] == 1 << UNIT


SCALES = [*((-7, 8, levels - 1, 28) for levels in (2, 3, 17, 256, 65536)), (-7, 8, 10**12, 28), (0, 3, 2, 10)]


@pytest.mark.parametrize(("lowest", "highest", "divisor", "bits"), [*SCALES, (-3, 0, 7, 40), (0, 24, 1, 60)])
def test_inverse_scales_are_floors_and_never_zero(lowest, highest, divisor, bits):
    """Floors of numbers that are off by 2⁻⁵⁰ of themselves at most."""
    table, error = inverse_scale(lowest, highest, divisor, bits), Decimal(2) ** -50
    assert len(table) == (highest - lowest) * STEPS + 1
    assert (table.diff() <= 0).all()
    for i, value in enumerate(table.tolist()):
        x = (Decimal(-lowest) - Decimal(i) / STEPS).exp() / divisor * 2**bits
        assert max(1, floor(x * (1 - error))) <= value <= max(1, floor(x * (1 + error)))


def test_narrowing_is_half_a_softplus_to_the_nearest():
    """Of −log2 σ that is three units of 2⁻²⁰ off at most."""
    table = narrowing().tolist()
    assert len(table) == END + 1
    for value, e in zip(table, decay(), strict=True):
        assert abs(value - (1 + e).ln() / 2 * STEPS) < Decimal("0.502")


def test_powers_of_two_have_whole_logarithms():
    assert log2(torch.tensor([1 << k for k in range(32)])).tolist() == [k << 20 for k in range(32)]


def test_logarithms_at_the_points_of_their_table_are_floors():
    for power in (12, 13, 20, 31):
        x = torch.arange(4096, 8192) << (power - 12)
        assert log2(x).tolist() == [floor(logarithm(v)) for v in x.tolist()]


edges = st.builds(lambda k, d: min(max((1 << k) + d, 1), (1 << 32) - 1), st.integers(0, 32), st.integers(-3, 3))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, (1 << 32) - 1) | edges, min_size=1, max_size=50))
def test_logarithms_are_two_units_too_small_at_most(xs):
    """A floor at the table's points, another between them, and the curve's height over its chord.

    That height is h² / 8 · max |f″| = 2⁻²⁴ / (8 ln 2) in units of 1, 2⁻⁶ of 2⁻²⁰ at most.
    """
    for x, found in zip(xs, log2(torch.tensor(xs)).tolist(), strict=True):
        assert 0 <= logarithm(x) - found < 2 + Decimal(2) ** -6


def test_logarithms_never_fall():
    generator = torch.Generator().manual_seed(0)
    xs = torch.cat([torch.arange(1, 1 << 14), torch.randint(1, 1 << 32, (100_000,), generator=generator)])
    xs = torch.cat([xs, xs.roll(1) + 1, torch.tensor([(1 << 32) - 1])]).clamp(max=(1 << 32) - 1).sort()[0]
    found = log2(xs)
    assert (found.diff() >= 0).all()
    assert found[0] == 0
    assert found[-1] < 32 << 20


def test_logarithms_keep_the_shape():
    x = torch.arange(1, 25).view(2, 3, 4)
    assert log2(x).shape == x.shape
    assert log2(x[:0]).shape == (0, 3, 4)
    assert log2(x[0, 0, 0]).shape == ()
    assert torch.equal(log2(x).flatten(), log2(x.flatten()))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (2, 3, 5)], ids=str)
def test_looking_up_is_indexing(dtype, shape):
    table, generator = torch.arange(100) ** 2, torch.Generator().manual_seed(0)
    index = torch.randint(100, shape, generator=generator).to(dtype)
    for one in (index, index.mT if index.ndim > 1 else index):
        assert look_up(table, one).tolist() == (one**2).tolist()
        assert look_up(table.double(), one).dtype == torch.float64


def test_the_guard_bits_hold_through_the_whole_table():
    """The error of repeated multiplication stays below 2⁻⁸⁰, far from what a table shows."""
    powers = integers._decay(END + 1)
    assert all(abs(p - e * 2**integers.GUARD) < 1 << 16 for p, e in zip(powers, decay(), strict=True))
