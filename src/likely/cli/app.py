"""The commands. Everything heavy is imported inside them, so that help is instant."""

import math
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from likely.cli import coding
from likely.cli.common import (
    BatchSize,
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
from likely.cli.output import Console
from likely.cli.plot import plot
from likely.cli.represent import embed, traverse
from likely.errors import Error, InputError

app = App(
    name="likely",
    help="Fit a probability distribution to your data and put log p(x) to work.",
    suppress_keyboard_interrupt=False,  # main says what was stopped
)
for command in (plot, embed, traverse, coding.compress, coding.decompress, coding.inspect, coding.freeze):
    app.command(command)


@app.command
def models(*, json: Json = False) -> None:
    """List the models that can be fitted."""
    import inspect

    from likely.catalogue import hyphenated
    from likely.catalogue import models as catalogue

    console = Console(json)
    rows = [
        {
            "model": hyphenated(name),
            "family": model.__module__.split(".")[1],
            "formula": (inspect.getdoc(model) or "").split("\n")[0],
        }
        for name, model in catalogue().items()
    ]
    console.table(rows, "models")


@app.command
def fit() -> None:
    """Fit MODEL to DATA: `likely fit MODEL --help` shows the model's own flags."""
    # Only for the list of commands: what follows `fit` is parsed by the model's own command.


@app.command
def resume(run: Path, *, device: Device = "cpu", threads: Threads = None, json: Json = False) -> None:
    """Go on with an interrupted fit where it stopped.

    Args:
        run: folder of the run.
    """
    from likely.training import resume as resume_fit

    console = Console(json)
    use(device, threads)
    with console.progress() as watch:
        model = resume_fit(run, device=device, watch=watch)
    conclude(console, run, model)


@app.command(name="eval")
def evaluate(
    run: Path,
    data: str,
    *,
    context: Context = None,
    per_example: Annotated[Path | None, Parameter(help="Write −ln p of every example as .npy, float64.")] = None,
    importance_samples: Annotated[
        int, Parameter(help="Draws that a lower bound is averaged over, which makes it tighter.")
    ] = 1,
    proposal: Annotated[
        Literal["encoder", "prior"], Parameter(help="What the latents of a latent-variable model are drawn from.")
    ] = "encoder",
    batch_size: BatchSize = 128,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Report the likelihood of data under a fitted model, and of a bound its terms.

    Args:
        run: folder of the run.
        data: name (digits) or path (.npy, .npz, IDX, CSV, folder of images); `:key` picks an array or a split.
    """
    import numpy as np
    import torch

    from likely.data import source_of
    from likely.jobs.evaluate import negative_log_likelihood, report_of, score
    from likely.runs.files import write_file

    console = Console(json)
    use(device, threads)
    model, _, loaded, x = opened(run, data, context, seed, device)
    with warnings_as_lines():
        found = score(
            model,
            x,
            batch_size=batch_size,
            generator=torch.Generator(device).manual_seed(seed),
            importance_samples=importance_samples,
            proposal=proposal,
            terms=True,
        )
    source = source_of(loaded.source) if loaded.context is None else None
    gap = None if source is None else float((found.nats - negative_log_likelihood(source, x)).mean())
    report = report_of(found, model, gap, importance_samples)
    if per_example is not None:
        write_file(per_example, lambda file: np.save(file, found.nats.numpy()))
    console.say(f"{loaded.note}: {report}" + ("" if gap is None else f", {gap:.4f} nats above the source"))
    if report.terms and not json:
        say_terms(console, report)
    console.result(report.to_json())


def say_terms(console: Console, report: Any) -> None:
    """The terms of a bound in nats and bits/dim, and what is counted, for people."""
    terms, bits = report.terms, 1 / (report.dims * math.log(2))
    names = {
        "reconstruction": "reconstruction (−distortion)",
        "kl": "kl (rate)",
        **{name: name for name in terms if name.startswith("kl of ")},
        "elbo": "elbo",
        "importance weighted": f"importance weighted ± {terms.get('importance weighted standard error', 0):.4f}",
        "gap of one draw": "gap of one draw, at least",
        "mutual information": f"mutual information (at most {terms.get('mutual information limit', 0):.2f})",
    }
    rows = [
        {"term": words, "nats": terms[name], "bits/dim": terms[name] * bits}
        for name, words in names.items()
        if name in terms
    ]
    console.table(rows, "terms")
    if "active units" in terms:
        console.say(f"{terms['active units']:.0f} of {terms['latent values']:.0f} latent values are active")
    if "codes in use" in terms:
        console.say(f"{terms['codes in use']:.0f} of {terms['codes']:.0f} codes are in use")
    if "effective sample size" in terms:
        size = terms["effective sample size"]
        console.say(f"of {report.importance_samples:,} draws {size:,.1f} count (effective sample size, mean)")


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Warnings of estimates are lines on standard error."""
    from likely.latent.bounds import UnreliableEstimate

    with warnings.catch_warnings():
        warnings.simplefilter("always", UnreliableEstimate)
        warnings.showwarning = lambda message, *_, **__: print(f"likely: {message}", file=sys.stderr)
        yield


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
    """Draw from a fitted model, as a picture (.png), an array (.npy) or a table (.csv).

    Args:
        run: folder of the run.
    """
    import torch

    from likely.cli.files import context_value, sizes_of, write_examples
    from likely.event import shown
    from likely.jobs.generate import sample as draw

    console = Console(json)
    use(device, threads)
    model, preparation = with_preparation(run, device)
    value = None if context is None else context_value(context, n)
    sizes = None if size is None else sizes_of(size)
    if sizes is None and model.event.varies:
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
    """Complete examples of which a part is observed, as a picture (originals, what was given, completions) or .npy.

    Args:
        run: folder of the run.
        data: name or path of the examples.
    """
    import torch

    from likely.cli.files import read_mask, write_infilling
    from likely.jobs.generate import infill as complete

    console = Console(json)
    use(device, threads)
    if n < 1:
        raise InputError(f"-n must be at least 1, found {n}")
    model, preparation, _, x = opened(run, data, context, seed, device)
    mask = read_mask(observed, model.event, preparation)
    rows, found, exact = x[:n], {}, True
    generator = torch.Generator(device).manual_seed(seed)
    for places in rows.places(len(rows)):
        part, given = rows[places].read()
        infilled = complete(model, part, mask, given, generator=generator)
        exact &= infilled.exact
        numbers = torch.arange(len(rows))[places].tolist()
        found |= dict(zip(numbers, zip(part, infilled.x, strict=True), strict=True))
    originals, completed = zip(*(found[number] for number in range(len(rows))), strict=True)
    write_infilling(out, list(originals), mask, list(completed), model.event, preparation)
    how = "observed values forced in the model's order, not exact"
    if exact:
        how = "exact draws from p(hidden | observed)"
    console.say(f"{len(completed)} completions in {out}: {how}")
    console.result({"n": len(completed), "out": str(out), "exact": exact})


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
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = app
        if arguments[:1] == ["fit"]:
            from likely.cli.fit import fit_app, with_command_name

            command, arguments = fit_app(arguments), with_command_name(arguments[1:])
        command(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except (CycloptsError, Error) as error:
        message = " ".join(str(error).split())
        print(f"likely: {message}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, Error) else 2)
    except KeyboardInterrupt as interrupt:
        print(f"likely: {str(interrupt) or 'stopped'}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # a file or folder that may not be looked at, say
        print(f"likely: {error.filename or 'cannot go on'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):  # how torch says it, on any device
            raise
        print(f"likely: not enough memory: {' '.join(str(error).split())[:200]}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)
