"""How many draws of z are of any use as the dimension of z grows, and what they say of ln p(x), which is known.

    python examples/effective_sample_size.py [--draws 1000] [--out effective-sample-size.png]

The model is linear and Gaussian: x = W z + ε / 2 with W orthogonal, so that z has as many values as x, of which the
posterior knows each to ±0.45. z is drawn from the prior, from an encoder whose scales are 1.2 times too wide, and from
the posterior itself. Of K draws about K / E[w²] count, w = p(z | x) / q(z | x), which is a closed form.
"""

import argparse
import math
import time
import warnings
from pathlib import Path

import torch
from linear_gaussian import evidence, log_second_moment, model_of, posterior, widened
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from likely.latent import Estimate, LatentVariable, importance_sampling, prior_sampling
from likely.latent.bounds import RELIABLE, UnreliableEstimate
from likely.pictures.axes import BLUE, GREY, INK, ORANGE, Panels

DIMENSIONS = (1, 2, 4, 8, 16, 32, 64)
EXAMPLES, NOISE, WIDENING = 200, 0.5, 1.2
COLOURS = {"prior": ORANGE, "encoder": BLUE, "posterior": GREY}


def drawn_from_prior(model: LatentVariable, x: Tensor, draws: int, generator: torch.Generator) -> tuple[Estimate, str]:
    """The estimate, and what the library says of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnreliableEstimate)
        estimate = prior_sampling(model, x, draws, generator=generator)
    return estimate, "".join(str(warning.message) for warning in caught)


def measured(dims: int, draws: int) -> tuple[list[list[str]], Tensor]:
    """Rows of the table, and of numbers: log10 of effective draws and of E[w²], ln p − L_K; for every proposal."""
    generator = torch.Generator().manual_seed(dims)
    w = torch.linalg.qr(torch.randn(dims, dims, generator=generator, dtype=torch.float64))[0]
    model, source, (gain, covariance) = model_of(w, NOISE), evidence(w, NOISE), posterior(w, NOISE)
    x = source.sample(EXAMPLES, generator=generator)
    of_prior, warning = drawn_from_prior(model, x, draws, generator)
    print(f"{dims} values: {warning or 'no warning'}")
    of_encoder, of_posterior = (
        importance_sampling(model, x, draws, proposal=q, generator=generator)
        for q in (widened(w, NOISE, WIDENING), model.encoder)
    )
    unit, mean = torch.eye(dims, dtype=w.dtype), x @ gain.T
    moments = {
        "prior": log_second_moment(mean, covariance, unit),
        "encoder": log_second_moment(0 * mean, covariance, WIDENING**2 * covariance),
        "posterior": log_second_moment(0 * mean, covariance, covariance),
    }
    rows, numbers = [], []
    for (name, moment), found in zip(moments.items(), (of_prior, of_encoder, of_posterior), strict=True):
        size, gap = found.effective_sample_size.median(), source.log_prob(x) - found.value
        needed = 10 * moment.median().exp()
        error, untrusted = gap.std() / EXAMPLES**0.5, (found.k_hat > RELIABLE).double().mean()
        shown = f"{size:.1f}", f"{gap.mean():.3f} ± {error:.3f}", f"{untrusted:.0%}", f"{needed:.2g}"
        rows.append([f"{dims}", name, *shown])
        numbers.append([float(size.log10()), float(moment.median()) / math.log(10), float(gap.mean())])
    return rows, torch.tensor(numbers)


def main(draws: int, out: Path) -> None:
    """Measure, print a table and write a picture."""
    torch.set_num_threads(1)
    started, found = time.process_time(), []
    table = Table("z", "drawn from", f"of {draws:,} count", "ln p - L_K", "k-hat > 0.7", "draws for 10")
    for dims in DIMENSIONS:
        rows, numbers = measured(dims, draws)
        for row in rows:
            table.add_row(*row)
        found.append(numbers)
    Console().print(table)
    picture(torch.stack(found), draws).save(out)
    print(f"wrote {out} after {time.process_time() - started:.0f} s of one core")


def picture(found: Tensor, draws: int) -> Image.Image:
    """Effective draws with what was to be expected, and how far L_K falls short; (dimensions, 3, numbers)."""
    panels, legend = Panels(2), tuple(COLOURS.items())
    across, right = torch.tensor(DIMENSIONS).log2(), max(DIMENSIONS).bit_length() - 0.5
    most = math.log10(draws)
    axes = panels.panel(0, (-0.5, right), (-0.1, most + 0.3))
    expected = (most - found[:, :, 1]).clamp_min(0)  # the largest weight alone makes one
    for k, (_, colour) in enumerate(legend):
        axes.line(torch.stack([across, expected[:, k]], 1), INK, 0.7)
        axes.points(torch.stack([across, found[:, k, 0]], 1), colour, 1.0, 5.0)
    axes.frame("log10 of effective draws, by log2 of values")
    top = 1.1 * float(found[..., 2].max())
    axes = panels.panel(1, (-0.5, right), (-0.05 * top, top))
    for k, (_, colour) in enumerate(legend):
        points = torch.stack([across, found[:, k, 2]], 1)
        axes.line(points, colour)
        axes.points(points, colour, 1.0, 4.0)
    axes.frame("ln p(x) - L_K", legend)
    return panels.finished()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("effective-sample-size.png"))
    main(**vars(parser.parse_args()))
