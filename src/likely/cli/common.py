"""What commands share: the flags that several of them take, and how a run and its data are opened."""

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
    """Set what to compute with, refusing what is not there."""
    import torch

    try:
        torch.empty(0, device=device)
        torch.Generator(device)  # what only has shapes ("meta") has none
    except (RuntimeError, AssertionError, ImportError) as error:
        raise InputError(f"--device {device}: not available here ({str(error).splitlines()[0]})") from error
    if threads is not None:
        if not 1 <= threads <= 1024:  # many more crash the process
            raise InputError(f"--threads must be from 1 to 1024, found {threads}")
        torch.set_num_threads(threads)


def with_preparation(run: Path, device: str) -> tuple[Any, Any]:
    """A run's model and the preparation of its data, if it has one."""
    from likely.runs import Run, load

    preparation = Run.read(run).preparation
    return load(run).to(device), preparation


def own_context(run: Path, data: str) -> str | None:
    """The context that a run was fitted with, if it lies beside the data."""
    from likely.runs import Run

    context = Run.read(run).context_source
    return context if str(context).startswith(data.split(":")[0] + ":") else None


def opened(run: Path, data: str, context: str | None, seed: int, device: str) -> tuple[Any, Any, Any, Any]:
    """Return a run's model and preparation, data as stored, and the same rows prepared as for the fit."""
    import torch

    from likely.data import load

    model, preparation = with_preparation(run, device)
    loaded = load(data, "test", context=own_context(run, data) if context is None else context)
    generator = torch.Generator().manual_seed(seed)
    return model, preparation, loaded, loaded if preparation is None else preparation.rows(loaded, generator)


def conclude(console: Console, run: Path | None, model: Any) -> None:
    """Say how a fit ended."""
    from likely.runs import Run
    from likely.runs.index import read

    parameters = sum(p.numel() for p in model.parameters())
    result: dict[str, Any] = {"run": None if run is None else str(run), "parameters": parameters}
    stored = None if run is None else read(str(run), run)
    best = ""
    if stored is not None and stored.step is not None:
        result |= {"step": stored.step, "valid_bits_per_dim": stored.bits_per_dim, "seconds": stored.seconds}
        best = "" if stored.bits_per_dim is None else f", {stored.bits_per_dim:.4f} bits/dim on validation"
    console.say(
        f"fitted {type(model).__name__} with {parameters:,} parameters{best}" + (f"; it is in {run}" if run else "")
    )
    reason = None if run is None else Run.read(run).refusal
    if reason is not None:
        result["not_frozen"] = reason
        if model.event.discrete:
            console.say(f"it cannot compress: {reason}")
    console.result(result)
