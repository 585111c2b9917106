"""Bits back: the size of files of binarised MNIST digits against the bound of the model that wrote them.

    likely fit vae FOLDER/mnist.npz:train_images --binarize 0.5 --budget 2m --threads 1 --out RUN
    python benchmarks/bits_back.py RUN --data FOLDER/mnist.npz [--items 2000] [--json]

RUN is of any latent-variable model, with its frozen model inside. The first test images are written as one chunk, read
in a fresh process and compared. *Initial bits* are those of the items that are coded plainly, to pop the first latents
from; net of them and of the 48 of the empty stack, the other items are held against the fitted model's bound of them,
the mean over several draws of z. One thread.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import likely
from likely.coding.codec import BATCH
from likely.coding.codecs import codec
from likely.coding.container import Reader
from likely.coding.frozen import Frozen
from likely.coding.records import MODEL
from likely.latent import LatentVariable

READ = "import sys, numpy, likely; numpy.save(sys.argv[3], likely.decompress(sys.argv[1], sys.argv[2]))"


def binarised(frozen: Frozen, file: Path, n: int) -> np.ndarray:
    """Test images as the run prepares them, with a fixed seed where it draws, in their own layout."""
    images = torch.from_numpy(np.load(file)["test_images"][:n])
    assert frozen.preparation is not None
    symbols = frozen.preparation.apply(images, torch.Generator().manual_seed(0))
    return frozen.preparation.restore(symbols).numpy()


def bound(model: likely.Density, x: torch.Tensor, draws: int) -> tuple[float, float]:
    """The negative evidence lower bound of examples in bits, summed, and its standard error over the draws of z."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        sums = [
            -sum(model.log_prob(rows, generator=generator).double().sum().item() for rows in x.split(500))
            for _ in range(draws)
        ]
    bits = torch.tensor(sums, dtype=torch.float64) / math.log(2)
    return float(bits.mean()), float(bits.std() / math.sqrt(draws))


def measured(run: Path, data: Path, n: int, draws: int) -> dict[str, Any]:
    """Everything in bits per dimension."""
    frozen, model = Frozen.load(run), likely.load(run)
    assert isinstance(frozen.model, LatentVariable)
    array = binarised(frozen, data, n)
    x = torch.from_numpy(array).long().view(n, *model.event.shape)
    plain = codec(frozen.model, BATCH).groups(n)[0]
    initial = plain * sum(map(math.log2, model.event.alphabets))
    with tempfile.TemporaryDirectory() as folder:
        file, back = Path(folder, "digits.lk"), Path(folder, "back.npy")
        start = time.process_time()
        written = likely.compress(frozen, array, file, prepared=True, chunk_items=n)
        encoding = time.process_time() - start
        with file.open("rb") as stream:
            (chunk,) = Reader(stream).chunks()
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", READ, str(file), str(run), str(back)], check=True)
        decoding = time.perf_counter() - start
        identical = np.load(back).tobytes() == array.tobytes()
    assert chunk.method == MODEL
    bits, error = bound(model, x[: n - plain], draws)
    net, dims = 8 * len(chunk.payload) - 48 - initial, model.event.dims
    return {
        "model": type(model).__name__,
        "items": n,
        "identical in a fresh process": identical,
        "items coded plainly": plain,
        "initial bits": initial,
        "bound, the other items": bits / ((n - plain) * dims),
        "its standard error over z": error / ((n - plain) * dims),
        "net of initial bits, the other items": net / ((n - plain) * dims),
        "net above the bound, %": 100 * (net / bits - 1),
        "payload, all items": 8 * len(chunk.payload) / (n * dims),
        "file, all items": 8 * written.file_bytes / (n * dims),
        "file bytes": written.file_bytes,
        "frozen model bytes": written.frozen_bytes,
        "seconds to encode": encoding,
        "seconds to start and decode": decoding,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a fitted latent-variable model")
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz")
    parser.add_argument("--items", type=int, default=2000, help="test images, from the first on")
    parser.add_argument("--draws", type=int, default=20, help="of z for each, in the bound")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measured(options.run, options.data, options.items, options.draws)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name:<40}{value:.5f}" if isinstance(value, float) else f"{name:<40}{value}")


if __name__ == "__main__":
    main()
