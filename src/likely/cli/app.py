"""The commands. Everything heavy is imported inside them, so that help is instant."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from likely.cli import coding
from likely.cli.common import (
    Context,
    Device,
    Json,
    Out,
    Seed,
    Threads,
    conclude,
    opened,
    use,
    with_preparation,
)
from likely.cli.evaluate import compare, evaluate
from likely.cli.imports import import_first
from likely.cli.output import Console
from likely.cli.plot import plot
from likely.cli.represent import embed, traverse
from likely.errors import Error, InputError

app = App(
    name="likely",
    help="Fit a probability distribution to your data and put log p(x) to work. With --import FILE.py, anywhere, a "
    "command knows the models that the file defines.",
    suppress_keyboard_interrupt=False,  # main says what was stopped
)
for command in (plot, embed, traverse, coding.compress, coding.decompress, coding.inspect, coding.freeze):
    app.command(command)
app.command(evaluate, name="eval")
app.command(compare)


@app.command
def models(*, json: Json = False) -> None:
    """List the models that can be fitted."""
    import inspect

    from likely.catalogue import hyphenated, own_models
    from likely.catalogue import models as catalogue

    rows = []
    for model in (*catalogue().values(), *own_models().values()):
        family = model.__module__.removeprefix("likely.").split(".")[0]
        formula = (inspect.getdoc(model) or "").split("\n")[0]
        rows.append({"model": hyphenated(model), "family": family, "formula": formula})
    Console(json).table(rows, "models")


@app.command
def fit() -> None:
    """Fit MODEL to DATA: `likely fit MODEL --help` shows the model's own flags."""
    # Only for the list of commands: the model's own command parses the arguments after `fit`.


@app.command
def resume(
    run: Path,
    *,
    budget: Annotated[str | None, Parameter(help='More training for a fit that has ended: "10m", "5 epochs".')] = None,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Go on with an interrupted fit where it stopped, or with one that has ended, for a budget.

    Args:
        run: folder of the run.
    """
    from likely.training import resume as resume_fit

    console = Console(json)
    use(device, threads)
    with console.progress() as watch:
        model = resume_fit(run, budget=budget, device=device, watch=watch)
    conclude(console, run, model)


@app.command
def sample(
    run: Path,
    *,
    n: Annotated[int, Parameter(name=["-n", "--n"], help="How many.")] = 64,
    out: Out = Path("samples.png"),
    context: Annotated[
        str | None, Parameter(help="A value for all, as 3 or 0.1,0.2, or PATH:key with n of them.")
    ] = None,
    size: Annotated[
        str | None, Parameter(help="HEIGHT,WIDTH of the samples, where the sizes of the model's examples vary.")
    ] = None,
    temperature: Annotated[float, Parameter(help="Below 1 sharper, above 1 wilder than the model.")] = 1.0,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Draw from a fitted model, as a picture (.png), an array (.npy, .npz), a table (.csv) or a folder of pictures.

    Args:
        run: folder of the run.
    """
    import torch

    from likely.cli.files import context_value, sizes_of, write_examples
    from likely.cli.writers import writer_of
    from likely.event import shown
    from likely.jobs.generate import sample as draw

    console = Console(json)
    use(device, threads)
    writer_of(out)  # refuses a name before anything is drawn
    model, preparation = with_preparation(run, device)
    value = sizes = None
    if context is not None:
        value = context_value(context, n)
    if size is not None:
        sizes = sizes_of(size)
    elif model.event.varies:
        raise InputError(f"--size HEIGHT,WIDTH is expected: the run's examples are of shape {shown(model.event.shape)}")
    generator = torch.Generator(device).manual_seed(seed)
    x = draw(model, n, value, size=sizes, temperature=temperature, generator=generator)
    write_examples(out, x, model.event.of_size(x.shape[1:]), preparation)
    console.say(f"{n} samples in {out}")
    console.result({"n": n, "out": str(out), "temperature": temperature})


@app.command
def infill(
    run: Path,
    data: str,
    *,
    observed: Annotated[str, Parameter(help="What is given: top, left, or a mask in .npy (true where given).")],
    n: Annotated[int, Parameter(name=["-n", "--n"], help="How many of the data, from the first on.")] = 16,
    out: Out = Path("infill.png"),
    context: Context = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Complete examples from a part of each, as a picture (originals, given parts, completions) or .npy.

    Args:
        run: folder of the run.
        data: name or path of the examples.
    """
    import torch

    from likely.cli.files import read_mask, write_infilling

    console = Console(json)
    use(device, threads)
    if n < 1:
        raise InputError(f"-n must be at least 1, found {n}")
    model, preparation, _, x = opened(run, data, context, seed, device)
    mask = read_mask(observed, model.event, preparation)
    originals, completed, exact = completions(model, x[:n], mask, torch.Generator(device).manual_seed(seed))
    write_infilling(out, originals, mask, completed, model.event, preparation)
    how = "observed values forced in the model's order, not exact"
    if exact:
        how = "exact draws from p(hidden | observed)"
    console.say(f"{len(completed)} completions in {out}: {how}")
    console.result({"n": len(completed), "out": str(out), "exact": exact})


def completions(model: Any, rows: Any, mask: Any, generator: Any) -> tuple[list[Any], list[Any], bool]:
    """Return examples, their completions, and whether these are exact draws; those of one size are drawn together."""
    import torch

    from likely.jobs.generate import infill as complete

    originals, completed, exact = {}, {}, True
    for places in rows.places(len(rows)):
        part, given = rows[places].read()
        infilled = complete(model, part, mask, given, generator=generator)
        exact &= infilled.exact
        for k, number in enumerate(torch.arange(len(rows))[places].tolist()):
            originals[number], completed[number] = part[k], infilled.x[k]
    numbers = range(len(rows))
    return [originals[k] for k in numbers], [completed[k] for k in numbers], exact


@app.command
def runs(folder: Path = Path("runs"), *, json: Json = False) -> None:
    """List the runs below a folder.

    Args:
        folder: where to look.
    """
    from dataclasses import asdict

    from likely.runs.index import runs as indexed

    Console(json).table([asdict(run) for run in indexed(folder)], "runs")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 well; 1 failed; 2 bad use or input; 130 Ctrl-C; 143 terminated."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that half-written files go
    if arguments is None:
        arguments = sys.argv[1:]
    sys.exit(_exit_code(list(arguments)))


def _exit_code(arguments: list[str]) -> int:
    """Run a command; print an error as one line, and return its exit code."""
    try:
        _run(arguments)
    except CycloptsError as error:
        return _failed(str(error), 2)
    except Error as error:
        return _failed(str(error), error.exit_code)
    except KeyboardInterrupt as interrupt:
        return _failed(str(interrupt) or "stopped", 130)
    except BrokenPipeError:
        return 1
    except OSError as error:  # a file or folder that may not be looked at, say
        return _failed(f"{error.filename or 'cannot go on'}: {error.strerror or error}", 1)
    except MemoryError as error:
        return _failed(f"not enough memory: {str(error)[:200]}", 1)
    except RuntimeError as error:
        if "memory" not in str(error):  # how torch says it, on any device
            raise
        return _failed(f"not enough memory: {str(error)[:200]}", 1)
    return 0


def _run(arguments: list[str]) -> None:
    command, arguments = app, import_first(arguments)
    if arguments[:1] == ["fit"]:
        from likely.cli.fit import fit_app, with_command_name

        command, arguments = fit_app(arguments), with_command_name(arguments[1:])
    command(arguments, exit_on_error=False, print_error=False, result_action="return_value")


def _failed(message: str, exit_code: int) -> int:
    print(f"likely: {' '.join(message.split())}", file=sys.stderr)
    return exit_code
