"""Figures of docs/results: fit, evaluate, compress, print one line each.

    python benchmarks/results.py --data FOLDER [--runs FOLDER] [--threads 2] [--device cpu] [NAME …]

Runs are kept in a folder outside the repository (default ../likely-runs). A fit that was interrupted is resumed, one
that is finished is only evaluated, so calling this again costs little and loses nothing. FOLDER of the data holds
mnist.npz, binary/ (nltcs.npz, plants.npz) and fashion-mnist/ (Debian: dataset-fashion-mnist); `digits` needs none.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import likely
from likely.data import Data, load, load_validation
from likely.runs import Run, store
from likely.training.progress import Progress


@dataclass(frozen=True)
class Job:
    """A fit and what it is evaluated on; `{data}` in a source stands for the folder of the data."""

    model: str
    train: str
    test: str
    bar: str
    binarize: float | str | None = None
    context: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    coded: bool = False  # compress the test data, decompress them, compare
    importance_samples: int = 1
    first: int | None = None  # of the test data; None: all


MNIST = {"train": "{data}/mnist.npz:train_images", "test": "{data}/mnist.npz:test_images", "binarize": 0.5}
FASHION = {
    "train": "{data}/fashion-mnist/train-images-idx3-ubyte.gz",
    "test": "{data}/fashion-mnist/t10k-images-idx3-ubyte.gz",
}
NLTCS = {"train": "{data}/binary/nltcs.npz:train", "test": "{data}/binary/nltcs.npz:test"}
PLANTS = {"train": "{data}/binary/plants.npz:train", "test": "{data}/binary/plants.npz:test"}
DIGITS = {"train": "digits:train", "test": "digits:test"}
STATED = {"batch_size": 64, "learning_rate": 2e-3, "warmup": 100, "evaluations": 40}  # unless a job says otherwise
PIXELCNN = {
    "batch_size": 16,
    "learning_rate": 3e-3,
    "average": 0.9995,
    "precision": "bfloat16",
    "patience": 40,
    "evaluations": 15,
    "holdout": 0.01667,
}
DYNAMIC = MNIST | {"binarize": "stochastic"}  # drawn anew in every epoch
TWO_LAYERS = {"latent": 50, "hidden": (200, 200)}
TWENTY_EPOCHS = {"budget": "20 epochs", "batch_size": 100, "patience": 40, "holdout": 1 / 60}
HUNDRED_EPOCHS = TWENTY_EPOCHS | {"budget": "100 epochs", "learning_rate": 4e-3, "precision": "bfloat16"}
BY_CONVOLUTIONS = HUNDRED_EPOCHS | {"learning_rate": 2e-3}
BY_CODES = {"budget": "60 epochs", "weight_decay": 1.0, "patience": 40}
SMALL = {"budget": "60 epochs", "learning_rate": 1e-2, "weight_decay": 1.0}  # few data: as much decay as data bear


def digits_flow(model: str, budget: str, bar: str = "", **arguments: Any) -> Job:
    """A flow of digits; budgets of the same processor time."""
    settings = {"learning_rate": 1e-3, "weight_decay": 1.0, "patience": 40, "budget": budget}
    return Job(model, **DIGITS, bar=bar, arguments=arguments, settings=settings, importance_samples=16)


def mnist_bound(
    model: str, draws: int, settings: dict[str, Any], bar: str = "", first: int | None = None, **arguments: Any
) -> Job:
    """A latent-variable model of MNIST, evaluated by so many draws."""
    return Job(model, **DYNAMIC, bar=bar, arguments=arguments, settings=settings, importance_samples=draws, first=first)


JOBS = {
    "digits": Job(
        "GatedPixelCNN",
        **DIGITS,
        bar="JPEG XL, mosaic: 2.384",
        arguments={"channels": 48},
        settings=SMALL,
        coded=True,
    ),
    "digits-by-class": Job(
        "GatedPixelCNN",
        **DIGITS,
        bar="below the one above",
        context="digits:labels",
        arguments={"channels": 48},
        settings=SMALL,
        coded=True,
    ),
    "digits-pixels": Job("IndependentPixels", **DIGITS, bar=""),
    "mnist-made": Job(
        "MADE",
        **MNIST,
        bar="course: 0.1731; here 0.147",
        arguments={"hidden": (2048, 2048)},
        settings={
            "budget": "24 epochs",
            "batch_size": 100,
            "learning_rate": 1e-3,
            "weight_decay": 0.1,
            "holdout": 1 / 60,
        },
    ),
    "mnist-pixelcnn": Job(
        "GatedPixelCNN",
        **MNIST,
        bar="course: 0.1087",
        arguments={"channels": 32, "layers": 6, "kernel": 7},
        settings=PIXELCNN | {"budget": "30000 steps", "learning_rate": 4e-3, "weight_decay": 0.1},
        coded=True,
    ),
    "mnist-8bit-pixelcnn": Job(
        "GatedPixelCNN",
        **(MNIST | {"binarize": None}),
        bar="1.015 (file)",
        arguments={"channels": 32, "layers": 6, "kernel": 7},
        settings=PIXELCNN | {"budget": "24000 steps", "learning_rate": 4e-3, "weight_decay": 0.1},
        coded=True,
    ),
    "fashion-pixelcnn": Job(
        "GatedPixelCNN",
        **FASHION,
        bar="3.05 (file)",
        arguments={"channels": 32, "layers": 6, "kernel": 3, "head": "logistics"},
        settings=PIXELCNN | {"budget": "34000 steps"},
        coded=True,
    ),
    "mnist-maf": Job(
        "MAF",
        **(MNIST | {"binarize": None}),
        bar="1.89 (paper)",
        arguments={"layers": 5, "hidden": (512,), "dequantization": "factorized"},
        settings={
            "budget": "2000 steps",
            "batch_size": 100,
            "learning_rate": 1e-3,
            "weight_decay": 0.3,
            "evaluations": 10,
            "holdout": 1 / 60,
        },
        importance_samples=8,
    ),
    "mnist-glow": Job(
        "Glow",
        **(MNIST | {"binarize": None}),
        bar="1.8 in an hour; paper, GPU-days: 1.05",
        arguments={"layers": 8, "width": 64, "dequantization": "factorized"},
        settings={
            "budget": "600 steps",
            "batch_size": 32,
            "weight_decay": 0.1,
            "evaluations": 10,
            "holdout": 1 / 60,
            "precision": "bfloat16",
        },
        importance_samples=4,
    ),
    "digits-realnvp": digits_flow("RealNVP", "600 steps"),
    "digits-realnvp-variational": digits_flow("RealNVP", "600 steps", dequantization="variational"),
    "digits-glow": digits_flow("Glow", "880 steps", dequantization="variational"),
    "digits-flow-plus-plus": digits_flow("FlowPlusPlus", "460 steps", bar="RealNVP, at equal time"),
    "mnist-vae": mnist_bound("VAE", 500, HUNDRED_EPOCHS, "90 nats; paper, 3,280 epochs: 86.76", **TWO_LAYERS),
    "mnist-iwae-5": mnist_bound("IWAE", 500, HUNDRED_EPOCHS, "the one above; paper: 85.54", **TWO_LAYERS, particles=5),
    "mnist-iwae-50": mnist_bound("IWAE", 500, HUNDRED_EPOCHS, "88.5 nats; paper: 84.78", **TWO_LAYERS, particles=50),
    "mnist-vae-20": mnist_bound("VAE", 500, TWENTY_EPOCHS, first=2000, **TWO_LAYERS),
    "mnist-flow-prior": mnist_bound(
        "VAE", 500, TWENTY_EPOCHS, "0.3 nats below the one above", first=2000, **TWO_LAYERS, prior_kind="flow"
    ),
    "mnist-flow-posterior": mnist_bound(
        "IAFVAE", 500, TWENTY_EPOCHS, "0.3 nats below the first", first=2000, **TWO_LAYERS
    ),
    "mnist-convolutional-vae": mnist_bound(
        "VAE", 128, BY_CONVOLUTIONS | {"budget": "17042 steps"}, "85 nats", latent=32, hidden=(256,), channels=32
    ),
    "mnist-small-convolutional-vae": mnist_bound(
        "VAE",
        128,
        BY_CONVOLUTIONS | {"budget": "45 epochs"},
        "85 nats",
        first=2000,
        latent=32,
        hidden=(256,),
        channels=16,
    ),
    "mnist-convolutional-flow-prior": mnist_bound(
        "VAE",
        128,
        BY_CONVOLUTIONS | {"budget": "13482 steps"},
        "the one above",
        latent=32,
        hidden=(256,),
        channels=32,
        prior_kind="flow",
    ),
    "mnist-hierarchical-vae": mnist_bound(
        "HierarchicalVAE",
        128,
        BY_CONVOLUTIONS | {"budget": "11393 steps"},
        "85 nats",
        latents=(32, 16),
        hidden=(256,),
        channels=32,
    ),
    "mnist-pixel-vae": mnist_bound(
        "PixelVAE", 100, BY_CONVOLUTIONS | {"budget": "8545 steps"}, "the one below", first=1000
    ),
    "mnist-pixel-decoder": Job(
        "GatedPixelCNN",
        **DYNAMIC,
        bar="",
        arguments={"layers": 2, "kernel": 3, "first_kernel": 3},
        settings=BY_CONVOLUTIONS | {"budget": "20472 steps"},
        first=1000,
    ),
    "digits-vae": Job("VAE", **DIGITS, bar="", settings=BY_CODES),
    "digits-vq-vae": Job(
        "VQVAE", **DIGITS, bar="the one above", arguments={"codes": 32, "channels": 16}, settings=BY_CODES, coded=True
    ),
    "nltcs-made": Job(
        "MADE",
        **NLTCS,
        bar="-6.02 nats",
        arguments={"hidden": (256, 256)},
        settings={"budget": "10m", "batch_size": 256, "validation_size": 2157},
    ),
    "nltcs-mixture": Job("Mixture", **NLTCS, bar="-6.02 nats", arguments={"components": 64}),
    "plants-mixture": Job("Mixture", **PLANTS, bar="-13.0 nats", arguments={"components": 256}),
}


def show(name: str) -> Callable[[Progress], None]:
    """A line every half minute."""
    printed = [time.monotonic()]

    def watch(progress: Progress) -> None:
        if time.monotonic() - printed[0] > 30:
            printed[0] = time.monotonic()
            print(
                f"  {name}: step {progress.step} of {progress.total}, {progress.bits_per_dim:.4f} bits/dim", flush=True
            )

    return watch


def fitted(name: str, job: Job, data: str, folder: Path, device: str) -> likely.Density:
    """The job's model: finished, resumed, or fitted from the beginning."""
    if (folder / store.CONFIG).exists():
        return likely.resume(folder, device=device, watch=show(name))
    train = load(job.train.format(data=data), "train", context=job.context)
    valid: Data | None = load_validation(job.train.format(data=data), context=job.context)
    planned = likely.plan(getattr(likely, job.model), train, binarize=job.binarize, **job.arguments)
    model = planned.model.to(device)
    return likely.fit(
        model,
        train,
        valid=valid,
        out=folder,
        preparation=planned.preparation,
        watch=show(name),
        **(STATED | job.settings),
    )


def result(name: str, job: Job, data: str, folder: Path, device: str) -> dict[str, Any]:
    """Fit and evaluate."""
    model = fitted(name, job, data, folder, device)
    test = load(job.test.format(data=data), "test", context=job.context)
    preparation = Run.read(folder).preparation
    x = preparation.apply(test.x, torch.Generator().manual_seed(0))
    x, given = x[: job.first], None if test.context is None else test.context[: job.first]
    found = likely.evaluate(model, (x, given), importance_samples=job.importance_samples).to_json()
    if job.coded:
        found["file"] = coded(preparation.restore(x).numpy(), given, folder, prepared=job.binarize is not None)
    return {"name": name, "model": job.model, "bar": job.bar, **job.settings, **job.arguments, **found}


def coded(array: np.ndarray, context: torch.Tensor | None, folder: Path, prepared: bool) -> dict[str, Any]:
    """What a file comes to, after it was decompressed and compared; seconds of this process."""
    path, start = folder / "test.lk", time.process_time()
    file = likely.compress(folder, array, path, context=context, prepared=prepared)
    middle = time.process_time()
    back = likely.decompress(path, folder)
    end = time.process_time()
    if back.tobytes() != array.tobytes() or back.dtype != array.dtype:
        raise AssertionError(f"{path} does not decompress to what was compressed")
    return {**file.to_json(), "encode_seconds": middle - start, "decode_seconds": end - middle}


def minutes(folder: Path) -> float:
    """How long a run has been fitted; a closed form takes none."""
    file = folder / store.METRICS
    lines = file.read_text().splitlines() if file.exists() else []
    return json.loads(lines[-1])["seconds"] / 60 if lines else 0.0


def processor() -> str:
    """The processor's name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(JOBS)}; none: all")
    parser.add_argument("--data", default="data", help="folder of mnist.npz and binary/")
    parser.add_argument("--runs", type=Path, default=Path("../likely-runs"), help="where runs are kept")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda")
    options = parser.parse_args()
    if unknown := set(options.names) - set(JOBS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(JOBS)}")
    torch.set_num_threads(options.threads)
    where = processor() if options.device == "cpu" else torch.cuda.get_device_name(options.device)
    machine = f"{where}, {options.threads} threads, torch {torch.__version__}"
    for name in options.names or JOBS:
        line = result(name, JOBS[name], options.data, options.runs / name, options.device)
        with (options.runs / "results.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(
            f"{name}: {line['bits_per_dim']:.4f} ± {line['bits_per_dim_standard_error']:.4f} bits/dim, "
            f"{line['nats']:.3f} nats ({line['n']} examples); to beat: {line['bar']}"
        )
        if file := line.get("file"):
            print(
                f"    file: {file['bits_per_dim']:.4f} bits/dim, {file['file_bytes']:,} bytes (model apart: "
                f"{file['frozen_bytes']:,}), {file['chunks']} chunks; decoded: identical; "
                f"{file['encode_seconds']:.0f} s to encode, {file['decode_seconds']:.0f} s to decode"
            )
        if terms := line.get("terms"):
            print("    " + ", ".join(f"{term} {value:.3f}" for term, value in terms.items()))
        print(f"    {machine}; fitted in {minutes(options.runs / name):.0f} min", flush=True)


if __name__ == "__main__":
    main()
