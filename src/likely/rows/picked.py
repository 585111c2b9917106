"""Rows that are picked out of all: a range, or a tensor of their numbers, with what can be done with either."""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

Picked = slice | Tensor  # consecutive rows, or their numbers


@singledispatch
def numbers_of(picked: Any) -> Tensor:
    """Return the numbers of rows that are picked, as a tensor."""
    return picked


@numbers_of.register
def _(picked: range) -> Tensor:
    return torch.arange(picked.start, picked.stop, picked.step)


@singledispatch
def chosen(picked: Any, rows: Tensor) -> Tensor:
    """Return the numbers of some of the rows that are picked, by their places among these."""
    return picked[rows]


@chosen.register
def _(picked: range, rows: Tensor) -> Tensor:
    if picked == range(len(picked)):
        return rows.cpu()
    return numbers_of(picked)[rows]


@singledispatch
def read(picked: Any, source: Any) -> Tensor:
    """Read the rows that are picked; where they are consecutive, from a tensor without a copy."""
    return source[picked]


@read.register
def _(picked: range, source: Any) -> Tensor:
    if picked.step == 1:
        return source[picked.start : picked.stop]
    return source[numbers_of(picked)]


@singledispatch
def spans_of(rows: Any, n: int) -> list[tuple[int, int]]:
    """Return the runs of consecutive numbers among rows of n, as pairs of first and one past the last."""
    numbers = torch.as_tensor(rows)
    if not len(numbers):
        return []
    starts = torch.cat([torch.ones(1, dtype=torch.bool), numbers.diff() != 1])
    first, last = numbers[starts], numbers[starts.roll(-1)]
    return list(zip(first.tolist(), (last + 1).tolist(), strict=True))


@singledispatch
def each_of(rows: Any, n: int) -> Sequence[int]:
    """Return the numbers of rows of n, one by one."""
    return rows.tolist()


@each_of.register
def _(rows: slice, n: int) -> Sequence[int]:
    return range(*rows.indices(n))


@spans_of.register
def _(rows: slice, n: int) -> list[tuple[int, int]]:
    start, stop, _ = rows.indices(n)
    return [(start, stop)]
