"""Fitted to sources of known entropy, models come within 1 % of it and never below."""

import math

import pytest
import torch

import likely
from likely.data import ColourChain, Upsampled

COLOURS = ColourChain(3, 3, levels=4, noise=0.4)
IMAGES = Upsampled(4, 4, levels=3, noise=0.4, stay=0.6)
SMALL = {"channels": 24, "layers": 3, "kernel": 3, "first_kernel": 5}


def drawn(source, n, seed):
    """x and context (n, …) from a source, under contexts drawn evenly."""
    generator = torch.Generator().manual_seed(seed)
    context = None
    if source.context is not None:
        context = torch.randint(source.levels, (n, *source.context.shape), generator=generator)
    return source.sample(n, context, generator=generator), context


@pytest.mark.parametrize(
    ("source", "build"),
    [
        (COLOURS, lambda event, context: likely.GatedPixelCNN(event, **SMALL)),
        (IMAGES, lambda event, context: likely.GatedPixelCNN(event, context, features=24, **SMALL)),
        (IMAGES, lambda event, context: likely.MADE(event, context, hidden=(192,), features=96)),
    ],
    ids=["RGB, Gated PixelCNN", "image context, Gated PixelCNN", "image context, MADE"],
)
def test_within_one_percent_of_the_entropy(source, build):
    x, context = drawn(source, 20_000, 0)
    model = build(source.event, source.context)
    likely.fit(model, (x, context), budget="1500 steps", batch_size=128, learning_rate=0.005, evaluations=5)
    report = likely.evaluate(model, drawn(source, 4000, 1), source=source)
    spread = report.standard_error / math.sqrt(source.event.dims)
    print(report.gap, source.entropy(), report.gap / source.entropy())
    assert -3 * spread < report.gap < 0.01 * source.entropy()
