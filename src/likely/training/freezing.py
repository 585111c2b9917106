"""At the end of a fit its model is frozen for compression, or the run says why it cannot be."""

from dataclasses import replace
from pathlib import Path

from likely.coding.frozen import freeze
from likely.data import Preparation
from likely.density import Density
from likely.errors import Error
from likely.rows import Rows
from likely.runs import Run


def freeze_run(folder: Path, model: Density, examples: Rows, preparation: Preparation | None) -> str | None:
    """Write the model in exact arithmetic, and return None; if that fails, return the reason.

    A network of somebody else's may raise any error here; the fit has ended well all the same.

    Args:
        folder: the run.
        model: fitted.
        examples: prepared; the first thousand fix the ranges of the network's layers.
        preparation: of the data.
    """
    try:
        freeze(model, examples, preparation=preparation).save(folder)
        reason = None
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        if not isinstance(error, Error):
            reason = f"{type(error).__name__}: {reason}"
    run = Run.read(folder)
    if run.refusal != reason:
        replace(run, refusal=reason).write(folder)
    return reason
