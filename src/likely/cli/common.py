"""Shared by commands: common flags, and functions that open a run and its data."""

import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from likely.cli.output import Console
from likely.errors import InputError

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object and nothing else.")]
Device = Annotated[str, Parameter(help="Where to compute: cpu, cuda, …")]
Threads = Annotated[int | None, Parameter(help="Threads to compute with; unset: torch's choice.")]
BatchSize = Annotated[int, Parameter(help="Examples per pass; results do not depend on it beyond rounding.")]
Seed = Annotated[int, Parameter(help="Seed of everything that is drawn.", validator=Number(gte=0, lt=2**63))]
Context = Annotated[str | None, Parameter(help="What to condition on: PATH:key or NAME:labels, row by row with DATA.")]
Out = Annotated[Path, Parameter(name=["--out", "-o"], help="File to write.")]


def use(device: str, threads: int | None) -> None:
    """Set the threads to compute with; refuse a device or a number of threads that is not available."""
    import torch

    try:
        torch.empty(0, device=device)
        torch.Generator(device)  # a device of shapes alone ("meta") has none
    except (RuntimeError, AssertionError, ImportError) as error:
        raise InputError(f"--device {device}: not available here ({str(error).splitlines()[0]})") from error
    if threads is not None:
        if not 1 <= threads <= 1024:  # many more crash the process
            raise InputError(f"--threads must be from 1 to 1024, found {threads}")
        torch.set_num_threads(threads)


def with_preparation(run: Path, device: str) -> tuple[Any, Any]:
    """Return a run's model, and the preparation of its data or None."""
    from likely.runs import Run, load

    preparation = Run.read(run).preparation
    return load(run).to(device), preparation


def own_context(run: Path, data: str) -> str | None:
    """Return the context that a run was fitted with, if it lies beside the data, else None."""
    from likely.runs import Run

    context = Run.read(run).context_source
    base = data.split(":")[0]
    if str(context).startswith((f"{base}:", f"{os.path.abspath(base)}:")):
        return context
    return None


def opened(run: Path, data: str, context: str | None, seed: int, device: str) -> tuple[Any, Any, Any, Any]:
    """Return a run's model and preparation, data as stored, and the same rows prepared as for the fit."""
    import torch

    from likely.data import load

    model, preparation = with_preparation(run, device)
    if context is None:
        context = own_context(run, data)
    if preparation is None:
        loaded = load(data, "test", context=context)
        return model, None, loaded, loaded
    loaded = load(data, "test", context=context, reading=preparation.how)
    generator = torch.Generator().manual_seed(seed)
    return model, preparation, loaded, preparation.rows(loaded, generator)


def conclude(console: Console, run: Path | None, model: Any) -> None:
    """Say the result of a fit."""
    parameters = sum(p.numel() for p in model.parameters())
    result: dict[str, Any] = {"run": None, "parameters": parameters}
    said, reason = f"fitted {type(model).__name__} with {parameters:,} parameters", None
    if run is not None:
        found, reason = _stored(run)
        result |= {"run": str(run), **found}
        if found.get("valid_bits_per_dim") is not None:
            said += f", {found['valid_bits_per_dim']:.4f} bits/dim on validation"
        said += f"; it is in {run}"
    console.say(said)
    if reason is not None:
        result["not_frozen"] = reason
        if model.event.discrete:
            console.say(f"it cannot compress: {reason}")
    console.result(result)


def _stored(run: Path) -> tuple[dict[str, Any], str | None]:
    """Return the step and the scores that a run has come to, and the reason why its model is not frozen."""
    from likely.runs import Run
    from likely.runs.index import read

    found, reason = read(str(run), run), Run.read(run).refusal
    if found is None or found.step is None:
        return {}, reason
    return {"step": found.step, "valid_bits_per_dim": found.bits_per_dim, "seconds": found.seconds}, reason
