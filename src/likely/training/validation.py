"""Validation: the average weights are judged on held-out examples, and kept if they are the best so far."""

import torch

from likely.data import Preparation
from likely.density import Density
from likely.jobs.evaluate import evaluate
from likely.rows import Rows
from likely.runs.recipe import Recipe
from likely.training.batches import prepared, windows
from likely.training.chance import Chance
from likely.training.choices import EVALUATIONS, SHARE, evaluations_within
from likely.training.clock import Clock
from likely.training.progress import Progress
from likely.training.schedule import Schedule
from likely.training.state import State

EVALUATED, TRIED = 4, 8  # evaluations there is room for at least; examples that their pace is measured on


class Validation:
    """The validation examples of a fit: a seeded choice of `recipe.validation_size`, prepared once.

    Where sizes vary, a window is taken of each, as in training.
    """

    def __init__(
        self, rows: Rows, preparation: Preparation | None, recipe: Recipe, batch_size: int, chance: Chance
    ) -> None:
        order = torch.randperm(len(rows), generator=chance.generator("validation", 0))
        places, self.rank = order[: recipe.validation_size].sort()
        chosen = rows[places]
        if recipe.crop or rows.sizes is not None:
            chosen = windows(chosen, recipe.crop, chance.generator("validation", 2))
        self.all = self.rows = prepared(chosen.held(), preparation, chance.generator("validation", 1))
        self.batch_size = max(64, batch_size)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.rows)

    def shrink(self, size: int) -> None:
        """Validate on so many of the examples from now on, always the same ones."""
        self.rows = self.all[(self.rank < size).nonzero()[:, 0]]

    def affordable(self, model: Density, seconds: float, clock: Clock) -> int:
        """Return the number of examples that can be evaluated four times in so many seconds; a few are tried."""
        everything = self.rows
        self.shrink(TRIED)
        self.bits_per_dim(model)  # what is done once, is not timed
        before = clock()
        self.bits_per_dim(model)
        pace = max((clock() - before) / len(self.rows), 1e-9)
        self.rows = everything
        return min(max(int(seconds / EVALUATED / pace), TRIED), len(everything))

    def bits_per_dim(self, model: Density) -> float:
        """Score the model by its own `validation` settings."""
        how = model.validation
        report = evaluate(
            model,
            self.rows,
            batch_size=self.batch_size,
            importance_samples=how.draws,
            proposal=how.proposal,
            terms=False,
        )
        return report.bits_per_dim


class Evaluations:
    """When a fit is validated: so often over its whole budget, and at its end.

    Under a budget in time it is validated less often where that would take more than a tenth of the time.

    Args:
        schedule: of the fit.
        often: how often; None: as suits the number of steps.
        batch_size: examples of a step.
        examples: of a validation.
    """

    def __init__(self, schedule: Schedule, often: int | None, batch_size: int, examples: int) -> None:
        self.schedule, self.often, self.batch_size, self.examples = schedule, often, batch_size, examples
        self.latest = 0.0  # part of the budget that was spent then

    def due(self, progress: Progress) -> bool:
        """Return whether to validate after the present step."""
        if self.schedule.timed:
            return self._due_by_time(progress)
        assert progress.total is not None
        steps = progress.total - progress.begun
        often = self.often or evaluations_within(steps, self.batch_size, self.examples)
        return progress.step % max(1, steps // often) == 0 or progress.step == progress.total

    def _due_by_time(self, progress: Progress) -> bool:
        if progress.total is not None:
            return progress.step == progress.total
        cost = self.schedule.evaluation_seconds / self.schedule.budget.amount
        apart = max(1 / (self.often or EVALUATIONS), cost / SHARE)
        spent = progress.elapsed / self.schedule.budget.amount
        return spent - self.latest >= apart and 1 - spent >= apart / 2

    def done(self, progress: Progress) -> None:
        """Note that the fit has been validated."""
        self.latest = progress.elapsed / self.schedule.budget.amount


def validate(state: State, validation: Validation | None) -> bool:
    """Judge the average weights, and keep them if they are the best so far; return whether they are."""
    progress = state.progress
    state.model.eval()
    with state.average.applied():
        if validation is not None:
            progress.bits_per_dim = validation.bits_per_dim(state.model)
        better = validation is None or progress.bits_per_dim < progress.best
        if better:
            progress.best, progress.best_step, progress.stale = progress.bits_per_dim, progress.step, 0
            state.keep()
        else:
            progress.stale += 1
    return better
