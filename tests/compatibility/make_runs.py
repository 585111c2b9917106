"""Make the run folders and .lk files of `old/`, and what the code that wrote them says about them. Run once.

    PYTHONPATH=SOURCE python tests/compatibility/make_runs.py

SOURCE is the code of the release before networks, leaves and caches became one vocabulary (0.1.0, whose models lay in
`likely.autoregressive`, `likely.classical`, `likely.flows` and `likely.latent`, and whose codec was `likely.coding`).
Every later version must read these files and give the same numbers, samples and bytes: `test_compatibility.py`.
"""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from likely.bases import Normal
from likely.conditional import ConditionalNormal, ConditionalSymbols

from likely import compress, evaluate, fit, freeze, load, resume
from likely.autoregressive import MADE, GatedPixelCNN
from likely.classical import GaussianMixture, Histogram, IndependentPixels, SymbolHistogram
from likely.data import Preparation
from likely.density import Density
from likely.event import Event
from likely.flows import (
    FFJORD,
    IAF,
    MAF,
    NICE,
    ActNorm,
    Affine,
    AffineFlow,
    AttentionNetwork,
    AutoregressiveMixtureCDF,
    Coupling,
    Flow,
    FlowPlusPlus,
    Glow,
    MixtureCDF,
    NeuralAutoregressiveFlow,
    NeuralSplineCoupling,
    NeuralSplineFlow,
    Perceptron,
    RealNVP,
    RecurrentAutoregressive,
    ResidualNetwork,
)
from likely.latent import (
    IAFVAE,
    IWAE,
    VAE,
    VQVAE,
    BetaVAE,
    DiscreteVAE,
    HierarchicalVAE,
    LatentVariable,
    Mixture,
    MixtureOf,
    PixelVAE,
    WakeSleep,
)
from likely.nn.network import ConvolutionalNetwork, MultilayerPerceptron

FOLDER = Path(__file__).parent / "old"
EXAMPLES, SAMPLES, CODED = 8, 4, 7
MOVE = 0.2  # of every weight, at random: unfitted networks often end in zeros
STOPPED = 9
UNFINISHED = {
    "interrupted-vae": {"budget": "20 steps", "average": 0.9},
    "interrupted-made": {"budget": "5 epochs", "batch_size": 12},
}


def arrays() -> dict[str, np.ndarray]:
    """Small data with structure."""
    k, i, j = np.ogrid[:40, :4, :4]
    waves = 0.5 + 0.5 * np.sin(k * 1.7 + i * 0.9 + j * 0.4)
    n = np.arange(40)
    colours = np.stack([waves, waves.swapaxes(1, 2), 1 - waves], 1)[:, :, :2, :3]
    return {
        "label": n % 3,
        "vector": np.stack([np.sin(n), np.cos(2.3 * n)], 1),
        "bits": (waves > 0.5).astype(np.int64)[:, None],
        "grey": (7 * waves).round().astype(np.uint8),  # (n, h, w), to be prepared
        "symbols": (7 * waves).round().astype(np.int64)[:, None],
        "rgb": (5 * colours).round().astype(np.int64),
        "deep rgb": (31 * colours).round().astype(np.int64),
        "columns": np.stack([n % 2, (n * n + n % 2) % 5, n // 2 % 3], 1),
        "symbol": (n * n % 3)[:, None],
        "table": np.stack([np.sin(n), np.sin(n) + 0.3 * np.cos(3 * n), np.cos(1.3 * n) ** 2], 1),
        "value": np.sin(n * 1.1)[:, None],
        "image": 2 * waves[:, None] - 1,
    }


BITS, GREY = Event((1, 4, 4), 2), Event((1, 4, 4), 8)
RGB, DEEP = Event((3, 2, 3), 6), Event((3, 2, 3), 32)
COLUMNS, TABLE, IMAGE, VALUE = Event((3,), (2, 5, 3)), Event((3,)), Event((1, 4, 4)), Event((1,))
LABEL, VECTOR = Event((), 3), Event((2,))


class Made(NamedTuple):
    """How a fixture is built, and what it is fitted to."""

    build: Callable[[], Density]
    data: str
    context: str | None = None
    preparation: Preparation | None = None


PIXELS = {"channels": 3, "layers": 2, "kernel": 3, "first_kernel": 3, "features": 2}
FIXTURES = {
    "made": Made(lambda: MADE(COLUMNS, LABEL, hidden=(4, 5), orderings=2, features=3), "columns", "label"),
    "made-vector": Made(lambda: MADE(BITS, VECTOR, hidden=(6,), features=2), "bits", "vector"),
    "made-linear": Made(lambda: MADE(BITS, hidden=()), "bits"),
    "made-prepared": Made(lambda: MADE(GREY, hidden=(4,)), "grey", None, Preparation("hw", 8, None, 7.0)),
    "pixelcnn-rgb": Made(lambda: GatedPixelCNN(RGB, LABEL, **PIXELS), "rgb", "label"),
    "pixelcnn-logistics": Made(lambda: GatedPixelCNN(DEEP, **PIXELS, head="logistics", components=2), "deep rgb"),
    "pixelcnn-image": Made(lambda: GatedPixelCNN(BITS, GREY, **PIXELS), "bits", "symbols"),
    "histogram": Made(lambda: Histogram(COLUMNS, LABEL), "columns", "label"),
    "independent-pixels": Made(lambda: IndependentPixels(BITS), "bits"),
    "symbol-histogram": Made(lambda: SymbolHistogram(GREY), "symbols"),
    "gaussian-mixture": Made(lambda: GaussianMixture(TABLE, LABEL, components=2), "table", "label"),
    "affine-flow": Made(lambda: AffineFlow(TABLE, VECTOR, features=2), "table", "vector"),
    "nice": Made(lambda: NICE(COLUMNS, LABEL, layers=2, hidden=(4,), features=2), "columns", "label"),
    "realnvp": Made(lambda: RealNVP(TABLE, VECTOR, layers=3, width=4, features=2), "table", "vector"),
    "realnvp-symbols": Made(
        lambda: RealNVP(GREY, LABEL, layers=2, scales=1, width=3, depth=1, features=2), "symbols", "label"
    ),
    "glow": Made(lambda: Glow(IMAGE, layers=2, scales=1, width=3, depth=1), "image"),
    "flow++": Made(lambda: FlowPlusPlus(BITS, components=2, width=4, depth=1, dequantization="uniform"), "bits"),
    "flow++-table": Made(
        lambda: FlowPlusPlus(TABLE, LABEL, layers=2, components=2, width=4, features=2), "table", "label"
    ),
    "maf": Made(lambda: MAF(TABLE, LABEL, layers=2, hidden=(4, 3), features=2), "table", "label"),
    "iaf": Made(lambda: IAF(TABLE, layers=2, hidden=(4,)), "table"),
    "noise": Made(lambda: MixtureCDF(Event((1,), 3), components=2, dequantization="variational"), "symbol"),
    "mixture-cdf": Made(lambda: MixtureCDF(VALUE, LABEL, components=2, features=2), "value", "label"),
    "autoregressive-mixture-cdf": Made(
        lambda: AutoregressiveMixtureCDF(TABLE, layers=1, components=2, hidden=(4,)), "table"
    ),
    "neural-autoregressive-flow": Made(
        lambda: NeuralAutoregressiveFlow(TABLE, LABEL, layers=2, units=2, hidden=(4,), features=2), "table", "label"
    ),
    "neural-spline-flow": Made(
        lambda: NeuralSplineFlow(TABLE, VECTOR, layers=2, bins=3, hidden=(4,), features=2), "table", "vector"
    ),
    "neural-spline-coupling": Made(
        lambda: NeuralSplineCoupling(COLUMNS, layers=2, bins=3, hidden=(4,), dequantization="factorized"), "columns"
    ),
    "ffjord": Made(lambda: FFJORD(VALUE, hidden=(4, 3), tolerance=1e-3), "value"),
    "flow-of-parts": Made(lambda: flow_of_parts(), "image"),
    "recurrent-flow": Made(lambda: recurrent_flow(), "table", "vector"),
    "vae": Made(lambda: VAE(BITS, latent=2, hidden=(5, 4)), "bits"),
    "vae-table": Made(lambda: VAE(TABLE, latent=2, hidden=(4,), prior_kind="mixture", components=2), "table"),
    "vae-convolutions": Made(
        lambda: VAE(GREY, latent=2, hidden=(4,), channels=2, head="logistics", prior_kind="vamp", components=3),
        "symbols",
    ),
    "vae-of-parts": Made(lambda: vae_of_parts(), "columns"),
    "vae-of-convolutions": Made(lambda: vae_of_convolutions(), "bits"),
    "beta-vae": Made(lambda: BetaVAE(COLUMNS, latent=2, hidden=(4,)), "columns"),
    "iwae": Made(lambda: IWAE(BITS, latent=2, hidden=(4,), particles=2), "bits"),
    "wake-sleep": Made(lambda: WakeSleep(BITS, latent=2, hidden=(4,), particles=2), "bits"),
    "discrete-vae": Made(lambda: DiscreteVAE(BITS, latent=3, categories=3, hidden=(4,), particles=2), "bits"),
    "iaf-vae": Made(lambda: IAFVAE(BITS, latent=2, hidden=(4,), layers=2, flow_hidden=(3,), features=2), "bits"),
    "hierarchical-vae": Made(lambda: HierarchicalVAE(BITS, latents=(2, 1), hidden=(4,)), "bits"),
    "pixel-vae": Made(lambda: PixelVAE(RGB, latent=2, hidden=4, channels=3, features=2), "rgb"),
    "vqvae": Made(lambda: VQVAE(COLUMNS, codes=4, size=2, latent=2, hidden=(4,), prior_hidden=(4,)), "columns"),
    "vqvae-image": Made(
        lambda: VQVAE(GREY, codes=4, size=2, halvings=1, channels=2, prior_channels=2, prior_layers=1), "symbols"
    ),
    "mixture": Made(lambda: Mixture(COLUMNS, components=3, starts=2), "columns"),
    "mixture-of": Made(
        lambda: MixtureOf([IndependentPixels(COLUMNS, LABEL), MADE(COLUMNS, LABEL, hidden=(3,), features=2)]),
        "columns",
        "label",
    ),
    "interrupted-vae": Made(lambda: VAE(BITS, latent=2, hidden=(4,)), "bits"),
    "interrupted-made": Made(
        lambda: MADE(BITS, LABEL, hidden=(4,), orderings=2, features=2),
        "grey",
        "label",
        Preparation("hw", 2, "stochastic", 7.0),
    ),
}


def flow_of_parts() -> Flow:
    """Couplings with every kind of conditioner."""
    kinds = Perceptron((3,)), ResidualNetwork(3, 1), AttentionNetwork(4, 1)
    couplings = [
        Coupling(Affine(2.0), IMAGE.shape, "checkerboard", swapped=k % 2 == 1, conditioner=kind)
        for k, kind in enumerate(kinds)
    ]
    return Flow(Normal(IMAGE), [ActNorm(IMAGE.shape), *couplings])


def recurrent_flow() -> Flow:
    """Affine maps whose parameters a recurrent network gives, from a context too."""
    layers = [RecurrentAutoregressive(Affine(), (3,), 3, order=order, features=2) for order in ("raster", "reversed")]
    return Flow(Normal(TABLE), layers, VECTOR, features=2)


def vae_of_parts() -> LatentVariable:
    """Made by hand of conditional densities with perceptrons."""
    z = Event((2,))
    decoder = ConditionalSymbols(COLUMNS, z, network=MultilayerPerceptron((4,)), seed=1)
    encoder = ConditionalNormal(z, COLUMNS, network=MultilayerPerceptron((5, 4)), seed=2)
    return LatentVariable(Normal(z), decoder, encoder)


def vae_of_convolutions() -> LatentVariable:
    """Made by hand of conditional densities with convolutions."""
    z, network = Event((2,)), ConvolutionalNetwork(2, 1, 4)
    return LatentVariable(
        Normal(z), ConditionalSymbols(BITS, z, network=network), ConditionalNormal(z, BITS, network=network)
    )


class Stop:
    """Sends Ctrl-C after some steps."""

    def __call__(self, progress: Any) -> None:
        if progress.step == STOPPED:
            os.kill(os.getpid(), signal.SIGINT)


def moved(model: Density) -> Density:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(MOVE * torch.randn(parameter.shape, generator=generator))
    return model


def tensors_of(made: Made, data: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor | None]:
    x, context = (
        torch.from_numpy(data[made.data]),
        None if made.context is None else torch.from_numpy(data[made.context]),
    )
    return x, context


def write(name: str, made: Made, data: dict[str, np.ndarray]) -> dict[str, Any]:
    """The run folder, and what is known about it."""
    folder, (x, context) = FOLDER / name, tensors_of(made, data)
    model = made.build()
    closed = hasattr(model, "estimate")
    settings = {"budget": "6 steps", "batch_size": 16, "learning_rate": 5e-3, "warmup": 1, "evaluations": 2}
    settings = {} if closed else settings | UNFINISHED.get(name, {})
    given = (x, context) if context is not None else x
    if name in UNFINISHED:
        return interrupted(name, made, moved(model), given, settings)
    fit(model if closed else moved(model), given, out=folder, preparation=made.preparation, **settings)
    shutil.rmtree(folder / "checkpoint")
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    return known(folder, made, x, context)


def interrupted(name: str, made: Made, model: Density, given: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """A fit that was stopped; where it ended when it was gone on with is kept beside it."""
    folder = FOLDER / name
    try:
        fit(model, given, out=folder, preparation=made.preparation, watch=Stop(), **settings)
    except KeyboardInterrupt as stopped:
        print(stopped)
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole"
        shutil.copytree(folder, whole)
        resume(whole, given)
        shutil.copyfile(whole / "model.safetensors", FOLDER / f"{name}.safetensors")
    return {"data": made.data, "context": made.context}


def known(folder: Path, made: Made, x: torch.Tensor, context: torch.Tensor | None) -> dict[str, Any]:
    model, raw = load(folder), x
    x = x if made.preparation is None else made.preparation.apply(x)
    some, given = x[:EXAMPLES], None if context is None else context[:EXAMPLES]
    with torch.no_grad():
        log_prob = model.log_prob(some, given, generator=generator(1))
    samples = model.sample(SAMPLES, None if given is None else given[:SAMPLES], generator=generator(2))
    pair = x if context is None else (x, context)
    found = {
        "data": made.data,
        "context": made.context,
        "log_prob": log_prob.double().tolist(),
        "samples": samples.tolist(),
        "report": evaluate(model, pair).to_json(),
    }
    if model.kind == "lower bound":
        found["importance weighted"] = evaluate(model, pair, importance_samples=3, terms=False).to_json()
    if not (folder / "frozen.safetensors").exists():
        return found
    frozen = freeze(model, pair, preparation=made.preparation)  # by all of the data, of which a fit holds some out
    frozen.save(folder)
    data = raw[:CODED].numpy()
    data = data.astype(np.min_scalar_type(int(data.max())))
    labels = None if context is None else context[:CODED]
    compress(frozen, data, folder / "coded.lk", context=labels, chunk_items=5, batch=2)
    return found | {"frozen": frozen.id.hex()}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def main() -> None:
    torch.set_num_threads(1)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    data = arrays()
    np.savez_compressed(FOLDER / "data.npz", **data)
    expected = {}
    for name, made in FIXTURES.items():
        expected[name] = write(name, made, data)
        print(name, sum(file.stat().st_size for file in (FOLDER / name).rglob("*.*")), "frozen" in expected[name])
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(found)}" for name, found in expected.items())
    (FOLDER / "expected.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
