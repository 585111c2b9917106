"""The models made of counts, against independent truth."""

import numpy as np
import pytest
import torch

from likely.classical import Histogram, IndependentPixels, SymbolHistogram
from likely.errors import InputError
from likely.event import Event


def course_set_1() -> tuple[np.ndarray, np.ndarray, int]:
    x = 0.4 + 0.1 * np.random.RandomState(0).randn(1000)
    return *_digitized(x, 20), 20


def course_set_2() -> tuple[np.ndarray, np.ndarray, int]:
    random = np.random.RandomState(0)
    a, b = 0.3 + 0.1 * random.randn(10000), 0.8 + 0.05 * random.randn(10000)
    return *_digitized(np.where(random.rand(10000) < 0.5, a, b), 100), 100


def _digitized(x: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    symbols = np.digitize(np.clip(x, 0, 1), np.linspace(0, 1, bins))
    train = int(0.8 * len(x))
    return symbols[:train, None], symbols[train:, None]


@pytest.mark.parametrize(
    ("data", "smoothing", "figure"),
    [
        (course_set_1, 0.0, 2.0510),
        (course_set_1, 0.1, 2.0521),
        (course_set_2, 0.0, 4.0323),
        (course_set_2, 0.1, 4.0323),
    ],
)
def test_course_figures(data, smoothing, figure):
    train, test, bins = data()
    model = Histogram(Event((1,), levels=bins + 1), smoothing=smoothing)
    model.estimate(train)
    nats = -model.log_prob(test).mean()
    assert nats == pytest.approx(figure, abs=1e-4)
    assert nats <= {20: 2.053, 100: 4.033}[bins]


@pytest.mark.parametrize("model", [Histogram, IndependentPixels, SymbolHistogram])
def test_unfitted_is_uniform(model):
    event = Event((1, 2, 3), levels=5)
    x = torch.randint(5, (7, 1, 2, 3))
    expected = torch.full((7,), -6 * float(np.log(5)))
    torch.testing.assert_close(model(event).log_prob(x), expected)


def test_histogram_is_the_empirical_distribution():
    x = torch.tensor([[0, 2], [0, 2], [1, 0], [1, 1]])
    model = Histogram(Event((2,), levels=(2, 3)), smoothing=0.0)
    model.estimate(x)
    p = model.log_prob(torch.cartesian_prod(torch.arange(2), torch.arange(3))).exp()
    torch.testing.assert_close(p, torch.tensor([0, 0, 0.5, 0.25, 0.25, 0]))


def test_a_table_per_label():
    x, labels = torch.tensor([[0], [1], [1], [2]]), torch.tensor([0, 1, 1, 1])
    for model in (Histogram, IndependentPixels, SymbolHistogram):
        fitted = model(Event((1,), levels=3), Event((), levels=3), smoothing=0.0)
        fitted.estimate((x, labels))
        tables = [fitted.conditionals(x[:1], torch.tensor([label])).table()[0, 0].tolist() for label in range(3)]
        assert tables == [pytest.approx(row, abs=1e-6) for row in ([1, 0, 0], [0, 2 / 3, 1 / 3], [1 / 3] * 3)]


def test_independent_pixels_counts_each_column():
    x = torch.tensor([[0, 4], [1, 4], [1, 0], [1, 4]])
    model = IndependentPixels(Event((2,), levels=(2, 5)), smoothing=0.0)
    model.estimate(x)
    torch.testing.assert_close(model.log_prob(torch.tensor([[1, 4]])).exp(), torch.tensor([9 / 16]))
    assert set(model.sample(500, generator=torch.Generator().manual_seed(0))[:, 1].tolist()) == {0, 4}


def test_symbol_histogram_is_the_order_0_entropy():
    x = torch.randint(4, (50, 1, 3, 3), generator=torch.Generator().manual_seed(0)) ** 2 // 3
    model = SymbolHistogram(Event((1, 3, 3), levels=4), smoothing=0.0)
    model.estimate(x)
    p = x.flatten().bincount() / x.numel()
    assert float(-model.log_prob(x).mean() / 9) == pytest.approx(float(torch.special.entr(p).sum()), rel=1e-5)


def test_refusals():
    with pytest.raises(InputError, match=r"4,194,304 cells.*needs about 10\^236 cells"):
        Histogram(Event((1, 28, 28), levels=2))
    with pytest.raises(InputError, match="one table per label"):
        IndependentPixels(Event((3,), levels=2), Event((5,)))
    with pytest.raises(InputError, match="one table per label"):
        Histogram(Event((3,), levels=2), Event((5,)))
    with pytest.raises(InputError, match=r"smoothing must be a number of at least 0, found -1\.0"):
        SymbolHistogram(Event((3,), levels=2), smoothing=-1.0)
    with pytest.raises(InputError, match="IndependentPixels gives each column its own"):
        SymbolHistogram(Event((2,), levels=(2, 5)))
    with pytest.raises(InputError, match="real values"):
        Histogram(Event((2,)))
