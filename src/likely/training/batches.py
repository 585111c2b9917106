"""The training data of a fit, batch by batch, in an order that depends on the seed and the step alone."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from likely.data import Preparation
from likely.rows import Rows
from likely.training.recipe import Recipe

Purpose = Literal["order", "preparation", "validation", "loss", "estimate", "initialize"]
PURPOSES: tuple[Purpose, ...] = ("order", "preparation", "validation", "loss", "estimate", "initialize")


def stream(seed: int, purpose: Purpose, number: int) -> torch.Generator:
    """Return a generator that depends on the seed, its purpose and a count only, so that resuming needs no state."""
    mixed = np.random.SeedSequence((seed, PURPOSES.index(purpose), number)).generate_state(1)
    return torch.Generator().manual_seed(int(mixed[0]))  # torch's generator reads 32 bits


class Batches:
    """Every epoch goes through all rows in an order of its own; what is random in their preparation is drawn anew.

    Args:
        rows: as they are stored.
        preparation: what turns them into symbols, if they are not.
        recipe: the batch size and the seed.
    """

    def __init__(self, rows: Rows, preparation: Preparation | None, recipe: Recipe) -> None:
        self.rows, self.preparation, self.recipe = rows, preparation, recipe
        self.redrawn = preparation is not None and preparation.random
        self.epoch: tuple[int, Rows, Tensor] | None = None  # number, prepared rows, order

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which all rows are gone through once."""
        return -(-len(self.rows) // self.recipe.batch_size)

    def prepared(self, epoch: int) -> Rows:
        """Return all rows as symbols, as they are in one epoch."""
        return prepared(self.rows, self.preparation, stream(self.recipe.seed, "preparation", epoch))

    def at(self, step: int) -> Rows:
        """Return the rows of one step."""
        size, (epoch, place) = self.recipe.batch_size, divmod(step, self.steps_per_epoch)
        if self.epoch is None or self.epoch[0] != epoch:
            self.epoch = self._begin(epoch)
        _, rows, order = self.epoch
        return rows[order[place * size : (place + 1) * size]]

    def _begin(self, epoch: int) -> tuple[int, Rows, Tensor]:
        rows = self.prepared(epoch) if self.epoch is None or self.redrawn else self.epoch[1]
        order = torch.randperm(len(rows), generator=stream(self.recipe.seed, "order", epoch))
        return epoch, rows, order


def prepared(rows: Rows, preparation: Preparation | None, generator: torch.Generator) -> Rows:
    """Return rows as symbols."""
    return rows if preparation is None else Rows(preparation.apply(rows.x, generator), rows.context)
