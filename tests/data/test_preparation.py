"""Raw arrays to symbols and back: layouts, levels, binarisation, the JSON that a run keeps."""

import json
from dataclasses import replace

import pytest
import torch

from likely.data import Preparation, load
from likely.errors import InputError
from likely.event import Event


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def integers(*shape, high, dtype=torch.uint8):
    """Whole numbers of which the largest is high − 1."""
    x = torch.randint(high, shape, generator=seeded(0)).to(dtype)
    x.view(-1)[-1] = high - 1
    return x


@pytest.mark.parametrize(
    ("raw", "layout", "shape", "levels", "peak"),
    [
        (integers(5, 28, 28, high=256), "hw", (1, 28, 28), 256, 255),
        (integers(5, 28, 28, high=200), "hw", (1, 28, 28), 256, 255),
        (integers(5, 8, 8, high=17), "hw", (1, 8, 8), 17, 16),
        (integers(5, 8, 8, high=2), "hw", (1, 8, 8), 2, 1),
        (integers(5, 8, 9, 3, high=256), "hwc", (3, 8, 9), 256, 255),
        (integers(5, 8, 9, 1, high=256), "hwc", (1, 8, 9), 256, 255),
        (integers(5, 3, 8, 9, high=256), "chw", (3, 8, 9), 256, 255),
        (integers(5, 2, 8, 9, high=256), "flat", (2, 8, 9), 256, 255),
        (integers(5, 16, high=2), "flat", (16,), 2, 1),
        (integers(5, 16, high=180), "flat", (16,), 180, 179),
        (integers(5, 8, 8, high=1000, dtype=torch.int64), "hw", (1, 8, 8), 1000, 999),
        (integers(50, high=10), "flat", (), 10, 9),
        (integers(5, 4, high=7, dtype=torch.float32), "flat", (4,), 7, 6),
        (torch.full((5, 4), 0.5), "flat", (4,), None, 0.5),
        (torch.full((5, 4), -1.0), "flat", (4,), None, 1),
        (torch.zeros(5, 4, dtype=torch.uint8), "flat", (4,), 1, 1),
    ],
)
def test_inferred(raw, layout, shape, levels, peak):
    preparation = Preparation.infer(raw)
    assert replace(preparation, decimals=None) == Preparation(layout, levels, None, float(peak))
    assert preparation.event_of(raw) == Event(shape, levels)
    x = preparation.apply(raw)
    assert x.shape[1:] == shape
    assert torch.equal(preparation.restore(x), raw)
    assert preparation.reversible
    assert not preparation.random


def test_digits_have_17_levels():
    assert Preparation.infer(load("digits", "train").x).levels == 17


def test_levels_given():
    raw = integers(5, 3, high=4)
    assert Preparation.infer(raw, levels=256).event_of(raw) == Event((3,), 256)
    assert Preparation.infer(raw, levels=(4, 5, 6)).event_of(raw) == Event((3,), (4, 5, 6))
    with pytest.raises(InputError, match="binarised data have 2 levels, found levels 4"):
        Preparation.infer(raw, levels=4, binarize=0.5)


def test_symbols_take_one_byte_and_none_is_changed():
    preparation = Preparation("flat", 256, None, 255.0)
    assert preparation.apply(torch.tensor([[255, 0]])).dtype == torch.uint8
    for bad in ([[256, 0]], [[-1, 0]], [[1.5, 0]], [[float("nan"), 0]]):
        raw = torch.tensor(bad)
        assert torch.equal(preparation.apply(raw).nan_to_num(7), raw.nan_to_num(7))
        with pytest.raises(InputError, match=r"at index \(0, 0\)"):
            preparation.event_of(raw).check(preparation.apply(raw))
    wide = Preparation("flat", 257, None, 256.0).apply(torch.tensor([[256]]))
    assert wide.tolist() == [[256]]


def test_threshold_is_of_the_peak():
    raw = torch.tensor([[[0, 127], [128, 255]]], dtype=torch.uint8)
    preparation = Preparation.infer(raw, binarize=0.5)
    assert preparation.apply(raw).tolist() == [[[[0, 0], [1, 1]]]]
    assert preparation.apply(raw).dtype == torch.uint8
    assert preparation.event_of(raw) == Event((1, 2, 2), levels=2)
    assert not preparation.reversible
    assert not preparation.random
    assert preparation.restore(preparation.apply(raw)).shape == raw.shape
    grey = torch.tensor([[0.0, 0.25, 0.5, 1.0]])
    assert Preparation.infer(grey, binarize=0.25).apply(grey).tolist() == [[0, 0, 1, 1]]
    sixteen = torch.arange(17, dtype=torch.uint8).view(1, 17)
    assert Preparation.infer(sixteen, binarize=0.5).apply(sixteen).tolist() == [[0] * 9 + [1] * 8]


def test_stochastic_binarisation_follows_its_generator():
    raw = load("digits", "test").x
    preparation = Preparation.infer(raw, binarize="stochastic")
    assert preparation.random
    assert not preparation.reversible
    first, again, other = (preparation.apply(raw, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    epochs = seeded(1)
    assert torch.equal(preparation.apply(raw, epochs), first)
    assert not torch.equal(preparation.apply(raw, epochs), first)
    state = torch.get_rng_state()
    preparation.apply(raw, seeded(0))
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(InputError, match="a generator is expected"):
        preparation.apply(raw)


def test_stochastic_binarisation_has_the_right_mean():
    n = 40_000
    raw = torch.tensor([[0, 16, 4, 8]], dtype=torch.uint8).expand(n, 4)
    x = Preparation.infer(raw, binarize="stochastic").apply(raw, seeded(0)).double().mean(0)
    assert x[:2].tolist() == [0, 1]
    for mean, p in [(x[2], 0.25), (x[3], 0.5)]:
        assert abs(mean - p) < 4 * (p * (1 - p) / n) ** 0.5


@pytest.mark.parametrize("binarize", [0.5, "stochastic"])
@pytest.mark.parametrize("bad", [-1.0, 17.0, float("nan"), float("inf")])
def test_values_outside_the_training_range_are_not_binarised(binarize, bad):
    preparation = Preparation("flat", 2, binarize, 16.0)
    raw = torch.tensor([[0.0, 16.0], [3.0, bad]])
    with pytest.raises(InputError, match=rf"found {bad} at index \(1, 1\); values 0 to 16"):
        preparation.apply(raw, seeded(0))


def test_other_layouts_are_refused():
    preparation = Preparation("hw", 256, None, 255.0)
    with pytest.raises(InputError, match=r"expected images \(n, h, w\), found shape \(2, 3\)"):
        preparation.apply(torch.zeros(2, 3))
    with pytest.raises(InputError, match="images"):
        preparation.restore(torch.zeros(2, 3, 4, 4))
    with pytest.raises(InputError, match="empty"):
        Preparation.infer(torch.zeros(0, 3))


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation("hw", 256, None, 255.0),
        Preparation("flat", (2, 3), None, 2.0),
        Preparation("flat", None, None, 3.5),
        Preparation("chw", 2, 0.5, 255.0),
        Preparation("hwc", 2, "stochastic", 16.0),
    ],
)
def test_json_round_trip(preparation):
    assert Preparation.from_json(json.loads(json.dumps(preparation.to_json()))) == preparation


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": 1}, "colour"),
        ({"layout": "whc"}, "whc"),
        ({"levels": "many"}, "many"),
        ({"levels": 2.5}, "2.5"),
        ({"levels": True}, "True"),
        ({"binarize": "often"}, "often"),
        ({"binarize": 1.5}, "1.5"),
        ({"binarize": [0.5]}, "0.5"),
        ({"peak": 0}, "peak"),
        ({"peak": None}, "peak"),
    ],
)
def test_bad_json_is_refused(change, said):
    good = Preparation("hw", 2, 0.5, 255.0).to_json()
    with pytest.raises(InputError, match=said):
        Preparation.from_json(good | change)


def test_missing_fields_are_refused():
    with pytest.raises(InputError, match="fields layout, levels, binarize, peak are expected, found layout"):
        Preparation.from_json({"layout": "hw"})


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_whole_numbers_as_measurements(dtype):
    raw = torch.tensor([[3, 100], [0, 7]], dtype=dtype)
    preparation = Preparation.infer(raw, real=True)
    assert preparation.event_of(raw) == Event((2,))
    x = preparation.apply(raw)
    assert x.is_floating_point()
    assert torch.equal(x.long(), raw.long())
    assert Preparation.from_json(preparation.to_json()) == preparation
    assert torch.equal(preparation.apply(raw.double() / 3), raw.double() / 3)
    with pytest.raises(InputError, match="real values have no levels"):
        Preparation.infer(raw, real=True, levels=200)


def test_large_measurements_keep_every_digit():
    raw = torch.tensor([[2**53 - 1]])
    assert Preparation.infer(raw, real=True).apply(raw).long().tolist() == [[2**53 - 1]]


def test_whole_numbers_below_zero_are_no_symbols():
    with pytest.raises(InputError, match=r"found -3; symbols are the whole numbers 0, 1, 2, …: .* \(real=True\)"):
        Preparation.infer(torch.tensor([[-3, 5]]))
