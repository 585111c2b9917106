"""The table of instances that the laws run over, and a fit of twenty lines."""

from collections.abc import Callable

import torch
from torch import Tensor

from likely.autoregressive import MADE, GatedPixelCNN
from likely.classical import Histogram, IndependentPixels, SymbolHistogram
from likely.data.sources import Ising
from likely.density import Density
from likely.event import Event
from likely.laws.case import examples

LABEL, VECTOR, PICTURE = Event((), levels=3), Event((2,)), Event((1, 1, 2), levels=4)
SMALL = {"channels": 6, "layers": 2, "first_kernel": 5, "features": 4}
LOGISTICS = {"head": "logistics", "components": 2}

ALWAYS = {
    "proper tables, float32",
    "proper tables, float64",
    "no leak",
    "one conditional, float32",
    "one conditional, float64",
    "same samples, float32",
    "same samples, float64",
    "possible symbols",
    "true samples",
    "one by one",
    "repeatable",
    "saved = loaded",
    "units",
    "refuse",
}
SUMS, SIGHT, COST = {"proper, float32", "proper, float64"}, {"no blind spot"}, {"cost"}
NETWORK = ALWAYS | SIGHT | COST

# name: (how it is built, the laws that apply beside ALWAYS)
INSTANCES: dict[str, tuple[Callable[[], Density], set[str]]] = {
    # MADE
    "made 4x4 binary, 2 orderings": (lambda: MADE(Event((1, 4, 4), 2), hidden=(16,), orderings=2), SUMS | NETWORK),
    "made 3x8, vector, 3 orderings": (lambda: MADE(Event((3,), 8), VECTOR, hidden=(8, 8), orderings=3), SUMS | NETWORK),
    "made 2x256": (lambda: MADE(Event((2,), 256), hidden=(4,)), SUMS | NETWORK),
    "made one symbol": (lambda: MADE(Event((3,), 1), hidden=(4,)), SUMS | NETWORK),
    "made mixed table, label": (lambda: MADE(Event((4,), (2, 5, 1, 17)), LABEL, hidden=(9, 7)), SUMS | NETWORK),
    "made linear, RGB, picture": (lambda: MADE(Event((3, 1, 2), 3), PICTURE, hidden=(), orderings=2), SUMS | NETWORK),
    "made 8x8x17, 2 orderings": (
        lambda: MADE(Event((1, 8, 8), 17), hidden=(80,), orderings=2),
        NETWORK - {"true samples"},
    ),
    # Gated PixelCNN
    "pixelcnn 4x4 binary": (
        lambda: GatedPixelCNN(Event((1, 4, 4), 2), channels=4, layers=2, first_kernel=5),
        SUMS | NETWORK,
    ),
    "pixelcnn 3x8, label": (lambda: GatedPixelCNN(Event((1, 1, 3), 8), LABEL, **SMALL), SUMS | NETWORK),
    "pixelcnn 3x8, logistics, vector": (
        lambda: GatedPixelCNN(Event((1, 3, 1), 8), VECTOR, **SMALL, **LOGISTICS),
        SUMS | NETWORK,
    ),
    "pixelcnn 2x256": (lambda: GatedPixelCNN(Event((1, 1, 2), 256), **SMALL), SUMS | NETWORK),
    "pixelcnn 2x256, logistics": (lambda: GatedPixelCNN(Event((1, 2, 1), 256), **SMALL, **LOGISTICS), SUMS | NETWORK),
    "pixelcnn RGB 1x2x4, picture": (lambda: GatedPixelCNN(Event((3, 1, 2), 4), PICTURE, **SMALL), SUMS | NETWORK),
    "pixelcnn RGB 1x2x4, logistics, label": (
        lambda: GatedPixelCNN(Event((3, 1, 2), 4), LABEL, **SMALL, **LOGISTICS),
        SUMS | NETWORK,
    ),
    "pixelcnn 8x8x17, label": (
        lambda: GatedPixelCNN(Event((1, 8, 8), 17), LABEL, channels=8, layers=3, kernel=5),
        NETWORK,
    ),
    "pixelcnn RGB 2x3x256, logistics": (
        lambda: GatedPixelCNN(Event((3, 2, 3), 256), channels=8, layers=2, **LOGISTICS),
        NETWORK,
    ),
    # Classical
    "histogram 2x3 binary": (lambda: Histogram(Event((1, 2, 3), 2), smoothing=0.0), SUMS | ALWAYS | SIGHT),
    "histogram mixed table, label": (lambda: Histogram(Event((3,), (2, 5, 17)), LABEL), SUMS | ALWAYS | SIGHT),
    "independent pixels 3x8": (lambda: IndependentPixels(Event((1, 1, 3), 8)), SUMS | ALWAYS),
    "independent pixels, mixed table, label": (
        lambda: IndependentPixels(Event((3,), (2, 5, 17)), LABEL),
        SUMS | ALWAYS,
    ),
    "independent pixels 28x28x256": (lambda: IndependentPixels(Event((1, 28, 28), 256)), ALWAYS),
    "histogram 3x1": (lambda: Histogram(Event((3,), 1)), SUMS | ALWAYS | SIGHT),
    "symbol histogram 3x8, label": (lambda: SymbolHistogram(Event((3,), 8), LABEL), SUMS | ALWAYS),
}


def fit(model: Density, x: Tensor, context: Tensor | None = None, steps: int = 40, rate: float = 0.02) -> Density:
    """A closed form, or a few steps of Adam on all the data at once."""
    if hasattr(model, "estimate"):
        model.estimate((x, context))
        return model
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(x, context, generator=generator).backward()
        optimizer.step()
    return model


def data(model: Density, n: int = 64) -> tuple[Tensor, Tensor | None]:
    """Examples with structure: ascending symbols, moved up by the context."""
    generator = torch.Generator().manual_seed(1)
    x = examples(model.event, n, generator).reshape(n, -1).cummax(1)[0]
    context = None if model.context is None else examples(model.context, n, generator)
    if context is not None:
        x = x + context.reshape(n, -1)[:, :1].round().abs().long()
    return (x % torch.tensor(model.event.alphabets)).view(n, *model.event.shape), context


def two_temperatures(n: int) -> tuple[Tensor, Tensor]:
    """16 spins from an Ising model whose temperature is the context."""
    generator = torch.Generator().manual_seed(2)
    x = torch.cat([Ising(4, beta).sample(n // 2, generator=generator) for beta in (0.2, 0.7)])
    return x, torch.arange(2).repeat_interleave(n // 2)
