"""Forged counts, killed processes and unreadable files: one line at once, and nothing is left behind."""

import contextlib
import copy
import json
import signal
import subprocess
import sys

import pytest
import torch

import likely
from likely.runs import store
from likely.runs.bounds import Bounded

MODELS = {
    "made": lambda: likely.MADE(likely.Event((3,), levels=2), hidden=(4,), orderings=2),
    "pixelcnn": lambda: likely.GatedPixelCNN(likely.Event((1, 4, 4), 4), channels=4, layers=1),
    "flow": lambda: likely.MAF(likely.Event((3,)), layers=2, hidden=(4,)),
    "latent": lambda: likely.VAE(likely.Event((3,), 2), hidden=(4,), latent=2),
    "mixture": lambda: likely.GaussianMixture(likely.Event((3,)), components=2),
}


def counts(config, place=()):
    """The places of all whole numbers of a configuration that say how much of something there is."""
    if isinstance(config, dict | list):
        items = config.items() if isinstance(config, dict) else enumerate(config)
        for key, value in items:
            yield from counts(value, (*place, key))
    elif type(config) is int and not {"seed", "levels", "end"} & set(place):
        yield place


def changed(config, place, value):
    config = copy.deepcopy(config)
    part = config
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return config


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("value", [10**12, 10**9])
def test_forged_counts_are_refused_before_anything_is_made(tmp_path, name, value, monkeypatch):
    likely.save(MODELS[name](), tmp_path / "run")
    document = json.loads((tmp_path / "run" / "config.json").read_text())
    places = list(counts(document["model"]))
    assert len(places) >= 2
    monkeypatch.setattr(store, "build", lambda _: pytest.fail("it was built"))
    for place in places:
        forged = document | {"model": changed(document["model"], place, value)}
        (tmp_path / "run" / "config.json").write_text(json.dumps(forged))
        with pytest.raises(likely.StoreError, match=r"config\.json: .*expected") as caught:
            likely.load(tmp_path / "run")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_counts_that_may_be_meant_are_refused_while_it_is_built(tmp_path, name):
    """A model of millions of values, and a file of some hundred: what is made is counted."""
    likely.save(MODELS[name](), tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    refused = 0
    for place in counts(config):
        with contextlib.suppress(likely.Error):
            built = store.built(tmp_path, changed(config, place, 10**6), 1 << 20)
            assert sum(tensor.numel() for tensor in built.state_dict().values()) < 1 << 20
            continue
        refused += 1
    assert refused >= 2


def test_a_fit_that_goes_on_is_bounded_by_its_checkpoint(tmp_path):
    fitted(tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    for _ in ("with a checkpoint", "without"):
        store.built_again(tmp_path / "run", config)
        with pytest.raises(likely.StoreError, match="far more numbers"):
            store.built_again(tmp_path / "run", changed(config, ("arguments", "orderings"), 10**6))
        (tmp_path / "run" / store.CHECKPOINT).unlink(missing_ok=True)


def test_a_bound_changes_no_weights():
    with Bounded(1 << 24):
        bounded = likely.MADE(likely.Event((3,), 2), hidden=(8,), seed=1)
    free = likely.MADE(likely.Event((3,), 2), hidden=(8,), seed=1)
    assert all(torch.equal(a, b) for a, b in zip(bounded.parameters(), free.parameters(), strict=True))


KILLED = """
import os, signal, sys
import torch
import likely
from likely.runs import files, store
from likely.training import checkpoint

def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "at once":
    files.os.fsync = killed  # while the first file of the folder is written
else:
    save = checkpoint.save
    def second(folder, state):
        if state.progress.step >= 4:
            files.os.fsync = killed
        save(folder, state)
    checkpoint.save = second
x = torch.arange(40).reshape(20, 2) % 3
model = likely.MADE(likely.Event((2,), 3), hidden=(4,), seed=0)
likely.fit(model, x, out=sys.argv[1], budget="8 steps", checkpoint_every=2, batch_size=5)
"""


def fit_killed(run, when):
    done = subprocess.run([sys.executable, "-c", KILLED, run, when], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def fitted(run):
    x = torch.arange(40).reshape(20, 2) % 3
    model = likely.MADE(likely.Event((2,), 3), hidden=(4,), seed=0)
    return likely.fit(model, x, out=run, budget="8 steps", checkpoint_every=2, batch_size=5), x


def test_a_kill_at_the_very_beginning_leaves_no_run_and_the_next_start_no_trace(tmp_path):
    fit_killed(tmp_path / "run", "at once")
    assert not (tmp_path / "run").exists()
    assert len(list(tmp_path.iterdir())) == 1  # hidden, unfinished
    (tmp_path / ".run.mine").mkdir()
    (tmp_path / ".run.mine" / "precious.txt").write_text("mine")
    fitted(tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run.mine", "run"]
    likely.load(tmp_path / "run")


def test_a_kill_while_a_checkpoint_is_written_leaves_nothing_after_the_next_start(tmp_path):
    fit_killed(tmp_path / "run", "later")
    strays = list((tmp_path / "run").rglob(".*"))
    assert len(strays) == 1
    expected, x = fitted(tmp_path / "whole")
    resumed = likely.resume(tmp_path / "run", x)
    assert not list((tmp_path / "run").rglob(".*"))
    assert torch.equal(resumed.log_prob(x), expected.log_prob(x))


def test_weights_that_may_not_be_read_are_not_called_missing(tmp_path, monkeypatch):
    likely.save(MODELS["made"](), tmp_path / "run")

    def refused(*_):
        raise FileNotFoundError("No such file or directory")  # as safetensors says it of any file that it cannot open

    monkeypatch.setattr("likely.runs.files.safetensors.safe_open", refused)
    with pytest.raises(likely.StoreError, match="cannot be read: permission denied"):
        likely.load(tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    with pytest.raises(likely.StoreError, match="is missing"):
        likely.load(tmp_path / "run")


DRAWS = """
import likely

model = likely.MADE(likely.Event((3,), levels=2), hidden=(4,))
for n in (3.0, True, "3", None, 0, -1, 2**63 - 1, 10**12):
    for temperature in (1.0, 0.5):
        try:
            likely.sample(model, n, temperature=temperature)
        except likely.InputError as error:
            print(error)
"""


def test_what_is_no_number_of_samples_is_refused():
    """In a process of its own, where nothing but the library looks at types."""
    done = subprocess.run([sys.executable, "-c", DRAWS], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 16
    assert all(line.startswith("the number of samples") for line in lines)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [1e19, -1e19, 2.0**62])
def test_a_symbol_is_quoted_as_it_was_given(dtype, value):
    given = torch.tensor([[0.0, value]], dtype=dtype)
    with pytest.raises(likely.InputError) as caught:
        likely.Event((2,), 3).check(given)
    assert f"found {given[0, 1].item()} at index (0, 1)" in str(caught.value)
