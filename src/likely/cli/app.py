"""The commands. Everything heavy is imported inside them, so that help is instant."""

import math
import signal
import sys
from collections.abc import Sequence
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
from likely.cli.imports import import_first
from likely.cli.output import Console
from likely.cli.plot import plot
from likely.cli.represent import embed, traverse
from likely.cli.warned import warnings_as_lines
from likely.errors import Error, InputError

app = App(
    name="likely",
    help="Fit a probability distribution to your data and put log p(x) to work. With --import FILE.py, anywhere, a "
    "command knows the models that the file defines.",
    suppress_keyboard_interrupt=False,  # main says what was stopped
)
for command in (plot, embed, traverse, coding.compress, coding.decompress, coding.inspect, coding.freeze):
    app.command(command)


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


@app.command(name="eval")
def evaluate(
    run: Path,
    data: str,
    *,
    context: Context = None,
    per_example: Annotated[
        Path | None, Parameter(help="Write −ln p of every example, float64: .npy, .csv, .npz, …")
    ] = None,
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
        data: name (digits) or path of a file or a folder; `:key` picks an array, columns or a split.
    """
    import torch

    from likely.cli.writers import writer_of
    from likely.jobs.evaluate import report_of, score

    console = Console(json)
    use(device, threads)
    writer = writer_of(per_example or "scores.npy")
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
    gap = gap_to_source(found.nats, loaded, x)
    report = report_of(found, model, gap, importance_samples)
    if per_example is not None:
        writer.write_array(per_example, found.nats.numpy(), ["nats"])
    said = f"{loaded.note}: {report}"
    if gap is not None:
        said += f", {gap:.4f} nats above the source"
    console.say(said)
    if report.terms and not json:
        say_terms(console, report)
    console.result(report.to_json())


@app.command
def compare(
    first: Path,
    *others: str,
    context: Context = None,
    importance_samples: Annotated[int, Parameter(help="Draws that each lower bound is averaged over.")] = 1,
    batch_size: BatchSize = 128,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Report the likelihood of data under several fitted models: `likely compare RUN RUN … DATA`, the best first.

    Args:
        first: folder of a run.
        others: folders of other runs, then the name or path of the data.
    """
    import torch

    from likely.jobs.compare import comparison
    from likely.jobs.evaluate import score

    console = Console(json)
    use(device, threads)
    if not others:
        raise InputError("compare: folders of runs and then data are expected, found one name")
    *runs, data = others
    scored, prepared = {}, {}
    for run in (first, *map(Path, runs)):
        model, preparation, loaded, x = opened(run, data, context, seed, device)
        prepared[str(run)] = preparation
        refuse_other_data(prepared)
        draws = importance_samples if model.kind != "exact" else 1
        generator = torch.Generator(device).manual_seed(seed)
        with warnings_as_lines():
            scored[str(run)] = (
                model,
                score(model, x, batch_size=batch_size, generator=generator, importance_samples=draws),
            )
    found = comparison(scored)
    console.say(loaded.note)
    if json:
        console.result({"models": found.to_json()})
    else:
        console.table(found.table(), "models")


def refuse_other_data(prepared: dict[str, Any]) -> None:
    """Refuse runs that prepare their data differently: bits/dim of different symbols cannot be compared."""
    first, *others = prepared
    for run in others:
        if prepared[run] != prepared[first]:
            how = differences(prepared[first], prepared[run])
            raise InputError(f"{first} and {run} prepare data differently ({how}): bits/dim cannot be compared")


def differences(one: Any, other: Any) -> str:
    """Say how two preparations differ; None is a model of an event that data are of as they are."""
    if one is None or other is None:
        return "one of them not at all"
    fields = ((name, value, getattr(other, name)) for name, value in vars(one).items())
    return ", ".join(f"{name} {a} and {b}" for name, a, b in fields if a != b)


def gap_to_source(nats: Any, loaded: Any, x: Any) -> float | None:
    """Return by how many nats scores are above those of the density that data are drawn from; None: it is unknown."""
    from likely.data import source_of
    from likely.jobs.evaluate import negative_log_likelihood

    source = source_of(loaded.source)
    if source is None or loaded.context is not None:
        return None
    return float((nats - negative_log_likelihood(source, x)).mean())


def say_terms(console: Console, report: Any) -> None:
    """Say the terms of a bound in nats and bits/dim, and counts of latents and draws, for people."""
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
