"""Data that are drawn from a source by name: `moons`, `ising:test`."""

from collections.abc import Callable

import numpy as np
import torch

from likely.data.real_sources import (
    Checkerboard,
    RoundedGaussian,
    eight_gaussians,
    moons,
    smiley,
    stretched_gaussian,
)
from likely.data.sources import ColourChain, Ising, Source

GENERATED: dict[str, Callable[[], Source]] = {
    "ising": Ising,
    "colour-chain": lambda: ColourChain(8, 8),
    "moons": moons,
    "smiley": smiley,
    "eight-gaussians": eight_gaussians,
    "checkerboard": Checkerboard,
    "stretched-gaussian": stretched_gaussian,
    "turned-gaussian": lambda: stretched_gaussian(turned=True),
    "rounded-gaussian-0.3": lambda: RoundedGaussian(0.3),
    "rounded-gaussian-1": lambda: RoundedGaussian(1.0),
    "rounded-gaussian-10": lambda: RoundedGaussian(10.0),
}

DRAWS = {"train": (20_000, 70_001), "test": (5_000, 70_002)}  # number and seed, which nobody else will draw from


def source_of(spec: str | None) -> Source | None:
    """Return the density behind generated data such as `moons` or `ising:test`, None where it is not known."""
    name = (spec or "").partition(":")[0]
    if name not in GENERATED:
        return None
    return GENERATED[name]()


def drawn(name: str, split: str) -> np.ndarray:
    """Draw the data of a name and a split, always the same; symbols as uint8."""
    n, seed = DRAWS[split]
    draws = GENERATED[name]().sample(n, generator=torch.Generator().manual_seed(seed))
    if not draws.is_floating_point():
        draws = draws.to(torch.uint8)
    return draws.numpy()
