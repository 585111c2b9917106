"""A process of test_matrix.py: what the files of a folder decode and encode to here, and what here is.

python matrix_job.py FOLDER REPORT [without-numba]
"""

import io
import json
import sys
from hashlib import sha256
from pathlib import Path

if "without-numba" in sys.argv:
    sys.modules["numba"] = None  # importing it fails

import numpy as np
import torch

from likely.coding import rans
from likely.coding.codec import compress, decompress
from likely.coding.container import Reader
from likely.coding.exact import LEAVES
from likely.coding.frequencies import Frequencies
from likely.coding.frozen import Frozen
from likely.errors import Error

BATCHES = {1: 3, 7: 10, 64: 70, 256: 260}  # and of how many examples


def digest(array: np.ndarray) -> str:
    return f"{array.dtype.str} {array.shape} {sha256(array.tobytes()).hexdigest()}"


def given(file: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """What a file was made of, with its context."""
    arrays = np.load(file.with_suffix(".npz"))
    return arrays["data"], arrays.get("context")


def decoded(frozen: Frozen, file: Path) -> str:
    try:
        return digest(decompress(file, frozen))
    except Error as error:
        return f"{type(error).__name__}: {error}"


def encoded(frozen: Frozen, file: Path) -> str:
    (data, context), out = given(file), io.BytesIO()
    with file.open("rb") as stream:
        batch = Reader(stream).header.batch
    compress(frozen, data, out, context=context, batch=batch)
    return sha256(out.getvalue()).hexdigest()


def numbers(output: torch.Tensor | Frequencies) -> torch.Tensor:
    """A leaf's output, without −0.0; of a head, F at some twenty edges."""
    if isinstance(output, torch.Tensor):
        return output + 0.0
    edges = torch.arange(output.levels + 1)[:: max(1, output.levels // 16)]
    return output.below(edges.expand(*output.shape, len(edges)))


@torch.no_grad()
def leaves(frozen: Frozen, data: np.ndarray, context: np.ndarray | None, batch: int) -> list[str]:
    """What exact leaves return, call by call and bit by bit: later ones would round most of a difference away."""
    calls: list[torch.Tensor] = []
    hooks = [
        leaf.register_forward_hook(lambda leaf, x, y: calls.append(numbers(y)))
        for leaf in frozen.model.modules()
        if isinstance(leaf, LEAVES)
    ]
    found: list[str] = []
    for order in range(frozen.model.orders):
        passes = []
        for start in range(0, len(data), batch):
            part = None if context is None else torch.from_numpy(context[start : start + batch])
            frozen.model._conditionals(torch.from_numpy(data[start : start + batch]).long(), part, order)
            passes.append(calls.copy())
            calls.clear()
        found += [digest(torch.cat(parts).numpy()) for parts in zip(*passes, strict=True)]
    for hook in hooks:
        hook.remove()
    return found


def machine() -> dict[str, object]:
    """What it runs on; oneDNN and MKL say on standard output what they use."""
    x = torch.ones(2, 16, 32, 32)
    if torch.backends.mkldnn.is_available():
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
            torch.nn.functional.conv2d(x, torch.ones(16, 16, 3, 3))
    if torch.backends.mkl.is_available():
        with torch.backends.mkl.verbose(torch.backends.mkl.VERBOSE_ON):
            x[0, 0] @ x[0, 0]
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return {"capability": capability, "threads": threads, "compiled": rans._coder()[0] is not rans._push}


def results(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for model in sorted(folder.glob("*.frozen")):
        frozen = Frozen.load(model)
        for batch in BATCHES:
            file = folder / f"{model.stem} {batch}.lk"
            found[file.stem] = {
                "decoded": decoded(frozen, file),
                "encoded": encoded(frozen, file),
                "leaves": leaves(frozen, *given(file), batch),
            }
    return found


if __name__ == "__main__":
    found = {"machine": machine(), "files": results(Path(sys.argv[1]))}
    Path(sys.argv[2]).write_text(json.dumps(found))
