"""What an encoder loses by serving all digits with one network, and what it loses by being Gaussian.

    python examples/amortization_gap.py [--steps 1500] [--out amortization-gap.png]

The decoder and the prior of a variational autoencoder of digits stay as they are. For each digit a diagonal Gaussian
q(z) of its own is optimised, from where the encoder says it is: what the evidence lower bound gains is the amortisation
gap. What is left to ln p(x), close to which and below it is L_K of draws from that q(z), is the approximation gap.
"""

import argparse
import time
from pathlib import Path

import torch
from fitted_digits import DIGIT, digits, fitted, mean_and_error
from rich.console import Console
from rich.table import Table
from torch import Tensor

import likely
from likely.latent import LatentVariable
from likely.latent.bounds import importance_weighted_bound
from likely.latent.inference import Inferred, infer
from likely.pictures.axes import BLUE, ORANGE, Colour, Panels

EXAMPLES, STEPS = 297, 300  # digits of either kind; steps of inference for each
PARTS, PART = 100, 20  # of the draws of L_K
NAMES: dict[str, tuple[str, Colour]] = {"train": ("trained on", BLUE), "test": ("unseen", ORANGE)}
REACH = 6.0  # nats


@torch.no_grad()
def bound(model: LatentVariable, x: Tensor, q: Inferred, generator: torch.Generator) -> Tensor:
    """L_K of draws from each example's own q (n,)."""
    normal, rows, parts = torch.distributions.Normal(q.mean, q.scale), x.repeat(PART, *[1] * (x.ndim - 1)), []
    for _ in range(PARTS):
        epsilon = torch.randn(PART, *q.mean.shape, generator=generator, dtype=q.mean.dtype)
        z = q.mean + q.scale * epsilon  # (PART, n, latents)
        flat = z.flatten(0, 1)
        joint = model.decoder.log_prob(rows, flat) + model.prior.log_prob(flat)
        parts.append(joint.view(PART, -1) - normal.log_prob(z).sum(2))
    return importance_weighted_bound(torch.cat(parts))


def main(steps: int, out: Path) -> None:
    """Fit, measure, print a table and write a picture."""
    torch.set_num_threads(1)
    started, panels, edges = time.process_time(), Panels(2), torch.linspace(0, REACH, 31)
    draws = f"L_{PARTS * PART}"
    table = Table("steps", "digits", "ELBO, amortized", "inferred", "gained", draws, "left")
    for place, fit in enumerate((max(1, steps // 5), steps)):
        model = fitted(likely.VAE(DIGIT, latent=8, hidden=(128,)), fit)
        axes = panels.panel(place, (-0.1, REACH), (-0.01, 0.36))
        for role, (name, colour) in NAMES.items():
            x, generator = digits(role)[:EXAMPLES], torch.Generator().manual_seed(0)
            q = infer(model, x, steps=STEPS, generator=generator)
            nearly = bound(model, x, q, generator)
            gained, left = q.elbo - q.amortized, nearly - q.elbo
            numbers = map(mean_and_error, (q.amortized, q.elbo, gained, nearly, left))
            table.add_row(f"{fit}", name, *numbers)
            axes.bars(edges, torch.histc(gained, len(edges) - 1, 0, REACH) / len(x), colour)
        axes.frame(f"nats gained, after {fit} steps", tuple(NAMES.values()))
    Console().print(table)
    panels.finished().save(out)
    print(f"wrote {out} after {time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path("amortization-gap.png"))
    main(**vars(parser.parse_args()))
