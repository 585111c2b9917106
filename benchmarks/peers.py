"""The same flows from zuko, nflows and normflows (the extra `bench`), as losses of a batch in nats."""

from collections.abc import Callable
from typing import Any

import nflows.distributions
import nflows.flows
import nflows.nn.nets
import nflows.transforms
import normflows
import torch
import zuko
from torch import Tensor, nn
from torch.nn import functional

Hidden = tuple[int, ...]
SPLINE = {"univariate": zuko.transforms.MonotonicRQSTransform, "shapes": [(8,), (8,), (7,)]}
TAILS = {"num_bins": 8, "tails": "linear", "tail_bound": 5.0}


class Loss(nn.Module):
    """−ln p(x), mean over a batch."""

    def __init__(self, model: nn.Module, log_prob: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.log_prob = model, log_prob

    def forward(self, x: Tensor) -> Tensor:
        return -self.log_prob(self.model, x).mean()


def of_zuko(flow: nn.Module) -> Loss:
    return Loss(flow, lambda flow, x: flow().log_prob(x))


def of_nflows(dims: int, transforms: list[nn.Module]) -> Loss:
    base = nflows.distributions.StandardNormal([dims])
    flow = nflows.flows.Flow(nflows.transforms.CompositeTransform(transforms), base)
    return Loss(flow, lambda flow, x: flow.log_prob(x))


class Forwards(nn.Module):
    """Layers of normflows, which have their quick direction in `forward`, from x to z."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def log_prob(self, x: Tensor) -> Tensor:
        total = torch.zeros(len(x))
        for layer in self.layers:
            x, ladj = layer(x)
            total = total + ladj
        return total - 0.5 * (x.square() + torch.log(torch.tensor(2 * torch.pi))).sum(1)


def of_normflows(layers: list[nn.Module]) -> Loss:
    return Loss(Forwards(layers), lambda model, x: model.log_prob(x))


def maf(dims: int, layers: int, hidden: Hidden) -> dict[str, Loss]:
    width, blocks = hidden[0], len(hidden) - 1
    plain: dict[str, Any] = {"num_blocks": blocks, "use_residual_blocks": False}
    by_nflows, by_normflows = [], []
    for _ in range(layers):
        masked = nflows.transforms.MaskedAffineAutoregressiveTransform(dims, width, **plain)
        by_nflows += [masked, nflows.transforms.ReversePermutation(dims)]
        by_normflows += [
            normflows.flows.MaskedAffineAutoregressive(dims, width, **plain),
            normflows.flows.Permute(dims, "swap"),
        ]
    return {
        "zuko": of_zuko(zuko.flows.MAF(dims, transforms=layers, hidden_features=hidden)),
        "nflows": of_nflows(dims, by_nflows),
        "normflows": of_normflows(by_normflows),
    }


def alternating(dims: int, k: int) -> Tensor:
    return (torch.arange(dims) % 2 == k % 2).int()


def perceptron(hidden: Hidden) -> Callable[[int, int], nn.Module]:
    return lambda inputs, outputs: Perceptron([inputs], [outputs], hidden, activation=functional.silu)


class Perceptron(nflows.nn.nets.MLP):
    """Called as nflows' couplings do, with a context."""

    hidden_features = 1  # by the root of which splines' parameters are divided

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return super().forward(x)


def real_nvp(dims: int, layers: int, hidden: Hidden) -> dict[str, Loss]:
    couple = nflows.transforms.AffineCouplingTransform
    by_normflows = []
    for _ in range(layers):
        widths = [dims - dims // 2, *hidden, 2 * (dims // 2)]
        block = normflows.flows.AffineCouplingBlock(normflows.nets.MLP(widths, init_zeros=True))
        by_normflows += [block, normflows.flows.Permute(dims, "swap")]
    flow = zuko.flows.RealNVP(dims, transforms=layers, hidden_features=hidden, activation=nn.SiLU)
    return {
        "zuko": of_zuko(flow),
        "nflows": of_nflows(dims, [couple(alternating(dims, k), perceptron(hidden)) for k in range(layers)]),
        "normflows": of_normflows(by_normflows),
    }


def spline_couplings(dims: int, layers: int, hidden: Hidden) -> dict[str, Loss]:
    by_nflows, by_normflows = [], []
    for k in range(layers):
        mask = alternating(dims, k)
        couple = nflows.transforms.PiecewiseRationalQuadraticCouplingTransform
        by_nflows.append(couple(mask, perceptron(hidden), **TAILS))
        couple = normflows.flows.neural_spline.coupling.PiecewiseRationalQuadraticCoupling
        by_normflows.append(couple(mask, perceptron(hidden), **TAILS))
    flow = zuko.flows.NICE(dims, transforms=layers, hidden_features=hidden, activation=nn.SiLU, **SPLINE)
    return {
        "zuko": of_zuko(flow),
        "nflows": of_nflows(dims, by_nflows),
        "normflows": of_normflows(by_normflows),
    }


def glow(shape: tuple[int, int, int], layers: int, width: int) -> dict[str, Loss]:
    """Of two scales."""
    channels, height, across = shape
    flows = [
        [normflows.flows.GlowBlock(size, width) for _ in range(layers)] + [normflows.flows.Squeeze()]
        for size in (8 * channels, 4 * channels)
    ]
    sizes = [(8 * channels, height // 4, across // 4), (2 * channels, height // 2, across // 2)]
    bases = [normflows.distributions.DiagGaussian(size, trainable=False) for size in sizes]
    flow = normflows.MultiscaleFlow(bases, flows, [normflows.flows.Merge()], class_cond=False)
    return {"normflows": Loss(flow, lambda flow, x: flow.log_prob(x, None))}


def ffjord(dims: int, hidden: Hidden, tolerance: float) -> dict[str, Loss]:
    flow = zuko.flows.CNF(dims, hidden_features=hidden, activation=nn.Tanh, atol=tolerance, rtol=tolerance)
    return {"zuko": of_zuko(flow)}
