"""`Run`: every field of config.json is as expected, or one error names it; what is read is written again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import likely
from likely.runs import Run, store

X = torch.randint(0, 2, (30, 3), generator=torch.Generator().manual_seed(0))
PREPARATION = likely.data.Preparation("flat", 2, None, 1.0)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The configuration of a fit, as JSON."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    made = likely.MADE(likely.Event((3,), 2), hidden=(4,))
    likely.fit(made, X, out=folder, budget="1 steps", preparation=PREPARATION)
    return json.loads((folder / store.CONFIG).read_text())


@pytest.fixture
def written(tmp_path):
    """Write a configuration into a folder, and return the folder."""

    def write(config):
        (tmp_path / store.CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        return tmp_path

    return write


def test_a_fit_is_read_with_its_types(fitted, written):
    run = Run.read(written(fitted))
    assert (run.model_name, run.preparation, run.gradient, run.refusal) == ("MADE", PREPARATION, True, None)
    assert (run.recipe.budget, run.recipe.seed) == ("1 steps", 0)
    assert (run.source, run.data.validation, run.data.holdout) == (None, "holdout", 0.1)
    assert run.versions["torch"] == torch.__version__


OLD = sorted((Path(__file__).parents[1] / "compatibility" / "old").glob("*/config.json"))


@pytest.mark.parametrize("file", OLD, ids=lambda file: file.parent.name)
def test_what_is_read_is_written_to_the_byte(file, tmp_path):
    Run.read(file.parent).write(tmp_path)
    assert (tmp_path / store.CONFIG).read_bytes() == file.read_bytes()


def test_a_closed_form_and_a_saved_model(tmp_path):
    likely.fit(likely.Histogram(likely.Event((3,), 2)), X, out=tmp_path / "fitted")
    run = Run.read(tmp_path / "fitted")
    assert not run.gradient
    assert run.to_json()["recipe"]["budget"] is None
    likely.save(likely.MADE(likely.Event((3,), 2), hidden=(4,)), tmp_path / "saved")
    saved = Run.read(tmp_path / "saved")
    assert (saved.data, saved.recipe, saved.preparation, saved.source) == (None, None, None, None)
    assert set(saved.to_json()) == {"format", "model"}
    with pytest.raises(likely.StoreError, match="holds a saved model, not a fit"):
        likely.resume(tmp_path / "saved")


def test_a_refusal_is_noted_and_taken_back(fitted, written):
    folder = written(fitted)
    before = (folder / store.CONFIG).read_bytes()
    replace(Run.read(folder), refusal="it has no twin").write(folder)
    assert json.loads((folder / store.CONFIG).read_text()) == fitted | {"frozen": {"refused": "it has no twin"}}
    replace(Run.read(folder), refusal=None).write(folder)
    assert (folder / store.CONFIG).read_bytes() == before


def test_unknown_fields_are_kept(fitted, written):
    more = {name: {**fitted[name], "new": [1]} for name in ("data", "recipe")}
    config = {"note": "mine", **fitted, **more}
    folder = written(config)
    before = (folder / store.CONFIG).read_bytes()
    run = Run.read(folder)
    run.write(folder)
    assert (folder / store.CONFIG).read_bytes() == before
    with pytest.raises(likely.StoreError, match=r"config.json: recipe: unknown settings: new"):
        likely.resume(folder, X)


WRONG = [
    ("model", 3, "model: an object is expected, found 3"),
    ("model.class", 3, "model.class: the name of a class is expected, found 3"),
    ("data", 3, "data: an object is expected, found 3"),
    ("data.source", 3, "data.source: a name, a path or null is expected, found 3"),
    ("data.context", [], r"data.context: a name, a path or null is expected, found \[\]"),
    ("data.fingerprint", "F" * 64, "data.fingerprint: 64 hexadecimal digits is expected, found 'F"),
    ("data.validation", "test", "data.validation: .* is expected, found 'test'"),
    ("data.holdout", 1, "data.holdout: a fraction from 0 to below 1 is expected, found 1"),
    ("data.holdout", "0.1", "data.holdout: .* found '0.1'"),
    ("preparation", 3, "preparation: an object is expected, found 3"),
    ("preparation.levels", 0, "preparation: levels of at least 1"),
    ("preparation.peak", 10**400, "preparation: int too large"),
    ("recipe", None, "recipe: an object is expected, found None"),
    ("recipe.budget", 5, "recipe.budget: an amount .* is expected, found 5"),
    ("recipe.budget", "long", 'recipe: budget "long": expected an amount'),
    ("recipe.batch_size", 0, "recipe: batch_size must be a whole number of at least 1, found 0"),
    ("recipe.seed", -1, "recipe: seed must be from 0"),
    ("versions", {"torch": 2}, "versions: an object of names and versions is expected"),
    ("frozen", {"refused": 3}, "frozen.refused: a reason is expected, found 3"),
]


@pytest.mark.parametrize(("place", "value", "said"), WRONG)
def test_a_wrong_field_is_one_error_that_names_it(fitted, written, place, value, said):
    config = json.loads(json.dumps(fitted))
    part, *rest = place.split(".")
    for name in rest:
        config[part][name] = value
    if not rest:
        config[part] = value
    folder = written(config)
    with pytest.raises(likely.StoreError, match=f"^{folder}/config.json: {said}") as caught:
        Run.read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "place",
    ["data", "preparation", "versions", "model.class", "data.source", "data.fingerprint", "recipe.budget"],
)
def test_a_missing_field_is_named(fitted, written, place):
    config = json.loads(json.dumps(fitted))
    part, _, name = place.partition(".")
    if name:
        del config[part][name]
    else:
        del config[part]
    folder = written(config)
    with pytest.raises(likely.StoreError, match=f"^{folder}/config.json: {place} is missing"):
        Run.read(folder)


def test_settings_that_a_recipe_had_not_yet_are_as_they_were(fitted, written):
    config = fitted | {"recipe": {name: value for name, value in fitted["recipe"].items() if name != "precision"}}
    assert Run.read(written(config)).recipe.precision == "float32"
