"""With their weights copied, zuko's and nflows' flows give the log-likelihoods that ours give.

pip install -e '.[bench]'
pytest benchmarks/test_peers.py
"""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from likely import Event
from likely.densities.bases import Normal
from likely.flows import Flow, MaskedAutoregressive, RationalQuadraticSpline, spline
from likely.flows.maps.map import Map
from likely.flows.transforms.coupling import Coupling
from likely.nn.network import Perceptron

zuko, nflows = pytest.importorskip("zuko"), pytest.importorskip("nflows")
peers = pytest.importorskip("peers")

DIMS, LAYERS, HIDDEN = 5, 3, (8, 12)  # as many units of every degree 1 … 4
CLOSE = {"rtol": 0, "atol": 1e-5}


class OfScale(Map):
    """z = scale(a) x + b, by the formula that a peer has for the scale."""

    count = 2

    def scale(self, a: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.ordered(parameters)
        return self.scale(a) * x + b, self.scale(a).log()

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.ordered(parameters)
        return (z - b) / self.scale(a), -self.scale(a).log()

    def ordered(self, parameters: Tensor) -> tuple[Tensor, ...]:
        return parameters.unbind(-1)


class OfZuko(OfScale):
    def scale(self, a: Tensor) -> Tensor:
        return soft(a, 1e-3).exp()

    def ordered(self, parameters: Tensor) -> tuple[Tensor, ...]:
        return parameters.flip(-1).unbind(-1)


class OfNflows(OfScale):
    def scale(self, a: Tensor) -> Tensor:
        return functional.softplus(a) + 1e-3


class OfNflowsCouplings(OfScale):
    def scale(self, a: Tensor) -> Tensor:
        return torch.sigmoid(a + 2) + 1e-3


class Spline(RationalQuadraticSpline):
    """Of widths, heights and slopes by the formulas of a peer."""

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x, self.ours(parameters))

    def ours(self, parameters: Tensor) -> Tensor:
        widths, heights, slopes = parameters.split([self.bins, self.bins, self.bins - 1], -1)
        logits = [
            ((part - spline.LEAST / self.bins) / (1 - spline.LEAST)).log() for part in self.parts(widths, heights)
        ]
        return torch.cat([*logits, self.slopes * (self.log_slopes(slopes) / self.slopes).atanh()], -1)

    def parts(self, *sizes: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def log_slopes(self, slopes: Tensor) -> Tensor:
        raise NotImplementedError


class SplineOfZuko(Spline):
    def parts(self, *sizes: Tensor) -> list[Tensor]:
        return [soft(2 * size, 1e-3).div(2).softmax(-1) for size in sizes]

    def log_slopes(self, slopes: Tensor) -> Tensor:
        return soft(slopes, 1e-3)


class SplineOfNflows(Spline):
    def parts(self, *sizes: Tensor) -> list[Tensor]:
        return [1e-3 + (1 - 1e-3 * self.bins) * size.softmax(-1) for size in sizes]

    def log_slopes(self, slopes: Tensor) -> Tensor:
        return (1e-3 + functional.softplus(slopes)).log()


def soft(a: Tensor, least: float) -> Tensor:
    """Between ± ln of the least slope."""
    return a / (1 + (a / math.log(least)).abs())


def redrawn(loss: nn.Module, deviation: float = 0.4) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in loss.parameters():
        nn.init.normal_(parameter, std=deviation, generator=generator)
    return loss.double()


def copy_masked(ours: MaskedAutoregressive, theirs: list[nn.Module]) -> None:
    """Their masked layers, whose units we sort by how many inputs they see."""
    below = ours.places
    with torch.no_grad():
        for k, (mine, other) in enumerate(zip(ours.network.layers, theirs, strict=True)):
            seen = other.mask.double()
            sight = seen if k == 0 else (seen @ sight > 0).double()
            last = k == len(theirs) - 1
            count = ours.map.count
            rows = sight.sum(1).argsort(stable=True)
            if last:
                rows = (ours.places[:, None] * count + torch.arange(count)).flatten()
            mine.weight.copy_(other.weight[rows][:, below] * mine.mask)
            mine.bias.copy_(other.bias[rows])
            assert torch.equal(seen[rows][:, below], mine.mask.double())
            below = rows


def flow_of(*transforms: nn.Module) -> Flow:
    return Flow(Normal(Event((DIMS,))), transforms).double()


def values() -> Tensor:
    return 2 * torch.randn(200, DIMS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("map", [OfZuko(), SplineOfZuko()], ids=["affine", "spline"])
def test_masked_autoregressive_flows_of_zuko(map):
    shapes = peers.SPLINE if isinstance(map, Spline) else {}
    theirs = redrawn(peers.of_zuko(zuko.flows.MAF(DIMS, transforms=LAYERS, hidden_features=HIDDEN, **shapes)))
    parts = []
    for k, other in enumerate(theirs.model.transform.transforms):
        order = "reversed" if k % 2 else "raster"
        parts.append(MaskedAutoregressive(map, (DIMS,), HIDDEN, order=order).double())
        copy_masked(parts[-1], [layer for layer in other.hyper if hasattr(layer, "mask")])
    x = values()
    torch.testing.assert_close(flow_of(*parts).log_prob(x), theirs.model().log_prob(x), **CLOSE)


def test_masked_autoregressive_flows_of_nflows():
    theirs = redrawn(peers.maf(DIMS, LAYERS, (8, 8))["nflows"])
    parts = []
    for k, other in enumerate(theirs.model._transform._transforms[::2]):
        made, order = other.autoregressive_net, "reversed" if k % 2 else "raster"
        parts.append(MaskedAutoregressive(OfNflows(), (DIMS,), (8, 8)).double())
        copy_masked(parts[-1], [made.initial_layer, made.blocks[0].linear, made.final_layer])
        if order == "reversed":  # they reverse the values, we the order
            turned = MaskedAutoregressive(OfNflows(), (DIMS,), (8, 8), order=order).double()
            turned.network.load_state_dict(parts[-1].network.state_dict())
            parts[-1] = turned
    x = values()
    torch.testing.assert_close(flow_of(*parts).log_prob(x), theirs.model.log_prob(x), **CLOSE)


def copy_couplings(map: Map, networks: list[list[nn.Module]], masks: list[Tensor]) -> Flow:
    """Masks say which values change."""
    parts = []
    for mask, layers in zip(masks, networks, strict=True):
        part = Coupling(map, (DIMS,), tuple((~mask.bool()).tolist()), conditioner=Perceptron(HIDDEN)).double()
        linear = [layer for layer in part.network.layers if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            for mine, other in zip(linear, layers, strict=True):
                mine.weight.copy_(other.weight)
                mine.bias.copy_(other.bias)
        parts.append(part)
    return flow_of(*parts)


def layers_of(network: nn.Module) -> list[nn.Linear]:
    return [network._input_layer, *network._hidden_layers, network._output_layer]


def test_spline_couplings_of_nflows():
    theirs = redrawn(peers.spline_couplings(DIMS, LAYERS, HIDDEN)["nflows"], 0.25)
    networks = [layers_of(other.transform_net) for other in theirs.model._transform._transforms]
    x = values()
    ours = copy_couplings(SplineOfNflows(), networks, [peers.alternating(DIMS, k) for k in range(LAYERS)])
    torch.testing.assert_close(ours.log_prob(x), theirs.model.log_prob(x), **CLOSE)


def test_affine_couplings_of_nflows():
    theirs = redrawn(peers.real_nvp(DIMS, LAYERS, HIDDEN)["nflows"])
    for other in theirs.model._transform._transforms:  # they have the shifts first, then the scales
        last = other.transform_net._output_layer
        rows = torch.arange(len(last.weight)).view(2, -1).flip(0).T.flatten()
        other.turned = last.weight[rows], last.bias[rows]
    networks = []
    for other in theirs.model._transform._transforms:
        *before, _ = layers_of(other.transform_net)
        last = nn.Linear(HIDDEN[-1], len(other.turned[1])).double()
        last.weight, last.bias = (nn.Parameter(tensor) for tensor in other.turned)
        networks.append([*before, last])
    x = values()
    ours = copy_couplings(OfNflowsCouplings(), networks, [peers.alternating(DIMS, k) for k in range(LAYERS)])
    torch.testing.assert_close(ours.log_prob(x), theirs.model.log_prob(x), **CLOSE)


@pytest.mark.parametrize("map", [OfZuko(), SplineOfZuko()], ids=["affine", "spline"])
def test_couplings_of_zuko(map):
    name = "spline_couplings" if isinstance(map, Spline) else "real_nvp"
    theirs = redrawn(getattr(peers, name)(DIMS, LAYERS, HIDDEN)["zuko"])
    couplings = theirs.model.transform.transforms
    networks = [[layer for layer in other.hyper if hasattr(layer, "weight")] for other in couplings]
    ours = copy_couplings(map, networks, [~other.mask for other in couplings])
    x = values()
    torch.testing.assert_close(ours.log_prob(x), theirs.model().log_prob(x), **CLOSE)
