"""Events: sizes and alphabets are whole numbers."""

import json

import numpy as np
import pytest
import torch

import likely
from likely.event import _whole


@pytest.mark.parametrize("values", [(1.5,), "ab", (2, 2.7), (None,)])
def test_what_is_no_whole_number_is_refused(values):
    with pytest.raises(likely.InputError, match="whole numbers are expected"):
        _whole(values, "levels")


def test_whole_numbers_of_any_kind_are_plain_ones():
    assert json.dumps(_whole((np.int64(2), np.uint8(3), True), "levels")) == "[2, 3, 1]"


@pytest.mark.parametrize(("shape", "levels"), [((0,), 2), ((2,), (1, 0)), ((2,), 0), ((2,), 2**63)])
def test_what_is_no_event_is_refused(shape, levels):
    with pytest.raises(likely.InputError, match="at least 1"):
        likely.Event(shape, levels)


def test_a_symbol_outside_its_columns_alphabet_is_refused_by_what_that_column_takes():
    with pytest.raises(
        likely.InputError, match=r"found 3 at index \(1, 1\); symbols 0 to 2 are expected in its column"
    ):
        likely.Event((2,), levels=(5, 3)).check(torch.tensor([[4, 2], [4, 3]]))
