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
    value = None
    if context is not None:
        value = context_value(context, 1)
    x = _shown(run, data, model, preparation, value)
    if x is not None and preparation is not None:
        x = preparation.apply(x)
    generator = torch.Generator(device).manual_seed(seed)
    pictures.write(out, pictures.density(model, x, value, generator=generator))
    said, examples = f"the density in {out}", 0
    if x is not None:
        examples = len(x)
        said += f", beside {examples:,} examples"
    console.say(said)
    console.result({"out": str(out), "examples": examples})


def _shown(run: Path, data: str | None, model: Any, preparation: Any, value: Any) -> Any:
    """Return the data to show, those of one context: as asked for, else of the run, or None where they are gone."""
    from likely.data import load
    from likely.runs import Run

    source, beside = data, None
    if data is None:
        fitted = Run.read(run)
        source, beside = fitted.source, fitted.context_source
    if source is None:
        return None
    try:
        loaded = load(source, "train", context=beside, reading=preparation and preparation.how)
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
