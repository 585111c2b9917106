"""Run folders: what was saved is what is loaded, and damage is named."""

import json

import pytest
import torch

import likely
from likely import store
from likely.index import runs


def models():
    label = likely.Event((), levels=3)
    return {
        "made": likely.MADE(likely.Event((3,), levels=(2, 3, 4)), label, hidden=(8, 8), orderings=3),
        "pixelcnn": likely.GatedPixelCNN(
            likely.Event((3, 4, 4), levels=5), likely.Event((1, 2, 2)), channels=6, layers=2
        ),
        "logistics": likely.GatedPixelCNN(likely.Event((1, 4, 4), levels=256), channels=6, layers=2, head="logistics"),
    }


@pytest.mark.parametrize("name", models())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saved_is_loaded_to_the_bit(tmp_path, name, dtype):
    model = models()[name].to(dtype)
    likely.save(model, tmp_path / "run")
    loaded = likely.load(tmp_path / "run")
    x = torch.stack([torch.randint(0, levels, (5,)) for levels in model.event.alphabets], 1).view(5, *model.event.shape)
    context = None
    if model.context is not None:
        context = torch.randint(0, 3, (5,)) if model.context.shape == () else torch.randn(5, *model.context.shape)
    assert type(loaded) is type(model)
    assert store.configuration(loaded) == store.configuration(model)
    assert torch.equal(model.log_prob(x, context), loaded.log_prob(x, context))
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    one = None if context is None else context[0]
    samples = [m.sample(4, one, generator=g) for m, g in zip((model, loaded), generators, strict=True)]
    assert torch.equal(*samples)


@pytest.fixture
def run(tmp_path):
    likely.save(likely.MADE(likely.Event((3,), levels=2), hidden=(4,)), tmp_path / "run")
    return tmp_path / "run"


def damage(run, how):
    config = run / "config.json"
    weights = run / "model.safetensors"
    if how == "no config":
        config.unlink()
    elif how == "no weights":
        weights.unlink()
    elif how == "truncated config":
        config.write_text(config.read_text()[:50])
    elif how == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:100])
    elif how == "other json":
        config.write_text('{"hello": 1}')
    elif how == "pickle":
        torch.save({"a": torch.zeros(1)}, weights)
    elif how == "other weights":
        store.write_weights(weights, {"a": torch.zeros(1)})
    else:
        document = json.loads(config.read_text())
        document["model"]["class"] = "likely.MADEE" if how == "class" else "os.system"
        config.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "how",
    [
        "no config", "no weights", "truncated config", "truncated weights", "other json", "pickle", "other weights",
        "class", "foreign class",
    ],
)  # fmt: skip
def test_damage_is_one_clear_error(run, how):
    damage(run, how)
    with pytest.raises(likely.StoreError) as caught:
        likely.load(run)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(likely.InputError, match="not a run"):
        likely.save(likely.MADE(likely.Event((3,), levels=2)), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["precious.txt"]


def test_users_classes_are_saved_by_their_own_name(tmp_path):
    class Mine(likely.MADE):
        pass

    config = store.configuration(Mine(likely.Event((2,), levels=2), hidden=(3,)))
    assert config["class"].endswith("Mine")
    assert type(store.build(config)) is Mine


def test_the_index_follows_the_folders(tmp_path, run):
    assert [(r.name, r.model) for r in runs(tmp_path)] == [("run", "MADE")]
    likely.save(likely.GatedPixelCNN(likely.Event((1, 4, 4), levels=2)), tmp_path / "deep" / "other")
    assert [r.name for r in runs(tmp_path)] == ["deep/other", "run"]
    damage(run, "no config")
    assert [r.name for r in runs(tmp_path)] == ["deep/other"]
    with pytest.raises(likely.InputError, match="not a folder"):
        runs(tmp_path / "nowhere")
