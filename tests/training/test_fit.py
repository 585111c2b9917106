"""Fitting: it reaches the known entropy, resumes to the bit, and stops with its work saved."""

import errno
import json
import os
import shutil
import signal
from contextlib import nullcontext

import numpy as np
import pytest
import torch

import likely
from likely.data import Coins, Data, Preparation
from likely.runs import Run, store
from likely.training.averaging import Average
from likely.training.chance import Chance
from likely.training.recipe import Budget

EVENT = likely.Event((6,), levels=2)


def coins(n=400, seed=0):
    source = Coins((0.9, 0.2, 0.5, 0.7, 0.05, 0.6))
    return source, source.sample(n, generator=torch.Generator().manual_seed(seed))


def small():
    return likely.MADE(EVENT, hidden=(8,))


def weights(folder):
    return store.read_weights(folder / store.WEIGHTS)[0]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_reaches_the_entropy_of_a_known_source():
    source, x = coins(4000)
    _, fresh = coins(4000, seed=1)
    model = likely.fit(small(), x, budget="600 steps", batch_size=128, learning_rate=0.02)
    report = likely.evaluate(model, fresh, source=source)
    assert -3 * report.standard_error < report.gap < 0.01 * source.entropy()


@pytest.mark.parametrize("head", ["categorical", "logistics"])
def test_bfloat16_trains_and_leaves_the_likelihood_in_float32(head):
    event, x = likely.Event((1, 4, 4), levels=4), torch.randint(0, 2, (64, 1, 4, 4)) * 3

    def fitted(precision):
        model = likely.GatedPixelCNN(event, channels=8, layers=2, head=head)
        return likely.fit(
            model, x, budget="60 steps", learning_rate=2e-3, average=0.0, precision=precision, holdout=0.0
        )

    single, half = fitted("float32"), fitted("bfloat16")
    assert {p.dtype for p in half.parameters()} == {half.log_prob(x).dtype} == {torch.float32}
    difference = (single.log_prob(x) - half.log_prob(x)).abs().mean() / single.log_prob(x).abs().mean()
    assert 0 < difference < 0.05


def test_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    likely.fit(small(), coins()[1], budget="3 steps")
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("binarize", [0.5, "stochastic"])
def test_a_crash_and_a_resumption_give_the_weights_of_an_uninterrupted_fit(tmp_path, binarize):
    torch.set_num_threads(1)
    raw = torch.randint(0, 256, (150, 3, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    raw[0, 0, 0] = 255
    np.save(tmp_path / "x.npy", raw.numpy())
    data = likely_data(tmp_path / "x.npy")
    preparation = Preparation.infer(raw, binarize=binarize)
    settings = {
        "budget": "60 steps",
        "batch_size": 32,
        "patience": 100,
        "checkpoint_every": 7,
        "preparation": preparation,
    }

    def crash(progress):
        if progress.step == 40:
            raise RuntimeError("power cut")

    event = preparation.event_of(raw)
    likely.fit(likely.MADE(event, hidden=(8,)), data, out=tmp_path / "whole", **settings)
    with pytest.raises(RuntimeError, match="power cut"):
        likely.fit(likely.MADE(event, hidden=(8,)), data, out=tmp_path / "cut", watch=crash, **settings)
    likely.resume(tmp_path / "cut")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    lines = [
        [
            {k: v for k, v in json.loads(line).items() if k != "seconds"}
            for line in (run / store.METRICS).read_text().splitlines()
        ]
        for run in (tmp_path / "whole", tmp_path / "cut")
    ]
    assert lines[0] == lines[1]


def likely_data(path) -> Data:
    from likely.data import load

    return load(str(path), "train")


def test_ctrl_c_leaves_a_resumable_run(tmp_path):
    torch.set_num_threads(1)
    x = coins()[1]

    def interrupt(progress):
        if progress.step == 11:
            os.kill(os.getpid(), signal.SIGINT)

    likely.fit(small(), x, budget="30 steps", out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt, match="step 11"):
        likely.fit(small(), x, budget="30 steps", out=tmp_path / "cut", watch=interrupt)
    likely.resume(tmp_path / "cut", x)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_a_fit_that_has_ended_goes_on_with_a_budget(tmp_path):
    """Also where it is stopped again; warm-up and decay begin anew, and what is better than before is kept."""
    torch.set_num_threads(1)
    x, run = coins()[1], tmp_path / "run"

    def stop(progress):
        if progress.step == 55:
            raise RuntimeError("power cut")

    likely.fit(small(), x, budget="40 steps", patience=100, out=run)
    first = metrics(run)
    whole, cut = (shutil.copytree(run, tmp_path / name) for name in ("whole", "cut"))
    likely.resume(whole, x, budget="30 steps")
    with pytest.raises(RuntimeError, match="power cut"):
        likely.resume(cut, x, budget="30 steps", watch=stop)
    with pytest.raises(likely.InputError, match="has not ended; resume it without one"):
        likely.resume(cut, x, budget="30 steps")
    likely.resume(cut, x)
    assert same(weights(whole), weights(cut))
    lines = metrics(whole)
    assert lines[: len(first)] == first
    assert lines[-1]["step"] == 70
    rates = [line["learning_rate"] for line in lines]
    assert rates[len(first) - 1] < rates[len(first) + 2] > rates[-1]
    assert Run.read(whole).recipe.budget == "30 steps"


def metrics(run):
    return [json.loads(line) for line in (run / store.METRICS).read_text().splitlines()]


def test_resume_refuses_other_data(tmp_path):
    likely.fit(small(), coins()[1], budget="3 steps", out=tmp_path / "run")
    with pytest.raises(likely.InputError, match="fingerprint"):
        likely.resume(tmp_path / "run", coins(seed=5)[1])
    with pytest.raises(likely.InputError, match="given in Python"):
        likely.resume(tmp_path / "run")


@pytest.mark.parametrize("contexts", [30, 90])
def test_a_context_that_is_not_one_per_example_is_refused(tmp_path, contexts):
    x, labels = coins(60)[1], torch.randint(0, 3, (90,))
    model = likely.MADE(EVENT, likely.Event((), levels=3), hidden=(8,))
    for train, valid in (((x, labels[:contexts]), None), ((x, labels[:60]), (x, labels[:contexts]))):
        with pytest.raises(likely.InputError, match="60 values are expected, one per example"):
            likely.fit(model, train, valid=valid, budget="1 steps", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("part", "forged"),
    [
        ("recipe", None), ("recipe", [[[]]]), ("recipe", {"budget": 5}), ("recipe", {"batch_size": 2.5}),
        ("recipe", {"learning_rate": "x"}), ("recipe", {"seed": None}), ("data", {}), ("data", 3), ("preparation", 3),
    ],
)  # fmt: skip
def test_a_forged_run_is_one_clear_error(tmp_path, part, forged):
    _, x = coins()
    likely.fit(small(), x, budget="1 steps", out=tmp_path / "run")
    config = json.loads((tmp_path / "run" / store.CONFIG).read_text())
    (tmp_path / "run" / store.CONFIG).write_text(json.dumps({**config, part: forged}))
    with pytest.raises(likely.Error) as caught:
        likely.resume(tmp_path / "run", x)
    assert "\n" not in str(caught.value)


def test_an_existing_run_is_refused(tmp_path):
    likely.fit(small(), coins()[1], budget="2 steps", out=tmp_path / "run")
    before = weights(tmp_path / "run")
    with pytest.raises(likely.InputError, match="likely resume"):
        likely.fit(small(), coins()[1], budget="2 steps", out=tmp_path / "run")
    assert same(before, weights(tmp_path / "run"))


class Poisoned(likely.MADE):
    """Its loss becomes what `poison` says from the tenth step on, for `lasting` steps."""

    poison, lasting = float("nan"), 1
    calls = 0

    def _loss(self, x, context, generator):
        self.calls += 1
        return super()._loss(x, context, generator) * (self.poison if 0 <= self.calls - 10 < self.lasting else 1)


@pytest.mark.parametrize(
    ("poison", "lasting", "step"), [(float("nan"), 1, 10), (float("inf"), 1, 10), (1e6, 10, 19), (70.0, 10, 19)]
)
def test_divergence_names_the_step_and_keeps_the_last_good_checkpoint(tmp_path, poison, lasting, step):
    model = Poisoned(EVENT, hidden=(8,))
    model.poison, model.lasting = poison, lasting
    settings = {"budget": "20 steps", "checkpoint_every": 9, "learning_rate": 1e-2}
    with pytest.raises(likely.DivergedError, match=f"step {step}: "):
        likely.fit(model, coins()[1], out=tmp_path / "run", **settings)
    _, metadata = store.read_weights(tmp_path / "run" / store.CHECKPOINT)
    assert json.loads(metadata["progress"])["step"] == step // 9 * 9
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())


def test_one_example_far_out_is_no_divergence():
    model, seen = Poisoned(EVENT, hidden=(8,)), []
    model.poison = 1e6
    likely.fit(model, coins()[1], budget="20 steps", learning_rate=1e-2, watch=seen.append)
    assert seen[-1].step == 20
    assert max(progress.loss for progress in seen) < 1


@pytest.mark.parametrize(("lasting", "ends"), [(1, True), (3, True), (9, False)])
def test_a_learning_rate_of_the_librarys_own_choice_comes_down_after_a_divergence(caplog, lasting, ends):
    """Three times, each to three tenths; after that it is not the rate."""
    model, seen = Poisoned(EVENT, hidden=(8,)), []
    model.lasting = lasting
    with nullcontext() if ends else pytest.raises(likely.DivergedError, match="step 13: "):
        likely.fit(model, coins()[1], budget="20 steps", watch=seen.append)
    assert seen[-1].slower == pytest.approx(0.3 ** min(lasting, 3))
    assert "training diverged at step 10: loss nan" in caplog.messages[0]
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_gradient_far_longer_than_usual_counts_as_a_somewhat_longer_one():
    norms = []
    model = Poisoned(EVENT, hidden=(8,))
    model.poison = 10.0
    likely.fit(model, coins()[1], budget="10 steps", clip=1.5, watch=lambda progress: norms.append(progress.norm))
    usual, after = norms[8:10]
    assert after == pytest.approx(usual * (1 + 0.01 * (1.5 - 1)), rel=1e-6)


class Scaled(likely.MADE):
    """The same likelihood in other units."""

    def _loss(self, x, context, generator):
        return super()._loss(x, context, generator) * 1000


def test_the_limit_of_the_gradient_does_not_depend_on_the_unit_of_the_loss():
    def norm(cls, clip):
        norms = []
        model = cls(EVENT, hidden=(8,))
        likely.fit(model, coins()[1], budget="30 steps", clip=clip, watch=lambda progress: norms.append(progress.norm))
        return norms[-1]

    assert norm(Scaled, 0.9) == pytest.approx(1000 * norm(likely.MADE, 0.9), rel=1e-3)
    assert norm(likely.MADE, 0.9) < 0.99 * norm(likely.MADE, 1e9)  # so the limit was met


def test_a_full_disk_leaves_the_previous_checkpoint_good(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    x, fsync = coins()[1], os.fsync

    def fill(progress):
        def full(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        if progress.step == 8:
            monkeypatch.setattr(os, "fsync", full)

    likely.fit(small(), x, budget="12 steps", out=tmp_path / "whole", checkpoint_every=5)
    with pytest.raises(likely.WriteError, match="No space left") as caught:
        likely.fit(small(), x, budget="12 steps", out=tmp_path / "cut", checkpoint_every=5, watch=fill)
    assert caught.value.exit_code == 1
    monkeypatch.setattr(os, "fsync", fsync)
    assert not list((tmp_path / "cut").rglob(".*"))
    likely.resume(tmp_path / "cut", x)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_closed_form_models_take_no_steps_without_a_budget(tmp_path):
    _source, x = coins()
    model = likely.fit(likely.IndependentPixels(EVENT), x, out=tmp_path / "run")
    ones = model.conditionals(x[:1]).table()[0, :, 1]
    torch.testing.assert_close(ones, x.float().mean(0), atol=0.01, rtol=0)
    with pytest.raises(likely.InputError, match="no parameters"):
        likely.fit(likely.IndependentPixels(EVENT), x, budget="3 steps")


@pytest.mark.parametrize("settings", [{}, {"budget": "3 steps", "holdout": 0.0}], ids=["closed form", "and steps"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_fit_in_closed_form_resumes(tmp_path, settings, killed, monkeypatch):
    _, x = coins()
    run = tmp_path / "run"
    model = likely.Histogram(EVENT) if not settings else Seeded(EVENT)
    likely.fit(model, x, out=run, **settings)
    before = weights(run)
    if killed:
        for name in (store.WEIGHTS, store.CHECKPOINT):
            (run / name).unlink()
    if settings:
        monkeypatch.setattr(store, "build", lambda config: Seeded(EVENT))
    likely.resume(run, x)
    assert same(weights(run), before)


class Seeded(likely.MADE):
    """Begins at an estimate, from which gradient steps go on."""

    def __init__(self, event):
        super().__init__(event, hidden=(8,))

    def estimate(self, data, *, generator=None):
        with torch.no_grad():
            self.output.bias.fill_(data.x.double().mean())


def test_early_stopping_keeps_the_best_weights():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (60, 6), generator=generator)  # noise: training can only overfit
    seen = []
    likely.fit(likely.MADE(EVENT, hidden=(64,)), x, budget="400 steps", patience=3, watch=lambda p: seen.append(p.step))
    assert seen[-1] < 400


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("5m", 300.0, "seconds"),
        ("1.5h", 5400.0, "seconds"),
        ("90 s", 90.0, "seconds"),
        ("20 epochs", 20.0, "epochs"),
        ("1 step", 1.0, "steps"),
    ],
)
def test_budgets(text, amount, unit):
    assert Budget.parse(text) == Budget(amount, unit)


@pytest.mark.parametrize("text", ["", "5", "m", "0m", "-3 steps", "5 parsecs", "1e3 steps", "nan s", "9" * 400 + "s"])
def test_bad_budgets(text):
    with pytest.raises(likely.InputError, match="expected an amount"):
        Budget.parse(text)


def test_every_use_of_randomness_has_a_stream_of_its_own():
    """torch's generator reads the lower 32 bits of a seed only, so what is above them would be lost."""

    def drawn(seed, purpose, number):
        return tuple(torch.rand(4, generator=Chance(seed).generator(purpose, number)).tolist())

    uses = [(s, p, k) for s in (0, 1, 2**32) for p in ("order", "loss", "estimate") for k in (0, 1)]
    assert len({drawn(*use) for use in uses}) == len(uses)
    assert drawn(*uses[0]) == drawn(*uses[0])


def test_the_largest_seed_is_as_good_as_any(tmp_path):
    likely.fit(small(), coins()[1], budget="1 steps", seed=2**63 - 1)
    with pytest.raises(likely.InputError, match="seed must be from 0"):
        likely.fit(small(), coins()[1], budget="1 steps", seed=2**63)


def test_the_average_is_the_stated_recursion():
    model = torch.nn.Linear(3, 1)
    average = Average(model, 0.9)
    expected = model.weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            model.weight.normal_(generator=torch.Generator().manual_seed(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(average.state()["weight"], expected)
    own = model.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(model.weight.detach(), expected)
    assert torch.equal(model.weight.detach(), own)


def test_unknown_settings_are_refused():
    with pytest.raises(likely.InputError, match='did you mean "learning_rate"'):
        likely.fit(small(), coins()[1], learning_rat=1)


class Inexact(likely.MADE):
    """A model whose network computes what differs from machine to machine."""

    def network(self, x, features=None, cache=None, order=0):
        return super().network(x, features, cache, order).sigmoid()


def test_a_fit_that_cannot_be_frozen_says_why(tmp_path):
    model, x = Inexact(likely.Event((3,), 2), hidden=(4,)), coins()[1][:, :3].clamp(max=1)
    likely.fit(model, x, budget="2 steps", out=tmp_path / "run")
    reason = Run.read(tmp_path / "run").refusal
    assert "it uses sigmoid, whose result differs from machine to machine" in reason
    with pytest.raises(likely.StoreError, match="is missing: this network cannot be frozen"):
        likely.Frozen.load(tmp_path / "run")
    assert likely.resume(tmp_path / "run", x).event == model.event
    lines = [json.loads(line) for line in (tmp_path / "run" / store.METRICS).read_text().splitlines()]
    assert [line["frozen"] for line in lines if "frozen" in line] == [{"refused": reason}]
    assert lines[-1]["step"] == 2
