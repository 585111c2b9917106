"""Pictures of densities: what is drawn lies where its numbers say, and equal steps of p look equal."""

import math

import numpy as np
import pytest
import torch

import likely
from likely import pictures
from likely.data import load
from likely.densities.bases import Normal, Uniform
from likely.flows import Elementwise, Flow, Sigmoid
from likely.pictures.axes import LEFT, SIDE, TOP, Panels, colours, ticks

PLANE = likely.Event((2,))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def luminance(rgb):
    """Relative luminance (WCAG) of colours (…, 3) from 0 to 255."""
    c = np.asarray(rgb) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 26.0), (1e-30, 3e-30), (-2e6, 1e6), (99.99, 100.01)])
def test_ticks_are_few_round_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert all(low <= value <= high for value in found)
    step = found[1] - found[0]
    digit = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(digit - round_one) for round_one in (1, 2, 5, 10)) < 1e-3
    assert all(abs(value / step - round(value / step)) < 1e-3 for value in found)


def test_colours_fall_evenly_in_lightness():
    found = luminance(colours(torch.linspace(0, 1, 101)))
    assert found[0] == pytest.approx(1)
    lightness = np.cbrt(found)  # about proportional to what is perceived
    steps = -np.diff(lightness)
    assert steps.min() > 0
    assert np.abs(steps[:90].reshape(9, 10).sum(1) / (10 * steps.mean()) - 1).max() < 0.35


def test_points_and_lines_lie_where_their_numbers_say():
    panels = Panels(1)
    axes = panels.panel(0, (-2.0, 2.0), (0.0, 8.0))
    axes.points(torch.tensor([[1.0, 6.0], [50.0, 50.0]]), (255, 0, 0), opacity=1.0)
    axes.line(torch.tensor([[-2.0, 1.0], [0.0, 1.0], [0.5, math.nan], [1.0, 1.0]]), (0, 0, 255))
    axes.frame("")
    inside = np.asarray(panels.finished())[TOP : TOP + SIDE, LEFT : LEFT + SIDE].astype(int)
    red, blue = ((inside[..., c] - inside[..., 2 - c]) > 150 for c in (0, 2))
    rows, columns = red.nonzero()
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx((SIDE * 2 / 8, SIDE * 3 / 4), abs=1)
    rows, columns = blue.nonzero()
    assert rows.mean() + 0.5 == pytest.approx(SIDE * 7 / 8, abs=1)
    assert columns.max() < SIDE / 2 + 2


def test_bars_are_as_high_as_they_are():
    panels = Panels(1)
    axes = panels.panel(0, (0.0, 1.0), (0.0, 4.0))
    axes.bars(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 3.0]), (0, 0, 255), opacity=1.0)
    axes.frame("")
    inside = np.asarray(panels.finished())[TOP : TOP + SIDE, LEFT : LEFT + SIDE].astype(int)
    blue = inside[..., 2] - inside[..., 0] > 150
    assert blue[:, SIDE // 4].sum() == pytest.approx(SIDE / 4, abs=2)
    assert blue[:, 3 * SIDE // 4].sum() == pytest.approx(3 * SIDE / 4, abs=2)


def test_the_density_is_darkest_at_its_mode():
    model = likely.AffineFlow(PLANE)
    model.estimate(load("turned-gaussian", "train").x[:5000])
    picture = pictures.density(model, load("turned-gaussian", "test").x, generator=seeded())
    inside = luminance(np.asarray(picture)[TOP : TOP + SIDE, LEFT : LEFT + SIDE])
    row, column = np.unravel_index(inside[5:-5, 5:-5].argmin(), (SIDE - 10, SIDE - 10))
    assert (row, column) == pytest.approx((SIDE / 2, SIDE / 2), abs=SIDE / 10)  # the ranges are about its mean
    assert picture.width > 3 * SIDE
    assert inside[10, 10] > 0.99


@pytest.mark.parametrize("event", [likely.Event(()), likely.Event((1,)), PLANE, likely.Event((1, 2, 1))])
@pytest.mark.parametrize("given", [True, False])
def test_every_shape_of_one_or_two_values(event, given):
    x = torch.randn(300, *event.shape, generator=seeded())
    for model in (likely.AffineFlow(event), likely.GaussianMixture(event, components=2)):
        model.estimate(x)
        panels = 3 if isinstance(model, Flow) else 2
        picture = pictures.density(model, x if given else None, generator=seeded())
        assert panels * SIDE < picture.width < (panels + 1) * SIDE
        again = pictures.density(model, x if given else None, generator=seeded())
        assert picture.tobytes() == again.tobytes()
    assert pictures.scatter(x, event).width < 2 * SIDE


def test_values_in_an_interval():
    """A density inside (0, 1) is not asked for anything outside, and neither is a base."""
    event = likely.Event((2,))
    model = Flow(Uniform(event), [Elementwise(Sigmoid(), (2,))])
    assert pictures.density(model, generator=seeded()).width > 3 * SIDE
    assert pictures.density(Uniform(event), generator=seeded()).width > 2 * SIDE
    assert pictures.density(Uniform(likely.Event((1,))), generator=seeded()).width > 2 * SIDE


def test_with_a_label():
    x = torch.randn(300, 2, generator=seeded())
    model = likely.AffineFlow(PLANE, likely.Event((), levels=3))
    model.estimate((x, torch.arange(300) % 3))
    assert pictures.density(model, x[:10], torch.tensor(1), generator=seeded()).width > 3 * SIDE
    with pytest.raises(likely.InputError, match="context"):
        pictures.density(model, x)


@pytest.mark.parametrize("event", [likely.Event((3,)), likely.Event((2,), levels=4)])
def test_other_events_are_refused(event):
    model = Normal(event) if not event.discrete else likely.MADE(event)
    with pytest.raises(likely.InputError, match="one or two real values"):
        pictures.density(model)
    with pytest.raises(likely.InputError, match="one or two real values"):
        pictures.scatter(torch.zeros(3, *event.shape), event)
