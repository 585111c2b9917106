"""The learning rate of a default fit: a rule from model and number of steps, beside a range test and a search.

    python benchmarks/rates.py LOG.jsonl [--data FOLDER] [--task TASK] [--steps N]

Every line of LOG is one fit: task, steps, how the rate was found, the rate, and bits/dim on test data. Fits that are in
it are not made again. At the end the table of both ways beside the best rate of the search is printed. The range test
raises the rate from 1e-4 to 0.3 over a twentieth of the steps (ten at least), on a copy of the model, and takes a
quarter of the rate at which the smoothed loss is least; the fit has so many steps less.
"""

import argparse
import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import likely
from likely.data import load
from likely.training.batches import Batches
from likely.training.chance import Chance
from likely.training.choices import batch_size_for, peak_rate

RATES = tuple(1e-3 * 2**k for k in range(6))
STEPS = 30, 100, 300, 1000
LOWEST, HIGHEST, FRACTION, LEAST = 1e-4, 0.3, 0.05, 10


def digits() -> tuple[Any, Any]:
    return load("digits", "train").x, load("digits", "test").x


def table(folder: Path, name: str) -> tuple[Any, Any]:
    x = np.load(folder / "tabular" / f"{name}.npz")["X"]
    x = x[np.random.default_rng(0).permutation(len(x))][:6000]
    x = x[:, x.std(0) > 1e-6].astype(np.float32)
    return x[: len(x) * 4 // 5], x[len(x) * 4 // 5 :]


def binary(folder: Path, name: str) -> tuple[Any, Any]:
    arrays = np.load(folder / "binary" / f"{name}.npz")
    return arrays["train"][:10000], arrays["test"][:2000]


def moons() -> tuple[Any, Any]:
    x = load("moons", "train").x
    return x[:4000], load("moons", "test").x[:2000]


def tasks(folder: Path) -> dict[str, tuple[type, Callable[[], tuple[Any, Any]], dict[str, Any], int]]:
    """Class, data, arguments and most steps that are tried."""
    return {
        "MADE, digits": (likely.MADE, digits, {}, 1000),
        "PixelCNN, digits": (likely.GatedPixelCNN, digits, {}, 100),
        "VAE, digits": (likely.VAE, digits, {}, 1000),
        "MADE, nltcs": (likely.MADE, lambda: binary(folder, "nltcs"), {}, 1000),
        "MAF, moons": (likely.MAF, moons, {}, 300),
        "RealNVP, pima": (likely.RealNVP, lambda: table(folder, "pima"), {}, 300),
        "spline flow, mammography": (likely.NeuralSplineFlow, lambda: table(folder, "mammography"), {}, 100),
        "VAE, satimage-2": (likely.VAE, lambda: table(folder, "satimage-2"), {}, 1000),
    }


def range_test(model: Any, x: Any, steps: int, batch_size: int) -> float:
    """Return a quarter of the rate at which the loss is least while the rate rises."""
    model, chance = copy.deepcopy(model), Chance(1)
    rows = likely.rows.Rows.of(x)
    batches = Batches(rows, None, batch_size, chance)
    model.initialize(rows[:4096].read()[0], generator=chance.generator("initialize", 0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LOWEST)
    smooth, best, found = math.nan, math.inf, LOWEST
    for step in range(steps):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / max(1, steps - 1))
        optimizer.param_groups[0]["lr"] = rate
        loss = model.loss(*batches.at(step), generator=chance.generator("loss", step))
        smooth = loss.item() if step == 0 else smooth + 0.3 * (loss.item() - smooth)
        if not math.isfinite(smooth):
            break
        if smooth < best:
            best, found = smooth, rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found / 4


def score(task: tuple, steps: int, how: str, rate: float | None) -> dict[str, Any]:
    cls, data, arguments, _ = task
    train, test = data()
    planned = likely.plan(cls, train, **arguments)
    model, preparation = planned.model, planned.preparation
    train, test = (preparation.apply(torch.as_tensor(part)) for part in (train, test))
    size = batch_size_for(len(train) * 9 // 10, model.event.dims)
    left = steps
    if how == "rule":
        rate = peak_rate(sum(p.numel() for p in model.parameters()), steps)
    if how == "range test":
        tried = max(LEAST, round(FRACTION * steps))
        rate, left = range_test(model, train, tried, size), steps - tried
    try:
        likely.fit(model, train, budget=f"{left} steps", learning_rate=rate, batch_size=size)
        bits = likely.evaluate(model, test, generator=torch.Generator().manual_seed(0)).bits_per_dim
    except likely.DivergedError:
        bits = math.inf
    return {"how": how, "rate": rate, "bits": bits}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--task")
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = []
    if options.log.exists():
        known = [json.loads(line) for line in options.log.read_text().splitlines()]
    chosen = {name: task for name, task in tasks(options.data).items() if options.task in (None, name)}
    for name, task in chosen.items():
        for steps in (n for n in STEPS if n <= task[3] and options.steps in (None, n)):
            for how, rate in [("rule", None), ("range test", None), *(("search", rate) for rate in RATES)]:
                key = {"task": name, "steps": steps, "how": how} | ({} if rate is None else {"rate": rate})
                if any(key.items() <= line.items() for line in known):
                    continue
                known.append(key | score(task, steps, how, rate))
                with options.log.open("a") as file:
                    file.write(json.dumps(known[-1]) + "\n")
                print(known[-1], flush=True)
    report(known)


def report(lines: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("| task | steps | rule (rate) | range test (rate) | best of the search (rate) |\n|---|---|---|---|---|")
    for task, steps in dict.fromkeys((line["task"], line["steps"]) for line in lines):
        own = [line for line in lines if (line["task"], line["steps"]) == (task, steps)]
        cells = []
        for how in ("rule", "range test", "search"):
            found = min((line for line in own if line["how"] == how), key=lambda line: line["bits"], default=None)
            cells.append("–" if found is None else f"{found['bits']:.3f} ({found['rate']:.3g})")
        print(f"| {task} | {steps} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
