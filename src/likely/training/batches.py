"""The examples of every step of a fit."""

import torch

from likely.data import Preparation
from likely.density import Density
from likely.rows import Batch, Rows
from likely.training.chance import Chance


class Batches:
    """The examples of every step; each epoch goes through all of them in an order of its own.

    They are read and prepared when their step comes. A preparation that draws, draws for a whole epoch at once where
    the rows are in memory, else for each batch.
    """

    def __init__(self, rows: Rows, preparation: Preparation | None, size: int, chance: Chance) -> None:
        self.rows, self.preparation, self.size, self.chance = rows, preparation, size, chance
        draws = preparation is not None and preparation.random
        self.drawn_by_epoch, self.drawn_by_batch = draws and rows.in_memory, draws and not rows.in_memory
        self._prepared: tuple[int, Rows] | None = None
        self._shuffled: tuple[int, Rows] | None = None

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return -(-len(self.rows) // self.size)

    def examples(self, epoch: int = 0) -> Rows:
        """Return all examples as they are in one epoch."""
        epoch = epoch if self.drawn_by_epoch else 0
        if self._prepared is None or self._prepared[0] != epoch:
            generator = self.chance.generator("preparation", epoch)
            self._prepared = epoch, prepared(self.rows, self.preparation, generator)
        return self._prepared[1]

    def at(self, step: int) -> Batch:
        """Read the examples of one step."""
        epoch, place = divmod(step, len(self))
        if self._shuffled is None or self._shuffled[0] != epoch:
            rows = self.rows if self.drawn_by_batch else self.examples(epoch)
            self._shuffled = epoch, rows.shuffled(self.chance.generator("order", epoch))
        rows = self._shuffled[1][place * self.size : (place + 1) * self.size]
        if self.drawn_by_batch:
            rows = prepared(rows, self.preparation, self.chance.generator("batch", step))
        return rows.read()


def prepared(rows: Rows, preparation: Preparation | None, generator: torch.Generator) -> Rows:
    """Prepare rows, if they need it."""
    return rows if preparation is None else preparation.rows(rows, generator)


def check(model: Density, rows: Rows, preparation: Preparation | None, chance: Chance) -> None:
    """Go through all of the data, and refuse what is not of the model's event or context.

    Raises:
        InputError: names the first entry that is not, by its row.
    """
    generator = chance.generator("preparation", 0)
    model.event.check_shape(_as_they_will_be(rows, preparation))
    for part in rows.slices():
        with part.named():
            raw, context = part.read()
            x = model.check(raw if preparation is None else preparation.apply(raw, generator))
            model.check_context(context, len(x))


def _as_they_will_be(rows: Rows, preparation: Preparation | None) -> tuple[int, ...]:
    return rows.read_shape if preparation is None else (len(rows), *preparation.event_of(rows).shape)
