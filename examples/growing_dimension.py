"""The curse of dimensionality: what becomes of tables and of mixtures of Gaussians as the dimension grows.

    python examples/growing_dimension.py [--steps 1000] [--out growing-dimension.png]

Three measurements, two of them against sources whose density is known:

    chains    x₁ = s ε₁, x_i = sin(3 x_{i−1}) + s ε_i with s = 0.3, of 2 to 64 values, from 10,000 examples: a mixture
              of Gaussians, of the kind and size that held-out examples prefer, beside a neural spline flow
    symbols   one row of pixels of the source of colour chains, 3 to 21 symbols of two levels, from 5,000 examples: a
              histogram, one cell per state, beside a masked network (MADE)
    digits    8×8 pixels as 64 real values: samples of a mixture are a component's mean plus noise, at a distance of
              sd √D from it, where sd² is the component's mean variance
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
from likely.classical.expectation_maximization import Covariance
from likely.data import load
from likely.data.sources import ColourChain, Source
from likely.event import Event
from likely.pictures import grid
from likely.pictures.axes import BLUE, INK, ORANGE, Panels

DIMENSIONS = (2, 4, 8, 16, 32, 64)
POINTS, SYMBOLS, FRESH = 10_000, 5_000, 5_000  # examples: of the chains, of the symbols, and fresh ones of either
KINDS: list[tuple[Covariance, int]] = [("full", 1), ("full", 16), ("full", 64), ("diagonal", 64)]
PIXELS = (1, 2, 3, 4, 5, 6, 7)  # of three symbols each
COMPONENTS, DRAWN = 20, 5_000  # of the mixture of digits, and samples of it


class Chain(Source):
    """x₁ = s ε₁, x_i = sin(3 x_{i−1}) + s ε_i, ε ~ N(0, I): −ln p is that of the noise, ln|det| being zero.

    Args:
        dims: number of values.
        noise: s.
    """

    def __init__(self, dims: int, noise: float = 0.3) -> None:
        super().__init__(Event((dims,)))
        self.dims, self.noise = dims, noise
        self.register_buffer("like", torch.zeros((), dtype=torch.float64), persistent=False)

    def entropy(self) -> float:
        """½ ln(2πe s²) per value."""
        return self.dims * (0.5 + 0.5 * math.log(2 * math.pi) + math.log(self.noise))

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        before = torch.nn.functional.pad(x[:, :-1], (1, 0))
        e = (x - (3 * before).sin()) / self.noise
        return -(e.square() / 2 + 0.5 * math.log(2 * math.pi) + math.log(self.noise)).sum(1)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        x = self.noise * torch.randn(n, self.dims, generator=generator, dtype=torch.float64)
        for i in range(1, self.dims):
            x[:, i] += (3 * x[:, i - 1]).sin()
        return x


def gaussian_mixture(x: Tensor, covariance: Covariance, components: int) -> likely.GaussianMixture:
    """A mixture of one kind and size, fitted to examples (n, D)."""
    event = Event(tuple(x.shape[1:]))
    settings = {"floor": 1e-2, "starts": 1, "iterations": 30, "tolerance": 1e-2}
    model = likely.GaussianMixture(event, covariance=covariance, components=components, **settings)
    return likely.fit(model, x).double()


def gap(source: Source, model: likely.Density, x: Tensor) -> Tensor:
    """ln p_source(x) − ln p(x) in nats/dim (n,)."""
    return (source.log_prob(x) - model.log_prob(x)) / source.event.dims


def shown(gaps: Tensor) -> str:
    """The mean and its standard error."""
    return f"{gaps.mean():.4f} ± {gaps.std() / len(gaps) ** 0.5:.4f}"


def centred(model: likely.GaussianMixture, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Examples (n, D) less the mean of their most probable component; that component's sd √D (n,); which it is (n,)."""
    parts = model.mixture()
    k = parts.log_joint((x - model.mean) / model.deviation).argmax(1)
    w = parts.whitening if parts.covariance == "full" else parts.whitening.diag_embed()
    variances = w.inverse().square().sum(2) * model.deviation.square()  # (K, D): the diagonals of W⁻¹ W⁻ᵀ
    return x - (model.mean + model.deviation * parts.means)[k], variances.sum(1).sqrt()[k], k


def distances(model: likely.GaussianMixture, x: Tensor) -> Tensor:
    """How far examples (n, D) are from the mean of their component, in units of its sd √D."""
    rest, width, _ = centred(model, x)
    return rest.norm(dim=1) / width


def alike(rest: Tensor) -> float:
    """Correlation of pixels with the pixel to the right, of images (n, 64) less their means."""
    rows = rest.view(-1, 8, 8)
    return float((rows[:, :, 1:] * rows[:, :, :-1]).mean() / rows.square().mean())


def chains(steps: int) -> tuple[Table, Tensor]:
    """The table, and rows (D, the mixture's gap, the flow's) in nats/dim."""
    table = Table("chains: D", "one Gaussian", "best mixture", "gap, nats/dim", "flow", "distance / sd √D")
    rows = []
    for dims in DIMENSIONS:
        source, generator = Chain(dims), torch.Generator().manual_seed(0)
        x, fresh = (source.sample(n, generator=generator) for n in (POINTS, FRESH))
        held = len(x) // 10
        found = {kind: gaussian_mixture(x[held:], *kind) for kind in KINDS}
        flow = likely.NeuralSplineFlow(source.event, layers=2)
        likely.fit(flow, x.float(), budget=f"{steps} steps", batch_size=128, learning_rate=5e-3, evaluations=10)
        with torch.no_grad():
            kind, best = max(found.items(), key=lambda item: float(item[1].log_prob(x[:held]).mean()))
            shell = distances(best, best.sample(FRESH, generator=generator))
            one, mixed, flowed = (gap(source, model, fresh) for model in (found[KINDS[0]], best, flow))
        rows.append([dims, float(mixed.mean()), float(flowed.mean())])
        found_best = f"{kind[1]} {kind[0]}", shown(mixed), shown(flowed)
        table.add_row(f"{dims}", shown(one), *found_best, f"{shell.mean():.2f} ± {shell.std():.2f}")
    return table, torch.tensor(rows)


def symbols(steps: int) -> tuple[Table, Tensor]:
    """The table, and rows (D, the histogram's gap, the network's) in nats/dim."""
    table, rows = Table("symbols: D", "cells", "in cells without data", "histogram: gap", "MADE"), []
    for width in PIXELS:
        source, generator = ColourChain(1, width, levels=2, noise=0.3), torch.Generator().manual_seed(0)
        dims = source.event.dims
        x, fresh = (source.sample(n, generator=generator) for n in (SYMBOLS, FRESH))
        histogram = likely.fit(likely.Histogram(source.event), x)
        network = likely.MADE(source.event, hidden=(128,))
        likely.fit(network, x, budget=f"{steps} steps", batch_size=128, evaluations=10)
        with torch.no_grad():
            gaps = [gap(source, model, fresh) for model in (histogram, network)]
        seen = set(map(tuple, x.flatten(1).tolist()))
        new = sum(state not in seen for state in map(tuple, fresh.flatten(1).tolist())) / len(fresh)
        rows.append([dims, *(float(values.mean()) for values in gaps)])
        table.add_row(f"{dims}", f"{2**dims:,}", f"{new:.1%}", *map(shown, gaps))
    return table, torch.tensor(rows)


def digits() -> tuple[Table, Tensor, list[Tensor]]:
    """The table; images by component; distances of samples and of fresh digits, all of the diagonal mixture."""
    generator = torch.Generator().manual_seed(0)
    x, fresh = (real(load("digits", role).x, generator) for role in ("train", "test"))
    table = Table("digits: mixture", "of", "distance / sd √D", "noise of neighbours correlates by")
    for covariance in ("full", "diagonal"):
        model = gaussian_mixture(x, covariance, COMPONENTS)
        with torch.no_grad():
            drawn = model.sample(DRAWN, generator=generator)
            both = [distances(model, rows) for rows in (drawn, fresh)]
            for name, rows, ratio in zip(("samples", "fresh digits"), (drawn, fresh), both, strict=True):
                noise = f"{alike(centred(model, rows)[0]):.2f}"
                table.add_row(f"{COMPONENTS} {covariance}", name, f"{ratio.mean():.2f} ± {ratio.std():.2f}", noise)
            images = by_component(model, drawn, x)
    return table, images, both


def real(images: Tensor, generator: torch.Generator) -> Tensor:
    """Symbols (n, 8, 8) of 17 levels as real values inside (0, 1), (n, 64), with noise that fills every level."""
    x = images.double().flatten(1)
    return (x + torch.rand(x.shape, generator=generator, dtype=x.dtype)) / 17


def by_component(model: likely.GaussianMixture, drawn: Tensor, x: Tensor) -> Tensor:
    """Rows of images (5 · K, 1, 8, 8): the means of the components, two samples and two examples of each."""
    means = model.mean + model.deviation * model.mixture().means
    rows = [means]
    for points in (drawn, x):
        of = centred(model, points)[2]
        first = [points[of == k][:2] for k in range(len(means))]
        rows += [torch.stack([part[min(i, len(part) - 1)] for part in first]) for i in range(2)]
    return torch.cat(rows).view(-1, 1, 8, 8)


def main(steps: int, out: Path) -> None:
    """Fit, measure, print tables and write a picture."""
    torch.set_num_threads(1)
    started = time.process_time()
    first, gaps = chains(steps)
    second, counts = symbols(steps)
    third, images, both = digits()
    Console().print(first, second, third)
    picture(gaps, counts, images, both).save(out)
    print(f"wrote {out} after {time.process_time() - started:.0f} s of one core")


def picture(gaps: Tensor, counts: Tensor, images: Tensor, both: list[Tensor]) -> Image.Image:
    """The gaps of both sources by dimension, the distances of digits, and below them the digits."""
    panels = Panels(3)
    gaps = torch.cat([gaps[:, :1].log2(), gaps[:, 1:]], 1)
    for place, (rows, title, names) in enumerate(
        [
            (gaps, "nats/dim above chains, by log2 D", ("mixture", "flow")),
            (counts, "nats/dim above symbols, by D", ("table", "MADE")),
        ]
    ):
        right, top = 1.1 * float(rows[:, 0].max()), 1.1 * float(rows[:, 1:].max())
        axes = panels.panel(place, (0.0, right), (-0.03 * top, top))
        for column, colour in ((1, ORANGE), (2, BLUE)):
            axes.line(rows[:, [0, column]], colour)
            axes.points(rows[:, [0, column]], colour, 1.0, 4.0)
        axes.frame(title, tuple(zip(names, (ORANGE, BLUE), strict=True)))
    heights = [torch.histc(ratio, 40, 0.0, 2.0) / len(ratio) * 20 for ratio in both]
    axes = panels.panel(2, (0.0, 2.0), (0.0, 1.1 * float(torch.cat(heights).max())))
    for bars, colour in zip(heights, (ORANGE, BLUE), strict=True):
        axes.bars(torch.linspace(0, 2, 41), bars, colour)
    axes.frame("distance to the mean, in sd sqrt(D)", (("samples", ORANGE), ("digits", BLUE)))
    return _below(panels.finished(), grid(images, 2, COMPONENTS, side=1260))


def _below(above: Image.Image, digits: Image.Image) -> Image.Image:
    """The rows of images under the panels, with their names."""
    whole = Image.new("RGB", (above.width, above.height + digits.height + 10), "white")
    whole.paste(above, (0, 0))
    whole.paste(digits, (whole.width - digits.width - 10, above.height))
    for name, row in (("means", 0.5), ("samples", 2.0), ("digits", 4.0)):
        place = (whole.width - digits.width - 20, above.height + row / 5 * digits.height)
        ImageDraw.Draw(whole).text(place, name, INK, ImageFont.load_default(14), anchor="rm")
    return whole


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("growing-dimension.png"))
    main(**vars(parser.parse_args()))
