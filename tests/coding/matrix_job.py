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

import matrix_leaves
import numpy as np
import torch

from likely.coding import rans
from likely.coding.bits_back import PART_BITS
from likely.coding.codec import compress, decompress
from likely.coding.codecs import codec
from likely.coding.container import Reader
from likely.coding.frozen import Frozen
from likely.coding.rans import Stack
from likely.density import Density
from likely.distributions.frequencies import Frequencies
from likely.errors import Error
from likely.latent import LatentVariable
from likely.latent.hierarchical_vae import OfLowestLayer
from likely.nn import ExactLeaf

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


def numbers(output: torch.Tensor | tuple | Frequencies) -> torch.Tensor:
    """A leaf's output, without −0.0; of a head, F at some twenty edges, or its parameters."""
    if isinstance(output, tuple):
        return torch.cat([part for part in output if part is not None], -1) + 0.0
    if isinstance(output, torch.Tensor):
        return output + 0.0
    edges = torch.arange(output.levels + 1)[:: max(1, output.levels // 16)]
    return output.below(edges.expand(*output.shape, len(edges)))


def parallel(model: Density, x: torch.Tensor, context: torch.Tensor | None, order: int) -> None:
    """Every conditional; of a latent-variable model q(z | x) and p(x | z), of z that depend on x alone."""
    if not isinstance(model, LatentVariable):
        model._conditionals(x, context, order)
        return
    places = torch.arange(1, model.prior.event.dims + 1)
    parts = x.flatten(1).sum(1, keepdim=True) * 37 * places % (1 << PART_BITS)
    codec(model.encoder, len(x)).push(Stack(), parts, x)
    z, decoder = codec(model.prior, len(x)).values(parts), model.decoder
    if isinstance(decoder, OfLowestLayer):
        z, decoder = z[:, : decoder.size], decoder.decoder
    decoder._conditionals(x, z, order)


@torch.no_grad()
def leaves(frozen: Frozen, data: np.ndarray, context: np.ndarray | None, batch: int) -> list[str]:
    """What exact leaves return, call by call and bit by bit: later ones would round most of a difference away."""
    calls: list[torch.Tensor] = []
    hooks = [
        leaf.register_forward_hook(lambda leaf, x, y: calls.append(numbers(y)))
        for leaf in frozen.model.modules()
        if isinstance(leaf, ExactLeaf)
    ]
    found: list[str] = []
    for order in range(getattr(frozen.model, "orders", 1)):
        passes = []
        for start in range(0, len(data), batch):
            part = None if context is None else torch.from_numpy(context[start : start + batch])
            parallel(frozen.model, torch.from_numpy(data[start : start + batch]).long(), part, order)
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
    folder = Path(sys.argv[1])
    found = {"machine": machine(), "files": results(folder), "leaves": matrix_leaves.outputs(folder)}
    Path(sys.argv[2]).write_text(json.dumps(found))
