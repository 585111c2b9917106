"""What a solver's tolerance does to the log-likelihood of a continuous flow, and what it costs.

    python examples/ffjord_tolerance.py [--steps 500] [--points 500] [--out ffjord-tolerance.png]

FFJORD is fitted to two moons. Then ln p(x) of fresh points is computed to tolerances from 1e-1 to 1e-7 by both solvers,
in float64 and in float32, and held against what a tolerance of 1e-10 gives.
"""

import argparse
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import likely
from likely.data.real_sources import moons
from likely.errors import ConvergenceError
from likely.flows import Continuous, VelocityField
from likely.pictures.axes import BLUE, GREY, ORANGE, Panels

TRAIN = 20_000  # points
TOLERANCES = [10.0**-k for k in range(1, 8)]
SOLVERS = {"rk4": BLUE, "dopri5": ORANGE}


class Counted(VelocityField):
    """A field that counts at how many points it is evaluated."""

    def __init__(self, field: VelocityField) -> None:
        super().__init__()
        self.field, self.points = field, 0

    def forward(self, z: Tensor, t: float | Tensor, context: Tensor | None = None) -> Tensor:
        """The field's own velocity."""
        return self.field(z, t, context)

    def divergence(self, z: Tensor, t: float | Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The field's own velocity and trace."""
        self.points += len(z)
        return self.field.divergence(z, t, context)


def log_prob(model: likely.FFJORD, x: Tensor, solver: str, tolerance: float) -> tuple[Tensor, float]:
    """ln p(x) (n,) by some solver, and the evaluations of f per point."""
    standardize, flow = model.transform
    field = Counted(flow.field)
    z, first = standardize(x)
    z, second = Continuous(field, solver=solver, tolerance=tolerance, max_steps=16384)(z)
    return model.base.log_prob(z) + first + second, field.points / len(x)


@torch.no_grad()
def measured(model: likely.FFJORD, x: Tensor, exact: Tensor, solver: str, tolerance: float) -> list[float] | None:
    """The error of the mean of ln p(x), the largest error, and the evaluations per point; None if it is refused."""
    try:
        log_p, evaluations = log_prob(model, x.to(model.dtype), solver, tolerance)
    except ConvergenceError:
        return None
    error = log_p.double() - exact
    return [abs(float(error.mean())), float(error.abs().max()), evaluations]


def main(steps: int, points: int, out: Path) -> None:
    """Fit, measure, print a table and write a picture."""
    torch.set_num_threads(1)
    started, generator, source = time.process_time(), torch.Generator().manual_seed(0), moons()
    train, x = source.sample(TRAIN, generator=generator), source.sample(points, generator=generator)
    model = likely.FFJORD(source.event, tolerance=1e-3)
    likely.fit(model, train, budget=f"{steps} steps", batch_size=256, learning_rate=1e-2, evaluations=5)
    model.double()
    with torch.no_grad():
        exact, _ = log_prob(model, x, "rk4", 1e-10)
    gap = source.log_prob(x) - exact
    print(
        f"fitted in {time.process_time() - started:.0f} s; "
        f"{gap.mean():.4f} ± {gap.std() / points**0.5:.4f} nats from the moons themselves"
    )

    found = {
        (solver, tolerance, dtype): measured(model.to(dtype), x, exact, solver, tolerance)
        for dtype in (torch.float32, torch.float64)
        for solver in SOLVERS
        for tolerance in TOLERANCES
    }
    table = Table("tolerance", "solver", "f / point", "mean error", "largest", "float32: mean", "largest")
    for solver in SOLVERS:
        for tolerance in TOLERANCES:
            double, single = (found[solver, tolerance, dtype] for dtype in (torch.float64, torch.float32))
            errors = [f"{error:.0e}" for error in double[:2]]
            errors += ["refused", ""] if single is None else [f"{error:.0e}" for error in single[:2]]
            table.add_row(f"{tolerance:.0e}", solver, f"{double[2]:.0f}", *errors)
    Console().print(table)
    picture({(solver, tolerance): found[solver, tolerance, torch.float64] for solver, tolerance, _ in found}).save(out)
    print(f"wrote {out} after {time.process_time() - started:.0f} s of one core")


def picture(found: dict[tuple[str, float], list[float]]):
    """The largest error (grey: equal to the tolerance) and the evaluations per point, all as powers of ten."""
    panels, powers = Panels(2), torch.tensor(TOLERANCES).log10()
    errors, costs = panels.panel(0, (-7.5, -0.5), (-9.0, 1.0)), panels.panel(1, (-7.5, -0.5), (1.0, 3.5))
    errors.line(torch.tensor([[-9.0, -9.0], [1.0, 1.0]]), GREY, 1.0)
    for solver, colour in SOLVERS.items():
        _, largest, evaluations = torch.tensor([found[solver, tolerance] for tolerance in TOLERANCES]).log10().T
        for axes, values in ((errors, largest), (costs, evaluations)):
            axes.line(torch.stack([powers, values], 1), colour)
            axes.points(torch.stack([powers, values], 1), colour, 1.0, 4.0)
    legend = tuple(SOLVERS.items())
    errors.frame("log10 largest error, by log10 tolerance", legend)
    costs.frame("log10 evaluations, by log10 tolerance", legend)
    return panels.finished()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("ffjord-tolerance.png"))
    main(**vars(parser.parse_args()))
