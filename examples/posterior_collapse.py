"""Where z is left unused, what that costs, and what keeps it in use.

    python examples/posterior_collapse.py [--steps 700] [--out posterior-collapse.png]

Two measurements:

    stretched Gaussians   (1, 2) + (5, 1) ε, as it is and turned by 45°: a variational autoencoder with one latent value
                          and a Gaussian decoder, whose scales are learnt, reaches the known density. As it is, scales
                          of 5 and 1 do without z (a KL of 0), one scale for both values needs ½ ln 25 = 1.609 nats of
                          it, all bounds are tight, and a warm-up of the KL says which; turned, no scales do without z
    digits                PixelVAE, whose decoder sees few or most of the earlier pixels, with and without warm-up of
                          the KL and free bits
"""

import argparse
import math
import time
from pathlib import Path

import torch
from fitted_digits import DIGIT, digits, fitted, mean_and_error
from linear_gaussian import Isotropic
from rich.console import Console
from rich.table import Table
from torch import Tensor

import likely
from likely.data.real_sources import stretched_gaussian
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal
from likely.event import Event
from likely.latent import LatentVariable, importance_sampling
from likely.latent.diagnostics import active_units
from likely.nn.network import Perceptron
from likely.pictures.axes import BLUE, GREY, ORANGE, Panels

PLANE, LINE = Event((2,)), Event((1,))
TRAIN, FRESH, DRAWS = 20_000, 5_000, 20
GAUSSIANS = ((False, "two", 0.0), (False, "two", 0.3), (False, "one", 0.0), (True, "two", 0.0))  # scales, warm-up
SIZES = {"latent": 8, "hidden": 64, "channels": 8, "features": 8}
FIELDS = {"few": {"layers": 1, "kernel": 3}, "most": {"layers": 2, "kernel": 5}}  # earlier pixels that are seen
AIDS = {"neither": (0.0, 0.0), "warm-up": (0.3, 0.0), "free bits": (0.0, 4.0), "both": (0.3, 4.0)}
COLLAPSED = 0.05  # nats of KL, below which z says nothing


def isotropic_vae() -> LatentVariable:
    """One latent value, one scale for both values of x."""
    encoder = ConditionalNormal(LINE, PLANE, network=Perceptron((16,), "relu"), seed=1)
    return LatentVariable(Normal(LINE), Isotropic(PLANE, LINE, Perceptron((16,), "relu")), encoder)


def note(kl: float) -> str:
    """What a KL near zero is called."""
    return "collapsed" if kl < COLLAPSED else ""


def gaussians(steps: int) -> tuple[Table, list[tuple[str, Tensor, Tensor]]]:
    """How far the ELBO is below the true log-density, and the KL; fresh points, and outlines of p(x | z) for some z."""
    table, pictures = Table("stretched Gaussian", "scales", "warm-up", "ln p - ELBO, nats", "KL", ""), []
    for turned, scales, warmup in GAUSSIANS:
        source, generator = stretched_gaussian(turned), torch.Generator().manual_seed(0)
        train, x = (source.sample(n, generator=generator) for n in (TRAIN, FRESH))
        model = isotropic_vae() if scales == "one" else likely.VAE(PLANE, latent=1, hidden=(16,), kl_warmup=warmup)
        settings = {"batch_size": 512, "learning_rate": 1e-2, "weight_decay": 0.0, "evaluations": 10}
        likely.fit(model, train.float(), budget=f"{steps} steps", **settings)
        terms = importance_sampling(model, x.float(), DRAWS, generator=generator).terms
        gap, kl = source.log_prob(x) - terms["reconstruction"] + terms["KL"], float(terms["KL"].mean())
        name = "turned" if turned else "as it is"
        table.add_row(
            name, scales, f"{warmup}", f"{gap.mean():.4f} ± {gap.std() / FRESH**0.5:.4f}", f"{kl:.3f}", note(kl)
        )
        pictures.append((f"{name}, scales: {scales}, warm-up: {warmup}", x, outlines(model)))
    return table, pictures


@torch.no_grad()
def outlines(model: LatentVariable) -> Tensor:
    """Where p(x | z) is one standard deviation from its mean, (7, points, 2), for z from -1.5 to 1.5."""
    p = model.decoder.parameters_of(torch.linspace(-1.5, 1.5, 7)[:, None])
    angle = torch.linspace(0, 2 * math.pi, 61)[:, None]
    around = p.mu[:, None] + p.log_sigma.exp()[:, None] * torch.cat([angle.cos(), angle.sin()], 1)
    return around * model.decoder.deviation + model.decoder.mean


def of_digits(steps: int) -> tuple[Table, Tensor]:
    """The table, and KL and -L_K of unseen digits, (fields, aids, 2)."""
    header = "pixels seen", "aids", "KL", "active", "ELBO", f"L_{DRAWS}", "above neither", ""
    table, found, x = Table(*header), [], digits("test")
    for name, field in FIELDS.items():
        for aid, (warmup, free) in AIDS.items():
            model = likely.PixelVAE(DIGIT, **SIZES, **field, kl_warmup=warmup, free_bits=free)
            fitted(model, steps, learning_rate=1e-2, weight_decay=0.3)
            estimate = importance_sampling(model, x, DRAWS, generator=torch.Generator().manual_seed(0))
            kl, elbo = float(estimate.terms["KL"].mean()), estimate.terms["reconstruction"] - estimate.terms["KL"]
            without = estimate.value if aid == "neither" else without
            numbers = map(mean_and_error, (elbo, estimate.value, estimate.value - without))
            table.add_row(name, aid, f"{kl:.2f}", f"{active_units(model, x)}", *numbers, note(kl))
            found.append([kl, -float(estimate.value.mean())])
    return table, torch.tensor(found).view(len(FIELDS), len(AIDS), 2)


def main(steps: int, out: Path) -> None:
    """Fit, measure, print tables and write a picture."""
    torch.set_num_threads(1)
    started, panels = time.process_time(), Panels(4)
    first, pictures = gaussians(2 * steps)
    second, found = of_digits(steps)
    Console().print(first, second)
    for place, (title, x, around) in enumerate([*pictures[:2], pictures[3]]):
        axes = panels.panel(place, (-14.0, 16.0), (-13.0, 17.0))
        axes.points(x[:1500], GREY, 0.25)
        for outline in around:
            axes.line(outline, BLUE)
        axes.frame(title)
    axes = panels.panel(3, (-0.2, 1.1 * float(found[..., 0].max()) + 0.1), limits(found[..., 1]))
    for points, colour in zip(found, (BLUE, ORANGE), strict=True):
        axes.line(points[points[:, 0].argsort()], colour, 1.0)
        axes.points(points, colour, 1.0, 5.0)
    axes.frame(f"digits: -L_{DRAWS} by KL, nats", tuple(zip(FIELDS, (BLUE, ORANGE), strict=True)))
    panels.finished().save(out)
    print(f"wrote {out} after {time.process_time() - started:.0f} s of one core")


def limits(values: Tensor) -> tuple[float, float]:
    """A range with some room around values."""
    return float(values.min()) - 0.5, float(values.max()) + 0.5


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--out", type=Path, default=Path("posterior-collapse.png"))
    main(**vars(parser.parse_args()))
