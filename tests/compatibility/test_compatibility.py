"""Run folders and .lk files of the release before are read, and mean what they meant. `make_runs.py` made them.

Numbers may differ by rounding, where sums are taken in another order; bytes and samples of symbols may not.
"""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from likely import Frozen, compress, decompress, evaluate, freeze, load, resume
from likely.density import Density

OLD = Path(__file__).parent / "old"
EXPECTED: dict[str, dict[str, Any]] = json.loads((OLD / "expected.json").read_text("utf-8"))
DATA = {name: torch.from_numpy(array) for name, array in np.load(OLD / "data.npz", allow_pickle=False).items()}
FITTED = [name for name, found in EXPECTED.items() if "log_prob" in found]
RENAMED = {"vae-of-parts"}  # a class that its configuration names has another name now
FROZEN = [name for name in FITTED if "frozen" in EXPECTED[name]]
INTERRUPTED = [name for name in EXPECTED if name not in FITTED]
EXAMPLES, SAMPLES, CODED = 8, 4, 7
NATS = 1e-5


@pytest.fixture(scope="module", params=FITTED)
def case(request: pytest.FixtureRequest) -> tuple[Density, Tensor, Tensor | None, dict[str, Any]]:
    """A run of the release before: its model, its data and their context, and what was known of it."""
    expected = EXPECTED[request.param]
    return load(OLD / request.param), *prepared(request.param), expected


def prepared(name: str) -> tuple[Tensor, Tensor | None]:
    """The data that a run was fitted to, as its model takes them, and their context."""
    x, context = raw(name)
    return (x[:, None].long() if x.dtype == torch.uint8 else x), context


def raw(name: str) -> tuple[Tensor, Tensor | None]:
    """The data of a run as they were given, and their context."""
    expected = EXPECTED[name]
    return DATA[expected["data"]], None if expected["context"] is None else DATA[expected["context"]]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_log_prob_stays(case):
    model, x, context, expected = case
    with torch.no_grad():
        found = model.log_prob(x[:EXAMPLES], None if context is None else context[:EXAMPLES], generator=generator(1))
    np.testing.assert_allclose(found.double().numpy(), expected["log_prob"], rtol=1e-6, atol=NATS)


def test_samples_stay(case):
    model, _, context, expected = case
    given = None if context is None else context[:SAMPLES]
    found = model.sample(SAMPLES, given, generator=generator(2)).numpy()
    if model.event.discrete:
        assert found.tolist() == expected["samples"]
    else:
        np.testing.assert_allclose(found, expected["samples"], rtol=1e-4, atol=1e-5)


def test_report_stays(case):
    model, x, context, expected = case
    pair = x if context is None else (x, context)
    assert_same_report(evaluate(model, pair).to_json(), expected["report"])
    if model.kind == "lower bound":
        found = evaluate(model, pair, importance_samples=3, terms=False).to_json()
        assert_same_report(found, expected["importance weighted"])


def assert_same_report(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Everything that was reported is, with the same numbers."""
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_same_report(found[name], value)
        elif isinstance(value, float):
            assert found[name] == pytest.approx(value, rel=1e-5, abs=NATS, nan_ok=True), name
        else:
            assert found[name] == value, name


@pytest.mark.parametrize("name", FROZEN)
def test_frozen_model_codes_to_the_same_bytes(name, tmp_path):
    x, context = raw(name)
    data, labels = x[:CODED].numpy(), None if context is None else context[:CODED]
    data = data.astype(np.min_scalar_type(int(data.max())))
    found = decompress(OLD / name / "coded.lk", OLD / name)
    assert found.dtype == data.dtype
    np.testing.assert_array_equal(found, data)
    frozen = Frozen.load(OLD / name)
    assert frozen.id.hex() == EXPECTED[name]["frozen"]
    compress(frozen, data, tmp_path / "again.lk", context=labels, chunk_items=5, batch=2)
    assert (tmp_path / "again.lk").read_bytes() == (OLD / name / "coded.lk").read_bytes()


@pytest.mark.parametrize("name", [name for name in FROZEN if name not in RENAMED])
def test_freezing_gives_the_same_model(name):
    x, context = prepared(name)
    preparation = Frozen.load(OLD / name).preparation
    again = freeze(load(OLD / name), (x, context), preparation=preparation)
    assert again.id.hex() == EXPECTED[name]["frozen"]


@pytest.mark.parametrize("name", INTERRUPTED)
def test_interrupted_fit_ends_as_it_would_have(name, tmp_path):
    x, context = raw(name)
    shutil.copytree(OLD / name, tmp_path / name)
    resume(tmp_path / name, x if context is None else (x, context))
    found, expected = load_file(tmp_path / name / "model.safetensors"), load_file(OLD / f"{name}.safetensors")
    model = load(tmp_path / name)
    model.load_state_dict(found)
    redrawn = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.load_state_dict(expected)
    for key, tensor in model.state_dict().items():
        np.testing.assert_allclose(redrawn[key].numpy(), tensor.numpy(), rtol=1e-4, atol=1e-5, err_msg=key)


def test_nothing_is_unpickled(monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle is read")

    for module, name in (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load"):
        monkeypatch.setattr(module, name, refuse)
    for name in FITTED:
        load(OLD / name)
    for name in FROZEN:
        Frozen.load(OLD / name)
    assert {file.suffix for file in OLD.rglob("*.*")} == {".json", ".jsonl", ".npz", ".safetensors", ".lk"}
