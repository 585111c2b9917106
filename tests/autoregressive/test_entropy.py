"""Fitted to sources of known entropy, models come within 1 % of it and never below."""

import pytest
import torch

import likely
from likely.data import ColourChain, Upsampled
from likely.jobs.evaluate import negative_log_likelihood

COLOURS = ColourChain(3, 3, levels=4, noise=0.4)
IMAGES = Upsampled(2, 4, levels=3, noise=0.4, stay=0.6)

CASES = {
    "RGB, Gated PixelCNN": (
        COLOURS,
        likely.GatedPixelCNN(COLOURS.event, channels=18, layers=2, first_kernel=5),
        {"budget": "350 steps", "batch_size": 128, "learning_rate": 0.01},
    ),
    "image context, Gated PixelCNN": (
        IMAGES,
        likely.GatedPixelCNN(IMAGES.event, IMAGES.context, channels=16, layers=2, first_kernel=3, features=16),
        {"budget": "400 steps", "batch_size": 128, "learning_rate": 0.01},
    ),
    "image context, MADE": (
        IMAGES,
        likely.MADE(IMAGES.event, IMAGES.context, hidden=(128, 128), features=64),
        {"budget": "1200 steps", "batch_size": 256, "learning_rate": 0.005},
    ),
}


def drawn(source, n, seed):
    """x and context (n, …) from a source, under contexts drawn evenly."""
    generator = torch.Generator().manual_seed(seed)
    context = None
    if source.context is not None:
        context = torch.randint(source.levels, (n, *source.context.shape), generator=generator)
    return source.sample(n, context, generator=generator), context


@pytest.mark.parametrize("name", CASES)
def test_within_one_percent_of_the_entropy(name):
    source, model, settings = CASES[name]
    likely.fit(model, drawn(source, 40_000, 0), evaluations=5, **settings)
    fresh = drawn(source, 4000, 1)
    gaps = negative_log_likelihood(model, fresh) - negative_log_likelihood(source, fresh)
    spread = float(gaps.std()) / len(gaps) ** 0.5
    assert -3 * spread < float(gaps.mean()) < 0.01 * source.entropy()
