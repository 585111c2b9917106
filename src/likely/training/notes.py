"""Lines that a fit says about itself, by Python's logging under the name "likely": information, and warnings."""

import logging
import math

from likely.errors import DivergedError
from likely.event import Event
from likely.training.progress import Progress
from likely.training.schedule import Schedule

LOG = logging.getLogger("likely")
FEW = 50  # steps


class Notes:
    """The lines of one fit, each said once.

    Args:
        event: of the model.
        batch_size: examples of a step.
        schedule: of the fit.
    """

    def __init__(self, event: Event, batch_size: int, schedule: Schedule) -> None:
        self.event, self.batch_size, self.schedule = event, batch_size, schedule
        self.said: set[str] = set()

    def step(self, progress: Progress) -> None:
        """Say after the first second how the fit stands, and whether too few steps fit into a budget in time."""
        if progress.elapsed >= 1 and "standing" not in self.said and not math.isnan(progress.independent):
            self.said.add("standing")
            LOG.info(f"after {progress.elapsed:.1f} s: {self._beside(progress.bits_per_dim, progress)}")
        if self.schedule.timed and progress.elapsed > 0.2 * self.schedule.budget.amount:
            self._few(progress)

    def recovered(self, progress: Progress, error: DivergedError) -> None:
        """Say that a fit goes on after a divergence."""
        what = str(error).partition(";")[0]
        LOG.warning(f"{what}; going on from the weights of step {progress.best_step}, at a lower learning rate")

    def end(self, progress: Progress) -> None:
        """Say if the fit has ended above independent dimensions."""
        if progress.best > progress.independent:
            LOG.warning(
                f"the fit ends above independent dimensions: {self._beside(progress.best, progress)}; give it a longer "
                "budget or a smaller model"
            )

    def _few(self, progress: Progress) -> None:
        seconds, pace = self.schedule.budget.amount, self.schedule.pace
        steps = progress.step - progress.begun + (seconds - progress.elapsed) / pace
        if steps < FEW and "few" not in self.said:
            self.said.add("few")
            LOG.warning(
                f"only about {steps:.0f} steps fit into {seconds:g} s: a step of {self.batch_size} examples takes "
                f"{pace:.2g} s; a smaller model (fewer layers, channels or hidden units), a smaller batch_size or "
                "smaller examples would come further, or a longer budget"
            )

    def _beside(self, bits: float, progress: Progress) -> str:
        unit, factor = ("bits/dim", 1.0) if self.event.discrete else ("nats/dim", math.log(2))
        return f"{factor * bits:.3f} {unit} on validation, independent dimensions {factor * progress.independent:.3f}"
