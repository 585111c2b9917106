"""The main job on the packaged digits: fit a density, evaluate it beside baselines, draw from it, complete images.

    make demo          or          python examples/demo.py [BUDGET]

BUDGET is how long to train, "75s" unless given. Everything goes into a new folder, runs/demo, runs/demo-2, …
"""

import itertools
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import likely
from likely import pictures
from likely.cli.progress import watch
from likely.data import Preparation, load
from likely.jobs.generate import observed_mask

FILES = {
    "config.json": "the model, its data and preparation, the recipe",
    "model.safetensors": "the weights",
    "metrics.jsonl": "how the fit went",
    "checkpoint": "for likely resume",
    "samples.png": "64 samples",
    "infill.png": "16 held-out digits, their upper halves, completions",
}


def main(budget: str = "75s") -> None:
    """Run the demo."""
    torch.set_num_threads(1)  # the images are so small that a second thread mostly waits for the first
    train, test = load("digits", "train"), load("digits", "test")
    preparation = Preparation.infer(train.x)
    event = preparation.event_of(train.x)
    held_out = preparation.apply(test.x)
    out = fresh_folder(Path("runs/demo"))

    print(f"{train.note}; {event}\nfitting GatedPixelCNN for {budget}, into {out}", flush=True)
    model = likely.GatedPixelCNN(event, channels=32, layers=5, first_kernel=5)
    with watch() as watcher:
        likely.fit(model, train, preparation=preparation, budget=budget, out=out, watch=watcher)

    models = {
        "uniform": likely.SymbolHistogram(event),  # not fitted: every symbol alike
        "one-symbol histogram": likely.fit(likely.SymbolHistogram(event), train, preparation=preparation),
        "independent pixels": likely.fit(likely.IndependentPixels(event), train, preparation=preparation),
        "Gated PixelCNN": model,
    }
    reports = {name: likely.evaluate(model, held_out) for name, model in models.items()}

    generator = torch.Generator().manual_seed(0)
    samples = likely.sample(model, 64, generator=generator)
    pictures.write(out / "samples.png", pictures.grid(samples, event.levels))
    originals = held_out[:16]
    top = observed_mask(event, "top", originals.shape)
    completed = likely.infill(model, originals, top, generator=generator).x
    pictures.write(out / "infill.png", pictures.infilling(originals, top, completed, event.levels))

    show(reports, f"digits that no model has seen: {test.note}", out)


def fresh_folder(path: Path) -> Path:
    """The path itself, or the first of path-2, path-3, … that is free."""
    names = itertools.chain([path], (path.with_name(f"{path.name}-{i}") for i in itertools.count(2)))
    return next(name for name in names if not name.exists())


def show(reports: dict[str, likely.Report], title: str, out: Path) -> None:
    """Print the figures and the files."""
    figures = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in ("model", "bits/dim ± standard error", "kind"):
        figures.add_column(column)
    for name, report in reports.items():
        figures.add_row(name, f"{report.bits_per_dim:.3f} ± {report.bits_per_dim_standard_error:.3f}", report.kind)
    files = Table(title=f"files in {out}", title_justify="left", box=None, show_header=False, pad_edge=False)
    for name, meaning in FILES.items():
        files.add_row(name, meaning)
    console = Console(soft_wrap=not sys.stdout.isatty())
    for part in ("", figures, "", files):
        console.print(part)


if __name__ == "__main__":
    main(*sys.argv[1:])
