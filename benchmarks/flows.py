"""Flows against zuko, nflows and normflows: training steps, and MAF's inverse against its density.

    pip install -e '.[bench]'
    python benchmarks/flows.py [--only NAME] [--repeats 15] [--json]

One thread, whose processor time is taken. Everything of a line is timed in turns, in one run; a ratio is the median
over the turns of ours ÷ the fastest peer of that turn, with its quartiles. Same sizes, same data, the same optimiser
(fused AdamW). Beside each stands how exact our flow is: the largest error of x after a round trip, and of ln|det| there
and back.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peers
import torch
from timing import in_turns, ratio, show, stepper
from torch import Tensor, nn

from likely import FFJORD, MAF, Event, RealNVP
from likely.densities.bases import Normal
from likely.flows import Composition, Flow, MaskedAutoregressive, RationalQuadraticSpline, Transform
from likely.flows.maps.map import Affine
from likely.flows.transforms.actnorm import ActNorm
from likely.flows.transforms.convolution import InvertibleConvolution
from likely.flows.transforms.coupling import Coupling
from likely.flows.transforms.shape import Multiscale, Squeeze
from likely.nn.network import NetworkSpec, Perceptron, Size

ROUND_TRIP = 1e-5


class ThreeConvolutions(NetworkSpec):
    """Of 3×3, 1×1 and 3×3, with ReLU between: the network of Glow and of normflows."""

    def __init__(self, width: int) -> None:
        self.width = width

    def build(self, inputs: Size, outputs: Size, features: int | None = None) -> nn.Module:
        return _ThreeConvolutions(inputs[-1], outputs[-1], self.width)


class _ThreeConvolutions(nn.Module):
    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.ReLU(),
            nn.Conv2d(width, outputs, 3, padding=1),
        )

    def forward(self, x: Tensor, features: Tensor | None) -> Tensor:
        return self.layers(x.movedim(-1, 1)).movedim(1, -1)


def glow(shape: tuple[int, int, int], layers: int, width: int) -> Flow:
    """Of two scales."""

    def steps(shape: tuple[int, ...]) -> list[Transform]:
        squeeze = Squeeze(shape)
        after, parts = squeeze.after, [squeeze]
        for k in range(layers):
            coupling = Coupling(Affine(2.0), after, "channels", swapped=k % 2 > 0, conditioner=ThreeConvolutions(width))
            parts += [ActNorm(after), InvertibleConvolution(after, k), coupling]
        return parts

    first = steps(shape)
    channels, *size = first[0].after
    inner = Composition(steps((channels // 2, *size)))
    transforms = [*first, Multiscale(inner, first[0].after)]
    return Flow(Normal(Composition(transforms).event_after(Event(shape))), transforms)


def couplings(dims: int, layers: int, hidden: tuple[int, ...]) -> Flow:
    network, spline = Perceptron(hidden), RationalQuadraticSpline(8)
    parts = [Coupling(spline, (dims,), "checkerboard", swapped=k % 2 > 0, conditioner=network) for k in range(layers)]
    return Flow(Normal(Event((dims,))), parts)


@dataclass
class Line:
    """A training step to be compared: what, with how many examples at once, and the ratio not to exceed."""

    ours: Callable[[], Flow]
    peers: Callable[[], dict[str, peers.Loss]]
    batch: int
    bar: float


LINES = {
    "MAF, 63, 5 × (512, 512), batch 256": Line(
        lambda: MAF(Event((63,)), hidden=(512, 512)), lambda: peers.maf(63, 5, (512, 512)), 256, 0.75
    ),
    "MAF, 784, 5 × (1024, 1024), batch 100": Line(
        lambda: MAF(Event((784,)), hidden=(1024, 1024)), lambda: peers.maf(784, 5, (1024, 1024)), 100, 0.75
    ),
    "RealNVP, 2, 8 × (64, 64), batch 256": Line(
        lambda: RealNVP(Event((2,))), lambda: peers.real_nvp(2, 8, (64, 64)), 256, 0.75
    ),
    "RealNVP, 63, 8 × (256, 256), batch 256": Line(
        lambda: RealNVP(Event((63,)), width=256), lambda: peers.real_nvp(63, 8, (256, 256)), 256, 0.9
    ),
    "spline couplings, 63, 8 × (128, 128), batch 256": Line(
        lambda: couplings(63, 8, (128, 128)), lambda: peers.spline_couplings(63, 8, (128, 128)), 256, 0.9
    ),
    "Glow, 3×16×16, 2 scales × 4 steps, width 64, batch 16": Line(
        lambda: glow((3, 16, 16), 4, 64), lambda: peers.glow((3, 16, 16), 4, 64), 16, 1.0
    ),
    "FFJORD, 2, (64, 64), tolerance 1e-5, batch 256": Line(
        lambda: FFJORD(Event((2,)), tolerance=1e-5), lambda: peers.ffjord(2, (64, 64), 1e-5), 256, 1.0
    ),
}


def data(flow: Flow, n: int) -> Tensor:
    """Correlated values of deviation one."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, flow.event.dims, generator=generator)
    x = x + 0.5 * x.roll(1, 1).tanh() + 0.3 * x.roll(2, 1).square()
    return ((x - x.mean(0)) / x.std(0)).view(n, *flow.event.shape)


def step(line: Line, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    flow, others = line.ours(), line.peers()
    x = data(flow, line.batch)
    flow.initialize(x)
    tasks = {"likely": stepper(flow, flow.loss, x)}
    tasks |= {name: stepper(peer, peer, x.clone()) for name, peer in others.items()}
    times = in_turns(repeats, tasks)
    best = [min(times[name][k] for name in others) for k in range(repeats)]
    return {
        "milliseconds": {name: 1000 * statistics.median(found) for name, found in times.items()},
        "parameters": {"likely": size(flow)} | {name: size(peer) for name, peer in others.items()},
        "step ÷ fastest peer": ratio(times["likely"], best, line.bar),
    } | exactness(flow, x)


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def exactness(flow: Flow, x: Tensor) -> dict[str, Any]:
    z, ladj = flow.transform(x)
    back, inverse = flow.transform.inverse(z)
    return {
        "error of x, there and back": float((back - x).abs().max()),
        "error of ln|det|": float((ladj + inverse).abs().max()) / flow.event.dims,
    }


def trained(flow: Flow, x: Tensor, steps: int = 30) -> Flow:
    """After a short fit, so that the inverse is of something."""
    train = stepper(flow, flow.loss, x)
    for _ in range(steps):
        train()
    return flow


@torch.no_grad()
def inverses(repeats: int) -> dict[str, Any]:
    """inverse ÷ log_prob at D = 63, 256 examples, five layers of (256, 256)."""
    event, found = Event((63,)), {}
    splines = [MaskedAutoregressive(RationalQuadraticSpline(8), (63,), (256, 256)) for _ in range(5)]
    flows = {"affine": (MAF(event), 2.0), "splines": (Flow(Normal(event), splines), 4.0)}
    for name, (flow, bar) in flows.items():
        x = data(flow, 256)
        flow.initialize(x)
        with torch.enable_grad():
            trained(flow, x)
        z, _ = flow.transform(x)
        times = in_turns(repeats, {"inverse": timed(flow.transform.inverse, z), "log_prob": timed(flow.log_prob, x)})
        found[f"MAF's inverse ÷ log_prob, {name}"] = {
            "milliseconds": {key: 1000 * statistics.median(value) for key, value in times.items()},
            "inverse ÷ log_prob": ratio(times["inverse"], times["log_prob"], bar),
        } | exactness(flow, x)
    peer = peers.maf(63, 5, (256, 256))["zuko"].model
    x = data(flows["affine"][0], 256)
    times = in_turns(3, {"inverse": timed(peer().transform.inv, x), "log_prob": timed(lambda x: peer().log_prob(x), x)})
    found["zuko's inverse ÷ log_prob, affine"] = {
        "inverse ÷ log_prob": ratio(times["inverse"], times["log_prob"], None)
    }
    return found


def timed(call: Callable[[Tensor], Any], x: Tensor) -> Callable[[], float]:
    def task() -> float:
        start = time.process_time()
        call(x)
        return time.process_time() - start

    return task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="lines whose name contains this")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the peers'
    results: dict[str, Any] = {}
    for name, line in LINES.items():
        if arguments.only in name:
            results[f"training step, {name}"] = step(line, arguments.repeats)
            if not arguments.json:
                show(*list(results.items())[-1])
    if arguments.only in "inverse":
        for title, found in inverses(arguments.repeats).items():
            results[title] = found
            if not arguments.json:
                show(title, found)
    if arguments.json:
        print(json.dumps({"threads": 1, "torch": torch.__version__, "repeats": arguments.repeats} | results, indent=1))


if __name__ == "__main__":
    main()
