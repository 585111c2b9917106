"""The loop of a fit: steps until the budget is spent or validation stops improving."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from likely.data import Preparation
from likely.density import Density
from likely.errors import DivergedError, InputError
from likely.rows import Rows
from likely.runs import store
from likely.runs.files import write_weights
from likely.runs.recipe import Recipe
from likely.training import checkpoint
from likely.training.bar import watching
from likely.training.batches import Batches, of_any_size, values_of
from likely.training.chance import Chance
from likely.training.checkpoint import Checkpoints
from likely.training.choices import SHARE, batch_size_of
from likely.training.clock import Clock
from likely.training.freezing import freeze_run
from likely.training.independent import independent_bits
from likely.training.journal import Journal
from likely.training.notes import Notes
from likely.training.optimization import take_step
from likely.training.progress import Watcher
from likely.training.schedule import Schedule
from likely.training.state import State
from likely.training.validation import Evaluations, Validation, validate

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
        watch: called after every step; None: a bar in a terminal, a line in a notebook; False: nothing.
        clock: that a budget in time is measured by.
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
        watch: Watcher | bool | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.clock, self.started = clock, clock()
        self.folder, self.preparation, self.recipe, self.watch = folder, preparation, recipe, watch
        if recipe.crop and model.event.varies:
            train = of_any_size(train, model.event, preparation)
            if valid is not None:
                valid = of_any_size(valid, model.event, preparation)
        self.chance = Chance(recipe.seed)
        self.state = State(model, recipe)
        size = batch_size_of(recipe, model, len(train))
        self.batches = Batches(train.to(model.device), preparation, size, self.chance, recipe.crop)
        self.validation: Validation | None = None
        if valid is not None:
            self.validation = Validation(valid, preparation, recipe, size, self.chance)
        self.schedule = Schedule(recipe, len(self.batches))
        self.evaluations = Evaluations(self.schedule, recipe.evaluations, size, len(self.validation or ()))
        self.notes = Notes(model.event, size, self.schedule)
        self.journal = Journal(folder, len(self.batches))
        self.checkpoints = Checkpoints(folder, recipe.checkpoint_every, clock)

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

    def begin_again(self) -> None:
        """Let a fit that has ended, of which this is the last checkpoint, begin another cycle.

        Raises:
            InputError: it has not ended, or there is nothing to train.
        """
        assert self.folder is not None
        checkpoint.restore(self.folder, self.state)
        progress = self.state.progress
        if not progress.done:
            raise InputError(f"budget: the fit in {self.folder} has not ended; resume it without one")
        if not self.state.parameters:
            raise InputError(f"budget: {type(self.state.model).__name__} has no parameters to fit by gradient steps")
        cycle = {"cycle": progress.cycle + 1, "begun": progress.step, "from_seconds": progress.seconds}
        course = {"total": None, "fraction": 0.0, "from_step": progress.step, "from_fraction": 0.0}
        self.state.progress = replace(progress, stale=0, done=False, **cycle, **course)
        self.state.restart_average()

    def begin(self, gradient: bool) -> Density:
        """Fit in closed form, where the model has one; then by gradient steps, if so."""
        with self._farewell():
            examples = self.initialize()
            if not gradient:
                return self.finish()
            self.settle_validation()
            if self.validation is not None:
                event = self.state.model.event
                self.state.progress.independent = independent_bits(event, examples, self.validation.rows)
            return self.run()

    def initialize(self) -> Tensor:
        """Set weights from the data: all of them in closed form, or those that training starts from; return these."""
        model, examples = self.state.model, self.batches.examples()
        if model.estimable:
            model.estimate(examples, generator=self.chance.generator("estimate", 0))
        generator = self.chance.generator("initialize", 0)
        most = max(1, min(INITIAL, INITIAL_VALUES // values_of(model)))
        first = next(examples.shuffled(generator).batches(most)).read()
        model.initialize(*first, generator=generator)
        self.state.restart_average()
        return model.check(first[0])

    def run(self) -> Density:
        """Take steps until the budget is spent or validation stops improving."""
        progress, schedule = self.state.progress, self.schedule
        self.started -= progress.seconds  # spent before
        schedule.begin(progress)
        with _interruptible() as interrupted, self._work_saved(), watching(self.watch) as watch:
            self.settle_validation()
            if progress.step == 0:
                self.validate()
            while schedule.going(progress):
                self._step()
                if self.evaluations.due(progress):
                    self.validate()
                self.notes.step(progress)
                if watch is not None:
                    watch(replace(progress))
                if progress.stale >= self.recipe.patience:
                    break
                if self.checkpoints.due(progress.step) or interrupted.is_set():
                    self.checkpoints.save(self.state)
                if interrupted.is_set():
                    raise KeyboardInterrupt
        self.notes.end(progress)
        return self.finish()

    def _step(self) -> None:
        progress, before = self.state.progress, self.clock()
        batch = self.batches.at(progress.step)
        try:
            take_step(self.state, batch, self.state.rate, self.chance, self._place, self.batches.weight(batch[0]))
        except DivergedError as error:
            if self.recipe.learning_rate is not None or not self.state.recover():
                raise
            self.notes.recovered(progress, error)
        self.schedule.time(progress, self._seconds_since(before))

    def _seconds_since(self, before: float) -> float:
        """Bring the seconds that are spent up to date; return those since a moment."""
        now = self.clock()
        self.state.progress.seconds = now - self.started
        return now - before

    def settle_validation(self) -> None:
        """Under a budget in time, validate on as many examples as it has room for."""
        progress, validation = self.state.progress, self.validation
        if validation is None:
            return
        if self.schedule.timed and progress.validated_on is None and not progress.cycle:
            self.state.model.eval()
            room = SHARE * self.schedule.budget.amount
            progress.validated_on = validation.affordable(self.state.model, room, self.clock)
        if progress.validated_on is not None:
            validation.shrink(progress.validated_on)

    def validate(self) -> None:
        """Judge the average weights, write them if they are the best so far, and log."""
        progress, before = self.state.progress, self.clock()
        if validate(self.state, self.validation):
            self._write_kept()
        self.schedule.evaluation_seconds = self._seconds_since(before)
        self.evaluations.done(progress)
        self.journal.validated(progress, self.state.rate)

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
