"""Default settings beside a search and independent dimensions: data sets × models × budgets, in bits/dim of test data.

    make recipes DATA=FOLDER       or       python benchmarks/recipes.py LOG.jsonl [--folder FOLDER]
    … [--data NAME] [--model CLASS] [--budget 5s] [--points 20] [--table]

Every line of LOG is one fit; those that are in it are not made again, so that a run that was stopped goes on. Budgets
are seconds of the processor, one thread, so that other work on the machine changes nothing. The search draws learning
rate, batch size, weight decay and decay of the average at random; its best point is chosen by validation, as a user
would. `--table` prints what is known. All cells take days; parts are picked by the flags.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rates import binary, digits, moons, table

import likely
from likely.rows import Rows
from likely.runs.recipe import Recipe
from likely.training.independent import independent_bits
from likely.training.loop import Loop

BUDGETS = "5s", "20s", "1m", "5m"
POINTS = 20
MODELS = (
    "GatedPixelCNN",
    "MADE",
    "VAE",
    "HierarchicalVAE",
    "RealNVP",
    "MAF",
    "NeuralSplineFlow",
    "NeuralSplineCoupling",
)
ONLY_PICTURES = {"GatedPixelCNN"}
ONLY_SYMBOLS = {"GatedPixelCNN", "MADE"}


def drawn(name: str) -> tuple[Any, Any]:
    """Of a generated source."""
    return (likely.data.load(f"{name}:{split}", "train").x for split in ("train", "test"))


def mnist(folder: Path, binarize: bool) -> tuple[Any, Any]:
    arrays = np.load(folder / "mnist.npz")
    parts = (arrays["train_images"][:20000], arrays["test_images"][:1000])
    return tuple((part > 127).astype(np.uint8) if binarize else part for part in parts)  # pyrefly: ignore


def sets(folder: Path) -> dict[str, Callable[[], tuple[Any, Any]]]:
    """Return the data sets by name."""
    return {
        "digits": digits,
        "binary digits": lambda: tuple((part > 7).long() for part in map(torch.as_tensor, digits())),
        "mnist": lambda: mnist(folder, False),
        "binary mnist": lambda: mnist(folder, True),
        "nltcs": lambda: binary(folder, "nltcs"),
        "plants": lambda: binary(folder, "plants"),
        "jester": lambda: binary(folder, "jester"),
        "moons": moons,
        "pima": lambda: table(folder, "pima"),
        "mammography": lambda: table(folder, "mammography"),
        "satimage-2": lambda: table(folder, "satimage-2"),
        "waveform": lambda: table(folder, "waveform"),
    }


def fits(model: str, x: Any) -> bool:
    """Return whether a model takes data."""
    x = torch.as_tensor(x)
    return not (model in ONLY_PICTURES and x.ndim < 3) and not (model in ONLY_SYMBOLS and x.is_floating_point())


def settings_of(point: int) -> dict[str, Any]:
    """Return the settings of a point of the search; 0: the default ones."""
    if point == 0:
        return {}
    rng = np.random.default_rng(point)
    return {
        "learning_rate": float(10 ** rng.uniform(-3.3, -1.3)),
        "batch_size": int(2 ** rng.integers(4, 9)),
        "weight_decay": float(rng.choice([0.0, 0.01, 0.1, 1.0])),
        "average": float(rng.choice([0.99, 0.999])),
    }


def fitted(model: str, data: tuple[Any, Any], budget: str, point: int) -> dict[str, Any]:
    """Fit and evaluate; bits/dim are infinite where the fit diverged."""
    train, test = data
    planned = likely.plan(getattr(likely, model), train)
    train, test = (planned.preparation.apply(torch.as_tensor(part)) for part in (train, test))
    rows = Rows.of(train)[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))]
    valid, rest = rows[: len(rows) // 10], rows[len(rows) // 10 :]
    settings, seen = settings_of(point), []
    recipe = Recipe(budget=budget, **settings)
    try:
        Loop(planned.model, rest, valid, None, recipe, clock=time.process_time, watch=seen.append).begin(True)
        generator = torch.Generator().manual_seed(0)
        bits = likely.evaluate(planned.model, test, generator=generator).bits_per_dim
    except likely.DivergedError:
        bits = math.inf
    alone = independent_bits(planned.event, rest.read()[0], Rows.of(test))
    last = {"valid": seen[-1].best, "steps": seen[-1].step, "seconds": seen[-1].seconds} if seen else {}
    return settings | last | {"bits": bits, "independent": alone}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("data"))
    for name in ("--data", "--model", "--budget"):
        parser.add_argument(name)
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--table", action="store_true", help="print what is known, and make nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = []
    if options.log.exists():
        known = [json.loads(line) for line in options.log.read_text().splitlines()]
    if not options.table:
        make(options, known)
    report(known)


def make(options: argparse.Namespace, known: list[dict[str, Any]]) -> None:
    """Make the fits that are not known, and write them down one by one."""
    chosen = {name: data for name, data in sets(options.folder).items() if options.data in (None, name)}
    for budget in (b for b in BUDGETS if options.budget in (None, b)):
        for name, data in chosen.items():
            pair = tuple(data())
            for model in (m for m in MODELS if options.model in (None, m) and fits(m, pair[0])):
                for point in range(options.points + 1):
                    key = {"data": name, "model": model, "budget": budget, "point": point}
                    if not any(key.items() <= line.items() for line in known):
                        known.append(key | fitted(model, pair, budget, point))
                        with options.log.open("a") as file:
                            file.write(json.dumps(known[-1]) + "\n")
                        print(known[-1], flush=True)


def report(lines: list[dict[str, Any]]) -> None:
    """Print the table of all cells that have a default fit."""
    print("| data | model | budget | default | best of the search | its points | independent |")
    print("|---|---|---|---|---|---|---|")
    for line in (line for line in lines if line["point"] == 0):
        cell = {key: line[key] for key in ("data", "model", "budget")}
        points = [other for other in lines if other["point"] and cell.items() <= other.items()]
        best = min(points, key=lambda other: other.get("valid", math.inf), default=None)
        found = "–" if best is None else f"{best['bits']:.3f}"
        cells = [*cell.values(), f"{line['bits']:.3f}", found, str(len(points)), f"{line['independent']:.3f}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
