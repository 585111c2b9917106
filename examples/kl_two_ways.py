"""KL(data ‖ model) = KL(f(data) ‖ base): a flow is as far from the data as what it makes of them is from its base.

    python examples/kl_two_ways.py [--steps 300] [--out kl-two-ways.png]

The data are eight Gaussians, whose density p is known; the flow z = f(x) with its density q is FFJORD, fitted for no
step, for half of the steps and for all of them. The left side is ∫ p ln(p / q) dx over a grid of points x, and takes
the flow forwards. The right side is the same of z, whose density p(f⁻¹(z)) |det ∂f⁻¹/∂z| takes it backwards, over a
grid of points z. Beside them are two estimates from fresh data: the mean of ln p(x) − ln q(x); and, from the points z
alone with no density or Jacobian known, −H(z) − mean ln base(z), the entropy from distances to nearest neighbours.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

import likely
from likely.data.real_sources import eight_gaussians
from likely.pictures.axes import Panels

TRAIN, FRESH = 20_000, 5_000  # points
X, Z = 3.6, 5.0  # half the sides of the grids; next to nothing of p, and of what f makes of it, lies beyond
CELLS, FINE = 121, 361  # along each side of either; f(x) has thin rays to resolve


def grid(half: float, cells: int) -> tuple[Tensor, float]:
    """Points (cells², 2), the first coordinate running fastest, and the area of a cell."""
    line = torch.linspace(-half, half, cells)
    return torch.cartesian_prod(line, line).flip(1), float(line[1] - line[0]) ** 2


def divergence(log_p: Tensor, log_q: Tensor, area: float) -> float:
    """∫ p ln(p / q) over a grid."""
    return float((log_p.exp() * (log_p - log_q.double())).nan_to_num(0.0).sum()) * area


def entropy(points: Tensor) -> float:
    """Of the density in the plane that points (n, 2) were drawn from: ψ(n) − ψ(1) + ln π + 2/n Σ ln ε.

    ε is the distance to the nearest neighbour. Estimator of Kozachenko and Leonenko (1987), as in: Estimating mutual
    information (Kraskov, Stögbauer, Grassberger, 2004), https://arxiv.org/abs/cond-mat/0305641
    """
    nearest = torch.cat([torch.cdist(part, points).kthvalue(2, dim=1)[0] for part in points.split(500)])
    psi = torch.digamma(torch.tensor([len(points), 1], dtype=torch.float64))
    return float(psi[0] - psi[1]) + math.log(math.pi) + 2 * float(nearest.log().mean())


@torch.no_grad()
def measured(model: likely.FFJORD, source: likely.data.sources.Source, x: Tensor) -> tuple[list[str], Tensor, Tensor]:
    """The divergence by quadrature over x and over z, by both estimates; and the densities of both grids."""
    points, area = grid(X, CELLS)
    log_q = model.log_prob(points)
    left = divergence(source.log_prob(points.double()), log_q, area)

    points, area = grid(Z, FINE)
    back, ladj = model.transform.inverse(points)
    log_z = source.log_prob(back.double()) + ladj  # of z = f(x), x ~ p
    right = divergence(log_z, model.base.log_prob(points), area)

    z, _ = model.transform(x.float())
    gap = source.log_prob(x) - model.log_prob(x)
    by_mean = f"{gap.mean():.4f} ± {gap.std() / len(x) ** 0.5:.4f}"
    by_neighbours = -entropy(z.double()) - float(model.base.log_prob(z).mean())
    return [f"{left:.5f}", f"{right:.5f}", by_mean, f"{by_neighbours:.3f}"], log_q.exp(), log_z.exp()


def main(steps: int, out: Path) -> None:
    """Fit, measure, print a table and write a picture."""
    torch.set_num_threads(1)
    started, generator, source = time.process_time(), torch.Generator().manual_seed(0), eight_gaussians()
    train, x = source.sample(TRAIN, generator=generator), source.sample(FRESH, generator=generator)
    table = Table("steps", "KL over x", "KL over z", "mean ln p/q", "neighbours of z")
    above, below = Panels(3), Panels(3)
    for place, budget in enumerate((0, steps // 2, steps)):
        model = likely.FFJORD(source.event, tolerance=1e-4)
        model.initialize(train)
        if budget:
            settings = {"batch_size": 256, "learning_rate": 1e-2, "evaluations": 2}
            likely.fit(model, train, budget=f"{budget} steps", **settings)
        row, q, of_z = measured(model, source, x)
        table.add_row(str(budget), *row)
        for panels, half, values, title in ((above, X, q, "q(x)"), (below, Z, of_z, "density of f(x)")):
            axes = panels.panel(place, (-half, half), (-half, half))
            axes.surface((values / values.max()).sqrt().unflatten(0, (-1, round(len(values) ** 0.5))))
            axes.frame(f"{title} after {budget} steps")
    Console().print(table)
    rows = [above.finished(), below.finished()]
    whole = Image.new("RGB", (rows[0].width, 2 * rows[0].height))
    for k, row in enumerate(rows):
        whole.paste(row, (0, k * row.height))
    whole.save(out)
    print(f"wrote {out} after {time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("kl-two-ways.png"))
    main(**vars(parser.parse_args()))
