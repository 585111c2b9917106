"""Latent-variable models against pythae and vector-quantize-pytorch: training steps.

    pip install -c constraints.txt -e '.[bench]'
    python benchmarks/latent.py [--only NAME] [--repeats 15] [--json]

One thread, whose processor time is taken. Everything of a line is timed in turns, in one run; a ratio is the median
over the turns of ours ÷ the fastest peer of that turn, with its quartiles. Same sizes, same data, the same optimiser
(fused AdamW). A VQ-VAE is compared without its prior, which the peers do not have; the step with it stands beside.
"""

import argparse
import json
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pythae.models import IWAE, VAE, VQVAE, IWAEConfig, VAEConfig, VQVAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from timing import in_turns, ratio, show, stepper
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

import likely
from likely import Event
from likely.latent.vq_vae import straight_through
from likely.nn.network import Downscaling, Upscaling

BINARY, REAL = Event((1, 28, 28), levels=2), Event((1, 28, 28))
LATENT, HIDDEN = 50, 200
CODES, SIZE, CHANNELS = 64, 16, 32
Loss = Callable[[Tensor], Tensor]


class Encoder(BaseEncoder):
    """784-200-200-50, for means and for logarithms of variances."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)

    def forward(self, x: Tensor) -> ModelOutput:
        h = self.body(x)
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))


class Decoder(BaseDecoder):
    """50-200-200-784."""

    def __init__(self) -> None:
        super().__init__()
        widths = [nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 784)]
        self.body = nn.Sequential(*widths, nn.Sigmoid(), nn.Unflatten(1, BINARY.shape))

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.body(z))


class CodesEncoder(BaseEncoder):
    """The network of ours, an image to a map of 7×7 vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Downscaling(CHANNELS, 1).of_event(REAL, (7, 7), SIZE)

    def forward(self, x: Tensor) -> ModelOutput:
        return ModelOutput(embedding=self.body(x).movedim(-1, 1))


class CodesDecoder(BaseDecoder):
    """The network of ours, a map of 7×7 vectors to an image."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.body(z.movedim(1, -1)[:, None]).movedim(-1, 1))


class Quantized(nn.Module):
    """An autoencoder around a `VectorQuantize`, trained on squared errors."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.quantizer = VectorQuantize(SIZE, CODES, decay=0.99, commitment_weight=0.25)

    def forward(self, x: Tensor) -> Tensor:
        entries, _, commitment = self.quantizer(self.encoder(x).flatten(1, 2))
        found = self.decoder(entries.unflatten(1, (1, 7, 7))).movedim(-1, 1)
        return (found - x).square().flatten(1).sum(1).mean() + commitment


class WithoutPrior(likely.VQVAE):
    """Encoder, codebook and decoder alone."""

    def _loss(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        vectors = self.quantizer.vectors(x)
        z = self.codebook.nearest(vectors)
        entries = self.codebook(z)
        reconstruction = self.decoder._log_prob(x, straight_through(vectors, entries), generator)
        self.codebook.update(vectors.detach(), z, self.decay, self.revival, generator)
        return (self.commitment * (vectors - entries).square().flatten(1).sum(1) - reconstruction).mean()


def of_pythae(model: nn.Module) -> tuple[nn.Module, Loss]:
    return model, lambda x: model({"data": x.float()}).loss


def of_ours(model: likely.Density, x: Tensor) -> tuple[nn.Module, Loss]:
    model.initialize(x)
    return model.train(), model.loss


def vae(x: Tensor) -> dict[str, tuple[nn.Module, Loss]]:
    sizes: dict[str, Any] = {"input_dim": BINARY.shape, "latent_dim": LATENT, "reconstruction_loss": "bce"}
    ours = likely.VAE(BINARY, latent=LATENT, hidden=(HIDDEN, HIDDEN))
    return {"likely": of_ours(ours, x), "pythae": of_pythae(VAE(VAEConfig(**sizes), Encoder(), Decoder()))}


def iwae(x: Tensor) -> dict[str, tuple[nn.Module, Loss]]:
    sizes: dict[str, Any] = {"input_dim": BINARY.shape, "latent_dim": LATENT, "reconstruction_loss": "bce"}
    ours = likely.IWAE(BINARY, latent=LATENT, hidden=(HIDDEN, HIDDEN), particles=50)
    peer = IWAE(IWAEConfig(number_samples=50, **sizes), Encoder(), Decoder())
    return {"likely": of_ours(ours, x), "pythae": of_pythae(peer)}


def vq_vae(x: Tensor) -> dict[str, tuple[nn.Module, Loss]]:
    settings: dict[str, Any] = {"codes": CODES, "size": SIZE, "channels": CHANNELS}
    config = VQVAEConfig(input_dim=REAL.shape, latent_dim=SIZE, num_embeddings=CODES, use_ema=True)
    up = [Upscaling(CHANNELS, 1).of_event(Event((1, 7, 7, SIZE)), (28, 28), 1)[1:] for _ in range(2)]
    quantized = Quantized(CodesEncoder().body, up[1])
    return {
        "likely": of_ours(WithoutPrior(REAL, **settings), x),
        "likely, with prior": of_ours(likely.VQVAE(REAL, **settings), x),
        "pythae": of_pythae(VQVAE(config, CodesEncoder(), CodesDecoder(up[0]))),
        "vector-quantize": (quantized, quantized),
    }


@dataclass
class Line:
    """A training step to be compared: the models, with how many examples at once, and the ratio not to exceed."""

    models: Callable[[Tensor], dict[str, tuple[nn.Module, Loss]]]
    event: Event
    batch: int
    bar: float


LINES = {
    "VAE, 784-200-200-50, batch 100": Line(vae, BINARY, 100, 0.8),
    "IWAE, 50 draws, 784-200-200-50, batch 20": Line(iwae, BINARY, 20, 0.66),
    "VQ-VAE, 28×28 to 7×7 of 64 codes, batch 32": Line(vq_vae, REAL, 32, 1.0),
}


def step(line: Line, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    x = torch.rand(line.batch, *line.event.shape)
    x = (x < 0.2).long() if line.event.discrete else x
    models = line.models(x)
    times = in_turns(repeats, {name: stepper(module, loss, x) for name, (module, loss) in models.items()})
    others = [name for name in models if not name.startswith("likely")]
    best = [min(times[name][k] for name in others) for k in range(repeats)]
    return {
        "milliseconds": {name: 1000 * statistics.median(found) for name, found in times.items()},
        "parameters": {name: sum(p.numel() for p in module.parameters()) for name, (module, _) in models.items()},
        "step ÷ fastest peer": ratio(times["likely"], best, line.bar),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="lines whose name contains this")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the peers'
    results: dict[str, Any] = {}
    for name, line in LINES.items():
        if arguments.only in name:
            results[name] = step(line, arguments.repeats)
            if not arguments.json:
                show(f"training step, {name}", results[name])
    if arguments.json:
        print(json.dumps({"threads": 1, "torch": torch.__version__, "repeats": arguments.repeats} | results, indent=1))


if __name__ == "__main__":
    main()
