"""The command line, as it is typed: what works, and what one line says of what doesn't."""

import dataclasses
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from likely.catalogue import models
from likely.cli import main
from likely.cli.interval import VARIABLE
from likely.runs import Run, store
from likely.training.recipe import Recipe

FAST = ["--budget", "3 steps", "--channels", "4", "--layers", "2"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def likely(*arguments):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def fitted(name="runs/a", *flags):
    assert likely("fit", "gated-pixelcnn", "digits", *FAST, "--out", name, *flags) == 0
    return name


def test_the_main_job(capsys, tmp_path):
    fitted()
    capsys.readouterr()
    assert likely("eval", "runs/a", "digits:test", "--json", "--per-example", "nll.npy") == 0
    report = json.loads(capsys.readouterr().out)
    nll = np.load("nll.npy")
    assert nll.shape == (297,)
    assert nll.dtype == np.float64
    assert report["nats"] == pytest.approx(nll.mean())
    assert report["kind"] == "exact"
    assert likely("sample", "runs/a", "-n", 4, "-o", "samples.png", "--temperature", 0.9) == 0
    with Image.open("samples.png") as picture:
        assert picture.size[0] > 100
    assert likely("sample", "runs/a", "-n", 4, "-o", "samples.npy") == 0
    assert np.load("samples.npy").shape == (4, 8, 8)  # the shape that went in
    assert likely("infill", "runs/a", "digits:test", "--observed", "top", "-n", 5, "-o", "infill.png") == 0
    assert "exact draws" in capsys.readouterr().out
    assert likely("infill", "runs/a", "digits:test", "--observed", "left", "-n", 5, "-o", "infill.npy") == 0
    assert "not exact" in capsys.readouterr().out
    given = np.load("infill.npy")
    assert given.shape == (5, 8, 8)
    assert likely("runs", "--json") == 0
    assert [run["name"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["a"]
    assert likely("resume", "runs/a", "--json") == 0
    assert json.loads(capsys.readouterr().out)["step"] == 3


def test_a_mask_from_a_file_in_the_layout_of_the_data(capsys):
    fitted()
    mask = np.zeros((8, 8), bool)
    mask[:3] = True
    np.save("mask.npy", mask)
    assert likely("infill", "runs/a", "digits:test", "--observed", "mask.npy", "-n", 3, "-o", "i.npy") == 0
    assert likely("infill", "runs/a", "digits:test", "--observed", "mask.npy", "-n", 3, "-o", "i.png", "--json") == 0
    assert '"exact": true' in capsys.readouterr().out


def test_by_class(capsys):
    fitted("runs/by-class", "--context", "digits:labels")
    assert likely("eval", "runs/by-class", "digits:test") == 0
    assert likely("sample", "runs/by-class", "--context", 3, "-n", 4, "-o", "threes.png") == 0
    np.save("labels.npy", np.arange(9))
    assert likely("sample", "runs/by-class", "--context", "labels.npy", "-n", 4, "-o", "first.png") == 0
    capsys.readouterr()
    assert likely("sample", "runs/by-class", "--context", 10, "-n", 4) == 2
    assert "symbols 0 to 9 are expected" in capsys.readouterr().err
    assert likely("sample", "runs/by-class", "-n", 4) == 2
    assert "context" in capsys.readouterr().err


@pytest.mark.parametrize("binarize", ["0.5", "stochastic"])
def test_binarised_data_are_binarised_again(capsys, binarize):
    images = np.random.default_rng(0).integers(0, 256, (60, 5, 4), dtype=np.uint8)
    np.savez("images.npz", train_images=images, test_images=images[:20])
    command = [
        "fit",
        "made",
        "images.npz:train_images",
        "--binarize",
        binarize,
        "--hidden",
        "8,8",
        "--budget",
        "2 epochs",
    ]
    assert likely(*command, "--out", "runs/made") == 0
    assert json.loads(open_text("runs/made/config.json"))["model"]["arguments"]["event"]["arguments"]["levels"] == 2
    reports = []
    for _ in range(2):
        capsys.readouterr()
        assert likely("eval", "runs/made", "images.npz", "--json") == 0
        reports.append(json.loads(capsys.readouterr().out))
    assert reports[0] == reports[1]
    assert reports[0]["n"] == 20


def test_flags_from_a_file(capsys):
    with open("settings.toml", "w") as file:
        file.write('channels = 6\nlayers = 2\nbudget = "3 steps"\n')
    assert likely("fit", "gated-pixelcnn", "digits", "--config", "settings.toml", "--layers", 3, "--out", "runs/a") == 0
    arguments = json.loads(open_text("runs/a/config.json"))["model"]["arguments"]
    assert (arguments["channels"], arguments["layers"]) == (6, 3)


def test_a_column_of_labels_is_a_context():
    np.save("x.npy", np.arange(120).reshape(60, 2) % 3)
    np.savetxt("labels.csv", np.arange(60) % 3, "%d")
    assert likely("fit", "independent-pixels", "x.npy", "--context", "labels.csv", "--out", "runs/csv") == 0
    assert likely("sample", "runs/csv", "--context", 1, "-n", 2, "-o", "samples.npy") == 0
    assert likely("sample", "runs/csv", "--context", "labels.csv", "-n", 2, "-o", "samples.npy") == 0
    assert likely("eval", "runs/csv", "x.npy", "--context", "labels.csv") == 0


def test_a_single_value_is_a_table_of_one_column(capsys):
    np.save("labels.npy", np.arange(60) % 4)
    assert likely("fit", "symbol-histogram", "labels.npy", "--out", "runs/one") == 0
    assert likely("sample", "runs/one", "-n", 5, "-o", "samples.csv") == 0
    assert len(open_text("samples.csv").splitlines()) == 5


def test_runs_are_compared_on_one_set_of_data(capsys):
    for model in ("independent-pixels", "symbol-histogram"):
        assert likely("fit", model, "digits", "--binarize", 0.5, "--out", f"runs/{model}") == 0
    assert likely("fit", "symbol-histogram", "digits", "--out", "runs/grey") == 0
    pair = ("runs/symbol-histogram", "runs/independent-pixels")
    capsys.readouterr()
    assert likely("compare", *pair, "digits", "--json") == 0
    best, other = json.loads(capsys.readouterr().out)["models"]
    assert (best["name"], best["above"]) == ("runs/independent-pixels", 0)
    assert likely("eval", pair[0], "digits", "--json") == 0
    alone = json.loads(capsys.readouterr().out)
    assert other["bits_per_dim"] == alone["bits_per_dim"]
    assert other["above"] == pytest.approx(other["bits_per_dim"] - best["bits_per_dim"])
    assert 0 < other["above_standard_error"] < 0.1 * other["above"]
    assert likely("compare", *pair, "digits") == 0
    assert len(capsys.readouterr().out.splitlines()) > 3
    assert likely("compare", pair[0], "runs/grey", "digits") == 2
    said = "prepare data differently (levels 2 and 17, binarize 0.5 and None): bits/dim cannot be compared"
    assert said in capsys.readouterr().err
    assert likely("compare", pair[0]) == 2


def test_a_source_of_known_entropy_reports_its_gap(capsys):
    assert likely("fit", "histogram", "ising", "--out", "runs/h") == 0
    capsys.readouterr()
    assert likely("eval", "runs/h", "ising", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert -3 * report["standard_error"] < report["gap"]


def open_text(path):
    with open(path) as file:
        return file.read()


def test_kill_and_resume_give_the_weights_of_an_uninterrupted_fit():
    """Killed is another process than the one that was not, and that goes on."""
    settings = ["--budget", "40 steps", "--threads", "1", "--checkpoint-every", "5"]
    command = ["fit", "gated-pixelcnn", "digits", "--channels", "4", "--layers", "2", *settings, "--out"]
    assert likely(*command, "whole") == 0
    started = [sys.executable, "-m", "likely.cli", *command, "cut"]
    with subprocess.Popen(started, stderr=subprocess.DEVNULL) as process:
        while not os.path.exists(f"cut/{store.CHECKPOINT}"):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert likely("resume", "cut", "--threads", "1") == 0
    with open("whole/model.safetensors", "rb") as whole, open("cut/model.safetensors", "rb") as cut:
        assert whole.read() == cut.read()


def test_ctrl_c_says_where_a_fit_stopped_and_how_to_go_on(ctrl_c):
    flags = ["--budget", "1000000 steps", "--hidden", "4", "--threads", "1", "--checkpoint-every", "1000000"]
    command = [sys.executable, "-m", "likely.cli", "fit", "made", "digits", *flags, "--out", "run"]
    every_step = os.environ | {VARIABLE: "0"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=every_step, **pipes) as process:
        begun = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert begun.startswith("step 1 of 1000000, loss ")
    assert process.returncode == 130
    step = re.fullmatch(r"likely: stopped at step (\d+); go on with `likely resume run`", said.splitlines()[-1])[1]
    _, metadata = store.read_weights(Path("run", store.CHECKPOINT))
    assert json.loads(metadata["progress"])["step"] == int(step)  # nothing is lost


def test_help_is_quick_and_does_not_import_torch():
    lines = "import sys, likely.cli", "try: likely.cli.main(['--help'])", "except SystemExit: pass"
    code = "\n".join([*lines, "assert 'torch' not in sys.modules"])
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_models_and_their_flags(capsys):
    assert likely("models", "--json") == 0
    models = [row["model"] for row in json.loads(capsys.readouterr().out)["models"]]
    assert {"made", "gated-pixelcnn", "histogram", "independent-pixels"} <= set(models)
    for model in models:
        assert likely("fit", model, "--help") == 0
        assert "--budget" in capsys.readouterr().out
    assert likely("fit", "GatedPixelCNN", "digits", *FAST, "--out", "runs/x") == 0
    assert likely("fit") == 0


def images(path, sizes):
    os.mkdir(path)
    for k, size in enumerate(sizes):
        Image.fromarray(np.full(size, k, np.uint8)).save(f"{path}/{k}.png")


def bad_files():
    np.save("levels.npy", np.array([[[0, 1], [9, -1]]] * 30))
    np.save("codes.npy", np.array([[10**12, 1]] * 9))
    np.save("pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez("whole.npz", x=np.zeros((9, 4, 4), np.uint8), y=np.zeros(9))
    with open("whole.npz", "rb") as file, open("cut.npz", "wb") as cut:
        cut.write(file.read()[:-40])
    with open("text.csv", "w") as file:
        file.write("a,b\n1,2\n3,x\n")
    with open("holes.csv", "w") as file:
        file.write("1,2\n3,\n")
    np.save("nan.npy", np.full((5, 3), np.nan))
    np.save("empty.npy", np.zeros((0, 4, 4), np.uint8))
    np.save("real.npy", np.random.default_rng(0).normal(size=(5, 3)))
    images("mixed", [(4, 4), (4, 5)])
    with open("cut.idx", "wb") as file:
        file.write(bytes([0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 4, 0, 0, 0, 4, 1, 2, 3]))
    os.mkdir("precious")
    with open("precious/mine.txt", "w") as file:
        file.write("mine")
    with open("file", "w") as file:
        file.write("mine")


BAD = [
    (["fit", "mad", "digits"], 'did you mean "made"'),
    (["fit", "made", "digits", "--hiden", "3"], "--hidden"),
    (["fit", "made", "digits", "--hidden", "3,x"], "numbers with commas"),
    (["fit", "made", "digit"], "digits"),
    (["fit", "made", "nowhere.npz"], "nowhere.npz"),
    (["fit", "made", "whole.npz:z"], "x, y"),
    (["fit", "made", "cut.npz"], "cut.npz"),
    (["fit", "made", "pickled.npy"], "pickled.npy"),
    (["fit", "made", "text.csv"], "row"),
    (["fit", "made", "holes.csv"], "row"),
    (["fit", "made", "nan.npy"], "nan"),
    (["fit", "made", "empty.npy"], "at least one"),
    (["fit", "made", "real.npy"], "real values"),
    (["fit", "made", "mixed"], "examples of one size"),
    (["fit", "made", "cut.idx"], "cut.idx"),
    (["fit", "made", "levels.npy", "--levels", "9"], "found 9 at index"),
    (["fit", "made", "codes.npy"], "number the symbols"),
    (["fit", "made", "digits", "--budget", "soon"], "expected an amount"),
    (["fit", "made", "digits", "--binarize", "maybe"], "stochastic"),
    (["fit", "made", "digits", "--out", "precious"], "not a run"),
    (["fit", "made", "digits", "--out", "file"], "not a run"),
    (["fit", "made", "digits", "--out", "runs/a"], "likely resume"),
    (["fit", "made", "digits", "--device", "cuda:77"], "not available"),
    (["fit", "made", "digits", "--batch-size", "0"], "at least 1"),
    (["fit", "made", "digits", "--learning-rate", "-1"], "positive"),
    (["fit", "made", "digits", "--context", "digits:nonsense"], "nonsense"),
    (["fit", "vae", "digits", "--context", "digits:labels"], "--context: VAE takes no context"),
    (["fit", "gated-pixelcnn", "digits", "--kernel", "4"], "odd"),
    (["fit", "gated-pixelcnn", "digits", "--head", "foo"], "logistics"),
    (["fit", "made", "digits", "--context", "digits:labels", "--features", "0"], "at least 1"),
    (["fit", "made", "digits", "--config=nowhere.toml"], "nowhere.toml"),
    (["fit", "made", "digits", "--seed", "-1"], "seed must be"),
    (["fit", "made", "digits", "--device", "meta"], "not available"),
    (["eval", "runs/none", "digits"], "not a run"),
    (["eval", "runs/a", "whole.npz:x"], "expected shape"),
    (["eval", "runs/a", "digits", "--context", "digits:labels"], "without context"),
    (["eval", "runs/a", "digits", "--batch-size", "0"], "at least 1"),
    (["sample", "runs/a", "-n", "0"], "at least 1"),
    (["sample", "runs/a", "-n", "-5"], "at least 1"),
    (["sample", "runs/a", "--temperature", "0"], "positive"),
    (["sample", "runs/a", "--context", "1"], "without context"),
    (["sample", "runs/a", "--seed", "99999999999999999999"], "--seed"),
    (["sample", "runs/a", "--threads", "100000"], "--threads"),
    (["sample", "runs/by-class", "--context", "99999999999999999999"], "symbols 0 to 9"),
    (["sample", "runs/a", "-n", "1", "-o", "a.xyz"], ".png"),
    (["sample", "runs/a", "-n", "1", "-o", "a.psd"], ".png"),
    (["infill", "runs/a", "digits", "--observed", "bottom"], "bottom"),
    (["infill", "runs/a", "digits", "--observed", "top", "-n", "0"], "at least 1"),
    (["resume", "runs/none"], "not a run"),
    (["runs", "nowhere"], "nowhere"),
    (["frobnicate"], "frobnicate"),
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder, previous = tmp_path_factory.mktemp("bad"), os.getcwd()
    os.chdir(folder)
    bad_files()
    fitted()
    fitted("runs/by-class", "--context", "digits:labels")
    os.chdir(previous)
    return folder


@pytest.mark.parametrize(("arguments", "says"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_use_is_one_line_and_writes_nothing(workplace, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(workplace)
    before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*")}
    code = likely(*arguments)
    _out, err = capsys.readouterr()
    assert code == 2, err
    assert err.count("\n") == 1
    assert err.startswith("likely: ")
    assert says in err
    assert {path: path.stat().st_mtime_ns for path in workplace.rglob("*")} == before


def test_what_may_not_be_looked_at_is_one_line(capsys, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "locked/run")

    monkeypatch.setattr(Run, "read", refuse)
    assert likely("eval", "locked/run", "digits") == 1
    assert capsys.readouterr().err == "likely: locked/run: Permission denied\n"


def test_too_little_memory_is_one_line(capsys):
    fitted()
    capsys.readouterr()
    assert likely("sample", "runs/a", "-n", 10**10) == 1
    assert capsys.readouterr().err.startswith("likely: not enough memory")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_damaged_run_is_named(capsys, file):
    fitted()
    with open(f"runs/a/{file}", "r+b") as handle:
        handle.truncate(30)
    assert likely("eval", "runs/a", "digits") == 2
    assert file in capsys.readouterr().err


def test_no_model_has_a_flag_of_the_recipe():
    recipe = {field.name for field in dataclasses.fields(Recipe)} - {"seed"}
    clashes = {name: recipe & set(inspect.signature(model).parameters) for name, model in models().items()}
    assert not any(clashes.values()), clashes
