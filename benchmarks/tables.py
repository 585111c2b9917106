"""Flows against scikit-learn's Gaussian mixtures on tables of real values: nats per row of held-out rows.

    python benchmarks/tables.py --data FOLDER [--only NAME] [--json]

FOLDER holds skin.npz, landsat.npz and waveform.npz of ADBench (X; y = 1 marks an anomaly), https://github.com/Minqi824/ADBench.
Taken are all rows with y = 0, split at random (seed 0) into 80 % for training, 10 % for validation, 10 % for the test.

The columns of these tables are whole numbers of some unit (a level of a byte, a hundredth), so that a density of them
could be made as high as one likes. Every value is therefore moved by a uniform part of its column's unit (seed 0),
once, and then standardised by the training rows: all models are given these same numbers. The densities are of them.

The mixture has full covariances; the number of its components, and for a flow its weight decay, are those that are best
on the validation rows. One thread; seconds are the processor's, of everything that was fitted to make the choice.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.mixture import GaussianMixture

import likely
from likely.jobs.evaluate import negative_log_likelihood

TABLES = ("skin", "landsat", "waveform")
COMPONENTS = (1, 2, 4, 8, 16, 32, 64)
DECAYS = (0.3, 3.0)
FLOWS: dict[str, dict[str, Any]] = {
    "MAF": {"hidden": (64, 64)},
    "NeuralSplineFlow": {"hidden": (64, 64), "layers": 3},
    "NeuralSplineCoupling": {"layers": 6},
}
SETTINGS: dict[str, Any] = {
    "budget": "1500 steps",
    "batch_size": 256,
    "learning_rate": 2e-3,
    "warmup": 100,
    "evaluations": 40,
    "patience": 40,
    "validation_size": 20_000,
}


def rows(file: Path) -> dict[str, torch.Tensor]:
    """Training, validation and test rows, moved inside their columns' units and standardised."""
    stored = np.load(file)
    x = stored["X"][stored["y"] == 0].astype(np.float64)
    generator = np.random.default_rng(0)
    units = np.array([unit(column) for column in x.T])
    x = x + units * (generator.random(x.shape) - 0.5)
    order = generator.permutation(len(x))
    ends = len(x) * 8 // 10, len(x) * 9 // 10
    train, valid, test = np.split(x[order], ends)
    mean, deviation = train.mean(0), train.std(0)
    parts = {"train": train, "valid": valid, "test": test}
    return {name: torch.from_numpy(((part - mean) / deviation).astype(np.float32)) for name, part in parts.items()}


def unit(column: np.ndarray) -> float:
    """The step of the grid that a column's values lie on: the median of their gaps, or the error if it is none."""
    values = np.unique(column)
    step = float(np.median(np.diff(values)))
    steps = np.diff(values) / step
    if np.abs(steps - steps.round()).max() > 0.01:
        raise ValueError("the values of a column do not lie on a grid")
    return step


Fitted = tuple[str, float, np.ndarray]  # what was chosen from, validation nats, test nats of every row


def mixtures(data: dict[str, torch.Tensor]) -> Iterator[Fitted]:
    """Of every number of components."""
    train, valid, test = (part.double().numpy() for part in data.values())
    for k in COMPONENTS:
        model = GaussianMixture(k, random_state=0, max_iter=300).fit(train)
        yield f"{k} components", -model.score(valid), -model.score_samples(test)


def flows(name: str, data: dict[str, torch.Tensor]) -> Iterator[Fitted]:
    """Of every weight decay."""
    for decay in DECAYS:
        model = getattr(likely, name)(likely.Event(data["train"].shape[1:]), **FLOWS[name])
        likely.fit(model, data["train"], valid=data["valid"], weight_decay=decay, **SETTINGS)
        valid, test = (negative_log_likelihood(model, data[part], batch_size=1000) for part in ("valid", "test"))
        yield f"decay {decay:g}", float(valid.mean()), test.numpy()


def chosen(found: Iterator[Fitted]) -> dict[str, Any]:
    """What is best on the validation rows."""
    start = time.process_time()
    name, valid, test = min(found, key=lambda fitted: fitted[1])
    seconds = time.process_time() - start
    return {"chosen": name, "valid": valid, "test": test, "seconds": seconds}


def compared(data: dict[str, torch.Tensor], show: bool) -> dict[str, Any]:
    """The mixture, and every flow beside it: mean nats per test row, and the paired difference, ± standard errors."""
    results: dict[str, Any] = {}
    for name in ("GaussianMixture", *FLOWS):
        found = chosen(mixtures(data) if name == "GaussianMixture" else flows(name, data))
        rows = found.pop("test")
        if name == "GaussianMixture":
            base = rows
        results[name] = found | {"test": estimate(rows), "minus the mixture": estimate(rows - base)}
        if show:
            print(
                "    {:<22}{:.3f} ± {:.3f} nats; − the mixture: {:+.3f} ± {:.3f}; {}, {:.0f} s".format(
                    name,
                    *results[name]["test"],
                    *results[name]["minus the mixture"],
                    found["chosen"],
                    found["seconds"],
                ),
                flush=True,
            )
    return results


def estimate(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--only", default="", help="tables whose name contains this")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name in TABLES:
        if options.only not in name:
            continue
        data = rows(options.data / f"{name}.npz")
        if not options.json:
            sizes = " + ".join(f"{len(part):,}" for part in data.values())
            print(f"{name}: {sizes} rows of {data['train'].shape[1]} columns", flush=True)
        results[name] = compared(data, not options.json)
    if options.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
