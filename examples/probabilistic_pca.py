"""A variational autoencoder with nothing but linear maps is probabilistic PCA, whose best likelihood is known.

    python examples/probabilistic_pca.py [--steps 2000] [--out probabilistic-pca.png]

x = W z + b + s ε with three values z, ten values x. The decoder is linear with one scale for all values, the encoder
linear with diagonal scales: enough, as z can be turned until its posterior is diagonal. The maximum of the likelihood
comes from the eigenvalues λ of the covariance of the data, s² being the mean of those that are left out. Paper:
Probabilistic Principal Component Analysis (Tipping, Bishop, 1999), https://doi.org/10.1111/1467-9868.00196
"""

import argparse
import math
import time
from pathlib import Path

import torch
from linear_gaussian import Isotropic, evidence
from rich.console import Console
from rich.table import Table
from torch import Tensor

import likely
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal
from likely.event import Event
from likely.latent import LatentVariable, importance_sampling
from likely.nn.network import Perceptron
from likely.pictures.axes import BLUE, GREY, INK, ORANGE, Colour, Panels

DIMS, LATENTS, NOISE, EXAMPLES = 10, 3, 1.0, 2000
FITTED: dict[int, Colour] = {1: GREY, 2: (30, 140, 80), 3: BLUE, 4: ORANGE}  # by latent values
DRAWS = 50
LINEAR = Perceptron((), "relu")


def maximum(eigenvalues: Tensor, latents: int) -> tuple[float, float]:
    """The largest mean ln p(x) that a covariance W Wᵀ + s² I can reach, in nats, and its s; eigenvalues descending."""
    left = eigenvalues[latents:].mean()
    log_det = eigenvalues[:latents].log().sum() + (len(eigenvalues) - latents) * left.log()
    return float(-(len(eigenvalues) * (1 + math.log(2 * math.pi)) + log_det) / 2), float(left.sqrt())


def linear_vae(latents: int) -> LatentVariable:
    """Everything linear in what is given."""
    x, z = Event((DIMS,)), Event((latents,))
    return LatentVariable(Normal(z), Isotropic(x, z, LINEAR), ConditionalNormal(z, x, network=LINEAR, seed=1)).double()


@torch.no_grad()
def decoded(model: LatentVariable) -> tuple[Tensor, float]:
    """Eigenvalues of W Wᵀ + s² I, descending, and s: of the decoder, by what it makes of z."""
    latents = model.prior.event.dims
    p = model.decoder.parameters_of(torch.cat([torch.zeros(1, latents), torch.eye(latents)]).double())
    w = ((p.mu[1:] - p.mu[0]) * model.decoder.deviation).T
    s = float(p.log_sigma[0, 0].exp() * model.decoder.deviation[0])
    return torch.linalg.eigvalsh(w @ w.T + s**2 * torch.eye(DIMS).double()).flip(0), s


def main(steps: int, out: Path) -> None:
    """Fit, compare, print a table and write a picture."""
    torch.set_num_threads(1)
    started, generator, panels = time.process_time(), torch.Generator().manual_seed(0), Panels(2)
    source = evidence(torch.randn(DIMS, LATENTS, generator=generator, dtype=torch.float64), NOISE)
    x = source.sample(EXAMPLES, generator=generator)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    table = Table("latents", "maximum of ln p", "ELBO", "gap, nats", "s there", "s")
    bounds, number = [], torch.arange(DIMS)
    axes = panels.panel(1, (-0.5, DIMS - 0.5), (-0.3, 1.5))
    axes.line(torch.stack([number, eigenvalues.log10()], 1), INK, 1.0)
    for latents, colour in FITTED.items():
        model = linear_vae(latents)
        settings = {"batch_size": 1000, "learning_rate": 5e-2, "weight_decay": 0.0, "evaluations": 2}
        likely.fit(model, x, budget=f"{steps} steps", holdout=0.0, **settings)
        terms = importance_sampling(model, x, DRAWS, generator=generator).terms
        elbo = float((terms["reconstruction"] - terms["KL"]).mean())
        (best, noise), (spectrum, s) = maximum(eigenvalues, latents), decoded(model)
        table.add_row(f"{latents}", f"{best:.4f}", f"{elbo:.4f}", f"{best - elbo:.5f}", f"{noise:.4f}", f"{s:.4f}")
        bounds.append([latents, best, elbo])
        axes.points(torch.stack([number, spectrum.log10()], 1), colour, 1.0, 4.0)
    axes.frame("log10 of eigenvalues: data and models", tuple((f"{n}", c) for n, c in FITTED.items()))
    Console().print(table)
    found = torch.tensor(bounds)
    axes = panels.panel(0, (0.5, max(FITTED) + 0.5), (float(found[:, 2].min()) - 1, float(found[:, 1].max()) + 1))
    axes.line(found[:, :2], INK, 1.0)
    for point, colour in zip(found[:, [0, 2]], FITTED.values(), strict=True):
        axes.points(point[None], colour, 1.0, 5.0)
    axes.frame("ELBO and maximum of ln p, by latents")
    panels.finished().save(out)
    print(f"wrote {out} after {time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("probabilistic-pca.png"))
    main(**vars(parser.parse_args()))
