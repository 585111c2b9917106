"""The course of a fit: the part of its budget that is spent, and the learning rate that follows it."""

import math
import statistics
from collections import deque

from likely.runs.recipe import Budget, Recipe
from likely.training.progress import Progress

LAST = 0.1  # of a budget in time, that becomes a number of steps
OVER = 1.05  # of it, at which a fit ends, however many steps are left
WARMUP = 0.1  # of a fit
FIRST = 0.01  # of the peak, the learning rate of the first step where nobody knows how many will follow
TIMED = 20  # latest steps that the pace is the median of


class Schedule:
    """The course of a fit.

    A budget in steps or epochs is a number of steps. Under a budget in time the fit follows the clock, so that it has
    gone through its whole course however fast it went; when nine tenths are over, what is left becomes a number of
    steps. From then on a fit that is resumed ends with the same weights, to the bit.

    Args:
        recipe: the budget.
        epoch: steps in one epoch.
    """

    def __init__(self, recipe: Recipe, epoch: int) -> None:
        self.budget, self.epoch = Budget.parse(recipe.budget), epoch
        self.durations: deque[float] = deque(maxlen=TIMED)
        self.evaluation_seconds = 0.0  # of the latest one

    @property
    def timed(self) -> bool:
        """Whether the budget is in time."""
        return self.budget.unit == "seconds"

    def begin(self, progress: Progress) -> None:
        """Set the number of steps, where it is known."""
        if progress.total is not None or self.timed:
            return
        steps = self.budget.amount
        if self.budget.unit == "epochs":
            steps *= self.epoch
        progress.total = progress.from_step + math.ceil(steps)

    def going(self, progress: Progress) -> bool:
        """Return whether steps are left; note the part of the budget that is spent."""
        progress.fraction = self._fraction(progress)
        return progress.total is None or progress.step < progress.total

    def time(self, progress: Progress, duration: float) -> None:
        """Take in the duration of a step, in seconds; near the end of a budget in time, set the number of steps."""
        if not self.timed:
            return
        self.durations.append(duration)
        left = self._seconds - progress.elapsed
        if progress.total is not None:
            if left < (1 - OVER) * self.budget.amount:
                progress.total = progress.step
            return
        pace = self.pace
        if left <= max(LAST * self.budget.amount, 2 * pace):
            progress.from_fraction, progress.from_step = self._fraction(progress), progress.step
            progress.total = progress.step + max(0, int(left / pace))

    @property
    def pace(self) -> float:
        """Seconds that a step takes, the median of the latest; NaN before the first."""
        if not self.durations:
            return math.nan
        return max(statistics.median(self.durations), 1e-9)

    @property
    def _seconds(self) -> float:
        """Seconds that the steps may take; the last evaluation comes after them."""
        return max(self.budget.amount - self.evaluation_seconds, 0.5 * self.budget.amount)

    def _fraction(self, progress: Progress) -> float:
        if progress.total is None:
            return min(1.0, progress.elapsed / self._seconds)
        left = progress.total - progress.from_step
        if left <= 0:
            return 1.0
        return progress.from_fraction + (1 - progress.from_fraction) * ((progress.step - progress.from_step) / left)


def steps_expected(progress: Progress) -> float:
    """Return the number of steps of this cycle; where time decides, an estimate; NaN before the first step."""
    if progress.total is not None:
        return float(progress.total - progress.begun)
    done = progress.step - progress.begun
    if not progress.fraction or not done:
        return math.nan
    return done / progress.fraction


def learning_rate(recipe: Recipe, peak: float, progress: Progress) -> float:
    """Return a linear warm-up to the peak, times a half cosine down to zero at the end of the budget."""
    decay = 0.5 * (1 + math.cos(math.pi * min(progress.fraction, 1)))
    return peak * _warmth(recipe, progress) * decay


def _warmth(recipe: Recipe, progress: Progress) -> float:
    if recipe.warmup is not None:
        return min(1.0, (progress.step - progress.begun + 1) / recipe.warmup)
    steps = steps_expected(progress)
    if math.isnan(steps):
        return FIRST
    return min(1.0, (progress.fraction + 1 / steps) / WARMUP)
