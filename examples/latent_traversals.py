"""What latent values stand for: moved one at a time, and on the way from one digit to another.

    python examples/latent_traversals.py [--steps 1500] [--out latent-traversals.png]

A variational autoencoder of digits with eight latent values. Above, each is moved by up to three standard deviations of
the prior, the others at its mean, the most active first. Below, z goes straight from the posterior mean of one unseen
digit to that of another, and the digits themselves stand at either end. Pictures show the decoder's means.

    likely fit vae digits --latent 8 --hidden 128 --budget 1m --out runs/vae
    likely traverse runs/vae -o latents.png
    likely traverse runs/vae --data digits:test -n 5 -o between.png
"""

import argparse
import time
from pathlib import Path

import torch
from fitted_digits import DIGIT, digits, fitted
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table
from torch import Tensor

import likely
from likely.latent.diagnostics import ACTIVE
from likely.pictures import rows
from likely.pictures.axes import INK

COLUMNS, PAIRS, LEFT, TOP = 11, 5, 46, 30  # pictures in a row; interpolations; pixels beside and above pictures


@torch.no_grad()
def kl_by_value(model: likely.VAE, x: Tensor) -> Tensor:
    """KL(q(z_i | x) ‖ N(0, 1)) of every latent value, mean over examples, nats."""
    q, deviation = model.encoder.parameters_of(x), model.encoder.deviation
    mean, scale = q.mu * deviation + model.encoder.mean, q.log_sigma.exp() * deviation
    return ((mean.square() + scale.square() - 1) / 2 - scale.log()).mean(0)


def main(steps: int, out: Path) -> None:
    """Fit, print a table and write a picture."""
    torch.set_num_threads(1)
    started, x = time.process_time(), digits("test")
    model = fitted(likely.VAE(DIGIT, latent=8, hidden=(128,)), steps)
    moved = likely.traverse(model, x, rows=model.latent, columns=COLUMNS)
    first, second = x[: 2 * PAIRS : 2], x[1 : 2 * PAIRS : 2]
    between = likely.interpolate(model, first, second, steps=COLUMNS - 2)
    between = torch.cat([first[:, None], between, second[:, None]], 1)

    kl, table = kl_by_value(model, x), Table("latent value", "variance of its mean", "KL, nats", "")
    for latent, activity in zip(moved.latents, moved.activity, strict=True):
        table.add_row(f"z_{latent}", f"{activity:.3f}", f"{kl[latent]:.2f}", "" if activity > ACTIVE else "not active")
    Console().print(table)
    names = [f"z_{latent}" for latent in moved.latents]
    picture(moved.x, names, between).save(out)
    print(f"KL of all: {kl.sum():.2f} nats; wrote {out} after {time.process_time() - started:.0f} s of one core")


def picture(moved: Tensor, names: list[str], between: Tensor) -> Image.Image:
    """Traversals with the names of what is moved, and below them interpolations."""
    parts = [rows(part, DIGIT.alphabets[0], side=COLUMNS * 60) for part in (moved, between)]
    whole = Image.new("RGB", (LEFT + parts[0].width, sum(part.height for part in parts) + 2 * TOP), "white")
    draw, font, top = ImageDraw.Draw(whole), ImageFont.load_default(14), 0
    titles = "one value from -3 to 3 standard deviations", "from the unseen digit on the left to that on the right"
    for part, title, labels in zip(parts, titles, (names, [""] * len(between)), strict=True):
        draw.text((LEFT, top + TOP - 8), title, INK, font, anchor="ls")
        whole.paste(part, (LEFT, top + TOP))
        for row, label in enumerate(labels):
            place = top + TOP + (row + 0.5) * part.height / len(labels)
            draw.text((LEFT - 10, place), label, INK, font, anchor="rm")
        top += TOP + part.height
    return whole


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path("latent-traversals.png"))
    main(**vars(parser.parse_args()))
