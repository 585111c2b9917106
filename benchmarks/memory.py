"""Peak memory of working with an array that is larger than memory should hold.

    python benchmarks/memory.py [--gib 4] [--parts 32 256] [--folder FOLDER] [--only JOB ...] [--json]

The data are 28×28 images of 8 bits in an .npy file of 4 GiB, all black but for the first ones; the file is sparse on
disk. Each job runs in a process of its own, one thread, and says the largest memory that the process has ever had
(ru_maxrss, the interpreter and torch included; the bar is 1,500 MB). The model is a MADE of 32 hidden units over
images binarised at 0.5. Files are written and read for the first MiB of the array only, of two sizes: the whole array
would take the time that the rates say. Their model, `SymbolHistogram` of 256 levels, is the cheapest to code by.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIDE, BAR = 28, 1500
MIB = 1 << 20


def make(path: Path, size: int) -> None:
    """Write a header and some noise, and let the file be as long as the array would be."""
    images = size // SIDE**2
    described = {"descr": "|u1", "fortran_order": False, "shape": (images, SIDE, SIDE)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, described)
        start = file.tell()
        file.write(np.random.default_rng(0).integers(0, 256, (100, SIDE, SIDE), np.uint8).tobytes())
        file.truncate(start + images * SIDE**2)


# jobs: each is handed the folder and a size in MiB, and returns what to say of it


def start(folder: Path, mib: int) -> dict[str, Any]:
    """Nothing but the imports."""
    import likely.coding
    import likely.data
    import likely.training  # noqa: F401

    return {}


def infer(folder: Path, mib: int) -> dict[str, Any]:
    """Load the file, and look through all of it for its preparation."""
    from likely.data import Preparation, load

    data = load(str(folder / "x.npy"), "train")
    return {"levels": Preparation.infer(data).levels}


def fit(folder: Path, mib: int) -> dict[str, Any]:
    """Twenty steps of 100 images, with one per 1,000 held out for validation."""
    import likely
    from likely.data import Preparation, load

    data = load(str(folder / "x.npy"), "train")
    preparation = Preparation.infer(data, binarize=0.5)
    model = likely.MADE(preparation.event_of(data), hidden=(32,))
    likely.fit(
        model, data, preparation=preparation, budget="20 steps", batch_size=100, holdout=1e-3, out=folder / "run"
    )
    return {"steps": 20}


def evaluate(folder: Path, mib: int) -> dict[str, Any]:
    """All of the images by that model, as `likely eval` does it."""
    import likely
    from likely.data import Preparation, load

    data = load(str(folder / "x.npy"), "train")
    prepared = Preparation.infer(data, binarize=0.5).rows(data)
    report = likely.evaluate(likely.load(folder / "run"), prepared, batch_size=1024)
    return {"images": report.n}


def compress(folder: Path, mib: int) -> dict[str, Any]:
    """The first MiB of the array, to a file."""
    import torch

    import likely
    from likely.data import Preparation

    preparation, images = Preparation("hw", 256, None, 255.0), np.load(folder / "x.npy", mmap_mode="r")
    symbols = preparation.apply(
        torch.from_numpy(np.array(images[100:10_000]))
    )  # the black ones, which the model is then better at than LZMA
    model = likely.fit(likely.SymbolHistogram(likely.Event((1, SIDE, SIDE), levels=256)), symbols)
    frozen = likely.freeze(model, symbols, preparation=preparation)
    frozen.save(folder / "frozen.safetensors")
    found = likely.compress(frozen, images[: mib * MIB // SIDE**2], folder / f"{mib}.lk")
    assert found.stored_chunks <= 1  # that with the noise
    return {"array": found.raw_bytes, "file": found.file_bytes}


def decompress(folder: Path, mib: int) -> dict[str, Any]:
    """That file to an .npy file, by the command."""
    from likely.cli.coding import decompress as command

    out = folder / f"{mib}.npy"
    command(str(folder / f"{mib}.lk"), out=str(out), model=folder / "frozen.safetensors", max_output=1 << 40, json=True)
    with out.open("rb") as back, (folder / "x.npy").open("rb") as original:
        for file in (back, original):
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
        while block := back.read(MIB):
            assert block == original.read(len(block))
    size = out.stat().st_size
    out.unlink()
    return {"array": size}


JOBS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    job.__name__: job for job in (start, infer, fit, evaluate, compress, decompress)
}


def run_here(name: str, folder: Path, mib: int) -> dict[str, Any]:
    """Do a job in this process, and measure it."""
    import torch

    torch.set_num_threads(1)
    begin = time.process_time()
    found = JOBS[name](folder, mib)
    seconds = time.process_time() - begin
    return {"MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, "seconds": seconds, **found}


def run(name: str, folder: Path, mib: int) -> dict[str, Any]:
    """Do a job in a process of its own."""
    command = [sys.executable, __file__, "--job", name, "--folder", str(folder), "--parts", str(mib)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(folder: Path, size: int, parts: list[int], only: list[str]) -> dict[str, Any]:
    """All jobs, the last two for every size."""
    make(folder / "x.npy", size)
    found = {name: run(name, folder, size // MIB) for name in JOBS if name in only and "compress" not in name}
    for mib in parts:
        found |= {f"{name}, {mib} MiB": run(name, folder, mib) for name in JOBS if name in only and "compress" in name}
    return found


def show(found: dict[str, Any], size: int, parts: list[int]) -> None:
    """For people."""
    print(f"{'':<24}{'peak MB':>10}{'seconds':>10}")
    for name, row in found.items():
        print(f"{name:<24}{row['MB']:>10.0f}{row['seconds']:>10.1f}" + " above the bar" * (row["MB"] > BAR))
    for name in ("compress", "decompress"):
        ends = [found.get(f"{name}, {mib} MiB") for mib in (min(parts), max(parts))]
        if None in ends or len(parts) < 2:
            continue
        ratio, rate = ends[1]["MB"] / ends[0]["MB"], max(parts) * MIB / ends[1]["seconds"]
        print(
            f"{name}: {max(parts) / min(parts):.0f} times the array takes {ratio:.2f} times the memory; "
            f"at its {rate / 1e6:.2f} MB/s the whole array, which was not done, would take {size / rate / 60:.0f} min"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4, help="size of the array")
    parser.add_argument("--parts", type=int, nargs="+", default=[32, 256], help="MiB that are compressed")
    parser.add_argument("--folder", type=Path, help="where to put the files; unset: a temporary one")
    parser.add_argument("--only", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(run_here(options.job, options.folder, options.parts[0])))
        return
    size = math.floor(options.gib * 1024) * MIB
    with tempfile.TemporaryDirectory() as folder:
        found = measured(options.folder or Path(folder), size, options.parts, options.only)
    print(json.dumps(found, indent=1)) if options.json else show(found, size, options.parts)


if __name__ == "__main__":
    main()
