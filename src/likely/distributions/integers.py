"""Functions as integers: exponential, logistic, tangent, normal, logarithm on grids, by integer arithmetic alone.

A decoder must read the same numbers on every machine, and transcendental functions differ between them. These
tables are worked out in Python's own integers, so they are part of the format's definition. Entries of
`exponential` and of the lower half of `logistic` are floors; the other half is one less its mirror, and
`tangent` is made of it, within two units.
"""

from bisect import bisect_right
from functools import cache

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

STEPS = 1024  # grid points per unit of every argument
REACH = 24  # arguments beyond ±REACH count as ±REACH: e⁻²⁴ < 2⁻³⁴
UNIT = 30  # values are in units of 2⁻³⁰
GUARD = 96
TAILS = 8  # where a normal variable has its ends: Φ(−8) < 2⁻⁵⁰


def _exp_of_minus_one(divisor: int) -> int:
    """⌊2^GUARD · e^(−1/divisor)⌉, by its Taylor series."""
    term, total, i = 1 << (GUARD + 32), 0, 0
    while term:
        total += term
        i += 1
        if i % 2:
            term = -(abs(term) // (divisor * i))
        else:
            term = abs(term) // (divisor * i)
    return (total + (1 << 31)) >> 32


@cache
def _decay(steps: int) -> tuple[int, ...]:
    """e^(−i / STEPS) for i < steps, in units of 2^−GUARD."""
    factor, values = _exp_of_minus_one(STEPS), [1 << GUARD]
    for _ in range(steps - 1):
        values.append((values[-1] * factor) >> GUARD)
    return tuple(values)


@cache
def exponential() -> Int[Tensor, " steps"]:
    """e^(−i / 1024) for i = 0 … 24 · 1024, in units of 2⁻³⁰."""
    return torch.tensor([value >> (GUARD - UNIT) for value in _decay(REACH * STEPS + 1)])


@cache
def logistic() -> Int[Tensor, " steps"]:
    """σ(i / 1024 − 24) for i = 0 … 48 · 1024, in units of 2⁻³⁰."""
    decay = _decay(REACH * STEPS + 1)
    below = [(value << UNIT) // ((1 << GUARD) + value) for value in reversed(decay)]
    return torch.tensor(below + [(1 << UNIT) - value for value in reversed(below[:-1])])


@cache
def logistic_steps() -> Int[Tensor, " steps"]:
    """By how much `logistic` grows from each entry to the next; the last, by nothing."""
    return torch.nn.functional.pad(logistic().diff(), (0, 1))


@cache
def tangent() -> Int[Tensor, " steps"]:
    """tanh(i / 1024 − 12) = 2σ(2i / 1024 − 24) − 1 for i = 0 … 24 · 1024, in units of 2⁻³⁰."""
    return 2 * logistic()[::2] - (1 << UNIT)


@cache
def normal() -> Int[Tensor, " steps"]:
    """Φ(i / 1024 − 8) for i = 0 … 16 · 1024, in units of 2⁻³⁰: 0 at the one end, 1 at the other.

    φ is added up by Simpson's rule, over halves of steps; φ(k h) = φ(0) ∏_j<k r^(2j + 1) with r = e^(−h² / 2).
    """
    ratio = _exp_of_minus_one(8 * STEPS**2)
    density = 1 << GUARD
    densities = []
    squared, factor = (ratio * ratio) >> GUARD, ratio
    for _ in range(2 * TAILS * STEPS + 1):
        densities.append(density)
        density, factor = (density * factor) >> GUARD, (factor * squared) >> GUARD
    sums = [0]
    for i in range(0, len(densities) - 1, 2):
        sums.append(sums[-1] + densities[i] + 4 * densities[i + 1] + densities[i + 2])
    above = [(1 << (UNIT - 1)) + (part << (UNIT - 1)) // sums[-1] for part in sums]
    return torch.tensor([(1 << UNIT) - value for value in reversed(above[1:])] + above)


@cache
def normal_quantiles(parts: int) -> Int[Tensor, " edges"]:
    """Φ⁻¹(k / parts) for k = 0 … parts, in units of 2⁻¹⁶, linear between the entries of `normal`; ±8 at the ends."""
    table, found = normal().tolist(), []
    for k in range(1, parts):
        target = (k << UNIT) // parts
        place = bisect_right(table, target) - 1
        between = ((target - table[place]) << 6) // (table[place + 1] - table[place])
        found.append((place << 6) + between - (TAILS << 16))
    return torch.tensor([-TAILS << 16, *found, TAILS << 16])


@cache
def narrowing() -> Int[Tensor, " steps"]:
    """½ ln(1 + e^(−i / 1024)) for i = 0 … 24 · 1024, in units of 2⁻¹⁰, to the nearest.

    By so much ln σ of a Gaussian falls when it is multiplied with another of scale e^(i / 2048) σ.
    """
    below = (UNIT << 20) - log2(logistic()[REACH * STEPS :])  # log2(1 + e^(−i / 1024)), in units of 2⁻²⁰
    return (below * 744261118 + (1 << 40)) >> 41  # ln 2 in units of 2⁻³⁰


@cache
def inverse_scale(lowest: int, highest: int, divisor: int, bits: int) -> Int[Tensor, " steps"]:
    """e^(−s) / divisor for s = lowest … highest in steps of 1/1024, in units of 2^−bits, at least one unit."""
    decay = _decay((highest - lowest) * STEPS + 1)
    growth = (1 << (2 * GUARD)) // _decay(-lowest * STEPS + 1)[-1]  # e^(−lowest)
    return torch.tensor([max(1, (value * growth // divisor) >> (2 * GUARD - bits)) for value in decay])


@cache
def _logarithms() -> Int[Tensor, " mantissas"]:
    """log2(1 + i / 4096) for i = 0 … 4096, in units of 2⁻²⁰, by squaring: each square gives one bit."""
    values = []
    for i in range(4097):
        mantissa, result = (4096 + i) << 52, 0
        for _ in range(21):
            if mantissa >> 65:
                mantissa, result = mantissa >> 1, result + 1
            result <<= 1
            mantissa = (mantissa * mantissa) >> 64
        values.append(result >> 1)
    return torch.tensor(values)


def look_up(table: Shaped[Tensor, " entries"], index: Int[Tensor, "*batch"]) -> Shaped[Tensor, "*batch"]:
    """table[index], in half the time."""
    return table.index_select(0, index.reshape(-1)).view(index.shape)


def log2(x: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """log2(x) in units of 2⁻²⁰ for 1 ≤ x < 2³², linear between 4,096 points of the mantissa."""
    exponent = torch.zeros_like(x)
    rest = x
    for shift in (16, 8, 4, 2, 1):
        large = (rest >> shift) > 0
        exponent = exponent + large * shift
        rest = torch.where(large, rest >> shift, rest)
    mantissa = (x << (32 - exponent)) - (1 << 32)  # in units of 2⁻³²
    table = _logarithms().to(x.device)
    index = mantissa >> 20
    between = mantissa & ((1 << 20) - 1)
    low = table[index]
    high = table[(index + 1).clamp(max=4096)]
    return (exponent << 20) + low + (((high - low) * between) >> 20)
