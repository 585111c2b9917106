"""Good and bad masks of couplings: what it costs if parts never change places, or if neighbours do not see each other.

    python examples/coupling_masks.py [--steps 700] [--out coupling-masks.png]

Eight affine couplings, as in RealNVP, differ in nothing but their masks. Over the points of a smiley one value passes,
in turn or always the first. If always, the flow is no more than a Gaussian x₁ and a Gaussian x₂ given x₁, and the least
that any network can reach is known: ½ ln(2πe Var[x₁]) + E[½ ln(2πe Var[x₂ | x₁])]. Over the packaged digits (8×8
pixels, 17 levels, dequantised) a checkerboard passes or the upper half, swapped from one coupling to the next or
never, with networks of convolutions, which see nearby pixels, and with perceptrons, which see all.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table
from torch import Tensor

import likely
from likely.data import load
from likely.data.real_sources import smiley
from likely.data.sources import Source
from likely.densities.bases import Normal
from likely.density import seeded
from likely.event import Event
from likely.flows import Affine, Flow
from likely.flows.dequantization import preprocessing
from likely.flows.transforms.coupling import Coupling
from likely.nn.network import NetworkSpec, Perceptron, ResidualNetwork
from likely.pictures import grid
from likely.pictures.axes import INK, Panels

LAYERS = 8
SHOWN = 25  # images
TRAIN, FRESH = 20_000, 10_000  # points of the smiley
HALF, CELLS = 4.0, 401  # of the plane's grid: half its side, points along a side
LEVELS = 17
DIGITS = Event((1, 8, 8), LEVELS)
NETWORKS = {"convolutions": ResidualNetwork(16, blocks=1), "perceptron": Perceptron((128, 128))}
MASKS = {
    "checkerboard": tuple((k // 8 + k % 8) % 2 == 0 for k in range(64)),
    "upper half": tuple(k < 32 for k in range(64)),
}
KINDS = [(name, swapping) for swapping in (True, False) for name in MASKS]


def flow(event: Event, mask: tuple[bool, ...], swapping: bool, conditioner: NetworkSpec) -> Flow:
    """Couplings with one mask, whose parts change places from one to the next or never do."""
    with seeded(0):
        couplings = [
            Coupling(Affine(2.0), event.shape, mask, swapped=swapping and k % 2 == 1, conditioner=conditioner)
            for k in range(LAYERS)
        ]
    return Flow(Normal(Event(event.shape)), [*preprocessing(event), *couplings])


def plane() -> Tensor:
    """Points (CELLS, CELLS, 2): x₂ from row to row, x₁ from column to column."""
    line = torch.linspace(-HALF, HALF, CELLS, dtype=torch.float64)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


def density(model: likely.Density) -> Tensor:
    """p over the plane (CELLS, CELLS)."""
    rows = plane().flatten(0, 1).split(20_000)
    return torch.cat([model.log_prob(part).exp().double() for part in rows]).view(CELLS, CELLS)


def least(source: Source) -> float:
    """Nats per example of the best Gaussian x₁ with a Gaussian x₂ given x₁, for a density within the plane's grid."""
    p = density(source)
    p, line = p / p.sum(), plane()[0, :, 0]
    first = p.sum(0)
    seen = first > 1e-14
    p, first, x = p[:, seen], first[seen], line[seen]
    mean = (line[:, None] * p).sum(0) / first
    second = ((line[:, None] - mean).square() * p).sum(0) / first
    variance = (first * (x - (first * x).sum()).square()).sum()
    return float((first * (2 * math.pi * math.e * second).log()).sum() + (2 * math.pi * math.e * variance).log()) / 2


def points(steps: int) -> tuple[Table, list[tuple[str, Tensor]]]:
    """Over the smiley: the table, and the densities with their titles."""
    source, generator = smiley(), torch.Generator().manual_seed(0)
    train, x = (source.sample(n, generator=generator) for n in (TRAIN, FRESH))
    table, shown, entropy = Table("smiley", "nats/dim", "above the source"), [], source.entropy() / 2
    settings = {"batch_size": 256, "learning_rate": 5e-3, "evaluations": 5}
    for name, swapping in (("in turn", True), ("never swapped", False)):
        model = flow(source.event, (True, False), swapping, Perceptron((64, 64)))
        likely.fit(model, train, budget=f"{2 * steps} steps", **settings)
        with torch.no_grad():
            gap = (source.log_prob(x) - model.log_prob(x)) / 2
            shown.append((f"{name}: {gap.mean():.2f} nats/dim above it", density(model)))
        error = gap.std() / FRESH**0.5
        table.add_row(name, f"{entropy + gap.mean():.4f}", f"{gap.mean():.4f} ± {error:.4f}")
    bound = least(source) / 2
    table.add_row("never swapped: the least", f"{bound:.4f}", f"{bound - entropy:.4f}")
    return table, [("the source", density(source)), *shown]


def digits(steps: int) -> tuple[Table, list[tuple[str, Tensor]]]:
    """Over the digits: the table, and samples with their titles."""
    x, y = (load("digits", role).x.long().view(-1, *DIGITS.shape) for role in ("train", "test"))
    generator = torch.Generator().manual_seed(0)
    table, shown = Table("digits: bits/dim", *NETWORKS), [("digits", y[:SHOWN])]
    for name, swapping in KINDS:
        title, found = f"{name}, {'in turn' if swapping else 'never swapped'}", []
        for conditioner in NETWORKS.values():
            model = flow(DIGITS, MASKS[name], swapping, conditioner)
            likely.fit(model, x, budget=f"{steps} steps", batch_size=32, evaluations=10)
            report = likely.evaluate(model, y)
            found.append(f"{report.bits_per_dim:.3f} ± {report.bits_per_dim_standard_error:.3f}")
            if conditioner == NETWORKS["convolutions"]:
                shown.append((title, likely.sample(model, SHOWN, generator=generator)))
        table.add_row(title, *found)
    return table, shown


def main(steps: int, out: Path) -> None:
    """Fit, measure, print tables and write a picture."""
    torch.set_num_threads(1)
    started = time.process_time()
    first, densities = points(steps)
    second, samples = digits(steps)
    Console().print(first, second)
    picture(densities, samples).save(out)
    print(f"wrote {out} after {time.process_time() - started:.0f} s of one core")


def picture(densities: list[tuple[str, Tensor]], samples: list[tuple[str, Tensor]]) -> Image.Image:
    """A row of densities (their square roots, so that thin parts are seen), and below it a row of samples."""
    panels = Panels(len(densities))
    for place, (title, p) in enumerate(densities):
        axes = panels.panel(place, (-HALF, HALF), (-HALF, HALF))
        axes.surface((p / p.max()).sqrt())
        axes.frame(title)
    above = panels.finished()
    tiles = [grid(images, LEVELS, columns=5, side=225) for _, images in samples]
    side = tiles[0].width
    whole = Image.new("RGB", (above.width, above.height + side + 40), "white")
    whole.paste(above, (0, 0))
    gap = (whole.width - len(tiles) * side) // (len(tiles) + 1)
    for place, ((title, _), tile) in enumerate(zip(samples, tiles, strict=True)):
        left = gap + place * (side + gap)
        whole.paste(tile, (left, above.height + 24))
        ImageDraw.Draw(whole).text((left, above.height + 18), title, INK, ImageFont.load_default(14), anchor="ls")
    return whole


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--out", type=Path, default=Path("coupling-masks.png"))
    main(**vars(parser.parse_args()))
