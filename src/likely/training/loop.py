"""The loop of a fit: steps, validations and checkpoints until the budget is spent or nothing improves."""

import json
import math
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from likely.density import Density
from likely.errors import DivergedError
from likely.runs import store
from likely.training import checkpoint
from likely.training.batches import Batches, stream
from likely.training.freezing import freeze_run
from likely.training.optimization import Optimization
from likely.training.progress import Progress, Watcher
from likely.training.recipe import Budget, Recipe
from likely.training.validation import Validation

TIMED_STEPS, TIMED_SECONDS = 10, 3.0
INITIAL = 4096  # examples that a model is initialised from
CHECKPOINT_SECONDS = 30


class Loop:
    """One fit: the model, its data, and everything that a checkpoint has to hold.

    Args:
        model: changed in place.
        batches: the training data.
        validation: what weights are judged on; None: the last ones are kept.
        recipe: the settings.
        watch: called with the progress after every step.
    """

    def __init__(
        self,
        model: Density,
        batches: Batches,
        validation: Validation | None,
        recipe: Recipe,
        watch: Watcher | None = None,
    ) -> None:
        self.model, self.batches, self.validation, self.recipe, self.watch = model, batches, validation, recipe, watch
        self.optimization = Optimization(model, recipe)
        self.progress = Progress()
        self.folder: Path | None = None
        self.kept: dict[str, Tensor] | None = None

    def restore(self, folder: Path) -> None:
        """Take up the last checkpoint of a run; without one, start it from the beginning."""
        self.folder = folder
        self.progress, self.kept = checkpoint.restore(folder, self.optimization)

    def begin(self, gradient: bool) -> Density:
        """Fit in closed form, where the model has one, then by gradient steps, if so."""
        seed, rows = self.recipe.seed, self.batches.prepared(epoch=0)
        if self.model.estimates:
            self.model.estimate((rows.x, rows.context), generator=stream(seed, "estimate", 0))
        generator = stream(seed, "initialize", 0)
        some = rows.drawn(INITIAL, generator)
        self.model.initialize(some.x, some.context, generator=generator)
        self.optimization = Optimization(self.model, self.recipe)
        return self.run() if gradient else self.finish()

    def run(self) -> Density:
        """Take steps until the budget is spent or validation stops improving."""
        progress, clock = self.progress, Clock(self.progress.seconds)
        progress.total = self._known_total() if progress.total is None else progress.total
        with interruptible() as interrupted:
            if progress.step == 0:
                self.evaluate()
            timing = Timing(Budget.parse(self.recipe.budget), self.recipe.evaluations, clock.elapsed())
            while progress.total is None or progress.step < progress.total:
                before = clock.seconds()
                self._step()
                progress.seconds = clock.seconds()
                if progress.total is None:
                    progress.total = timing.total(progress, progress.seconds - before)
                if self._ended(clock):
                    break
                if interrupted.is_set():
                    self.save_checkpoint()
                    raise KeyboardInterrupt(self._farewell())
        return self.finish()

    def _known_total(self) -> int | None:
        """The number of steps that the budget says, None of a budget in time."""
        budget = Budget.parse(self.recipe.budget)
        if budget.unit == "seconds":
            return None
        return math.ceil(budget.amount * (self.batches.steps_per_epoch if budget.unit == "epochs" else 1))

    def _step(self) -> None:
        try:
            self.optimization.step(self.batches.at(self.progress.step), self.progress)
        except DivergedError as error:
            raise DivergedError(f"{error}{self._kept_where()}; try a smaller learning rate") from None

    def _kept_where(self) -> str:
        if self.folder is None:
            return ""
        return f"; the weights of step {self.progress.best_step} are kept in {self.folder}"

    def _ended(self, clock: "Clock") -> bool:
        """Tell the watcher, validate and write a checkpoint where they are due, and return whether to stop early."""
        if self.watch is not None:
            self.watch(self.progress)
        if self._due():
            self.evaluate()
            if self.progress.stale >= self.recipe.patience:
                return True
        if self.folder is not None and clock.checkpoint_due(self.progress.step, self.recipe.checkpoint_every):
            self.save_checkpoint()
        return False

    def _due(self) -> bool:
        step, total = self.progress.step, self.progress.total
        return total is not None and (step % max(1, total // self.recipe.evaluations) == 0 or step == total)

    def _farewell(self) -> str:
        at = f"stopped at step {self.progress.step}"
        return at if self.folder is None else f"{at}; go on with `likely resume {self.folder}`"

    def evaluate(self) -> None:
        """Validate the averaged weights, and keep them where they are the best so far."""
        progress = self.progress
        self.model.eval()
        with self.optimization.average.applied():
            if self.validation is not None:
                progress.bits_per_dim = self.validation.bits_per_dim(self.model)
            if self.validation is None or progress.bits_per_dim < progress.best:
                progress.best, progress.best_step, progress.stale = progress.bits_per_dim, progress.step, 0
                self.keep()
            else:
                progress.stale += 1
        self._log()

    def keep(self) -> dict[str, Tensor]:
        """Take the model's present weights as the ones to end with."""
        self.kept = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        if self.folder is not None:
            store.write_weights(self.folder / store.WEIGHTS, self.kept)
        return self.kept

    def finish(self) -> Density:
        """Put the kept weights into the model, and freeze it."""
        self.progress.done = True
        self.model.load_state_dict(self.keep() if self.kept is None else self.kept)
        self.save_checkpoint()
        self.model.eval()
        if self.folder is not None:
            freeze_run(self.folder, self.model, self.batches, self.progress)
        return self.model

    def save_checkpoint(self) -> None:
        """Write everything that resumption needs."""
        if self.folder is not None:
            checkpoint.save(self.folder, self.progress, self.optimization, self.kept)

    def _log(self) -> None:
        progress = self.progress
        line = {
            "step": progress.step,
            "epoch": progress.step / self.batches.steps_per_epoch,
            "loss_nats_per_dim": number(progress.loss),
            "valid_bits_per_dim": number(progress.bits_per_dim),
            "learning_rate": self.recipe.learning_rate_at(progress.step, progress.total),
            "seconds": round(progress.seconds, 2),
        }
        if self.folder is not None:
            store.append_line(self.folder / store.METRICS, json.dumps(line))


def number(value: float) -> float | None:
    """Return a value as JSON has it: None where there is none."""
    return None if math.isnan(value) else value


class Clock:
    """Seconds of a fit, which may have been interrupted, and since the last checkpoint."""

    def __init__(self, spent: float) -> None:
        self.spent, self.started = spent, time.monotonic()
        self.checkpointed = self.started

    def elapsed(self) -> float:
        """Return the seconds since this start."""
        return time.monotonic() - self.started

    def seconds(self) -> float:
        """Return the seconds of all starts."""
        return self.spent + self.elapsed()

    def checkpoint_due(self, step: int, every: int | None) -> bool:
        """Return whether a checkpoint is due, by steps or by the clock; if it is, the clock begins again."""
        due = step % every == 0 if every is not None else time.monotonic() - self.checkpointed >= CHECKPOINT_SECONDS
        if due:
            self.checkpointed = time.monotonic()
        return due


class Timing:
    """Turns a budget in time into a number of steps, once the first ones have been timed."""

    def __init__(self, budget: Budget, evaluations: int, evaluation_seconds: float) -> None:
        self.budget, self.evaluations, self.evaluation_seconds = budget, evaluations, evaluation_seconds
        self.durations: list[float] = []

    def total(self, progress: Progress, duration: float) -> int | None:
        """Return the number of steps, or None as long as too few are timed; their median minds no hiccup.

        Args:
            progress: after a step.
            duration: of that step, in seconds.
        """
        self.durations.append(duration)
        seconds, timed = self.budget.amount, sum(self.durations)
        if len(self.durations) <= TIMED_STEPS or (timed < TIMED_SECONDS and progress.seconds < 0.1 * seconds):
            return None
        left = seconds - progress.seconds - self.evaluations * self.evaluation_seconds
        return progress.step + max(1, int(max(left, 0.25 * seconds) / statistics.median(self.durations)))


@contextmanager
def interruptible() -> Iterator[threading.Event]:
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
