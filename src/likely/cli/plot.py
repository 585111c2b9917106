"""`likely plot`: a density of one or two real values, its samples and where a flow takes the data, as a picture."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from likely.cli.common import Device, Json, Out, Seed, Threads, use, with_preparation
from likely.cli.output import Console
from likely.errors import InputError


def plot(
    run: Path,
    *,
    data: Annotated[str | None, Parameter(help="What to show beside samples; unset: what RUN was fitted to.")] = None,
    context: Annotated[
        str | None, Parameter(help="The value of a conditional model's context, as 3 or 0.1,0.2.")
    ] = None,
    out: Out = Path("density.png"),
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Draw a model of one or two real values: its density, its samples beside data, and of a flow z = f(x).

    Args:
        run: folder of the run.
    """
    import torch

    from likely import pictures
    from likely.cli.files import context_value

    console = Console(json)
    use(device, threads)
    model, preparation = with_preparation(run, device)
    value = None if context is None else context_value(context, 1)
    shown = _shown(run, data, model, value)
    x = shown if shown is None or preparation is None else preparation.apply(shown)
    generator = torch.Generator(device).manual_seed(seed)
    pictures.write(out, pictures.density(model, x, value, generator=generator))
    console.say(f"the density in {out}" + ("" if x is None else f", beside {len(x):,} examples"))
    console.result({"out": str(out), "examples": 0 if x is None else len(x)})


def _shown(run: Path, data: str | None, model: Any, value: Any) -> Any:
    """The data that were asked for, or else those of the run where they are still there; those of one context."""
    from likely.data import load
    from likely.runs import Run

    fitted = Run.read(run)
    source = fitted.source if data is None else data
    if source is None:
        return None
    try:
        loaded = load(source, "train", context=fitted.context_source if data is None else None)
    except InputError:
        if data is None:  # moved or removed since
            return None
        raise
    if model.context is None:
        return loaded.x
    if loaded.context is None or value is None or not model.context.discrete:
        return None
    same = (loaded.context == value).reshape(len(loaded.x), -1).all(1)
    return loaded.x[same] if same.any() else None
