"""The table of transforms that the laws of transforms run over: a new transform is one line here.

name: (how it is built, shape of one example it takes)
"""

from collections.abc import Callable

import torch
from torch import nn

from likely.flows import Affine, Composition, Elementwise, Inverse, Shift, Transform
from likely.flows.maps.activation import LeakyReLU, LogisticToNormal, Logit, Power, Scale, Sigmoid, Softplus, Tanh
from likely.flows.maps.chain import Chain
from likely.flows.maps.mixture import MixtureLogit
from likely.flows.maps.monotone import MonotoneLayer
from likely.flows.maps.spline import RationalQuadraticSpline
from likely.flows.transforms.actnorm import ActNorm
from likely.flows.transforms.autoregressive import MaskedAutoregressive, RecurrentAutoregressive
from likely.flows.transforms.convolution import InvertibleConvolution
from likely.flows.transforms.coupling import Coupling
from likely.flows.transforms.linear import FullMatrix, LUMatrix, OrthogonalMatrix, Permutation, TriangularMatrix
from likely.flows.transforms.shape import Multiscale, Squeeze
from likely.nn.network import AttentionNetwork, ResidualNetwork

FEATURES = 3  # of the context that conditional instances are given
SMALL = ResidualNetwork(8, 1)

INSTANCES: dict[str, tuple[Callable[[], Transform], tuple[int, ...]]] = {
    "shift": (lambda: Elementwise(Shift(), (3,)), (3,)),
    "affine": (lambda: Elementwise(Affine(), (3,)), (3,)),
    "affine, context": (lambda: Elementwise(Affine(), (2, 2), FEATURES), (2, 2)),
    "affine, single value, context": (lambda: Elementwise(Affine(), (), FEATURES), ()),
    "composition": (lambda: Composition([Elementwise(Affine(), (3,)), Elementwise(Shift(), (3,))]), (3,)),
    "empty composition": (lambda: Composition([]), (3,)),
    "inverse": (lambda: Inverse(Elementwise(Affine(), (3,))), (3,)),
    "full matrix": (lambda: FullMatrix((2, 3)), (2, 3)),
    "triangular matrix": (lambda: TriangularMatrix((4,)), (4,)),
    "LU matrix": (lambda: LUMatrix((4,)), (4,)),
    "LU matrix, single value": (lambda: LUMatrix(()), ()),
    "orthogonal matrix": (lambda: OrthogonalMatrix((4,)), (4,)),
    "reversal": (lambda: Permutation((2, 3)), (2, 3)),
    "permutation": (lambda: Permutation((5,), 1), (5,)),
    "sigmoid": (lambda: Elementwise(Sigmoid(), (3,)), (3,)),
    "logit": (lambda: Elementwise(Logit(), (3,)), (3,)),
    "tanh": (lambda: Elementwise(Tanh(), (3,)), (3,)),
    "artanh": (lambda: Inverse(Elementwise(Tanh(), (3,))), (3,)),
    "softplus": (lambda: Elementwise(Softplus(), (3,)), (3,)),
    "leaky ReLU": (lambda: Elementwise(LeakyReLU(), (3,)), (3,)),
    "scale": (lambda: Elementwise(Scale(), (3,)), (3,)),
    "power": (lambda: Elementwise(Power(), (3,)), (3,)),
    "logistic to normal": (lambda: Elementwise(LogisticToNormal(), (3,)), (3,)),
    "spline": (lambda: Elementwise(RationalQuadraticSpline(), (3,)), (3,)),
    "spline, context": (lambda: Elementwise(RationalQuadraticSpline(), (3,), FEATURES), (3,)),
    "mixture of logistics": (lambda: Elementwise(MixtureLogit(), (3,)), (3,)),
    "mixture of Gaussians": (lambda: Elementwise(MixtureLogit(3, "gaussian"), (3,)), (3,)),
    "mixture, context": (lambda: Elementwise(MixtureLogit(4), (3,), FEATURES), (3,)),
    "inverse of a mixture": (lambda: Inverse(Elementwise(MixtureLogit(2, "gaussian"), (3,))), (3,)),
    "monotone layer": (lambda: Elementwise(MonotoneLayer(), (3,)), (3,)),
    "coupling, halves": (lambda: Coupling(Affine(), (5,)), (5,)),
    "coupling, checkerboard, context": (lambda: Coupling(Affine(), (5,), "checkerboard", features=FEATURES), (5,)),
    "coupling, any mask": (lambda: Coupling(Shift(), (2, 2), (True, False, False, True), swapped=True), (2, 2)),
    "coupling over images": (lambda: Coupling(Affine(), (2, 2, 3), "checkerboard", conditioner=SMALL), (2, 2, 3)),
    "coupling over channels": (lambda: Coupling(Affine(), (3, 2, 2), "channels", conditioner=SMALL), (3, 2, 2)),
    "coupling over images, context": (
        lambda: Coupling(Affine(), (2, 2, 2), swapped=True, conditioner=SMALL, features=FEATURES),
        (2, 2, 2),
    ),
    "coupling with attention": (
        lambda: Coupling(Affine(), (1, 3, 3), "checkerboard", conditioner=AttentionNetwork(8, 1, 2), features=FEATURES),
        (1, 3, 3),
    ),
    "chain of maps": (lambda: Elementwise(Chain([Scale(), LeakyReLU(), Affine()]), (3,)), (3,)),
    "actnorm": (lambda: ActNorm((3,)), (3,)),
    "actnorm, single value": (lambda: ActNorm(()), ()),
    "actnorm over images": (lambda: ActNorm((2, 2, 2)), (2, 2, 2)),
    "1×1 convolution": (lambda: InvertibleConvolution((3, 2, 2)), (3, 2, 2)),
    "1×1 convolution of a vector": (lambda: InvertibleConvolution((4,), 1), (4,)),
    "squeeze": (lambda: Squeeze((2, 2, 4)), (2, 2, 4)),
    "multiscale": (lambda: Multiscale(ActNorm((2, 2, 2)), (3, 2, 2)), (3, 2, 2)),
    "multiscale, twice": (
        lambda: Multiscale(Composition([Squeeze((1, 2, 2)), Multiscale(ActNorm((2, 1, 1)), (4, 1, 1))]), (2, 2, 2)),
        (2, 2, 2),
    ),
    "masked autoregressive": (lambda: MaskedAutoregressive(Affine(), (2, 3), (8, 16)), (2, 3)),
    "masked autoregressive, spline, context": (
        lambda: MaskedAutoregressive(RationalQuadraticSpline(), (4,), (16,), order=1, features=FEATURES),
        (4,),
    ),
    "masked autoregressive, mixture": (
        lambda: MaskedAutoregressive(MixtureLogit(3), (3,), (8, 8), order="reversed"),
        (3,),
    ),
    "masked autoregressive, one value": (lambda: MaskedAutoregressive(Affine(), (1,), features=FEATURES), (1,)),
    "masked autoregressive, single value": (lambda: MaskedAutoregressive(Affine(), (), (8,), features=FEATURES), ()),
    "inverse autoregressive": (lambda: Inverse(MaskedAutoregressive(Affine(), (4,), (3,), order=2)), (4,)),
    "recurrent autoregressive": (lambda: RecurrentAutoregressive(Affine(), (4,), 8, order="reversed"), (4,)),
    "recurrent autoregressive, single value": (lambda: RecurrentAutoregressive(MixtureLogit(3), (), 8), ()),
    "recurrent autoregressive, context": (
        lambda: RecurrentAutoregressive(RationalQuadraticSpline(), (3,), 8, features=FEATURES),
        (3,),
    ),
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
