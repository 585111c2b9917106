"""Arguments that are NumPy's numbers: a model has Python's in their place, and is saved."""

import inspect
import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import likely
from likely import catalogue
from likely.densities.conditional import ConditionalSymbols
from likely.event import Event
from likely.nn.network import NetworkSpec, Perceptron
from likely.runs import Run, files, store

EVENTS = [Event((1, 2, 2), levels=2), Event((2,))]


def as_numpy(value):
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        return np.int64(value)
    if isinstance(value, float):
        return np.float32(value)
    return tuple(map(as_numpy, value)) if isinstance(value, tuple) else value


def leaves(config):
    if isinstance(config, dict | list):
        parts = config.values() if isinstance(config, dict) else config
        return [leaf for part in parts for leaf in leaves(part)]
    return [config]


def defaults(cls):
    """Its optional arguments, in NumPy's numbers."""
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: as_numpy(p.default) for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}


def examples(event, n=4):
    return torch.randint(2, (n, *event.shape)) if event.discrete else torch.randn(n, *event.shape)


@pytest.mark.parametrize("name", catalogue.models())
def test_numpy_scalars_become_pythons(name, tmp_path):
    cls, built = catalogue.models()[name], []
    for event in EVENTS:
        with suppress(likely.InputError):
            built.append(cls(event, **defaults(cls)))
    for k, model in enumerate(built):
        assert {type(leaf) for leaf in leaves(store.configuration(model))} <= {str, int, float, bool, type(None)}
        likely.save(model, tmp_path / str(k))
        loaded, x = likely.load(tmp_path / str(k)), examples(model.event)
        found, expected = (m.eval().log_prob(x, generator=torch.Generator().manual_seed(0)) for m in (loaded, model))
        assert torch.equal(found, expected)
    assert built or name == "MixtureOf"


@dataclass(frozen=True)
class Hidden(NetworkSpec):
    """A specification of one's own."""

    sizes: tuple

    def build(self, inputs, outputs, features=None):
        return Perceptron(self.sizes).build((math.prod(inputs),), outputs, features)


def test_parts_of_models_take_numpy_scalars(tmp_path):
    two, network = np.int64(2), Hidden((np.int64(3), np.int32(4)))
    assert {type(size) for size in network.sizes} == {int}
    likely.save(ConditionalSymbols(EVENTS[0], EVENTS[1], network=network, seed=two), tmp_path / "symbols")
    coupling = likely.flows.Coupling(likely.flows.RationalQuadraticSpline(np.int8(4)), (two,))
    flow = likely.flows.Flow(likely.densities.bases.Normal(Event((2,))), [coupling])
    likely.save(flow, tmp_path / "flow")
    assert type(likely.load(tmp_path / "flow").transform.transforms[0].map.bins) is int


def test_a_fits_settings_may_be_numpys(tmp_path):
    model = likely.MADE(EVENTS[0], hidden=(np.int64(4),))
    settings = {"learning_rate": np.float32(1e-3), "seed": np.int64(3), "batch_size": np.int16(8)}
    run = tmp_path / "run"
    likely.fit(model, examples(EVENTS[0], 30), budget="2 steps", holdout=np.float64(0.1), out=run, **settings)
    recipe = Run.read(run).recipe
    assert recipe.learning_rate == float(np.float32(1e-3))
    assert recipe.seed == 3


class Own(likely.MADE):
    def __init__(self, event, extra):
        super().__init__(event, hidden=(4,))
        self.extra = extra


@pytest.mark.parametrize(
    "extra", [np.zeros(3), {"a": 1}, torch.nn.Linear(1, 1), 1j], ids=lambda extra: str(type(extra))
)
def test_what_cannot_be_an_argument_leaves_no_folder(extra, tmp_path):
    model = Own(EVENTS[0], extra)
    with pytest.raises(likely.InputError, match=f"extra: a {type(extra).__name__} cannot be saved as an argument"):
        likely.save(model, tmp_path / "run")
    with pytest.raises(likely.InputError, match="extra"):
        likely.fit(model, examples(EVENTS[0], 30), budget="2 steps", out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_weights_that_cannot_be_written_leave_no_folder(tmp_path, monkeypatch):
    def full(path, content):
        if path.name == store.WEIGHTS:
            raise likely.WriteError("the disk is full")
        write(path, content)

    write = files.write_atomic
    monkeypatch.setattr(files, "write_atomic", full)
    with pytest.raises(likely.WriteError):
        likely.save(likely.MADE(EVENTS[0]), tmp_path / "run")
    assert not list(tmp_path.iterdir())
