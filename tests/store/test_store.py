"""Run folders: what was saved is what is loaded, and damage is named."""

import io
import json

import pytest
import torch

import likely
from likely import catalogue
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.event import Configured
from likely.latent import LatentVariable, MixtureOf
from likely.latent.hierarchical_vae import LadderPosterior, LadderPrior, OfLowestLayer
from likely.latent.priors import VampPrior
from likely.latent.vq_vae import NearestCodes, OnCodes
from likely.nn.network import Perceptron
from likely.runs import store
from likely.runs.configuration import _public_name
from likely.runs.index import runs


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


def test_loaded_weights_lie_as_those_of_a_new_model_do(tmp_path):
    label = likely.Event((), levels=3)
    x, labels = torch.cartesian_prod(*map(torch.arange, (2, 3, 4))), torch.arange(24) % 3
    for seed in range(20):  # where they lay otherwise, a tenth of the scores differed in the last bit
        model = likely.MADE(likely.Event((3,), levels=(2, 3, 4)), label, hidden=(8, 8), orderings=3, seed=seed).double()
        likely.save(model, tmp_path / str(seed))
        loaded = likely.load(tmp_path / str(seed))
        assert all(tensor.data_ptr() % 64 == 0 for tensor in loaded.state_dict().values())
        assert torch.equal(model.log_prob(x, labels), loaded.log_prob(x, labels))


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


def test_what_is_not_saved_has_the_precision_of_what_is(tmp_path):
    coupling = likely.flows.Coupling(likely.flows.Affine(), (2,))
    flow = likely.flows.Flow(likely.densities.bases.Normal(likely.Event((2,))), [coupling]).double()
    likely.save(flow, tmp_path / "run")
    loaded = likely.load(tmp_path / "run")
    samples = [m.sample(4, generator=torch.Generator().manual_seed(1)) for m in (flow, loaded)]
    assert torch.equal(*samples)


def test_a_part_that_stands_twice_is_refused_before_anything_is_written(tmp_path):
    q = likely.MADE(likely.Event((3,), 2), hidden=(4,))
    mixture = likely.latent.MixtureOf([q, q])
    with pytest.raises(likely.InputError, match=r"the same MADE stands at .*0 and .*1 of this MixtureOf"):
        likely.save(mixture, tmp_path / "run")
    with pytest.raises(likely.InputError, match="the same MADE"):
        likely.fit(mixture, torch.zeros(20, 3, dtype=torch.int64), budget="2 steps", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


SYMBOLS, PLANE, PERCEPTRON = likely.Event((4,), 3), likely.Event((2,)), Perceptron((8,), "relu")


def decoder_of(z, network=PERCEPTRON):
    return ConditionalSymbols(SYMBOLS, z, network=network)


def with_a_vamp_prior():
    encoder = ConditionalNormal(PLANE, SYMBOLS, network=PERCEPTRON, seed=1)
    return LatentVariable(VampPrior(encoder, components=4), decoder_of(PLANE), encoder)


def ladder():
    prior = LadderPrior((2, 1), 8)
    encoder = LadderPosterior(prior, SYMBOLS, PERCEPTRON, 8)
    return LatentVariable(prior, OfLowestLayer(decoder_of(PLANE), prior.event), encoder)


def quantized():
    z = likely.Event((2,), 4)
    decoder = decoder_of(z, OnCodes(PERCEPTRON, 3))
    return LatentVariable(likely.MADE(z, hidden=()), decoder, NearestCodes(decoder, network=PERCEPTRON))


@pytest.mark.parametrize("make", [with_a_vamp_prior, ladder, quantized])
def test_who_borrows_weights_borrows_those_of_the_loaded_model(tmp_path, make):
    models, x = [make(), make()], torch.randint(3, (6, 4), generator=torch.Generator().manual_seed(0))
    models[1].load_state_dict({name: tensor + 1 for name, tensor in models[0].state_dict().items()})
    both = MixtureOf(models)  # alike but for their weights, which must not be mixed up
    likely.save(both, tmp_path / "run")
    loaded = likely.load(tmp_path / "run")
    assert store.configuration(loaded) == store.configuration(both)
    assert list(loaded.state_dict()) == list(both.state_dict())
    found, expected = (m.log_prob(x, generator=torch.Generator().manual_seed(1)) for m in (loaded, both.eval()))
    assert torch.equal(found, expected)
    shuffled = json.loads(json.dumps(store.configuration(both), sort_keys=True))  # as frozen models keep it
    assert store.configuration(store.build(shuffled)) == store.configuration(both)


def test_a_ladder_made_of_its_parts_is_frozen():
    x = torch.randint(3, (20, 4), generator=torch.Generator().manual_seed(0))
    frozen = likely.freeze(ladder(), x)
    assert frozen.model.encoder.lender is frozen.model.prior
    packed = io.BytesIO()
    likely.compress(frozen, x.numpy(), packed)
    packed.seek(0)
    assert (likely.decompress(packed, frozen) == x.numpy()).all()


@pytest.mark.parametrize(
    "place", [["prior"], ["prior", "lender", "x"], ["encoder"], [], [[1]], 3, "prior", ["decoder", 0]]
)
def test_a_forged_place_is_one_clear_error(place):
    config = store.configuration(with_a_vamp_prior())
    assert config["arguments"]["encoder"] == {"same as": ["prior", "lender"]}
    config["arguments"]["encoder"] = {"same as": place}
    with pytest.raises(likely.Error) as caught:
        store.build(config)
    assert "\n" not in str(caught.value)


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


FORGED = {  # a place in the configuration, and what to find there
    "class": [3, ["likely.MADE"], {}, "likely.Event"],
    "arguments": [None, [1], {"event": None}],
    "arguments.event.arguments.shape": ["x", 10**30, [10**30], [[2]]],
    "arguments.event.arguments.levels": [10**30, "x", {}],
    "arguments.context": [True],
    "arguments.hidden": [[10**30], "x"],
}


@pytest.mark.parametrize(("place", "value"), [(place, value) for place in FORGED for value in FORGED[place]])
def test_a_forged_configuration_is_one_clear_error(run, place, value):
    document = json.loads((run / "config.json").read_text())
    *path, name = place.split(".")
    part = document["model"]
    for key in path:
        part = part[key]
    part[name] = value
    (run / "config.json").write_text(json.dumps(document))
    with pytest.raises(likely.Error) as caught:
        likely.load(run)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(likely.InputError, match="not a run"):
        likely.save(likely.MADE(likely.Event((3,), levels=2)), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["precious.txt"]


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(likely.InputError, match="File name too long"):
        likely.save(likely.MADE(likely.Event((3,), levels=2)), tmp_path / ("x" * 300))


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


@pytest.mark.parametrize(
    "line", ["\xff\xfe}", "[3]", '{"step": [3]}', '{"step": 4, "valid_bits_per_dim": "x"}', '{"step": 4']
)
def test_damaged_metrics_are_passed_over(tmp_path, run, line):
    good = '{"step": 2, "valid_bits_per_dim": 1.5, "seconds": 0.1}\n'
    (run / "metrics.jsonl").write_bytes(good.encode() + line.encode("latin1") + b"\n")
    assert [(r.name, r.bits_per_dim) for r in runs(tmp_path)] == [("run", 1.5)]


def test_a_damaged_index_is_done_without(tmp_path, run):
    (tmp_path / ".runs.sqlite").write_bytes(b"no database at all " * 100)
    assert [r.name for r in runs(tmp_path)] == ["run"]


def test_saved_names_are_unique():
    def below(cls):
        return [cls, *(c for sub in cls.__subclasses__() for c in below(sub))]

    catalogue.models()
    known = {cls for cls in below(Configured) if cls.__module__.startswith("likely.")}
    names = [_public_name(cls) for cls in known]
    assert len(names) == len(set(names))


def with_tied_weights():
    """Three layers of the decoder have the same weight."""
    encoder = ConditionalNormal(PLANE, SYMBOLS, network=PERCEPTRON, seed=1)
    decoder = decoder_of(PLANE, Perceptron((8, 8, 8, 8), "relu"))
    layers = [layer for layer in decoder.body.modules() if getattr(layer, "weight", torch.zeros(1)).shape == (8, 8)]
    for layer in layers[1:]:
        layer.weight = layers[0].weight
    assert len(layers) == 3
    return LatentVariable(likely.densities.bases.Normal(PLANE), decoder, encoder)


def symbols(n=40):
    return torch.randint(3, (n, 4), generator=torch.Generator().manual_seed(0))


def test_tied_weights_are_tied_after_loading(tmp_path):
    model = with_tied_weights()
    likely.save(model, tmp_path / "run")
    loaded = likely.load(tmp_path / "run")
    assert store.configuration(loaded) == store.configuration(model)
    assert len(list(loaded.parameters())) == len(list(model.parameters()))
    assert list(loaded.state_dict()) == list(model.state_dict())
    found, expected = (m.log_prob(symbols(), generator=torch.Generator().manual_seed(1)) for m in (loaded, model))
    assert torch.equal(found, expected)
    likely.fit(loaded, symbols(), budget="2 steps")
    assert len(store.tied(loaded)) == 2


def test_a_stopped_fit_of_tied_weights_goes_on(tmp_path):
    def stop(progress):
        if progress.step == 3:
            raise RuntimeError("killed")

    settings = {"budget": "5 steps", "checkpoint_every": 2, "holdout": 0.0}
    whole = likely.fit(with_tied_weights(), symbols(), **settings)
    with pytest.raises(RuntimeError, match="killed"):
        likely.fit(with_tied_weights(), symbols(), out=tmp_path / "run", watch=stop, **settings)
    resumed = likely.resume(tmp_path / "run", symbols())
    assert len(store.tied(resumed)) == 2
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in resumed.state_dict().items())
    assert store.tied(likely.load(tmp_path / "run")) == store.tied(resumed)


def test_tied_weights_are_frozen(tmp_path):
    likely.fit(with_tied_weights(), symbols(), budget="2 steps", out=tmp_path / "run")
    frozen, packed = likely.Frozen.load(tmp_path / "run"), io.BytesIO()
    likely.compress(frozen, symbols().numpy(), packed)
    packed.seek(0)
    assert (likely.decompress(packed, frozen) == symbols().numpy()).all()


@pytest.mark.parametrize("ties", [3, ["x"], {"x": "y"}, {"decoder": "encoder"}, {"decoder.body.2.weight": 3}])
def test_forged_ties_are_one_clear_error(ties):
    config = store.configuration(with_tied_weights()) | {"tied": ties}
    with pytest.raises(likely.StoreError) as caught:
        store.build(config)
    assert "\n" not in str(caught.value)
