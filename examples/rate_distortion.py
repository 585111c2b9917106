"""What a weight β on the KL divergence buys: rate against distortion, and what it costs in likelihood.

    python examples/rate_distortion.py [--steps 1000] [--out rate-distortion.png]

One variational autoencoder of digits for each β, trained on E[ln p(x | z)] − β KL(q(z | x) ‖ p(z)). The rate is the KL,
the distortion −E[ln p(x | z)], and −ELBO is their sum whatever β is. For β ≠ 1 the objective is no likelihood: with
β > 1 it is a bound looser than the ELBO, with β < 1 it bounds nothing, and may lie above ln p(x).
"""

import argparse
import time
from pathlib import Path

import torch
from fitted_digits import DIGIT, digits, fitted, mean_and_error
from PIL import Image
from rich.console import Console
from rich.table import Table

import likely
from likely.latent import importance_sampling
from likely.latent.diagnostics import active_units
from likely.pictures.axes import BLUE, ORANGE, PALE, Panels

BETAS = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
DRAWS = 100


def main(steps: int, out: Path) -> None:
    """Fit, measure, print a table and write a picture."""
    torch.set_num_threads(1)
    started, points = time.process_time(), {"train": [], "test": []}
    table = Table("β", "rate", "distortion", "ELBO", "of training digits", "-D - βR", f"L_{DRAWS}", "active")
    for beta in BETAS:
        model = fitted(likely.BetaVAE(DIGIT, latent=16, hidden=(128,), beta=beta), steps, holdout=0.0)
        found = {}
        for role, places in points.items():
            generator = torch.Generator().manual_seed(0)
            found[role] = importance_sampling(model, digits(role), DRAWS, generator=generator)
            rate, distortion = found[role].terms["KL"], -found[role].terms["reconstruction"]
            places.append([float(rate.mean()), float(distortion.mean())])
        elbos = [mean_and_error(each.terms["reconstruction"] - each.terms["KL"]) for each in found.values()]
        objective, active = float((-distortion - beta * rate).mean()), active_units(model, digits("test"))
        both = f"{rate.mean():.2f}", f"{distortion.mean():.2f}"
        bounds = *elbos[::-1], f"{objective:.2f}", mean_and_error(found["test"].value)
        table.add_row(f"{beta:g}", *both, *bounds, f"{active}")
    Console().print(table)
    print("-D - βR is what was trained on, and no likelihood but for β = 1")
    picture({role: torch.tensor(places) for role, places in points.items()}).save(out)
    print(f"wrote {out} after {time.process_time() - started:.0f} s of one core")


def picture(points: dict[str, torch.Tensor]) -> Image.Image:
    """Rate and distortion of unseen digits and of those trained on; and on which side of one ELBO they lie."""
    panels = Panels(2)
    for place, (role, title) in enumerate((("test", "unseen digits"), ("train", "digits that were trained on"))):
        axes = panels.panel(place, (-2.0, 54.0), (58.0, 110.0))
        rd = points[role]
        best = BETAS.index(1.0)
        level = float(rd[best].sum())
        axes.line(torch.tensor([[-2.0, level + 2], [54.0, level - 54]]), PALE, 1.0)
        axes.line(rd, BLUE)
        axes.points(rd, BLUE, 1.0, 4.0)
        axes.points(rd[best : best + 1], ORANGE, 1.0, 6.0)
        axes.frame(f"{title}: distortion by rate, nats")
    return panels.finished()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("rate-distortion.png"))
    main(**vars(parser.parse_args()))
