"""The course of a fit by clocks of the tests' own: a time limit is a limit, and the learning rate follows it."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import likely
from likely.rows import Rows
from likely.runs.recipe import Budget, Recipe
from likely.training import loop
from likely.training.choices import batch_size_for, evaluations_within, peak_rate, suited_batch
from likely.training.loop import Loop
from likely.training.progress import Progress
from likely.training.schedule import Schedule, learning_rate

EVENT = likely.Event((6,), levels=2)
X = torch.randint(0, 2, (220, 6), generator=torch.Generator().manual_seed(0))


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Timed(likely.MADE):
    """A model that takes its time: seconds for a step, and for an example of a validation."""

    def __init__(self, clock, step, example):
        super().__init__(EVENT, hidden=(4,))
        self.clock, self.step, self.example = clock, step, example
        self.steps = 0

    def _loss(self, x, context, generator):
        self.clock.now += self.step(self.steps) if callable(self.step) else self.step
        self.steps += 1
        return super()._loss(x, context, generator)

    def _log_prob(self, x, context, generator):
        self.clock.now += self.example * len(x)
        return super()._log_prob(x, context, generator)


def fitted(budget, step, example):
    """The clock's seconds that a fit took, and the snapshots of its progress."""
    clock, seen = Clock(), []
    model, rows = Timed(clock, step, example), Rows.of(X)
    recipe = Recipe(budget=budget, batch_size=16, patience=1000)
    Loop(model, rows[:180], rows[180:], None, recipe, watch=seen.append, clock=clock).begin(True)
    return clock.now - 1000, seen


@pytest.mark.parametrize(
    ("budget", "step", "example"),
    [
        ("10s", 0.1, 0.001),
        ("30s", 0.3, 0.2),  # an evaluation of all examples takes eight seconds
        ("60s", 5.0, 0.1),
        ("60s", 7.0, 0.5),
        ("1s", 0.4, 0.01),
        ("60s", lambda k: 0.5 if k < 40 else 3.0, 0.01),  # others begin to use the machine
        ("60s", lambda k: 0.5 if k < 107 else 3.0, 0.01),  # at the very end
        ("60s", lambda k: 4.0 if k % 8 == 7 else 0.5, 0.01),
    ],
)
def test_a_time_limit_is_a_limit(budget, step, example):
    limit = float(budget[:-1])
    seconds, seen = fitted(budget, step, example)
    longest = max(step(k) if callable(step) else step for k in range(seen[-1].step))
    assert seconds <= 1.1 * limit + longest
    assert seconds >= 0.85 * limit - longest - 40 * example
    assert seen[-1].total == seen[-1].step


def test_validation_takes_a_tenth_of_the_time_and_fewer_examples_where_it_is_slow():
    for example, size in ((0.001, 40), (0.025, 40), (0.125, 20), (5.0, 8)):
        seconds, seen = fitted("100s", 2.0, example)
        assert seen[-1].validated_on == size
        training = 2.0 * seen[-1].step
        assert seconds - training <= 0.13 * 100 + (16 + 2 * size) * example * (size == 8) + 16 * example


def test_a_budget_in_time_is_as_good_as_the_steps_it_made():
    """On a machine that others begin to use, the learning rate has come down all the same."""
    for step in (0.6, lambda k: 0.4 if k < 50 else 2.0):
        _, seen = fitted("60s", step, 0.001)
        fractions = [p.fraction for p in seen]
        assert fractions == sorted(fractions)
        assert 0.96 < fractions[-1] <= 1
        fixed = [p for p in seen if p.total is not None]
        assert fixed
        assert fixed[0].elapsed >= 0.89 * 60
        steps = [b.fraction - a.fraction for a, b in pairwise(fixed[1:])]
        assert steps == pytest.approx([steps[0]] * len(steps))


@pytest.mark.parametrize(("step", "says"), [(0.5, False), (2.0, True)])
def test_a_fit_with_time_for_few_steps_says_what_to_shrink(caplog, step, says):
    fitted("60s", step, 0.001)
    found = [message for message in caplog.messages if "steps fit into 60 s" in message]
    assert len(found) == says
    if says:
        assert "a step of 16 examples takes 2 s; a smaller model" in found[0]


def test_half_a_second_is_half_a_second():
    seconds, seen = fitted("0.5s", 0.2, 0.001)
    assert seconds <= 0.55 + 0.2
    assert 1 <= seen[-1].step <= 3


def test_a_time_budget_resumes_to_the_bit_once_the_number_of_steps_is_fixed(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "freeze_run", lambda *_: None)
    clock, rows = Clock(), Rows.of(X)

    def of(folder, watch=None):
        folder.mkdir(exist_ok=True)
        recipe = Recipe(budget="12s", batch_size=16, checkpoint_every=1, patience=1000)
        model = Timed(clock, 0.1, 0.001)
        return Loop(model, rows[:180], rows[180:], None, recipe, folder=folder, watch=watch, clock=clock)

    def kill(progress):
        if progress.total is not None and progress.step == progress.total - 5:
            raise KeyboardInterrupt

    whole = of(tmp_path / "whole").begin(True)
    with pytest.raises(KeyboardInterrupt):
        of(tmp_path / "cut", kill).begin(True)
    resumed = of(tmp_path / "cut").resume(True)
    assert all(map(torch.equal, whole.parameters(), resumed.parameters()))


def test_snapshots_of_the_progress_stay_as_they_were():
    seen = []
    likely.fit(likely.MADE(EVENT, hidden=(4,)), X, budget="3 steps", watch=seen.append)
    assert [p.step for p in seen] == [1, 2, 3]


def rates(recipe, total):
    progress, schedule = Progress(), Schedule(recipe, 10)
    schedule.begin(progress)
    found = []
    while schedule.going(progress):
        found.append(learning_rate(recipe, 1.0, progress))
        progress.step += 1
    assert len(found) == total
    return [*found, learning_rate(recipe, 1.0, progress)]


@pytest.mark.parametrize("total", [10, 100, 3000])
def test_the_learning_rate_warms_up_in_the_first_tenth_and_falls_to_zero(total):
    found = rates(Recipe(budget=f"{total} steps"), total)
    assert found[: total // 10] == sorted(found[: total // 10])
    assert found[0] == pytest.approx(10 / total, rel=0.02)
    assert found[total // 10 :] == sorted(found[total // 10 :], reverse=True)
    assert found[total // 2] == pytest.approx(0.5)
    assert found[-1] == pytest.approx(0)


def test_a_stored_warm_up_means_what_it_meant():
    found = rates(Recipe(budget="100 steps", warmup=30), 100)
    expected = [min(1, (k + 1) / 30) * 0.5 * (1 + math.cos(math.pi * k / 100)) for k in range(101)]
    assert found == pytest.approx(expected)


def test_the_rate_of_a_first_step_is_small_where_nobody_knows_how_many_follow():
    progress = Progress()
    assert learning_rate(Recipe(budget="5m"), 1.0, progress) <= 0.01
    later = replace(progress, step=50, seconds=150.0, fraction=0.5)
    assert learning_rate(Recipe(budget="5m"), 1.0, later) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("examples", "dims", "size"),
    [
        (1, 1, 16),
        (100, 6, 16),
        (1347, 64, 64),
        (2700, 3072, 4),
        (54000, 784, 16),
        (10**6, 10, 512),
        (10**9, 10**7, 1),
    ],
)
def test_the_batch_size_follows_the_data(examples, dims, size):
    assert batch_size_for(examples, dims) == size


@pytest.mark.parametrize(("budget", "size"), [("5s", 16), ("15s", 32), ("5m", 64), ("60 steps", 64)])
def test_a_short_budget_in_time_takes_small_batches_of_a_large_model(budget, size):
    model = likely.GatedPixelCNN(likely.Event((1, 8, 8), 17))
    assert suited_batch(model, 1347, Budget.parse(budget)) == size
    assert suited_batch(likely.MADE(likely.Event((1, 8, 8), 17)), 1347, Budget.parse(budget)) == 64


def test_the_learning_rate_follows_steps_and_parameters():
    assert peak_rate(10, 5) == peak_rate(10**6, 1000) == peak_rate(10, math.nan) == 0.01
    assert peak_rate(10, 8000) == pytest.approx(0.005)
    assert peak_rate(16 * 10**6, 10) == pytest.approx(0.005)


def test_evaluations_are_a_tenth_of_the_work():
    assert [evaluations_within(steps, 64, 150) for steps in (1, 60, 100, 10**6)] == [4, 8, 13, 40]


@pytest.mark.parametrize("unit", ["epochs", "steps"])
def test_a_number_of_epochs_is_a_budget(unit):
    with pytest.raises(likely.InputError, match=f'unknown setting "{unit}"; say budget="3 {unit}"'):
        likely.fit(likely.MADE(EVENT, hidden=(4,)), X, **{unit: 3})
