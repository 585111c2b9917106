"""Checkpoints: everything that resuming a fit needs, in one file that is replaced in one step."""

import dataclasses
import json
from pathlib import Path

from torch import Tensor

from likely.errors import StoreError
from likely.runs import store
from likely.runs.configuration import renamed
from likely.runs.files import read_weights, write_weights
from likely.training.clock import Clock
from likely.training.progress import Progress
from likely.training.state import State

SECONDS = 30.0  # between checkpoints
PARTS = ("model", "average", "kept", "optimizer")


class Checkpoints:
    """Checkpoints of one fit, when they are due.

    Args:
        folder: the run; None: there are none.
        every: steps between them; None: thirty seconds.
        clock: that they are measured by.
    """

    def __init__(self, folder: Path | None, every: int | None, clock: Clock) -> None:
        self.folder, self.every, self.clock, self.saved = folder, every, clock, clock()

    def due(self, step: int) -> bool:
        """Return whether one is to be written after a step."""
        if self.folder is None:
            return False
        if self.every is None:
            return self.clock() - self.saved >= SECONDS
        return step % self.every == 0

    def save(self, state: State) -> None:
        """Write one."""
        if self.folder is not None:
            save(self.folder, state)
            self.saved = self.clock()


def save(folder: Path, state: State) -> None:
    """Write a checkpoint; raises as `write_file`."""
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.average.state().items()}
    tensors |= {f"kept.{name}": tensor for name, tensor in (state.kept or {}).items()}
    for i, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in moments.items()}
    metadata = {"progress": json.dumps(dataclasses.asdict(state.progress))}
    write_weights(folder / store.CHECKPOINT, tensors, metadata)


def restore(folder: Path, state: State) -> bool:
    """Take up the last checkpoint of a run; return whether there was one.

    Raises:
        StoreError: it is damaged, or of another model.
    """
    file = folder / store.CHECKPOINT
    store.sweep(folder)
    if not file.exists():
        return False
    tensors, metadata = read_weights(file)
    try:
        parts = _in_parts(tensors)
        for part in ("model", "average", "kept"):
            parts[part] = renamed(state.model, parts[part])
        state.progress = Progress(**json.loads(metadata["progress"]))
        state.model.load_state_dict(parts["model"])
        state.average.restore(parts["average"])
        _restore_optimizer(state, parts["optimizer"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StoreError(f"{file} is damaged or foreign: {error}") from error
    state.kept = parts["kept"] or None
    return True


def _in_parts(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    return parts


def _restore_optimizer(state: State, tensors: dict[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        i, _, entry = name.partition(".")
        moments.setdefault(int(i), {})[entry] = tensor
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
