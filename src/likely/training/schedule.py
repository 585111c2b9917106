"""The length of a fit: a budget as a number of steps, and the steps to validate after."""

import math
import statistics

from likely.runs.recipe import Budget, Recipe
from likely.training.progress import Progress

TIMED_STEPS, TIMED_SECONDS = 10, 3.0


class Schedule:
    """The steps of a fit. A budget in time becomes a number of them once, after the first have been timed.

    Args:
        recipe: budget, and number of evaluations.
        epoch: steps in one epoch.
    """

    def __init__(self, recipe: Recipe, epoch: int) -> None:
        self.budget, self.evaluations, self.epoch = Budget.parse(recipe.budget), recipe.evaluations, epoch
        self.durations: list[float] = []
        self.evaluation_seconds = 0.0

    def begin(self, progress: Progress) -> None:
        """Set the number of steps, where it is known."""
        if progress.total is not None or self.budget.unit == "seconds":
            return
        steps = self.budget.amount
        if self.budget.unit == "epochs":
            steps *= self.epoch
        progress.total = math.ceil(steps)

    def going(self, progress: Progress) -> bool:
        """Return whether steps are left."""
        return progress.total is None or progress.step < progress.total

    def time(self, progress: Progress, duration: float) -> None:
        """Take in the duration of a step, in seconds, and set the number of steps once enough have been timed."""
        if progress.total is None:
            self.durations.append(duration)
            progress.total = self._steps_within(progress)

    def _steps_within(self, progress: Progress) -> int | None:
        """Return the number of steps that fit into the budget, by the median duration, or None: too few are timed."""
        seconds, timed = self.budget.amount, sum(self.durations)
        if len(self.durations) <= TIMED_STEPS or (timed < TIMED_SECONDS and progress.seconds < 0.1 * seconds):
            return None
        left = seconds - progress.seconds - self.evaluations * self.evaluation_seconds
        steps = int(max(left, 0.25 * seconds) / statistics.median(self.durations))
        return progress.step + max(1, steps)

    def validation_due(self, progress: Progress) -> bool:
        """Return whether to validate after the present step."""
        step, total = progress.step, progress.total
        if total is None:
            return False
        every = max(1, total // self.evaluations)
        return step % every == 0 or step == total
