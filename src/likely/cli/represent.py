"""The commands of representation: latents of examples, and examples of latents that are moved."""

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
    """Write the latents of data under a fitted model, as .npy or .csv: posterior means, codes, or z of a flow.

    Args:
        run: folder of the run.
        data: name or path of the examples.
    """
    import torch

    from likely.cli.files import write_array
    from likely.cli.writers import is_picture
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
    how: dict[str, Any] = {"means": not samples, "generator": torch.Generator(device).manual_seed(seed)}
    result: dict[str, Any] = {"out": str(out)}
    if data is None:
        model, preparation = with_preparation(run, device)
        refuse_no_images(out, model.event)
        examples = own_examples(run, preparation, seed)
        moved = represent.traverse(model, examples, rows=n, columns=columns, reach=reach, **how)
        x = moved.x
        result |= {"latents": list(moved.latents), "activity": list(moved.activity), "places": list(moved.places)}
        said = f"{len(x)} latent values from −{reach:g} to {reach:g} standard deviations in {out}"
    else:
        model, preparation, loaded, examples = opened(run, data, context, seed, device)
        refuse_no_images(out, model.event)
        start, stop, given = pairs_of(examples, n)
        x = represent.interpolate(model, start, stop, given, steps=columns, path=path, **how)
        said = f"{loaded.note}: {len(start)} ways between two examples in {out}"
    write_rows(out, x, model.event, preparation)
    console.say(said)
    console.result(result | {"rows": len(x), "columns": columns})


def pairs_of(examples: Any, n: int) -> tuple[Any, Any, Any]:
    """Return the first and the second examples of at most n pairs, and the context of the first."""
    if len(examples) < 2:
        raise InputError("interpolation takes at least two examples, found 1")
    end = 2 * min(n, len(examples) // 2)
    start, given = examples[0:end:2].read()
    return start, examples[1:end:2].x, given


def own_examples(run: Path, preparation: Any, seed: int) -> Any:
    """Return the data that a run was fitted to, prepared, or None where they are gone."""
    import torch

    from likely.data import load
    from likely.jobs import represent
    from likely.runs import Run

    source = Run.read(run).source
    if source is None:
        return None
    try:
        rows = load(source, "train", reading=preparation and preparation.how)[: represent.EXAMPLES]
    except InputError:  # moved or removed since
        return None
    if preparation is None:
        return rows
    return preparation.rows(rows, torch.Generator().manual_seed(seed))


def refuse_no_images(out: Path, event: Any) -> None:
    """Refuse a picture of anything but images of one alphabet, before anything is computed."""
    from likely.cli.writers import is_picture

    images = len(event.shape) == 3 and event.shape[0] in (1, 3) and event.one_alphabet is not None
    if is_picture(out) and not images:
        raise InputError(f"{out}: a picture needs images of one alphabet, found {event}; write .npy or .csv instead")


def write_rows(out: Path, x: Any, event: Any, preparation: Any) -> None:
    """Write examples (rows, columns, *event.shape) as a picture, or as an array in the layout of the data."""
    from likely import pictures
    from likely.cli.files import restored, write_array
    from likely.cli.writers import is_picture

    if is_picture(out):
        pictures.write(out, pictures.rows(x, event.levels))
        return
    raw = restored(x.flatten(0, 1), preparation)
    write_array(out, raw.unflatten(0, tuple(x.shape[:2])))
