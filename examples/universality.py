"""Any smooth density of one value to any other and back: x → u = F(x), uniform → z = Φ⁻¹(u), normal → y = G⁻¹(Φ(z)).

    python examples/universality.py [--steps 1500] [--out universality.png]

Three densities: two Gaussians, a claw (Marron and Wand, 1992: five thin teeth on a Gaussian) and Gumbel's, which is no
mixture. A flow through a mixture's distribution function is fitted to samples of each; then every density is taken to
every other by the flow of the one and the inverse of the other's. "Kolmogorov" is the largest distance between the
distribution function of 10,000 fresh points and the true one: 0.0136 is exceeded by one perfect sample in twenty.
"""

import argparse
import math
import time
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.special import ndtr

import likely
from likely.event import Event
from likely.flows import Composition, Inverse
from likely.pictures.axes import BLUE, ORANGE, Panels

TRAIN, FRESH = 50_000, 10_000  # points


@dataclass
class Gaussians:
    """Σ_k w_k N(m_k, s_k²)."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def __post_init__(self) -> None:
        self.w, self.m, self.s = (torch.tensor(part).double() for part in (self.weights, self.means, self.deviations))

    def log_prob(self, x: Tensor) -> Tensor:
        """ln p(x)."""
        u = (x[..., None] - self.m) / self.s
        return (self.w.log() - self.s.log() - u.square() / 2).logsumexp(-1) - math.log(2 * math.pi) / 2

    def cdf(self, x: Tensor) -> Tensor:
        """P(· ≤ x)."""
        return (self.w * ndtr((x[..., None] - self.m) / self.s)).sum(-1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws (n,)."""
        k = torch.multinomial(self.w, n, replacement=True, generator=generator)
        return self.m[k] + self.s[k] * torch.randn(n, dtype=torch.float64, generator=generator)


class Gumbel:
    """p(x) = exp(−x − e⁻ˣ)."""

    def log_prob(self, x: Tensor) -> Tensor:
        """ln p(x)."""
        return -x - (-x).exp()

    def cdf(self, x: Tensor) -> Tensor:
        """P(· ≤ x)."""
        return (-(-x).exp()).exp()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws (n,)."""
        return -torch.rand(n, dtype=torch.float64, generator=generator).log().neg().log()


DENSITIES = {
    "two Gaussians": Gaussians((0.5, 0.5), (0.3, 0.8), (0.1, 0.05)),
    "claw": Gaussians((0.5, *[0.1] * 5), (0.0, -1.0, -0.5, 0.0, 0.5, 1.0), (1.0, *[0.1] * 5)),
    "Gumbel": Gumbel(),
}


def kolmogorov(probabilities: Tensor) -> float:
    """The largest distance between the distribution function of F(x) over points and that of a uniform value."""
    n = len(probabilities)
    ordered, steps = probabilities.sort()[0], torch.arange(n + 1, dtype=torch.float64) / n
    return float(torch.maximum(ordered - steps[:-1], steps[1:] - ordered).max())


def fitted(x: Tensor, steps: int) -> likely.MixtureCDF:
    """The flow of one density, from samples (n,), in float64."""
    settings = {"batch_size": 512, "learning_rate": 1e-2, "weight_decay": 0.0, "evaluations": 5}
    model = likely.MixtureCDF(Event((1,)), components=16, kernel="gaussian")
    return likely.fit(model, x[:, None], budget=f"{steps} steps", **settings).double()


@torch.no_grad()
def main(steps: int, out: Path) -> None:
    """Fit, measure, print tables and write a picture."""
    torch.set_num_threads(1)
    started, generator, models, fresh = time.process_time(), torch.Generator().manual_seed(0), {}, {}
    fits = Table("density", "nats above its entropy", "Kolmogorov of u")
    for name, density in DENSITIES.items():
        with torch.enable_grad():
            models[name] = fitted(density.sample(TRAIN, generator), steps)
        x = fresh[name] = density.sample(FRESH, generator)
        gap = density.log_prob(x) - models[name].log_prob(x[:, None])
        u = ndtr(models[name].transform(x[:, None])[0][:, 0])
        fits.add_row(name, f"{gap.mean():.4f} ± {gap.std() / FRESH**0.5:.4f}", f"{kolmogorov(u):.4f}")
    pairs = Table("x from", "y as", "Kolmogorov of y", "x there and back", "ln p(y): mean error")
    for first, second in permutations(DENSITIES, 2):
        journey = Composition([*models[first].transform, Inverse(Composition(list(models[second].transform)))])
        x = fresh[first][:, None]
        y, ladj = journey(x)
        back, _ = journey.inverse(y)
        change = DENSITIES[first].log_prob(x[:, 0]) - ladj - DENSITIES[second].log_prob(y[:, 0])
        distance = kolmogorov(DENSITIES[second].cdf(y[:, 0]))
        pairs.add_row(first, second, f"{distance:.4f}", f"{(back - x).abs().max():.0e}", f"{change.abs().mean():.3f}")
    Console().print(fits, pairs)
    picture(models, fresh).save(out)
    print(f"wrote {out} after {time.process_time() - started:.0f} s of one core")


def picture(models: dict[str, likely.MixtureCDF], fresh: dict[str, Tensor]):
    """From two Gaussians to the claw, in four histograms with the true densities."""
    start, end = "two Gaussians", "claw"
    z, _ = models[start].transform(fresh[start][:, None])
    y, _ = models[end].transform.inverse(z)
    normal = Gaussians((1.0,), (0.0,), (1.0,))
    panels = Panels(4)
    for place, (title, values, truth, low, high) in enumerate(
        [
            ("x, two Gaussians", fresh[start], DENSITIES[start], -0.1, 1.1),
            ("u = F(x), uniform", ndtr(z[:, 0]), None, -0.1, 1.1),
            ("z, normal", z[:, 0], normal, -4.0, 4.0),
            ("y, a claw", y[:, 0], DENSITIES[end], -3.0, 3.0),
        ]
    ):
        line = torch.linspace(low, high, 601, dtype=torch.float64)
        p = ((line > 0) & (line < 1)).double() if truth is None else truth.log_prob(line).exp()
        heights = torch.histc(values, 72, low, high) / len(values) * 72 / (high - low)
        axes = panels.panel(place, (low, high), (0.0, 1.25 * float(p.max())))
        axes.bars(torch.linspace(low, high, 73), heights, BLUE)
        axes.line(torch.stack([line, p], 1), ORANGE)
        axes.frame(title, (("truth", ORANGE),))
    return panels.finished()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path("universality.png"))
    main(**vars(parser.parse_args()))
