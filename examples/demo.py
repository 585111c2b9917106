"""The main job on the packaged digits: fit a density, evaluate it beside baselines, draw, complete, compress.

    make demo          or          python examples/demo.py [BUDGET]

BUDGET is how long to train, "75s" unless given. Everything goes into a new folder, runs/demo, runs/demo-2, …
"""

import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from baselines import bits_per_dim
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
    "frozen.safetensors": "the model in exact arithmetic, for compression",
    "digits.lk": "the held-out digits, compressed",
    "digits-with-model.lk": "the same, with the model inside",
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
        settings = {"learning_rate": 1.5e-2, "batch_size": 32, "weight_decay": 1.0}  # as few data want it
        likely.fit(model, train, preparation=preparation, out=out, watch=watcher, budget=budget, **settings)

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

    show_figures(reports, f"digits that no model has seen: {test.note}")
    show_sizes(test.x.numpy(), out)
    show_files(out)


def fresh_folder(path: Path) -> Path:
    """The path itself, or the first of path-2, path-3, … that is free."""
    names = itertools.chain([path], (path.with_name(f"{path.name}-{i}") for i in itertools.count(2)))
    return next(name for name in names if not name.exists())


def show_figures(reports: dict[str, likely.Report], title: str) -> None:
    """Print the likelihoods."""
    table = titled(title, "model", "bits/dim ± standard error", "kind")
    for name, report in reports.items():
        table.add_row(name, f"{report.bits_per_dim:.3f} ± {report.bits_per_dim_standard_error:.3f}", report.kind)
    show(table)


def show_sizes(images: np.ndarray, out: Path) -> None:
    """Compress the images by the model and by other codecs, decompress, and print what each takes."""
    file = out / "digits.lk"
    apart = likely.compress(out, images, file)
    together = likely.compress(out, images, out / "digits-with-model.lk", with_model=True)
    identical = all(
        np.array_equal(likely.decompress(*source), images) for source in ((file, out), (out / "digits-with-model.lk",))
    )
    table = titled(
        "the same digits, compressed without loss: bits/dim", "codec", "a file per image", "one for all", right=True
    )
    table.add_row("stored", "8.000", "8.000")
    for name, (alone, mosaic) in bits_per_dim(images).items():
        table.add_row(name, f"{alone:.3f}", f"{mosaic:.3f}")
    table.add_row("likely", "–", f"{apart.bits_per_dim:.3f}")
    table.add_row("likely, its model counted", "–", f"{8 * together.file_bytes / images.size:.3f}")
    show(table)
    print(f"decoded: {'identical' if identical else 'DIFFERENT'}")


def show_files(out: Path) -> None:
    """Print what was left."""
    table = Table(title=f"files in {out}", title_justify="left", box=None, show_header=False, pad_edge=False)
    for name, meaning in FILES.items():
        table.add_row(name, meaning)
    show(table)


def titled(title: str, *columns: str, right: bool = False) -> Table:
    """A plain table; figures stand to the right where it is of figures alone."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if right and i else "left")
    return table


def show(table: Table) -> None:
    """Print a table after an empty line."""
    console = Console(soft_wrap=not sys.stdout.isatty())
    console.print("")
    console.print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
