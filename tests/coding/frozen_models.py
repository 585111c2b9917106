"""The models that the tests of exact coding freeze: the laws' own, with random weights or after a short fit."""

import sys
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from likely.coding.frozen import Frozen, freeze
from likely.density import Autoregressive
from likely.latent import Mixture
from likely.laws.case import Case, examples

sys.path.append(str(Path(__file__).parents[1] / "laws"))

from law_instances import INSTANCES, data, fit

BUILT = {name: build() for name, (build, _) in INSTANCES.items()}
NAMES = [  # a mixture becomes a latent-variable model, whose tests are those of bits back
    name
    for name, model in BUILT.items()
    if model.event.discrete and isinstance(model, Autoregressive) and not isinstance(model, Mixture)
]


@cache
def redrawn(name: str) -> Autoregressive:
    """An instance with random weights: its conditionals depend on whatever they may."""
    return Case(INSTANCES[name][0]()).redrawn.eval()


@cache
def trained(name: str) -> Autoregressive:
    """An instance after a short fit."""
    model = INSTANCES[name][0]()
    return fit(model, *data(model)).eval()


@cache
def frozen(name: str) -> Frozen:
    """The instance with random weights, frozen by 256 of its own samples."""
    return freeze(redrawn(name), drawn(redrawn(name), 256))


@cache
def frozen_after_fit(name: str) -> Frozen:
    """The instance after a short fit, frozen by its data."""
    return freeze(trained(name), data(trained(name)))


def contexts(model: Autoregressive, n: int, seed: int = 0) -> Tensor | None:
    """Contexts drawn evenly, or standard normal values."""
    return None if model.context is None else examples(model.context, n, torch.Generator().manual_seed(seed))


def drawn(model: Autoregressive, n: int, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    """Samples of a model with their contexts."""
    context = contexts(model, n, seed)
    return model.sample(n, context, generator=torch.Generator().manual_seed(seed)), context
