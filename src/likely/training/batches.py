"""The examples of every step of a fit."""

from typing import Any

import torch
from torch import Tensor

from likely.data import Preparation
from likely.density import Density
from likely.errors import InputError
from likely.event import Event
from likely.rows import Batch, Rows
from likely.rows.picked import Picked
from likely.training.chance import Chance

PLACES = 1024  # of a window, unless told otherwise


class Batches:
    """The examples of every step; each epoch goes through all of them in an order of its own.

    They are read and prepared when their step comes. A random preparation draws for a whole epoch at once where the
    rows are in memory, else for each batch. Where sizes vary, an epoch takes a window of each example, and a step takes
    windows of one size.

    Args:
        rows: as they are stored.
        preparation: of them.
        size: examples per step.
        chance: of order, windows and preparation.
        crop: size of a window; see `windows`.
    """

    def __init__(
        self, rows: Rows, preparation: Preparation | None, size: int, chance: Chance, crop: tuple[int, ...] = ()
    ) -> None:
        self.rows, self.preparation, self.size, self.chance, self.crop = rows, preparation, size, chance, crop
        draws = preparation is not None and preparation.random
        self.drawn_by_epoch, self.drawn_by_batch = draws and rows.in_memory, draws and not rows.in_memory
        self.cut = bool(crop) or rows.sizes is not None
        first = self._rows(0)
        self.steps = sum(1 for _ in first.places(size))
        self.values: float | None = None  # of a step, mean
        if first.sizes is not None:
            self.values = int(first.sizes.prod(1).sum()) / self.steps
        self._prepared: tuple[int, Rows] | None = None
        self._ordered: tuple[int, Rows, list[Picked]] | None = None

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return self.steps

    def examples(self, epoch: int = 0) -> Rows:
        """Return all examples as they are in one epoch."""
        if not (self.drawn_by_epoch or self.cut):
            epoch = 0
        if self._prepared is None or self._prepared[0] != epoch:
            generator = self.chance.generator("preparation", epoch)
            self._prepared = epoch, prepared(self._rows(epoch), self.preparation, generator)
        return self._prepared[1]

    def at(self, step: int) -> Batch:
        """Read the examples of one step."""
        epoch, place = divmod(step, self.steps)
        if self._ordered is None or self._ordered[0] != epoch:
            self._ordered = epoch, *self._in_order(epoch)
        _, shuffled, places = self._ordered
        rows = shuffled[places[place]]
        if self.drawn_by_batch:
            rows = prepared(rows, self.preparation, self.chance.generator("batch", step))
        return rows.read()

    def weight(self, x: Tensor) -> float:
        """Return the weight of the mean loss of a step's examples: 1 on average.

        Where sizes vary, some steps hold more values than others; so weighted, every value counts alike.
        """
        if self.values is None:
            return 1.0
        return x.numel() / self.values

    def _rows(self, epoch: int) -> Rows:
        """Return the rows of one epoch, before their preparation."""
        if not self.cut:
            return self.rows
        return windows(self.rows, self.crop, self.chance.generator("windows", epoch))

    def _in_order(self, epoch: int) -> tuple[Rows, list[Picked]]:
        """Return the rows of one epoch, and the places of each step's; where sizes vary, they are shuffled, too."""
        if self.drawn_by_batch:
            rows = self._rows(epoch)
        else:
            rows = self.examples(epoch)
        shuffled = rows.shuffled(self.chance.generator("order", epoch))
        places = list(shuffled.places(self.size))
        if rows.sizes is None:
            return shuffled, places
        order = torch.randperm(len(places), generator=self.chance.generator("sizes", epoch))
        return shuffled, [places[k] for k in order.tolist()]


def values_of(model: Density) -> int:
    """Return the number of values of an example, or of a window of it where sizes vary, about."""
    if model.event.varies:
        return PLACES
    return model.event.dims


def windows(rows: Rows, crop: tuple[int, ...], generator: torch.Generator) -> Rows:
    """Return a window of every row.

    Args:
        rows: as they are stored, of sizes that vary.
        crop: size in each dimension that varies, or one for all; (): about a thousand places.
        generator: of the windows' places.

    Raises:
        InputError: another number of sizes, or rows of one size.
    """
    varying = rows.shape[1:].count(None)
    if not varying:
        raise InputError("crop: windows are taken of examples whose sizes vary; these are of one size")
    crop = crop or (round(PLACES ** (1 / varying)),)
    if len(crop) == 1:
        crop *= varying
    return rows.windows(crop, generator)


def of_any_size(rows: Rows, event: Event, preparation: Preparation | None) -> Rows:
    """Return rows, declared to be of sizes that vary wherever those of the event do, so that windows can be taken."""
    places = list(range(len(event.shape)))
    if preparation is not None:
        places = preparation.places(rows)
    sizes = event.shape[len(event.shape) - len(places) :]
    varying = [place for place, size in zip(places, sizes, strict=True) if size is None]
    return rows.of_any_size(varying)


def prepared(rows: Rows, preparation: Preparation | None, generator: torch.Generator) -> Rows:
    """Prepare rows, if there is a preparation."""
    if preparation is None:
        return rows
    return preparation.rows(rows, generator)


def check(model: Density, rows: Rows, preparation: Preparation | None, chance: Chance) -> None:
    """Refuse data with an entry that is not of the model's event or context.

    All of the data are read, unless it is known without that what they hold, as of pictures.

    Raises:
        InputError: names the first entry that is not, by its row.
    """
    generator = chance.generator("preparation", 0)
    model.event.check_shape(_as_they_will_be(rows, preparation))
    if preparation is not None and preparation.known_to_fit(rows):
        model.check_context(rows.context, len(rows))
        rows = rows[:1]
    for part in rows.slices():
        with part.named():
            x, context = part.read()
            if preparation is not None:
                x = preparation.apply(x, generator)
            model.check(x)
            model.check_context(context, len(x))


def _as_they_will_be(rows: Rows, preparation: Preparation | None) -> tuple[Any, ...]:
    if preparation is None:
        return rows.read_shape
    return (len(rows), *preparation.event_of(rows).shape)
