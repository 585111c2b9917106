"""What dequantisation costs: flows over rounded Gaussian numbers, whose entropy is known.

    python examples/rounded_gaussians.py [--steps 1500] [--out rounded-gaussians.png]

x = round(s ε), ε ~ N(0, 1), for s = 0.3 and 1. Three flows over x + u, with ln P(x) ≥ E_q[ln p(x + u) − ln q(u | x)]:

    affine, uniform       p Gaussian, u ~ U(0, 1): the bound is ½ log₂(2πe (Var[x] + 1/12)) − H bits from the entropy H
    affine, variational   p Gaussian, u ~ q(u | x) fitted with it
    spline, uniform       p with a monotone spline, which may learn the steps of x + u; u ~ U(0, 1)

Measured is the gap of the bound, on fresh data; beside it that of P(x) itself, ∫ p(x + u) du by quadrature.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import likely
from likely.data.real_sources import RoundedGaussian
from likely.densities.bases import Normal
from likely.flows import Affine, Composition, Elementwise, Flow, RationalQuadraticSpline
from likely.flows.dequantization import Dequantize
from likely.flows.noise import variational_noise
from likely.flows.transforms.standardization import Standardize
from likely.pictures.axes import BLUE, GREY, ORANGE, Panels

TRAIN, FRESH = 50_000, 200_000  # symbols
BITS = 1 / math.log(2)
NODES, WEIGHTS = (torch.from_numpy(part) / 2 for part in np.polynomial.legendre.leggauss(64))  # ∫₀¹ f ≈ Σ w f(½ + node)
FLOWS = {"affine, uniform": ORANGE, "affine, variational": BLUE, "spline, uniform": (46, 139, 87)}
LEGEND = tuple(zip(("uniform", "variational", "spline"), FLOWS.values(), strict=True))


def flow(name: str, source: RoundedGaussian) -> Flow:
    """One of the three flows, not yet fitted."""
    event = source.event
    noise = variational_noise(event) if "variational" in name else None
    shape = Affine() if "affine" in name else RationalQuadraticSpline(bins=32)
    base = Normal(likely.Event(event.shape))
    return Flow(base, [Dequantize(event.levels, noise), Standardize(event.shape), Elementwise(shape, event.shape)])


def log_density(model: Flow, y: Tensor) -> Tensor:
    """ln p(y) of values y = x + u (n,), in units of the symbols."""
    dequantize, *others = model.transform
    z, ladj = Composition(others)(y.to(model.dtype)[:, None] / dequantize.levels)
    return (model.base.log_prob(z) + ladj - math.log(dequantize.levels)).double()


def gap_of_symbols(model: Flow, source: RoundedGaussian) -> float:
    """KL(source ‖ P), P(x) = ∫₀¹ p(x + u) du, in bits."""
    p, symbols = source.table, torch.arange(len(source.table), dtype=torch.float64)
    log_p = log_density(model, (symbols[:, None] + 0.5 + NODES).flatten()).view(len(p), -1)
    log_q = (log_p + WEIGHTS.log()).logsumexp(1)
    return float((p * (p.log() - log_q))[p > 1e-12].sum()) * BITS


def gap_by_quadrature(source: RoundedGaussian) -> float:
    """What the Gaussian of the mean and variance of x + u, u ~ U(0, 1), pays above the entropy, in bits."""
    symbols, weights = torch.arange(len(source.table)), source.table[:, None] * WEIGHTS
    y = symbols[:, None] + 0.5 + NODES
    mean = (weights * y).sum()
    variance = (weights * (y - mean).square()).sum()
    log_p = -0.5 * ((y - mean).square() / variance + (2 * math.pi * variance).log())
    return (-float((weights * log_p).sum()) - source.entropy()) * BITS


def fitted(name: str, source: RoundedGaussian, x: Tensor, steps: int) -> Flow:
    """One of the three flows, fitted."""
    settings = {"batch_size": 512, "learning_rate": 1e-2, "weight_decay": 0.0, "evaluations": 5}
    return likely.fit(flow(name, source), x, budget=f"{steps} steps", **settings)


def main(steps: int, out: Path) -> None:
    """Fit, measure, print a table and write a picture."""
    torch.set_num_threads(1)
    started, generator, panels = time.process_time(), torch.Generator().manual_seed(0), Panels(2)
    table = Table("s", "flow", "bound − entropy, bits", "closed", "P(x): bits")
    for place, source in enumerate((RoundedGaussian(0.3), RoundedGaussian(1.0))):
        train, x = (source.sample(n, generator=generator) for n in (TRAIN, FRESH))
        known, middle = source.dequantization_gap() * BITS, len(source.table) // 2
        table.add_row(f"{source.deviation}", "affine, uniform: exactly", f"{known:.6f}")
        table.add_row("", "by quadrature", f"{gap_by_quadrature(source):.6f}")
        half = 1 + 2.5 * source.deviation
        axes = panels.panel(place, (-half, half), (0.0, 0.45 / source.deviation))
        axes.bars(torch.arange(len(source.table) + 1) - middle - 0.5, source.table, GREY)
        y = torch.linspace(-half, half, 801, dtype=torch.float64)
        for name, colour in FLOWS.items():
            model = fitted(name, source, train, steps)
            with torch.no_grad():
                gap = (source.log_prob(x) - model.log_prob(x, generator=generator)) * BITS
                axes.line(torch.stack([y, log_density(model, y + middle + 0.5).exp()], 1), colour)
                measured = f"{gap.mean():.4f} ± {gap.std() / len(x) ** 0.5:.4f}"
                table.add_row(
                    "", name, measured, f"{1 - gap.mean() / known:.1%}", f"{gap_of_symbols(model, source):.4f}"
                )
        axes.frame(f"x + u, s = {source.deviation:g}", LEGEND)
    Console().print(table)
    panels.finished().save(out)
    print(f"wrote {out} after {time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path("rounded-gaussians.png"))
    main(**vars(parser.parse_args()))
