"""The commands of representation: latents of examples, and what becomes of latents that are moved."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from likely.cli.common import BatchSize, Context, Device, Json, Out, Seed, Threads, opened, use, with_preparation
from likely.cli.output import Console
from likely.errors import InputError

Some = Annotated[int, Parameter(name=["-n", "--n"], validator=Number(gte=1), help="Rows: latent values, or pairs.")]


def embed(
    run: Path,
    data: str,
    *,
    out: Out = Path("z.npy"),
    context: Context = None,
    batch_size: BatchSize = 128,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Write what a fitted model represents data by, as .npy or .csv: posterior means, codes, or z of a flow.

    Args:
        run: folder of the run.
        data: name or path of the examples.
    """
    import torch

    from likely.jobs.represent import embed as represent

    console = Console(json)
    use(device, threads)
    if is_picture(out):
        raise InputError(f"{out}: latents are written as .npy or .csv")
    model, _, loaded, x = opened(run, data, context, seed, device)
    generator = torch.Generator(device).manual_seed(seed)
    z = represent(model, x, batch_size=batch_size, generator=generator)
    write_array(out, z)
    console.say(f"{loaded.note}: latents {tuple(z.shape)} in {out}")
    console.result({"n": len(z), "shape": list(z.shape), "out": str(out)})


def traverse(
    run: Path,
    *,
    data: Annotated[
        str | None, Parameter(help="Examples to interpolate between, in pairs; unset: latent values are moved.")
    ] = None,
    out: Out = Path("latents.png"),
    n: Some = 10,
    columns: Annotated[int, Parameter(help="Places of every row.", validator=Number(gte=2))] = 11,
    reach: Annotated[float, Parameter(help="Standard deviations of the prior, either way.")] = 3.0,
    path: Annotated[
        Literal["linear", "spherical"], Parameter(help="How to interpolate: along a line, or an arc.")
    ] = "linear",
    samples: Annotated[bool, Parameter(negative="", help="Draw from the decoder in place of its means.")] = False,
    context: Context = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Move the most active latent values one by one, or interpolate between examples: a picture, .npy or .csv.

    Args:
        run: folder of the run.
    """
    import torch

    from likely.jobs import represent

    console = Console(json)
    use(device, threads)
    generator = torch.Generator(device).manual_seed(seed)
    result: dict[str, Any] = {"out": str(out)}
    if data is None:
        model, preparation = with_preparation(run, device)
        refuse_no_images(out, model.event)
        moved = represent.traverse(
            model,
            own_examples(run, preparation, seed),
            rows=n,
            columns=columns,
            reach=reach,
            means=not samples,
            generator=generator,
        )
        x = moved.x
        result |= {"latents": list(moved.latents), "activity": list(moved.activity), "places": list(moved.places)}
        words = f"{len(x)} latent values from −{reach:g} to {reach:g} standard deviations in {out}"
    else:
        model, preparation, loaded, examples = opened(run, data, context, seed, device)
        refuse_no_images(out, model.event)
        if len(examples) < 2:
            raise InputError("interpolation takes at least two examples, found 1")
        pairs = min(n, len(examples) // 2)
        first, second = (slice(end, 2 * pairs, 2) for end in (0, 1))
        start, given = examples[first].read()
        x = represent.interpolate(
            model,
            start,
            examples[second].x,
            given,
            steps=columns,
            path=path,
            means=not samples,
            generator=generator,
        )
        words = f"{loaded.note}: {pairs} ways between two examples in {out}"
    write_rows(out, x, model.event, preparation)
    console.say(words)
    console.result(result | {"rows": len(x), "columns": columns})


def own_examples(run: Path, preparation: Any, seed: int) -> Any:
    """What a run was fitted to, prepared, where it is still there."""
    import torch

    from likely.data import load
    from likely.jobs import represent
    from likely.runs import Run

    source = Run.read(run).source
    try:
        rows = None if source is None else load(source, "train")[: represent.EXAMPLES]
    except InputError:  # moved or removed since
        return None
    if rows is None or preparation is None:
        return rows
    return preparation.rows(rows, torch.Generator().manual_seed(seed))


def is_picture(out: Path) -> bool:
    """Whether a file's name is of no array and no table."""
    return out.suffix not in (".npy", ".csv")


def refuse_no_images(out: Path, event: Any) -> None:
    """Refuse a picture of anything but images of one alphabet, before anything is computed."""
    if is_picture(out) and (len(event.shape) != 3 or event.shape[0] not in (1, 3) or not isinstance(event.levels, int)):
        raise InputError(f"{out}: a picture needs images of one alphabet, found {event}; write .npy or .csv instead")


def write_rows(out: Path, x: Any, event: Any, preparation: Any) -> None:
    """Write examples (rows, columns, *event.shape) as a picture, or as an array in the layout of the data."""
    from likely import pictures

    if is_picture(out):
        pictures.write(out, pictures.rows(x, event.levels))
        return
    flat = x.flatten(0, 1)
    raw = flat if preparation is None else preparation.restore(flat)
    write_array(out, raw.unflatten(0, tuple(x.shape[:2])))


def write_array(out: Path, x: Any) -> None:
    """Write an array (n, …), as a table with a line for each of n."""
    import numpy as np

    from likely.runs.files import write_file

    if out.suffix == ".npy":
        write_file(out, lambda file: np.save(file, x.cpu().numpy()))
        return
    digits = "%.9g" if x.is_floating_point() and x.element_size() < 8 else "%.17g" if x.is_floating_point() else "%d"
    write_file(out, lambda file: np.savetxt(file, x.reshape(len(x), -1).cpu().numpy(), digits, ","))
