"""Latent-variable models on the command line: what a bound is made of, latents, and pictures of them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import likely as library
from likely.cli import main
from likely.data import Preparation, load
from likely.latent import LatentVariable


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def likely(*arguments):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def fitted(build, name="runs/a", data="digits", steps=5):
    train = load(data, "train")
    preparation = Preparation.infer(train.x)
    model = build(preparation.event_of(train.x))
    library.fit(model, train, out=name, preparation=preparation, budget=f"{steps} steps")
    return name


def vae(event):
    return library.VAE(event, latent=4, hidden=(16,))


def test_a_bound_and_what_it_is_made_of(capsys):
    run = fitted(vae)
    capsys.readouterr()
    assert likely("eval", run, "digits:test", "--importance-samples", 30, "--per-example", "n.npy", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    terms = said["terms"]
    assert said["importance_samples"] == 30
    assert said["nats"] == pytest.approx(np.load("n.npy").mean())
    assert terms["importance weighted"] == pytest.approx(-said["nats"])
    assert terms["elbo"] == pytest.approx(terms["reconstruction"] - terms["kl"])
    assert {"rate", "distortion", "active units", "mutual information", "k-hat above 0.7"} < set(terms)
    assert likely("eval", run, "digits:test", "--importance-samples", 30) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("elbo")).split()
    assert float(row[1]) == pytest.approx(terms["elbo"], abs=1e-4)
    assert float(row[2]) == pytest.approx(terms["elbo"] / 64 / np.log(2), abs=1e-4)
    assert any("of 4 latent values are active" in line for line in lines)
    assert any(line.startswith("of 30 draws") for line in lines)


def test_prior_sampling_says_on_standard_error_that_it_says_nothing(capsys):
    run = fitted(vae, steps=200)
    capsys.readouterr()
    assert likely("eval", run, "digits:test", "--proposal", "prior", "--importance-samples", 20, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["n"] == 297
    assert [line for line in err.splitlines() if line.startswith("likely: prior sampling: in the median")]


def test_eval_refuses(capsys):
    run = fitted(vae)
    without = vae(load_event())
    library.save(LatentVariable(without.prior, without.decoder), "runs/without")
    library.save(library.MADE(load_event(), hidden=(4,)), "runs/made")
    for arguments, message in {
        (run, "--importance-samples", 0): "at least 1",
        ("runs/without", "--importance-samples", 5): "no encoder",
        ("runs/made", "--proposal", "prior"): "prior",
    }.items():
        capsys.readouterr()
        np.save("x.npy", load("digits", "test").x[:5, None].numpy())
        assert likely("eval", arguments[0], "x.npy" if arguments[0] != run else "digits:test", *arguments[1:]) == 2
        assert message in capsys.readouterr().err


def load_event():
    return library.Event((1, 8, 8), levels=17)


def test_latents_in_files(capsys):
    run = fitted(vae)
    capsys.readouterr()
    assert likely("embed", run, "digits:test", "-o", "z.npy", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"n": 297, "shape": [297, 4], "out": "z.npy"}
    z = np.load("z.npy")
    expected = library.embed(library.load(run), load("digits", "test").x[:, None])
    assert z == pytest.approx(expected.numpy(), abs=1e-6)
    assert likely("embed", run, "digits:test", "-o", "z.csv") == 0
    assert np.array_equal(np.loadtxt("z.csv", delimiter=",").astype("f4"), z)
    assert likely("embed", run, "digits:test", "-o", "z.png") == 2
    assert "latents are written as .npy or .csv" in capsys.readouterr().err


def test_latents_of_a_conditional_flow(capsys):
    labels, x = np.arange(50) % 3, np.random.default_rng(0).normal(size=(50, 2)).astype("f4")
    np.savez("t.npz", x=x, labels=labels)
    model = library.MAF(library.Event((2,)), library.Event((), levels=3), layers=1, hidden=(4,))
    library.save(model, "runs/m")
    assert likely("embed", "runs/m", "t.npz:x", "--context", "t.npz:labels", "-o", "z.npy") == 0
    with torch.no_grad():
        expected = model.transform(torch.from_numpy(x), model.encoded(torch.from_numpy(labels)))[0]
    assert np.load("z.npy") == pytest.approx(expected.numpy(), abs=1e-6)
    assert likely("traverse", "runs/m", "--data", "t.npz:x", "--context", "t.npz:labels", "-o", "w.npy", "-n", 4) == 0
    assert np.load("w.npy").shape == (4, 11, 2)
    assert np.load("w.npy")[:, 0] == pytest.approx(x[0:8:2], abs=1e-5)
    capsys.readouterr()
    assert likely("traverse", "runs/m", "--data", "t.npz:x", "--context", "t.npz:labels", "-o", "w.png") == 2
    assert "write .npy or .csv instead" in capsys.readouterr().err
    assert likely("embed", "runs/m", "t.npz:x", "-o", "z.npy") == 2


def test_a_traversal_and_ways_between_examples(capsys):
    run = fitted(vae)
    capsys.readouterr()
    assert likely("traverse", run, "-n", 3, "--columns", 5, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["out"] == "latents.png"
    assert said["places"] == [-3.0, -1.5, 0.0, 1.5, 3.0]
    assert (len(said["latents"]), said["rows"], said["columns"]) == (3, 3, 5)
    assert said["activity"] == sorted(said["activity"], reverse=True)
    with Image.open("latents.png") as picture:
        assert picture.width > 1.5 * picture.height
    assert likely("traverse", run, "-o", "t.npy", "--samples", "--reach", 1) == 0
    drawn = np.load("t.npy")
    assert drawn.shape == (4, 11, 8, 8)  # the layout of the data
    assert drawn.dtype == np.int64
    for path in ("linear", "spherical"):
        assert likely("traverse", run, "--data", "digits:test", "--path", path, "-n", 6, "-o", "ways.npy") == 0
        assert np.load("ways.npy").shape == (6, 11, 8, 8)
    assert likely("traverse", run, "--data", "digits:test", "-o", "ways.png") == 0
    assert "10 ways between two examples in ways.png" in capsys.readouterr().out


def test_traversals_without_the_data_of_the_fit_and_refusals(capsys):
    library.save(vae(load_event()), "runs/saved")
    assert likely("traverse", "runs/saved", "-o", "t.csv", "--columns", 2) == 0
    assert np.loadtxt("t.csv", delimiter=",").shape == (4, 128)
    library.save(library.NICE(load_event(), layers=2, hidden=(4,)), "runs/nice")
    library.save(library.MADE(load_event(), hidden=(4,)), "runs/made")
    np.save("one.npy", load("digits", "test").x[:1, None].numpy())
    for arguments, message in {
        ("runs/nice",): "a traversal needs a latent-variable model",
        ("runs/made", "--data", "digits:test"): "found shape|expected shape",
        ("runs/saved", "--data", "one.npy"): "at least two examples",
        ("runs/saved", "--reach", "-1"): "positive reach",
        ("runs/saved", "--columns", "1"): "columns",
    }.items():
        capsys.readouterr()
        assert likely("traverse", *arguments) == 2
        error = capsys.readouterr().err
        assert any(part in error for part in message.split("|")), error
