"""Models of one's own on the command line: --import."""

import sys
from pathlib import Path

import pytest
from test_cli import likely

MODEL = '''
import torch
from torch import nn
from likely import Density


class Certain{name}(Density):
    """p(x) = 1 / levels^dims.

    Args:
        event: symbols.
        rate: of nothing.
    """

    def __init__(self, event, *, rate: float = 1.0, untyped=None):
        super().__init__(event)
        self.rate, self.untyped = rate, untyped
        self.unused = nn.Parameter(torch.zeros(1))

    def _log_prob(self, x, context, generator):
        flat = -torch.tensor(self.event.alphabets).log().sum()
        return flat + 0 * self.unused * len(x) * torch.ones(len(x))

    def _sample(self, n, context, generator):
        return torch.zeros(n, *self.event.shape, dtype=torch.int64)
'''


@pytest.fixture
def own(tmp_path, monkeypatch, request):
    """A file that defines a model; forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    name = f"own_{abs(hash(request.node.name))}"
    path = tmp_path / f"{name}.py"
    path.write_text(MODEL.format(name=name[4:8]))
    yield path
    sys.modules.pop(name, None)


def test_a_model_of_a_file_is_fitted_and_evaluated(own, capsys):
    model = f"certain{own.stem[4:8]}"
    assert likely("fit", model, "digits", "--rate", 2, "--budget", "2 steps", "--out", "run", "--import", own) == 0
    assert likely(f"--import={own}", "eval", "run", "digits") == 0
    assert "4.0875 ± 0.0000 bits/dim" in capsys.readouterr().out
    assert likely("models", "--import", own) == 0
    assert own.stem in capsys.readouterr().out


def test_without_the_file_a_run_says_what_is_missing(own, capsys):
    assert (
        likely("fit", f"certain{own.stem[4:8]}", "digits", "--budget", "1 steps", "--out", "run", "--import", own) == 0
    )
    config = Path("run/config.json")
    config.write_text(config.read_text().replace(own.stem, "elsewhere"))
    capsys.readouterr()
    assert likely("eval", "run", "digits") == 2
    said = capsys.readouterr().err
    assert said.startswith("likely: unknown class 'elsewhere.Certain")
    assert said.endswith("import the module that defines it first (on the command line: --import FILE.py)\n")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("gone.py", None, "--import gone.py: no such file"),
        ("typo_here.py", "x =", "--import typo_here.py: SyntaxError: invalid syntax (typo_here.py, line 1)"),
        ("raises_here.py", "1 / 0", "--import raises_here.py: ZeroDivisionError: division by zero"),
        ("json.py", "x = 1", "--import json.py: there is another module named json; rename the file"),
        ("no.such.module", None, "--import no.such.module: ModuleNotFoundError: No module named 'no'"),
    ],
)
def test_what_cannot_be_imported_is_one_line(name, text, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path(name).write_text(text)
    assert likely("fit", "made", "digits", "--import", name) == 2
    assert capsys.readouterr().err == f"likely: {said}\n"
    assert Path(name).stem == "json" or Path(name).stem not in sys.modules


def test_a_flag_without_a_file_is_one_line(capsys):
    assert likely("models", "--import") == 2
    assert (
        capsys.readouterr().err == "likely: --import: a file such as mine.py, or a module's dotted name, is expected\n"
    )
