"""The log of a fit: a line of metrics.jsonl for every validation."""

import json
import math
from pathlib import Path
from typing import Any

from likely.runs import store
from likely.runs.files import append_line, write_atomic
from likely.training.progress import Progress


class Journal:
    """Lines of a run's metrics.jsonl; without a folder, none.

    Args:
        folder: the run.
        epoch: steps in one epoch.
    """

    def __init__(self, folder: Path | None, epoch: int) -> None:
        self.epoch = epoch
        self.file: Path | None = None
        if folder is not None:
            self.file = folder / store.METRICS

    def validated(self, progress: Progress, learning_rate: float) -> None:
        """Add a line after a validation."""
        self.add(
            {
                "step": progress.step,
                "epoch": progress.step / self.epoch,
                "loss_nats_per_dim": _number(progress.loss),
                "valid_bits_per_dim": _number(progress.bits_per_dim),
                "independent_bits_per_dim": _number(progress.independent),
                "learning_rate": learning_rate,
                "seconds": round(progress.seconds, 2),
            }
        )

    def refused(self, progress: Progress, reason: str) -> None:
        """Add the reason why the model could not be frozen."""
        self.add({"step": progress.step, "seconds": round(progress.seconds, 2), "frozen": {"refused": reason}})

    def add(self, line: dict[str, Any]) -> None:
        """Add a line."""
        if self.file is not None:
            append_line(self.file, json.dumps(line))

    def rewind(self, step: int) -> None:
        """Remove lines of later steps, and that of the end: they will be logged again."""
        if self.file is None:
            return
        lines: list[str] = []
        if self.file.exists():
            lines = self.file.read_text("utf-8", "replace").splitlines()
        kept = [line for line in lines if _step_of(line) <= step]
        write_atomic(self.file, "".join(line + "\n" for line in kept).encode())


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _step_of(line: str) -> int | float:
    try:
        entry = json.loads(line)
        return math.inf if "frozen" in entry else entry["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line cut short when the process was killed
