"""Progress in Python: a bar in a terminal, a line in a notebook, nothing elsewhere."""

import sys
from types import SimpleNamespace

import pytest
import torch

import likely
from likely.training import bar
from likely.training.progress import Progress


def fitted(**settings):
    model = likely.MADE(likely.Event((3,), levels=2), hidden=(4,))
    return likely.fit(model, torch.randint(2, (40, 3)), budget="3 steps", batch_size=16, **settings)


def test_a_script_says_nothing(capsys):
    fitted()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    fitted()
    assert "fit" in capsys.readouterr().err


class ZMQInteractiveShell:
    """What Jupyter calls its shell."""


def test_a_notebook_shows_a_line_written_anew(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=ZMQInteractiveShell))
    monkeypatch.setattr(bar, "SECONDS", 0.0)
    fitted()
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(",")[0] for line in err.strip("\r\n").split("\r")] == [f"step {k} of 3" for k in (1, 2, 3)]
    fitted(watch=False)
    assert capsys.readouterr().err == ""


def test_a_watcher_takes_the_place_of_the_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    seen = []
    fitted(watch=seen.append)
    assert [progress.step for progress in seen] == [1, 2, 3]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shell", [None, object()])
def test_other_shells_are_no_notebooks(shell, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert not bar.in_notebook()


def test_words():
    said = bar.words(Progress(step=2, total=4, loss=0.5, bits_per_dim=0.75, seconds=3.0))
    assert said == "step 2 of 4, loss 0.5000 nats/dim (0.7213 bits/dim), valid 0.7500 bits/dim, 0:03 left"
