"""Models fitted to digits, 8×8 pixels of 17 levels: what several experiments begin with."""

from functools import cache

from torch import Tensor

import likely
from likely.data import load
from likely.density import Density
from likely.event import Event

DIGIT = Event((1, 8, 8), levels=17)


@cache
def digits(role: str) -> Tensor:
    """1,500 to train on, 297 to test with: (n, 1, 8, 8)."""
    return DIGIT.check(load("digits", role).x[:, None])


def fitted(model: Density, steps: int, **settings) -> Density:
    """The model, after so many steps on the digits that train; a tenth of them says which weights are kept."""
    settings = {"batch_size": 100, "learning_rate": 3e-3, "weight_decay": 1.0, "evaluations": 20} | settings
    likely.fit(model, digits("train"), budget=f"{steps} steps", **settings)
    return model.requires_grad_(False)


def mean_and_error(values: Tensor) -> str:
    """The mean of values (n,) and its standard error."""
    return f"{values.mean():.2f} ± {values.std() / len(values) ** 0.5:.2f}"
