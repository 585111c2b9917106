"""Validation: the average weights are judged on held-out examples, and kept if they are the best so far."""

import torch

from likely.data import Preparation
from likely.density import Density
from likely.jobs.evaluate import evaluate
from likely.rows import Rows
from likely.runs.recipe import Recipe
from likely.training.batches import prepared, windows
from likely.training.chance import Chance
from likely.training.state import State


class Validation:
    """The validation examples of a fit: a seeded choice of `recipe.validation_size`, prepared once.

    Where sizes vary, a window is taken of each, as in training.
    """

    def __init__(self, rows: Rows, preparation: Preparation | None, recipe: Recipe, chance: Chance) -> None:
        order = torch.randperm(len(rows), generator=chance.generator("validation", 0))
        chosen = rows[order[: recipe.validation_size].sort()[0]]
        if recipe.crop or rows.sizes is not None:
            chosen = windows(chosen, recipe.crop, chance.generator("validation", 2))
        self.rows = prepared(chosen.held(), preparation, chance.generator("validation", 1))
        self.batch_size = max(64, recipe.batch_size)

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
