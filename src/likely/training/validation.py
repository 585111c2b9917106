"""What the weights of a fit are judged on."""

import torch

from likely.data import Preparation
from likely.density import Density
from likely.jobs.evaluate import evaluate
from likely.rows import Rows
from likely.training.batches import prepared, stream
from likely.training.recipe import Recipe

LEAST_BATCH = 64  # examples of a validation pass, at least


class Validation:
    """Some of the validation rows, the same at every validation, prepared once.

    Args:
        rows: as they are stored.
        preparation: what turns them into symbols, if they are not.
        recipe: the seed and how many rows.
    """

    def __init__(self, rows: Rows, preparation: Preparation | None, recipe: Recipe) -> None:
        order = torch.randperm(len(rows), generator=stream(recipe.seed, "validation", 0))
        some = rows[order[: recipe.validation_size].sort()[0]]
        self.rows = prepared(some, preparation, stream(recipe.seed, "validation", 1))
        self.batch_size = max(LEAST_BATCH, recipe.batch_size)

    def bits_per_dim(self, model: Density) -> float:
        """Return the bits/dim of the rows, or the bound of them that the model is trained on."""
        report = evaluate(
            model,
            self.rows,
            batch_size=self.batch_size,
            importance_samples=model.validation_draws,
            proposal=model.validation_proposal,
            terms=False,
        )
        return report.bits_per_dim
