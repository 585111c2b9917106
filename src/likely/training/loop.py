"""The loop of a fit: steps until the budget is spent or validation stops improving."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from likely.data import Preparation
from likely.density import Density
from likely.errors import InputError
from likely.rows import Rows
from likely.runs import store
from likely.runs.files import write_weights
from likely.runs.recipe import Recipe
from likely.training import checkpoint
from likely.training.batches import PLACES, Batches, of_any_size
from likely.training.chance import Chance
from likely.training.checkpoint import Checkpoints
from likely.training.freezing import freeze_run
from likely.training.journal import Journal
from likely.training.optimization import take_step
from likely.training.progress import Watcher
from likely.training.schedule import Schedule
from likely.training.state import State
from likely.training.validation import Validation, validate

INITIAL = 4096  # examples, at most, that a model is initialised from
INITIAL_VALUES = 1 << 26  # of them, at most


class Loop:
    """One fit of a model: from its beginning or a checkpoint to its end.

    Args:
        model: is changed in place.
        train, valid: as they are stored; valid may be None.
        preparation: of both.
        recipe: settings.
        folder: the run; None: nothing is written.
        watch: called after every step.
    """

    def __init__(
        self,
        model: Density,
        train: Rows,
        valid: Rows | None,
        preparation: Preparation | None,
        recipe: Recipe,
        *,
        folder: Path | None = None,
        watch: Watcher | None = None,
    ) -> None:
        self.folder, self.preparation, self.recipe, self.watch = folder, preparation, recipe, watch
        if recipe.crop and model.event.varies:
            train = of_any_size(train, model.event, preparation)
            if valid is not None:
                valid = of_any_size(valid, model.event, preparation)
        self.chance = Chance(recipe.seed)
        self.state = State(model, recipe)
        self.batches = Batches(train.to(model.device), preparation, recipe.batch_size, self.chance, recipe.crop)
        self.validation: Validation | None = None
        if valid is not None:
            self.validation = Validation(valid, preparation, recipe, self.chance)
        self.schedule = Schedule(recipe, len(self.batches))
        self.journal = Journal(folder, len(self.batches))
        self.checkpoints = Checkpoints(folder, recipe.checkpoint_every)

    def resume(self, gradient: bool) -> Density:
        """Go on from the last checkpoint, or from the beginning where there is none yet."""
        assert self.folder is not None
        checkpoint.restore(self.folder, self.state)
        progress = self.state.progress
        if not progress.done and not progress.step:
            self.journal.rewind(-1)
            return self.begin(gradient)
        self.journal.rewind(progress.step)
        with self._farewell():
            if progress.done:
                return self.finish()
            return self.run()

    def begin(self, gradient: bool) -> Density:
        """Fit in closed form, where the model has one; then by gradient steps, if so."""
        with self._farewell():
            self.initialize()
            if gradient:
                return self.run()
            return self.finish()

    def initialize(self) -> None:
        """Set weights from the data: all of them in closed form, or those that training starts from."""
        model, examples = self.state.model, self.batches.examples()
        if model.estimable:
            model.estimate(examples, generator=self.chance.generator("estimate", 0))
        generator = self.chance.generator("initialize", 0)
        dims = PLACES if model.event.varies else model.event.dims
        most = max(1, min(INITIAL, INITIAL_VALUES // dims))
        first = next(examples.shuffled(generator).batches(most))
        model.initialize(*first.read(), generator=generator)
        self.state.restart_average()

    def run(self) -> Density:
        """Take steps until the budget is spent or validation stops improving."""
        progress, schedule = self.state.progress, self.schedule
        schedule.begin(progress)
        spent, started = progress.seconds, time.monotonic()
        with _interruptible() as interrupted, self._work_saved():
            if progress.step == 0:
                self.validate()
            schedule.evaluation_seconds = time.monotonic() - started
            while schedule.going(progress):
                before = time.monotonic()
                self._step()
                now = time.monotonic()
                progress.seconds = spent + now - started
                schedule.time(progress, now - before)
                if self.watch is not None:
                    self.watch(progress)
                if schedule.validation_due(progress):
                    self.validate()
                    if progress.stale >= self.recipe.patience:
                        break
                if self.checkpoints.due(progress.step) or interrupted.is_set():
                    self.checkpoints.save(self.state)
                if interrupted.is_set():
                    raise KeyboardInterrupt
        return self.finish()

    def _step(self) -> None:
        batch = self.batches.at(self.state.progress.step)
        take_step(self.state, batch, self.chance, self._place, self.batches.weight(batch[0]))

    def validate(self) -> None:
        """Judge the average weights, write them if they are the best so far, and log."""
        progress = self.state.progress
        if validate(self.state, self.validation):
            self._write_kept()
        self.journal.validated(progress, self.recipe.learning_rate_at(progress.step, progress.total))

    def finish(self) -> Density:
        """Put the kept weights into the model, and freeze it."""
        state = self.state
        state.progress.done = True
        kept = state.kept
        if kept is None:
            kept = state.keep()
            self._write_kept()
        state.model.load_state_dict(kept)
        self.checkpoints.save(state)
        state.model.eval()
        if self.folder is not None:
            reason = freeze_run(self.folder, state.model, self.batches.examples(), self.preparation)
            if reason is not None and state.model.event.discrete:
                self.journal.refused(state.progress, reason)
        return state.model

    def _write_kept(self) -> None:
        if self.folder is not None and self.state.kept is not None:
            write_weights(self.folder / store.WEIGHTS, self.state.kept)

    @property
    def _place(self) -> str:
        return "" if self.folder is None else str(self.folder)

    @contextmanager
    def _farewell(self) -> Iterator[None]:
        """Give Ctrl-C inside a message: the step that the fit stopped at, and the command to go on."""
        try:
            yield
        except KeyboardInterrupt:
            at = f"stopped at step {self.state.progress.step}"
            on = "" if self.folder is None else f"; go on with `likely resume {self.folder}`"
            raise KeyboardInterrupt(at + on) from None

    @contextmanager
    def _work_saved(self) -> Iterator[None]:
        """Write a checkpoint if data cannot be read any more."""
        try:
            yield
        except InputError:
            if self.state.progress.step:
                self.checkpoints.save(self.state)
            raise


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C inside the block into a flag, so that no step is cut in half; a second one is immediate."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handle(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
