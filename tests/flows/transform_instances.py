"""The table of transforms that the laws of transforms run over: a new transform is one line here.

name: (how it is built, shape of one example it takes)
"""

from collections.abc import Callable

import torch
from torch import nn

from likely.flows import Affine, Composition, Elementwise, Inverse, Shift, Transform
from likely.flows.linear import FullMatrix, LUMatrix, OrthogonalMatrix, Permutation, TriangularMatrix

FEATURES = 3  # of the context that conditional instances are given

INSTANCES: dict[str, tuple[Callable[[], Transform], tuple[int, ...]]] = {
    "shift": (lambda: Elementwise(Shift(), (3,)), (3,)),
    "affine": (lambda: Elementwise(Affine(), (3,)), (3,)),
    "affine, context": (lambda: Elementwise(Affine(), (2, 2), FEATURES), (2, 2)),
    "composition": (lambda: Composition([Elementwise(Affine(), (3,)), Elementwise(Shift(), (3,))]), (3,)),
    "empty composition": (lambda: Composition([]), (3,)),
    "inverse": (lambda: Inverse(Elementwise(Affine(), (3,))), (3,)),
    "full matrix": (lambda: FullMatrix((2, 3)), (2, 3)),
    "triangular matrix": (lambda: TriangularMatrix((4,)), (4,)),
    "LU matrix": (lambda: LUMatrix((4,)), (4,)),
    "orthogonal matrix": (lambda: OrthogonalMatrix((4,)), (4,)),
    "reversal": (lambda: Permutation((2, 3)), (2, 3)),
    "permutation": (lambda: Permutation((5,), 1), (5,)),
}


def redrawn(name: str, dtype: torch.dtype, seed: int = 0) -> Transform:
    """An instance with random weights: an untrained one is often the identity, which proves nothing."""
    generator = torch.Generator().manual_seed(seed)
    transform = INSTANCES[name][0]().to(dtype).eval()
    for parameter in transform.parameters():
        scale = 0.3 if parameter.ndim < 2 else (2 / max(1, parameter[0].numel())) ** 0.5
        nn.init.normal_(parameter, std=scale, generator=generator)
    return transform


def examples(name: str, n: int, dtype: torch.dtype, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Values inside the instance's domain (n, *shape), and context features (n, FEATURES)."""
    generator = torch.Generator().manual_seed(seed)
    build, shape = INSTANCES[name]
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    domain = build().domain
    if domain.high == 1:
        x = (1.5 * x).sigmoid()
    elif domain.low == 0:
        x = x.exp()
    context = torch.randn(n, FEATURES, generator=generator, dtype=torch.float64)
    return x.to(dtype), context.to(dtype)
