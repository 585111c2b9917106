"""Several models on the same data."""

import json
import math

import pytest
import torch

import likely
from likely.classical import SymbolHistogram
from likely.data.sources import Coins
from likely.densities.bases import Normal
from likely.errors import InputError
from likely.event import Event

EVENT = Event((4,), levels=2)


class Source(Coins):
    """Coins of one chance."""

    def __init__(self, chance: float) -> None:
        super().__init__((chance,) * 4)


@pytest.fixture
def coins():
    return Source(0.8).sample(500, generator=torch.Generator().manual_seed(0))


def test_differences_are_those_of_the_closed_form(coins):
    """Of coins, −log2 p(x) = −k log2 a − (4 − k) log2 (1 − a), with k heads."""
    found = likely.compare({"fair": Source(0.5), "true": Source(0.8), "odd": Source(0.3)}, coins)
    assert [model.name for model in found.models] == ["true", "fair", "odd"]
    heads = coins.double().sum(1)
    bits = {a: -(heads * math.log2(a) + (4 - heads) * math.log2(1 - a)) / 4 for a in (0.5, 0.8, 0.3)}
    for model, a in zip(found.models, (0.8, 0.5, 0.3), strict=True):
        gap = bits[a] - bits[0.8]
        assert model.report.bits_per_dim == pytest.approx(float(bits[a].mean()), rel=1e-6)
        assert model.above == pytest.approx(float(gap.mean()), abs=1e-7)
        assert model.above_standard_error == pytest.approx(float(gap.std()) / 500**0.5, abs=1e-7)


def test_it_prints_as_a_table_and_as_html(coins):
    found = likely.compare({"fair": Source(0.5), "<true>": Source(0.8)}, coins)
    first, second, third = repr(found).splitlines()
    assert first.split()[:3] == ["model", "bits/dim", "±"]
    assert second.startswith("<true>")
    assert third.startswith("fair      1.0000")
    html = found._repr_html_()
    assert html.startswith("<table><tr><th>model</th>")
    assert "<td>&lt;true&gt;</td>" in html
    assert len(json.dumps(found.to_json())) > 100
    report = found.models[1].report
    assert repr(report) == str(report) == "1.0000 ± 0.0000 bits/dim (2.77 ± 0.00 nats, exact, n = 500)"
    assert report._repr_html_().count("<td>") == report._repr_html_().count("<th>") == 7


def test_a_context_is_for_the_models_that_take_one(coins):
    labels = torch.arange(500) % 2
    given = SymbolHistogram(EVENT, Event((), levels=2))
    given.estimate((coins, labels))
    found = likely.compare({"given": given, "true": Source(0.8)}, (coins, labels))
    assert {model.name for model in found.models} == {"given", "true"}


def test_draws_are_for_the_models_that_have_bounds(coins):
    models = {"exact": Source(0.8), "bound": likely.VAE(EVENT, latent=2, hidden=(4,))}
    found = {model.name: model for model in likely.compare(models, coins, importance_samples=20).models}
    assert found["exact"].report.kind == "exact"
    assert found["bound"].report.nats < likely.evaluate(models["bound"], coins).nats


def test_what_cannot_be_compared_is_refused(coins):
    with pytest.raises(InputError, match="at least one is expected"):
        likely.compare({}, coins)
    with pytest.raises(InputError, match=r"models of one event are expected; a has Event.*, b Event"):
        likely.compare({"a": Source(0.5), "b": Normal(Event((4,)))}, coins)


def test_a_model_says_its_arguments():
    model = likely.MADE(EVENT, hidden=(8,))
    assert "event=Event(shape=(4,), levels=2), context=None, hidden=(8,)" in repr(model)
    assert "hidden" in model._repr_html_()
    assert f"{sum(p.numel() for p in model.parameters()):,}" in model._repr_html_()
