"""Lossless coding: speed, exactness and rate of a small network's files.

    python benchmarks/coding.py [--quick] [--fast] [--json]

One thread, in seconds of the processor's time: a machine that is shared slows them, but does not add others' work. The
network, a Gated PixelCNN of 80,000 parameters on 28×28 images of 256 levels, is fitted for a minute to generated
images. Without `--fast` the coder is Python's own, as in an installation without numba.
"""

import argparse
import io
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import likely
from likely import Event, GatedPixelCNN
from likely.coding.frozen import Frozen

EVENT = Event((1, 28, 28), levels=256)
BARS = {"encode": 50, 1: 1, 16: 15, 256: 70}  # kB of the array per second
PER_CHUNK = 56


def images(n: int, seed: int) -> np.ndarray:
    """Waves of random direction and length under noise, (n, 1, 28, 28) of 0 … 255."""
    rng = np.random.default_rng(seed)
    i, j = np.mgrid[:28, :28] / 28
    a, b, phase = rng.uniform(-9, 9, (3, n, 1, 1))
    waves = 128 + 90 * np.sin(a * i + b * j + phase) + rng.normal(0, 8, (n, 28, 28))
    return waves.clip(0, 255).astype(np.uint8)[:, None]


def fitted(steps: int) -> tuple[likely.Density, Frozen]:
    """The network, and the same frozen."""
    model = GatedPixelCNN(EVENT, channels=20, layers=5, kernel=3, head="logistics")
    data = torch.from_numpy(images(2000, 0))
    likely.fit(model, data, budget=f"{steps} steps", batch_size=16, learning_rate=1e-2)
    return model, likely.freeze(model, data)


def seconds(task: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = task()
    return time.process_time() - start, found


def speed(frozen: Frozen, counts: dict[int, int], repeats: int) -> dict[str, Any]:
    """kB/s, the best of some repeats; every file is decoded and compared."""
    found: dict[str, Any] = {}
    for batch, n in counts.items():
        data = images(n, 1)
        encode, decode = [], []
        for _ in range(repeats):
            file = io.BytesIO()
            took, made = seconds(
                lambda file=file, data=data, batch=batch: likely.compress(frozen, data, file, batch=batch)
            )
            assert made.stored_chunks == 0
            encode.append(took)
            file.seek(0)
            took, back = seconds(lambda file=file: likely.decompress(file, frozen))
            decode.append(took)
            assert np.array_equal(back, data)
        found[f"decode, batch {batch}"] = {"kB/s": data.nbytes / 1000 / min(decode), "bar": BARS[batch]}
        if batch == max(counts):
            found["encode"] = {"kB/s": data.nbytes / 1000 / min(encode), "bar": BARS["encode"]}
    return found


@torch.no_grad()
def rate(model: likely.Density, frozen: Frozen, n: int) -> dict[str, Any]:
    """Bytes of a file against −log2 p by the frozen model, and that against the fitted one in float64."""
    data = images(n, 2)
    bits = [-m.log_prob(data).double().sum().item() / math.log(2) for m in (frozen.model, model.double())]
    header = likely.compress(frozen, data[:0], io.BytesIO()).file_bytes
    file = likely.compress(frozen, data, io.BytesIO(), chunk_items=64)
    allowed = math.ceil(bits[0] / 8) + PER_CHUNK * file.chunks
    return {
        "bits/dim by the frozen model": bits[0] / data.size,
        "frozen against float64, %": 100 * (bits[0] / bits[1] - 1),
        "bytes, header apart": file.file_bytes - header,
        "bytes allowed": allowed,
    }


def foreign(frozen: Frozen, n: int) -> dict[str, Any]:
    """Bytes per chunk above the stored array, for what is no sample of the model."""
    found = {}
    noise = np.random.default_rng(0).integers(0, 256, (n, 1, 28, 28), np.uint8)
    for name, data in {"noise": noise, "constant": np.full_like(noise, 77), "labels": noise // 255}.items():
        file = io.BytesIO()
        header = likely.compress(frozen, data[:0], io.BytesIO()).file_bytes
        made = likely.compress(frozen, data, file)
        file.seek(0)
        assert np.array_equal(likely.decompress(file, frozen), data)
        found[name] = (made.file_bytes - header - data.nbytes) / made.chunks
    return found


def show(title: str, found: dict[str, Any]) -> None:
    print(title)
    for name, value in found.items():
        entries = value if isinstance(value, dict) else {"": value}
        parts = (
            f"{key} {entry:.4g}" if isinstance(entry, float) else f"{key} {entry:,}" for key, entry in entries.items()
        )
        print(f"    {name:<32}" + ", ".join(part.strip() for part in parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images, one repeat")
    parser.add_argument("--fast", action="store_true", help="the coder compiled by numba")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    options = parser.parse_args()
    if not options.fast:
        sys.modules["numba"] = None  # as if it were not installed
    torch.set_num_threads(1)
    counts = {1: 2, 16: 16, 256: 64 if options.quick else 256}
    model, frozen = fitted(400)
    results = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "frozen bytes": len(frozen.content),
        "torch": torch.__version__,
        "speed": speed(frozen, counts, 1 if options.quick else 3),
        "rate": rate(model, frozen, 16 if options.quick else 128),
        "bytes per chunk above stored": foreign(frozen, 64),
    }
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{results['parameters']:,} parameters, one thread, torch {torch.__version__}, numba {options.fast}")
    for title in ("speed", "rate", "bytes per chunk above stored"):
        show(title, results[title])


if __name__ == "__main__":
    main()
