"""The end of a fit: the model in exact arithmetic, for compression, or the reason why it has none."""

import json
from pathlib import Path

from likely.coding.frozen import EXAMPLES, freeze
from likely.data import Preparation
from likely.density import Density
from likely.errors import ExactnessError, InputError
from likely.rows import Rows
from likely.runs import store
from likely.training.batches import Batches, prepared, stream
from likely.training.progress import Progress


def freeze_run(folder: Path, model: Density, batches: Batches, progress: Progress) -> None:
    """Freeze the model of a run, or write down why not: in its configuration and, of symbols, in its metrics."""
    seed, preparation = batches.recipe.seed, batches.preparation
    rows = prepared(batches.rows[:EXAMPLES], preparation, stream(seed, "preparation", 0))
    reason = freeze_into(folder, model, rows, preparation)
    if reason is not None:
        store.note_refusal(folder, reason)
    if reason is not None and model.event.discrete:
        line = {"step": progress.step, "seconds": round(progress.seconds, 2), "not_frozen": reason}
        store.append_line(folder / store.METRICS, json.dumps(line, ensure_ascii=False))


def freeze_into(folder: Path, model: Density, rows: Rows, preparation: Preparation | None) -> str | None:
    """Write a frozen model into a folder, or return why there is none."""
    try:
        freeze(model, (rows.x, rows.context), preparation=preparation).save(folder)
    except (InputError, ExactnessError) as error:
        return str(error)
    return None
