"""Lines of progress where standard error is no terminal: as often as asked for, by a clock of the test's own."""

import logging

import pytest

from likely.cli.app import main
from likely.cli.interval import Interval
from likely.cli.output import Console
from likely.cli.progress import watch
from likely.errors import InputError
from likely.training.progress import Progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def overs(times):
    clock = Clock()
    interval = Interval(clock)
    found = []
    for clock.now in times:
        found.append(interval.over())
    return found


def test_a_line_is_due_ten_seconds_after_the_last(monkeypatch):
    monkeypatch.delenv("LIKELY_PROGRESS_SECONDS")
    assert overs([101, 109.9, 110, 111, 119.9, 125, 134.9, 135]) == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(("seconds", "found"), [("2.5", [False, True, False]), ("0", [True] * 3), ("inf", [False] * 3)])
def test_the_environment_says_how_often(monkeypatch, seconds, found):
    monkeypatch.setenv("LIKELY_PROGRESS_SECONDS", seconds)
    assert overs([102, 103, 104]) == found


@pytest.mark.parametrize("seconds", ["", "often", "-1", "nan"])
def test_what_is_no_time_is_refused(monkeypatch, seconds):
    monkeypatch.setenv("LIKELY_PROGRESS_SECONDS", seconds)
    with pytest.raises(InputError, match="LIKELY_PROGRESS_SECONDS: seconds of at least 0"):
        Interval()


def test_items_and_steps_are_counted_on_standard_error(monkeypatch, capsys):
    monkeypatch.setenv("LIKELY_PROGRESS_SECONDS", "0")
    with Console(True).counting(2000) as count:
        count(1000)
    with watch() as watcher:
        watcher(Progress(step=1, total=3, loss=0.5, seconds=3.0))
    assert capsys.readouterr() == (
        "",
        "1,000 of 2,000 items\nstep 1 of 3, loss 0.5000 nats/dim (0.7213 bits/dim), 0:06 left\n",
    )


def test_the_last_step_is_always_said(capsys):
    with watch() as watcher:
        for step in (1, 2, 3):
            watcher(Progress(step=step, total=3, loss=0.5))
    assert capsys.readouterr().err.startswith("step 3 of 3, ")


def test_notes_of_a_fit_are_lines_for_people_and_nothing_else(capsys):
    log = logging.getLogger("likely")
    for as_json, said in ((False, "after 1 s: well\n"), (True, "")):
        with Console(as_json).progress():
            log.info("after 1 s: well")
        log.info("nobody listens any more")
        assert capsys.readouterr() == (said, "")
    assert not log.handlers


@pytest.mark.parametrize("unit", ["epochs", "steps"])
def test_a_number_of_epochs_is_a_budget(unit, capsys):
    with pytest.raises(SystemExit) as left:
        main(["fit", "made", "digits", f"--{unit}", "3"])
    assert left.value.code == 2
    assert capsys.readouterr().err == f'likely: --{unit}: a number of {unit} is a budget: --budget "3 {unit}"\n'
