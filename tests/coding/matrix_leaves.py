"""Exact leaves by themselves: what each returns of ordinary and extreme inputs, at once and by parts."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from likely.nn import (
    GELU,
    GLU,
    GRU,
    LSTM,
    Attention,
    Cache,
    Codebook,
    Conv2d,
    ImagePositions,
    LayerNorm,
    MaskedConv1d,
    MaskedConv2d,
    Positions,
    RMSNorm,
    Sigmoid,
    SiLU,
    Tanh,
)

FILE = "leaves.safetensors"
N, PLACES, WIDTH, UNITS = 7, 19, 48, 40  # wide enough for blocked and threaded products
IMAGE = (5, 6, 8)  # height, width, channels
EXTREME = (1e300, -1e300, 1e9, -1e9, 1e-300, -0.0)

ELEMENTWISE = {"sigmoid": Sigmoid, "tanh": Tanh, "SiLU": SiLU, "GELU": GELU, "GLU": GLU}
SEQUENCES: dict[str, Callable[[], Any]] = {
    **ELEMENTWISE,
    "layer norm": lambda: LayerNorm(WIDTH),
    "RMS norm": lambda: RMSNorm(WIDTH),
    "attention over everything": lambda: Attention(4, causal=False),
}
CAUSAL: dict[str, Callable[[], Any]] = {  # which have a cached life
    "convolution of a sequence, dilated": lambda: MaskedConv1d(WIDTH, UNITS, 3, "B", dilation=2),
    "convolution of a sequence, strided": lambda: MaskedConv1d(WIDTH, UNITS, 3, "B", stride=2),
    "attention": lambda: Attention(4, causal=True),
    "positions": lambda: Positions(PLACES, WIDTH),
}
RECURRENT: dict[str, Callable[[], Any]] = {"GRU": lambda: GRU(WIDTH, UNITS), "LSTM": lambda: LSTM(WIDTH, UNITS)}
CODES: dict[str, Callable[[], Any]] = {"code book": lambda: Codebook(UNITS, WIDTH)}
IMAGES: dict[str, Callable[[], Any]] = {
    "convolution of an image": lambda: Conv2d(IMAGE[2], UNITS, 3),
    "convolution of an image, dilated": lambda: MaskedConv2d(IMAGE[2], UNITS, (3, 5), "B", 2, 2),
    "positions of pixels": lambda: ImagePositions(IMAGE[2], *IMAGE[:2]),
}
LEAVES = {**SEQUENCES, **CAUSAL, **RECURRENT, **CODES, **IMAGES}


def write(folder: Path) -> None:
    """The numbers of every leaf's exact twin, and inputs: draws differ between processors, so that they are kept."""
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, build in LEAVES.items():
        leaf = build()
        for parameter in leaf.parameters():
            torch.nn.init.normal_(parameter, std=0.7, generator=generator)
        shape = (N, *IMAGE) if name in IMAGES else (N, PLACES, WIDTH)
        x = 2 * torch.randn(shape, dtype=torch.float64, generator=generator)
        x[0].view(-1)[: len(EXTREME)] = torch.tensor(EXTREME, dtype=torch.float64)
        for part, module in leaf.named_modules():
            if hasattr(module, "quantize"):
                tensors |= {f"{name}/{part}/{key}": value for key, value in module.quantize(3.0).items()}
        tensors[f"{name}/x"] = x
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, folder / FILE)


def everything(name: str, leaf: Any, x: Tensor) -> Tensor:
    if name in RECURRENT:
        return leaf(x, x.new_zeros(len(x), UNITS))
    return leaf.nearest(x) if name in CODES else leaf(x)


def by_parts(name: str, leaf: Any, x: Tensor) -> Tensor:
    cache = Cache()
    start = x.new_zeros(len(x), UNITS) if name in RECURRENT else None
    return torch.cat([leaf(part, start, cache) for part in x.split((1, 2, PLACES - 3), 1)], 1)


@torch.no_grad()
def outputs(folder: Path) -> dict[str, list[str]]:
    """The bits of every leaf's outputs: of all examples together, one by one, and by parts where it has a cache."""
    tensors, found = load_file(folder / FILE), {}
    for name, build in LEAVES.items():
        leaf, x = build(), tensors[f"{name}/x"]
        twin = leaf.exact({key: tensors[f"{name}//{key}"] for key in leaf.quantize(3.0)})
        lives = [everything(name, twin, x), torch.cat([everything(name, twin, row) for row in x.split(1)])]
        lives += [by_parts(name, twin, x)] if name in CAUSAL | RECURRENT else []
        found[name] = [sha256((life + 0.0).numpy().tobytes()).hexdigest() for life in lives]
    return found
