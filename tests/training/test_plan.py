"""`plan`: the data say what nobody has, and the model is built for them; without a command line."""

import inspect
from collections.abc import Sequence

import numpy as np
import pytest
import torch

import likely
from likely import Event
from likely.catalogue import models
from likely.data import Preparation, load
from likely.training.plan import CHOSEN

IMAGES = (torch.arange(6 * 3 * 2, dtype=torch.uint8) * 7).view(6, 3, 2)  # 0 to 245
TABLE = torch.tensor([[0, 2], [1, 4], [1, 0]])
LABELS = torch.tensor([0, 2, 1])


def test_what_is_not_said_comes_from_the_data():
    planned = likely.plan(likely.MADE, IMAGES, hidden=(5,), seed=3)
    assert planned.preparation == Preparation("hw", 256, None, 255.0)
    assert planned.event == planned.model.event == Event((1, 3, 2), 256)
    assert planned.context is planned.model.context is None
    assert (planned.model.hidden, planned.model.seed) == ((5,), 3)


@pytest.mark.parametrize(
    ("options", "levels"),
    [({}, 5), ({"levels": 7}, 7), ({"levels": (2, 5)}, (2, 5)), ({"binarize": 0.5}, 2), ({"real": True}, None)],
)
def test_what_is_said_holds(options, levels):
    model = likely.AffineFlow if levels is None else likely.MADE
    planned = likely.plan(model, TABLE, **options)
    assert planned.event == Event((2,), levels)
    assert planned.preparation.binarize == options.get("binarize")


def test_a_source_of_known_density_says_its_alphabet():
    train = load("rounded-gaussian-1", "train")
    assert int(train.x.max()) + 1 < 19  # rare symbols are missing
    assert likely.plan(likely.IndependentPixels, train).event.levels == 19
    assert likely.plan(likely.IndependentPixels, train, levels=30).event.levels == 30
    assert likely.plan(likely.AffineFlow, train, real=True).event.levels is None


@pytest.mark.parametrize(
    ("context", "event"),
    [
        (LABELS, Event((), 3)),
        (LABELS[:, None], Event((1,), 3)),
        (LABELS * 0.5, Event(())),
        (np.zeros((3, 1, 4, 4)), Event((1, 4, 4))),
    ],
)
def test_a_context_says_its_event(context, event):
    planned = likely.plan(likely.MADE, (TABLE, context))
    assert planned.context == planned.model.context == event


def test_a_plan_is_fitted_and_scored():
    planned = likely.plan(likely.MADE, IMAGES, hidden=(4,), binarize=0.5)
    model = likely.fit(planned.model, IMAGES, preparation=planned.preparation, budget="2 steps")
    assert likely.evaluate(model, planned.preparation.apply(IMAGES)).n == 6


def test_a_data_sets_labels_are_left_out_where_a_model_takes_none():
    pairs = [(row, label) for row, label in zip(TABLE, LABELS, strict=True)]

    class Pairs(Sequence):
        def __len__(self):
            return len(pairs)

        def __getitem__(self, k):
            return pairs[k]

    assert likely.plan(likely.IndependentPixels, Pairs()).context == Event((), 3)
    assert likely.plan(likely.VAE, Pairs()).context is None


MISTAKES = [
    (likely.VAE, (TABLE, LABELS), {}, "^context: VAE takes no context; leave it out$"),
    (likely.MADE, TABLE, {"hiden": (3,)}, '^MADE has no argument "hiden"; did you mean "hidden"'),
    (likely.MADE, TABLE, {"event": Event((2,), 5)}, '^MADE has no argument "event"'),
    (likely.MADE, TABLE, {"context": Event((), 5)}, '^MADE has no argument "context"'),
    (likely.MADE, TABLE - 1, {}, r"symbols are the whole numbers 0, 1, 2, …: .* \(real=True\)$"),
    (likely.MADE, TABLE, {"binarize": 2.0}, '^binarize: "stochastic" or a threshold from 0 to 1'),
    (likely.MADE, TABLE[:0], {}, "^data: empty"),
    (likely.GaussianMixture, TABLE, {}, r"\(real=True\)"),
]


@pytest.mark.parametrize(("model", "data", "options", "said"), MISTAKES)
def test_a_mistake_is_named_without_flags(model, data, options, said):
    with pytest.raises(likely.InputError, match=said) as caught:
        likely.plan(model, data, **options)
    assert "--" not in str(caught.value)


def test_no_models_argument_is_hidden_by_one_of_the_plan():
    options = {name for name, one in inspect.signature(likely.plan).parameters.items() if one.kind is one.KEYWORD_ONLY}
    for name, model in models().items():
        assert not (options - CHOSEN) & set(inspect.signature(model).parameters), name
