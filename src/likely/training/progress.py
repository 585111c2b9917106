"""The state of a fit in numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Progress:
    """The state of a fit in numbers; saved with every checkpoint.

    Attributes:
        step: steps done.
        total: steps in all; of a budget in time None until near its end, when what is left is turned into steps.
        loss: moving average of the training loss, nats/dim.
        lowest: lowest loss average so far.
        wild: how many of the latest steps had a loss far above that.
        slower: factor of the learning rate, below 1 after a divergence.
        norm: moving average of the clipped norm of the gradient.
        bits_per_dim: of the latest validation.
        best: lowest validation bits/dim, reached at `best_step`.
        stale: validations since then.
        seconds: spent so far.
        done: whether the fit has ended.
        fraction: part of the budget that is spent, 0 to 1; the learning rate follows it.
        cycle: how often a fit that had ended has been gone on with.
        begun: step that this cycle began at.
        from_step, from_fraction: where the number of steps was set.
        from_seconds: spent before this cycle.
        validated_on: number of validation examples, where they are fewer than the settings say.
        independent: bits/dim of independent dimensions, on the validation examples.
    """

    step: int = 0
    total: int | None = None
    loss: float = math.nan
    lowest: float = math.inf
    wild: int = 0
    slower: float = 1.0
    norm: float = math.nan
    bits_per_dim: float = math.nan
    best: float = math.inf
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    done: bool = False
    fraction: float = 0.0
    cycle: int = 0
    begun: int = 0
    from_step: int = 0
    from_fraction: float = 0.0
    from_seconds: float = 0.0
    validated_on: int | None = None
    independent: float = math.nan

    @property
    def elapsed(self) -> float:
        """Seconds since the budget began."""
        return self.seconds - self.from_seconds

    @property
    def seconds_left(self) -> float:
        """An estimate from the pace so far."""
        done = self.fraction
        if not done and self.total:
            done = self.step / self.total
        if not done:
            return math.nan
        return self.elapsed / done * (1 - done)


Watcher = Callable[[Progress], None]
