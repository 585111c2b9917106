"""Folders of pictures on the command line: modes and sizes are brought into one, and a run remembers how."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import likely

import likely as library
from likely.runs import Run

MIDDLE = {"crop": lambda x: x[1:5, 1:5], "resize": lambda x: np.array(Image.fromarray(x).resize((4, 4), 3))}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def squares(tmp_path):
    """Two classes of grey pictures of 6×6, and what is in them."""
    found = []
    for k, name in enumerate(("cats", "dogs")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(6):
            x = np.random.default_rng([k, i]).integers(0, 256, (6, 6), np.uint8)
            Image.fromarray(x).save(tmp_path / "pets" / name / f"{i}.png")
            found.append(x)
    return found


@pytest.mark.parametrize("flag", ["crop", "resize"])
def test_a_run_remembers_how_pictures_were_read(squares, capsys, flag):
    small = ["--hidden", 4, "--budget", "2 steps", "--levels", 256, "--holdout", 0]
    assert likely("fit", "made", "pets", f"--{flag}", "4,4", *small, "--out", "run") == 0
    expected = torch.from_numpy(np.stack([MIDDLE[flag](x) for x in squares]))[:, None]
    nats = -library.load("run").log_prob(expected).detach().double().mean()
    capsys.readouterr()
    assert likely("eval", "run", "pets", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["n"], report["dims"]) == (12, 16)
    assert report["nats"] == pytest.approx(float(nats), rel=1e-5)
    assert Run.read("run").preparation.reading == {flag: [4, 4]}
    library.resume("run")  # reads the same data again, or refuses
    assert likely("compress", "run", "pets", "-o", "pets.lk") == 0
    assert likely("decompress", "pets.lk", "--model", "run", "-o", "back.npy") == 0
    assert np.array_equal(np.load("back.npy"), expected[:, 0])


def test_subfolders_are_labels(squares, capsys):
    small = ["--hidden", 4, "--budget", "2 steps", "--holdout", 0]
    assert likely("fit", "made", "pets", "--context", "pets:labels", *small, "--out", "run") == 0
    model = library.load("run")
    assert model.context.levels == 2
    nats = -model.log_prob(torch.from_numpy(np.stack(squares))[:, None], torch.tensor([0] * 6 + [1] * 6))
    capsys.readouterr()
    assert likely("eval", "run", "pets", "--json") == 0
    assert json.loads(capsys.readouterr().out)["nats"] == pytest.approx(float(nats.detach().double().mean()), rel=1e-5)


def test_samples_in_a_folder(squares):
    small = ["--hidden", 4, "--budget", "2 steps", "--holdout", 0]
    assert likely("fit", "made", "pets", *small, "--out", "run") == 0
    assert likely("sample", "run", "-n", 3, "-o", "drawn", "--seed", 1) == 0
    assert likely("sample", "run", "-n", 3, "-o", "drawn.npz", "--seed", 1) == 0
    with np.load("drawn.npz") as archive:
        expected = archive["data"]
    found = [np.array(Image.open(f"drawn/{name}.png")) for name in ("0000", "0001", "0002")]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--resize", "4x4"], "--resize: HEIGHT,WIDTH is expected, as 32,48, found 4x4"),
        (["--resize", "0,4"], "resize: HEIGHT,WIDTH of at least 1 is expected"),
        (["--crop", "4,4,4"], "crop: HEIGHT,WIDTH of at least 1 is expected"),
        (["--crop", "7"], "at least 7×7 pixels are expected for --crop, found 6×6"),
        (["--drop", "x"], "its columns have no names"),
    ],
)
def test_bad_use_is_one_line(squares, capsys, arguments, says):
    assert likely("fit", "made", "pets", *arguments, "--budget", "1 steps", "--out", "run") == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
