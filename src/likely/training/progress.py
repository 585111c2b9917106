"""The state of a fit in numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Progress:
    """The state of a fit in numbers; saved with every checkpoint.

    Attributes:
        step: steps done.
        total: steps in all; None until a budget in time has been turned into steps.
        loss: moving average of the training loss, nats/dim.
        lowest: lowest loss average so far; a loss far above it is a divergence.
        norm: moving average of the clipped norm of the gradient.
        bits_per_dim: of the latest validation.
        best: lowest validation bits/dim, reached at `best_step`.
        stale: validations since then.
        seconds: spent so far.
        done: whether the fit has ended.
    """

    step: int = 0
    total: int | None = None
    loss: float = math.nan
    lowest: float = math.inf
    norm: float = math.nan
    bits_per_dim: float = math.nan
    best: float = math.inf
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    done: bool = False

    @property
    def seconds_left(self) -> float:
        """An estimate from the pace so far."""
        if not self.step or self.total is None:
            return math.nan
        return self.seconds / self.step * (self.total - self.step)


Watcher = Callable[[Progress], None]
