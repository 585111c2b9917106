"""L_K rises to ln p(x) as 1 / K, where ln p(x) is known, for encoders of different quality.

    python examples/importance_weighted_bound.py [--steps 1000] [--out importance-weighted-bound.png]

The model is linear and Gaussian, x = W z + s ε. Its posterior is correlated, and z is drawn from five that are not it:

    too wide      the posterior with scales 1.3 times as large
    diagonal      the diagonal Gaussian with the best evidence lower bound, a closed form
    trained       a linear encoder with learnt diagonal scales, fitted for a quarter of the steps, and for all
    too narrow    the posterior with scales 0.6 times as large: the variance of its weights is infinite

Where it is finite, ln p − L_K tends to (E[w²] / E[w]² − 1) / 2K, a closed form. Lines are fitted to logarithms.
"""

import argparse
import time
from pathlib import Path

import torch
from linear_gaussian import Affine, evidence, log_second_moment, model_of, posterior, widened
from rich.console import Console
from rich.table import Table
from torch import Tensor

import likely
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal
from likely.density import Density
from likely.event import Event
from likely.latent import LatentVariable
from likely.latent.bounds import importance_weighted_bound
from likely.latent.latent import draw_terms
from likely.nn.network import Perceptron
from likely.pictures.axes import BLUE, GREY, INK, ORANGE, Colour, Panels

DIMS, LATENTS, NOISE = 6, 3, 1.0
COUNTS = (16, 32, 64, 128, 256, 512, 1024)  # K
EXAMPLES, BLOCKS, DRAWS = 16, 20, 20 * 1024  # draws of every example and block
GREEN, VIOLET = (30, 140, 80), (120, 60, 160)
COLOURS: tuple[Colour, ...] = (GREY, GREEN, ORANGE, BLUE, VIOLET)


def best_diagonal(w: Tensor) -> Affine:
    """N(z; G x, D), D the inverse of the diagonal of the posterior's precision: the least KL(q ‖ p)."""
    gain, covariance = posterior(w, NOISE)
    return Affine(gain, torch.linalg.inv(covariance).diagonal().rsqrt().diag())


def trained(w: Tensor, steps: int, x: Tensor) -> Density:
    """A linear encoder with diagonal scales, fitted to the model that is as it is."""
    encoder = ConditionalNormal(Event((LATENTS,)), Event((DIMS,)), network=Perceptron((), "relu"))
    model = model_of(w, NOISE)
    whole = LatentVariable(Normal(Event((LATENTS,))), model.decoder, encoder).double()
    settings = {"batch_size": 256, "learning_rate": 1e-2, "weight_decay": 0.0, "average": 0.9, "evaluations": 2}
    return likely.fit(whole, x, budget=f"{steps} steps", **settings).encoder


def moments(q: Density, x: Tensor, w: Tensor) -> Tensor:
    """ln E[w²] / E[w]² of every example (n,)."""
    gain, covariance = posterior(w, NOISE)
    if isinstance(q, Affine):
        return log_second_moment(x @ (gain - q.weight).T, covariance, q.scale @ q.scale.T)
    given, deviation = q.parameters_of(x), q.deviation
    shifts = x @ gain.T - (given.mu * deviation + q.mean)
    variances = ((given.log_sigma.exp() * deviation) ** 2).diag_embed()
    parts = zip(shifts[:, None], variances, strict=True)
    return torch.cat([log_second_moment(shift, covariance, variance) for shift, variance in parts])


@torch.no_grad()
def gaps(model: LatentVariable, q: Density, x: Tensor, log_p: Tensor) -> Tensor:
    """ln p(x) − E[L_K] in nats, means over the examples, (blocks, counts).

    What is averaged is r − 1 − ln r, r the mean of K weights over p(x): as E[r] = 1 this is −ln r, and steadier.
    """
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(BLOCKS):
        log_w = draw_terms(model, x, DRAWS, generator, q).log_weight - log_p
        ratios = [importance_weighted_bound(log_w.view(k, -1)) for k in COUNTS]
        found.append(torch.stack([(ratio.expm1() - ratio).mean() for ratio in ratios]))
    return torch.stack(found)


def slope(gap: Tensor) -> Tensor:
    """Of the straight line through ln gap over ln K, by least squares."""
    log_k = torch.tensor(COUNTS).double().log()
    centred = log_k - log_k.mean()
    return centred @ gap.log() / centred.square().sum()


def slope_and_error(found: Tensor) -> tuple[float, float]:
    """From all blocks (blocks, counts); the error by leaving out one after the other (the jackknife)."""
    n = len(found)
    without = torch.stack([slope((found.sum(0) - one) / (n - 1)) for one in found])
    return float(slope(found.mean(0))), float(((n - 1) * without.var(0, correction=0)).sqrt())


def main(steps: int, out: Path) -> None:
    """Fit, measure, print a table and write a picture."""
    torch.set_num_threads(1)
    started, generator = time.process_time(), torch.Generator().manual_seed(0)
    w = torch.randn(DIMS, LATENTS, generator=generator, dtype=torch.float64)
    model, source = model_of(w, NOISE), evidence(w, NOISE)
    train, x = (source.sample(n, generator=generator) for n in (10_000, EXAMPLES))
    encoders = {
        "too wide": widened(w, NOISE, 1.3),
        "diagonal": best_diagonal(w),
        f"trained, {steps // 4} steps": trained(w, max(1, steps // 4), train),
        f"trained, {steps} steps": trained(w, steps, train),
        "too narrow": widened(w, NOISE, 0.6),
    }
    table = Table("q(z | x)", "ln p - ELBO", *(f"K = {k}" for k in COUNTS[::3]), "slope", "gap · K", "expected")
    panels, log_k = Panels(2), torch.tensor(COUNTS).double().log2()
    across = float(log_k[0]) - 0.5, float(log_k[-1]) + 0.5
    left, right = (panels.panel(k, across, y) for k, y in enumerate([(-4.0, 0.0), (-1.2, 1.8)]))
    for (name, q), colour in zip(encoders.items(), COLOURS, strict=True):
        found = gaps(model, q, x, source.log_prob(x))
        with torch.no_grad():
            elbo = (source.log_prob(x) - draw_terms(model, x, DRAWS, generator, q).log_weight).mean()
            expected = moments(q, x, w).expm1().mean() / 2
        gap, (slanted, error) = found.mean(0), slope_and_error(found)
        shown = [f"{elbo:.3f}", *(f"{value:.5f}" for value in gap[::3]), f"{slanted:.3f} ± {error:.3f}"]
        table.add_row(name, *shown, f"{COUNTS[-1] * gap[-1]:.3f}", f"{expected:.3f}")
        level = expected.log10().expand(len(COUNTS))
        right.line(torch.stack([log_k, level], 1), INK, 0.7)
        for axes, values in ((left, gap), (right, gap * torch.tensor(COUNTS))):
            points = torch.stack([log_k, values.log10()], 1)
            axes.line(points, colour)
            axes.points(points, colour, 1.0, 4.0)
    left.frame("log10 of ln p(x) - L_K, by log2 K")
    right.frame("log10 of K times that")
    Console().print(table)
    panels.finished().save(out)
    print(f"wrote {out} after {time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("importance-weighted-bound.png"))
    main(**vars(parser.parse_args()))
