"""How noisy estimates of a gradient are, and whether they are right, where the gradient itself can be computed.

    python examples/gradient_variance.py [--steps 100] [--out gradient-variance.png]

Two models of binarised digits with a linear decoder and a network for an encoder: one with eight bits z, all 256 values
of which are summed over, one with two real values, which are integrated over. Both are fitted for a while. Then the
gradient that 16 unseen digits have for the encoder is estimated again and again, from K draws of z for each digit.
"Noise" is the standard deviation of an estimate, the root of its variances summed over all weights. "Bias" is how far
the mean of all estimates is from the sum or the integral, less what their noise explains, in units of the gradient's
length: for the evidence lower bound with the most draws, for L_K with two.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import likely
from likely.autoregressive import MADE
from likely.data import load
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.event import Event
from likely.latent import OBJECTIVES, TrainedOn
from likely.latent.gradients import ThroughDensity, score_function
from likely.latent.indicators import OnIndicators
from likely.latent.latent import draw_terms
from likely.nn.network import Perceptron
from likely.pictures.axes import BLUE, GREY, INK, ORANGE, Colour, Panels

COUNTS = (2, 4, 8, 16, 32)  # draws
ESTIMATES, BATCH = 300, 16
REACH, STEP = 6.0, 0.4  # of the grid over z, in standard deviations
GREEN, VIOLET, RED = (30, 140, 80), (120, 60, 160), (190, 40, 60)

BITS: dict[str, tuple[int, Colour]] = {  # estimator: its bound, L_K for the K of the draws or the ELBO, L_1
    "score function": (1, GREY),
    "constant baseline": (1, VIOLET),
    "leave one out": (1, BLUE),
    "VIMCO": (0, ORANGE),
    "straight through": (1, GREEN),
}
PLANE: dict[str, tuple[int, Colour]] = {
    "leave one out": (1, GREY),
    "VIMCO": (0, VIOLET),
    "evidence lower bound": (1, BLUE),
    "sticking the landing": (1, GREEN),
    "importance-weighted bound": (0, ORANGE),
    "doubly reparametrized": (0, RED),
}
DIGIT, LINEAR, NETWORK = Event((64,), 2), Perceptron((), "relu"), Perceptron((32,), "relu")


def of_bits() -> TrainedOn:
    """Eight bits, the means of pixels linear in them."""
    z = Event((8,), 2)
    decoder = ConditionalSymbols(DIGIT, z, network=OnIndicators(LINEAR))
    encoder = ConditionalSymbols(z, DIGIT, network=NETWORK)
    return TrainedOn(MADE(z, hidden=()), decoder, encoder, objective="leave one out", draws=8)


def of_plane() -> TrainedOn:
    """Two real values."""
    z = Event((2,))
    decoder, encoder = (
        ConditionalSymbols(DIGIT, z, network=LINEAR),
        ConditionalNormal(z, DIGIT, network=NETWORK),
    )
    return TrainedOn(Normal(z), decoder, encoder)


def constant_baseline(model: TrainedOn, x: Tensor, draws: int, generator: torch.Generator | None) -> Tensor:
    """The score function with one number for a baseline: the mean of ln w over other draws, and over digits."""
    with torch.no_grad():
        level = float(draw_terms(model, x, draws, generator).log_weight.mean())
    return score_function(draw_terms(model, x, draws, generator, ThroughDensity(model.encoder)), level)


def gradient(model: TrainedOn, bound: Tensor) -> Tensor:
    """∂ bound for all weights of the encoder, one after the other."""
    return torch.cat([part.flatten() for part in torch.autograd.grad(bound, list(model.encoder.parameters()))])


def estimates(model: TrainedOn, name: str, x: Tensor, draws: int) -> Tensor:
    """Gradients (ESTIMATES, weights)."""
    objective, generator = OBJECTIVES.get(name, constant_baseline), torch.Generator().manual_seed(draws)
    found = [gradient(model, objective(model, x, draws, generator).mean()) for _ in range(ESTIMATES)]
    return torch.stack(found)


def known(model: TrainedOn, x: Tensor, draws: int) -> Tensor:
    """The gradient of E[L_K], one or two draws: by a sum over all z, or over a grid of them around q(z | x)."""
    z, area = _states(model, x)  # (states, n, dims), (n,)
    rows = x.expand(len(z), *x.shape).flatten(0, 1)
    log_q = model.encoder.log_prob(z.flatten(0, 1), rows).view(len(z), -1)
    joint = model.decoder.log_prob(rows, z.flatten(0, 1)) + model.prior.log_prob(z.flatten(0, 1))
    total = x.new_zeros((), dtype=torch.float64)
    for log_w, log_p in zip((joint.view(len(z), -1) - log_q).T, (log_q + area.log()).T, strict=True):
        if draws == 1:
            total = total + (log_p.exp() * log_w).sum()
        else:
            pairs = torch.logaddexp(log_w, log_w[:, None]) - math.log(2)
            total = total + log_p.exp() @ pairs @ log_p.exp()
    return gradient(model, total / len(x))


@torch.no_grad()
def _states(model: TrainedOn, x: Tensor) -> tuple[Tensor, Tensor]:
    """All z, or points around q(z | x), for every digit; and the area that each stands for."""
    if model.prior.event.discrete:
        z = torch.cartesian_prod(*[torch.arange(2)] * model.prior.event.dims)
        return z[:, None].expand(-1, len(x), -1), torch.ones(len(x), dtype=torch.float64)
    q, axis = model.encoder.parameters_of(x), torch.arange(-REACH, REACH + STEP / 2, STEP, dtype=torch.float64)
    z = q.mu + q.log_sigma.exp() * torch.cartesian_prod(axis, axis)[:, None]
    deviation = model.encoder.deviation
    return z * deviation + model.encoder.mean, STEP**2 * q.log_sigma.exp().prod(1) * deviation.prod()


def biased(found: Tensor, truth: Tensor) -> str:
    """How far a mean is from the truth beyond its noise ± that noise, in units of the truth's length."""
    noise = found.var(0).sum() / len(found)
    distance = ((found.mean(0) - truth).square().sum() - noise).clamp_min(0).sqrt()
    return f"{distance / truth.norm():.3f} ± {noise.sqrt() / truth.norm():.3f}"


def main(steps: int, out: Path) -> None:
    """Fit, measure, print two tables and write a picture."""
    torch.set_num_threads(1)
    started, panels = time.process_time(), Panels(2)
    train, test = ((load("digits", part).x.flatten(1) > 7).long() for part in ("train", "test"))
    kinds = (("eight bits", of_bits(), BITS), ("two real values", of_plane(), PLANE))
    for place, (title, model, names) in enumerate(kinds):
        settings = {"batch_size": 64, "learning_rate": 1e-2, "weight_decay": 0.0, "evaluations": 5}
        likely.fit(model, train, budget=f"{steps} steps", **settings).double()
        x = test[:BATCH]
        truth = {draws: known(model, x, draws) for draws in (1, 2)}
        print(f"{title}: length of the gradient of the ELBO {truth[1].norm():.3f}, of L_2 {truth[2].norm():.3f}")
        table = Table(title, "bound", *(f"noise, K = {draws}" for draws in COUNTS), "bias")
        axes = panels.panel(place, (0.5, math.log2(COUNTS[-1]) + 0.5), (-1.5, 2.0))
        level = float(truth[1].norm().log10())
        axes.line(torch.tensor([[0.0, level], [10.0, level]]), INK, 1.0)
        for name, (of_bound, colour) in names.items():
            found = {draws: estimates(model, name, x, draws) for draws in COUNTS}
            noise = torch.stack([found[draws].var(0).sum().sqrt() for draws in COUNTS])
            bias = biased(found[COUNTS[-1]], truth[1]) if of_bound else biased(found[2], truth[2])
            table.add_row(name, "ELBO" if of_bound else "L_K", *(f"{value:.3g}" for value in noise), bias)
            points = torch.stack([torch.tensor(COUNTS).log2(), noise.log10()], 1)
            axes.line(points, colour)
            axes.points(points, colour, 1.0, 3.0)
        axes.frame(f"{title}: log10 of the noise over log2 K")
        Console().print(table)
    panels.finished().save(out)
    print(f"wrote {out} after {time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("gradient-variance.png"))
    main(**vars(parser.parse_args()))
