"""What resumption needs, as one file that is replaced in one step."""

import dataclasses
import json
import math
from pathlib import Path

from torch import Tensor

from likely.errors import StoreError
from likely.runs import store
from likely.training.optimization import Optimization
from likely.training.progress import Progress

Weights = dict[str, Tensor]
PARTS = ("model", "average", "kept", "optimizer")


def save(folder: Path, progress: Progress, optimization: Optimization, kept: Weights | None) -> None:
    """Write weights, their average, the best weights, the optimiser's state and the progress.

    Raises:
        WriteError: it could not be written; the one before is good.
    """
    parts = {
        "model": optimization.model.state_dict(),
        "average": optimization.average.state(),
        "kept": kept or {},
        "optimizer": optimization.state(),
    }
    tensors = {f"{part}.{name}": tensor for part, own in parts.items() for name, tensor in own.items()}
    store.write_weights(folder / store.CHECKPOINT, tensors, {"progress": json.dumps(dataclasses.asdict(progress))})


def restore(folder: Path, optimization: Optimization) -> tuple[Progress, Weights | None]:
    """Take up the last checkpoint of a run, and return where it stood; without one, start from the beginning.

    Raises:
        StoreError: the checkpoint is damaged or foreign.
    """
    if not (folder / store.CHECKPOINT).exists():
        store.write_atomic(folder / store.METRICS, b"")
        return Progress(), None
    tensors, metadata = store.read_weights(folder / store.CHECKPOINT)
    parts: dict[str, Weights] = {part: {} for part in PARTS}
    try:
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        for part in ("model", "average", "kept"):
            parts[part] = store.renamed(optimization.model, parts[part])
        progress = Progress(**json.loads(metadata["progress"]))
        optimization.model.load_state_dict(parts["model"])
        optimization.average.restore(parts["average"])
        optimization.restore(parts["optimizer"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StoreError(f"{folder / store.CHECKPOINT} is damaged or foreign: {error}") from error
    forget_metrics_after(folder / store.METRICS, progress.step)
    return progress, parts["kept"] or None


def forget_metrics_after(file: Path, step: int) -> None:
    """Forget what was logged after the checkpoint: it will be logged again."""
    lines = file.read_text("utf-8", "replace").splitlines() if file.exists() else []
    kept = [line for line in lines if step_of(line) <= step]
    store.write_atomic(file, "".join(line + "\n" for line in kept).encode())


def step_of(line: str) -> int | float:
    """Return the step of a line of metrics; infinity of a line that was cut short when the process was killed."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
