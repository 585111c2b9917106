"""The commands `likely eval` and `likely compare`."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from likely.cli.common import BatchSize, Context, Device, Json, Seed, Threads, opened, use
from likely.cli.output import Console
from likely.cli.warned import warnings_as_lines
from likely.errors import InputError


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
    from likely.jobs.compare import comparison, scored_by

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
        with warnings_as_lines():
            scored[str(run)] = model, scored_by(model, x, importance_samples, batch_size, seed)
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
