"""Real-valued data on the command line: files, sources with a known density, contexts, pictures, errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from likely.cli import main
from likely.data import load


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def likely(*arguments):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def reported(capsys, *arguments):
    capsys.readouterr()
    assert likely(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def table(n=300, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 3)) @ random.normal(size=(3, 3)) + [0, 5, 100]


def write_csv(name, x, form="%.6f"):
    np.savetxt(name, x, form, ",", header="a,b,c", comments="")
    return name


def test_a_table(capsys):
    write_csv("data.csv", table())
    assert likely("fit", "gaussian-mixture", "data.csv", "--components", 2, "--out", "runs/t") == 0
    assert "held out" not in capsys.readouterr().out  # nothing is, for a closed form without a budget
    report = reported(capsys, "eval", "runs/t", "data.csv")
    assert report["n"] == 300
    assert report["nats"] == pytest.approx(report["bits_per_dim"] * 3 * np.log(2))
    assert likely("sample", "runs/t", "-n", 200, "-o", "s.csv") == 0
    assert likely("sample", "runs/t", "-n", 200, "-o", "s.npy") == 0
    drawn = np.load("s.npy")
    assert drawn.dtype == np.float64
    header, *lines = Path("s.csv").read_text().splitlines()
    assert header == "a,b,c"
    assert lines == [",".join(f"{value + 0.0:.6f}" for value in row) for row in drawn.round(6)]
    assert np.abs(drawn.mean(0) - table().mean(0)).max() < 5 * table().std(0).max() / 200**0.5


def test_samples_have_the_decimals_of_the_data(capsys):
    x = table()
    np.savetxt("data.csv", x, ["%.0f", "%.1f", "%.2f"], ",", header="rooms,area,price", comments="")
    assert likely("fit", "gaussian-mixture", "data.csv", "--components", 1, "--out", "runs/t") == 2
    assert 'whole numbers ("rooms")' in capsys.readouterr().err
    assert likely("fit", "gaussian-mixture", "data.csv", "--components", 1, "--real", "--out", "runs/t") == 0
    for name, mark in (("s.csv", ","), ("s.tsv", "\t")):
        assert likely("sample", "runs/t", "-n", 50, "-o", name) == 0
        header, *lines = Path(name).read_text().splitlines()
        assert header == mark.join(("rooms", "area", "price"))
        assert len(lines) == 50
        for line in lines:
            assert [len(cell.partition(".")[2]) for cell in line.split(mark)] == [0, 1, 2]


def test_a_run_takes_the_columns_that_it_was_fitted_to(capsys):
    x = table()
    write_csv("data.csv", x)
    np.savetxt("other.csv", x[:, ::-1], "%.6f", ";", header="c;b;a", comments="")
    Path("text.csv").write_text("a,name,c\n" + "".join(f"{a},x,{c}\n" for a, _, c in x.tolist()))
    assert likely("fit", "affine-flow", "data.csv", "--columns", "c,a", "--out", "runs/ca") == 0
    assert likely("fit", "affine-flow", "text.csv", "--drop", "name", "--out", "runs/ac") == 0
    expected = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(x[:, [0, 2]].T, bias=True))[1]
    for run in ("runs/ca", "runs/ac"):
        for data in ("data.csv", "other.csv", "text.csv"):
            report = reported(capsys, "eval", run, data)
            assert report["nats"] == pytest.approx(expected, abs=1e-4)
    assert likely("eval", "runs/ca", "data.csv:b") == 2
    assert likely("fit", "affine-flow", "data.csv", "--drop", "d", "--out", "runs/no") == 2
    assert "no column 'd'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["scores.npy", "scores.csv", "scores.tsv", "scores.npz", "scores.parquet"])
def test_scores_in_the_format_of_the_ending(capsys, name):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="pip install 'likely[data]'")
    write_csv("data.csv", table())
    assert likely("fit", "affine-flow", "data.csv", "--out", "runs/a") == 0
    report = reported(capsys, "eval", "runs/a", "data.csv", "--per-example", name)
    found = load(name, "train").x.numpy().reshape(-1)
    assert found.dtype == np.float64
    assert found.mean() == pytest.approx(report["nats"], abs=1e-12)
    if name.endswith("sv"):
        assert Path(name).read_text().startswith("nats\n")
    assert likely("eval", "runs/a", "data.csv", "--per-example", "scores.xyz") == 2
    assert "the ending says the format" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["csv", "npy", "npz"])
def test_every_kind_of_file_gives_the_same(capsys, kind):
    x = table().astype("f4")
    np.save("data.npy", x)
    np.savez("data.npz", anything=x)
    write_csv("data.csv", x, "%.9g")
    assert likely("fit", "affine-flow", f"data.{kind}", "--out", "runs/a") == 0
    report = reported(capsys, "eval", "runs/a", f"data.{kind}")
    covariance = np.cov(x.astype("f8").T, bias=True)
    expected = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
    assert report["nats"] == pytest.approx(expected, abs=1e-4)


def test_whole_numbers_are_symbols_unless_said_otherwise(capsys):
    write_csv("whole.csv", np.abs(table() * 5).round(), "%d")
    assert likely("fit", "gaussian-mixture", "whole.csv", "--out", "runs/none") == 2
    assert "--real" in capsys.readouterr().err
    assert likely("fit", "independent-pixels", "whole.csv", "--out", "runs/symbols") == 0
    assert likely("fit", "gaussian-mixture", "whole.csv", "--real", "--out", "runs/real") == 0
    assert reported(capsys, "eval", "runs/real", "whole.csv")["kind"] == "exact"
    assert likely("sample", "runs/symbols", "-n", 5, "-o", "s.csv") == 0
    with open("s.csv") as file:
        assert next(file) == "a,b,c\n"
        assert all(cell.isdigit() for line in file for cell in line.strip().split(","))
    write_csv("signed.csv", table().round(), "%d")
    capsys.readouterr()
    assert likely("fit", "independent-pixels", "signed.csv") == 2
    assert "(--real)" in capsys.readouterr().err
    assert likely("fit", "affine-flow", "signed.csv", "--real", "--out", "runs/signed") == 0
    assert likely("fit", "affine-flow", "signed.csv", "--real", "--levels", 4) == 2


@pytest.mark.parametrize(("model", "source", "limit"), [("gaussian-mixture", "eight-gaussians", 0.01),
                                                       ("affine-flow", "stretched-gaussian", 0.004)])  # fmt: skip
def test_the_gap_to_a_known_source(capsys, model, source, limit):
    assert likely("fit", model, source, "--out", "runs/s") == 0
    report = reported(capsys, "eval", "runs/s", f"{source}:test")
    assert -0.002 < report["gap"] < limit
    assert likely("eval", "runs/s", f"{source}:test") == 0
    assert "nats above the source" in capsys.readouterr().out


def test_symbols_of_a_source_keep_its_alphabet(capsys):
    """Rare symbols may be missing in the training data; and the price of uniform noise is the known one."""
    assert likely("fit", "affine-flow", "rounded-gaussian-1", "--out", "runs/r") == 0
    assert "19 levels" in capsys.readouterr().out
    one = reported(capsys, "eval", "runs/r", "rounded-gaussian-1:test")
    many = reported(capsys, "eval", "runs/r", "rounded-gaussian-1:test", "--importance-samples", 30)
    assert one["kind"] == many["kind"] == "lower bound"
    assert one["gap"] / np.log(2) == pytest.approx(0.0535, abs=0.02)
    assert many["gap"] < one["gap"] - 0.02
    assert (one["importance_samples"], many["importance_samples"]) == (1, 30)


def test_importance_samples_are_for_bounds(capsys):
    assert likely("fit", "affine-flow", "moons", "--out", "runs/m") == 0
    capsys.readouterr()
    assert likely("eval", "runs/m", "moons:test", "--importance-samples", 5) == 2
    assert "is exact" in capsys.readouterr().err
    assert likely("eval", "runs/m", "moons:test", "--importance-samples", 0) == 2


def test_contexts(capsys):
    x = table()
    labels, numbers = np.arange(300) % 3, x[:, :1] + 0.1
    x = x[:, 1:]
    np.savez("s.npz", train_x=x[:200], test_x=x[200:], train_y=labels[:200], test_y=labels[200:])
    np.savez("n.npz", train_x=x[:200], test_x=x[200:], train_first=numbers[:200], test_first=numbers[200:])
    assert likely("fit", "gaussian-mixture", "s.npz", "--context", "s.npz:y", "--components", 2, "--out", "runs/l") == 0
    assert reported(capsys, "eval", "runs/l", "s.npz", "--context", "s.npz:y")["n"] == 100
    assert likely("sample", "runs/l", "-n", 3, "--context", 1, "-o", "s.csv") == 0
    assert likely("sample", "runs/l", "-n", 3, "--context", 3, "-o", "s.csv") == 2
    command = ["fit", "affine-flow", "n.npz:train_x", "--context", "n.npz:train_first", "--features", 8]
    assert likely(*command, "--out", "runs/n") == 0
    alone = ["fit", "affine-flow", "n.npz:train_x", "--out", "runs/alone"]
    assert likely(*alone) == 0
    given = reported(capsys, "eval", "runs/n", "n.npz:test_x", "--context", "n.npz:test_first")
    without = reported(capsys, "eval", "runs/alone", "n.npz:test_x")
    assert given["nats"] < without["nats"] - 0.3
    assert likely("sample", "runs/n", "-n", 3, "--context", 0.5, "-o", "s.csv") == 0


@pytest.mark.parametrize("model", ["gaussian-mixture", "affine-flow"])
def test_a_constant_column_is_named_and_nothing_is_left(capsys, tmp_path, model):
    x = table()
    x[:, 1] = 7.25
    write_csv("constant.csv", x)
    assert likely("fit", model, "constant.csv", "--out", "constant") == 2
    assert "column 2 is 7.25 in all of 300 examples" in capsys.readouterr().err
    assert likely("fit", model, "constant.csv", "--out", "constant", "--budget", "3 steps") == 2
    assert not (tmp_path / "constant").exists()


def test_gradient_steps_on_real_values_can_be_resumed(capsys):
    assert likely("fit", "gaussian-mixture", "moons", "--budget", "4 steps", "--checkpoint-every", 2, "--out", "r") == 0
    assert "10% held out" in capsys.readouterr().out
    assert reported(capsys, "resume", "r")["step"] == 4
    assert reported(capsys, "resume", "r", "--budget", "3 steps")["step"] == 7


def test_a_picture_of_a_density(capsys):
    assert likely("fit", "affine-flow", "moons", "--out", "runs/flow") == 0
    assert likely("fit", "gaussian-mixture", "moons", "--iterations", 3, "--out", "runs/mixture") == 0
    sizes = {}
    for name in ("flow", "mixture"):
        assert reported(capsys, "plot", f"runs/{name}", "-o", f"{name}.png") == {
            "out": f"{name}.png",
            "examples": 20_000,
        }
        with Image.open(f"{name}.png") as picture:
            sizes[name] = picture.size
    assert sizes["flow"][0] > sizes["mixture"][0]
    assert sizes["flow"][1] == sizes["mixture"][1]
    assert reported(capsys, "plot", "runs/flow", "--data", "moons:test", "-o", "x.png")["examples"] == 5000
    assert likely("sample", "runs/flow", "-n", 100, "-o", "samples.png") == 0
    with Image.open("samples.png") as picture:
        assert picture.size[0] > 300


def test_a_picture_without_the_data_or_of_one_label(capsys, tmp_path):
    np.save("x.npy", np.random.default_rng(0).normal(size=300))
    assert likely("fit", "affine-flow", "x.npy", "--out", "runs/x") == 0
    assert "1 real value;" not in capsys.readouterr().out
    (tmp_path / "x.npy").unlink()
    assert reported(capsys, "plot", "runs/x", "-o", "x.png")["examples"] == 0
    np.savez("s.npz", x=table()[:, :2], labels=np.arange(300) % 3)
    assert likely("fit", "affine-flow", "s.npz:x", "--context", "s.npz:labels", "--out", "runs/l") == 0
    assert reported(capsys, "plot", "runs/l", "--context", 1, "-o", "l.png")["examples"] == 100
    capsys.readouterr()
    assert likely("plot", "runs/l", "-o", "none.png") == 2
    assert "context" in capsys.readouterr().err
    assert likely("plot", "runs/x", "--data", "nowhere.npy") == 2
    assert likely("fit", "affine-flow", "s.npz:x", "--out", "runs/again") == 0
    assert likely("plot", "runs/again", "-o", "picture.xyz") == 2


def test_only_densities_of_one_or_two_values_are_drawn(capsys):
    write_csv("data.csv", table())
    assert likely("fit", "affine-flow", "data.csv", "--out", "runs/t") == 0
    capsys.readouterr()
    assert likely("plot", "runs/t") == 2
    assert "one or two real values" in capsys.readouterr().err


def test_a_value_for_missing_ones_is_one_line(capsys):
    x = table()
    x[::50, 1] = -999999
    write_csv("data.csv", x)
    assert likely("fit", "affine-flow", "data.csv", "--out", "runs/m") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "far from all others" in line]
    assert lines == [line for line in lines if line.startswith("likely: column 2: -999999 in ")]
    assert len(lines) == 1
