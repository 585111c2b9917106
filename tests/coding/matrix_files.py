"""What the matrix of environments codes: frozen models, data, and files of them in every batch size."""

from pathlib import Path

import numpy as np
import torch
from frozen_models import drawn
from matrix_job import BATCHES

from likely.autoregressive import MADE, GatedPixelCNN
from likely.coding.codec import compress
from likely.coding.frozen import freeze
from likely.density import Autoregressive, Density
from likely.event import Event
from likely.latent import VAE, HierarchicalVAE, LatentVariable
from likely.laws.case import Case
from likely.training.fit import fit

LOGISTICS = {"head": "logistics", "components": 4}
MODELS = {
    "made": lambda: MADE(Event((1, 4, 4), 17), hidden=(150, 130), orderings=3),
    "made, vector": lambda: MADE(Event((4,), (2, 300, 1, 17)), Event((5,)), hidden=(90,), orderings=2, features=40),
    "pixelcnn, label": lambda: GatedPixelCNN(Event((1, 4, 3), 17), Event((), 3), channels=40, layers=3, features=9),
    "pixelcnn, logistics": lambda: GatedPixelCNN(Event((3, 3, 3), 256), channels=48, layers=2, **LOGISTICS),
    "vae": lambda: VAE(Event((1, 4, 4), 17), latent=3, hidden=(60, 40)),
    "hierarchical vae": lambda: HierarchicalVAE(Event((1, 4, 4), 17), latents=(2, 2), hidden=(50,)),
}


def redrawn(name: str) -> Autoregressive:
    """With random weights, large enough for conditionals that depend on what came before."""
    model = Case(MODELS[name]()).redrawn.eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(1.5)
    return model


def waves(n: int) -> torch.Tensor:
    """Images (n, 1, 4, 4) of 0 … 16: waves of random phase and direction."""
    phase, a, b = torch.rand(3, n, 1, 1, 1, generator=torch.Generator().manual_seed(0)) * 3
    i, j = torch.arange(4)[:, None], torch.arange(4)
    return (8 + 8 * torch.sin(2 * phase + a * i + b * j)).round().long()


def made(name: str, n: int) -> tuple[Density, torch.Tensor, torch.Tensor | None]:
    """A model, n examples of it and their contexts; a fitted one where an encoder drawn at random would fit nothing."""
    model = MODELS[name]()
    if isinstance(model, LatentVariable):
        return fit(model, waves(n), budget="150 steps", learning_rate=1e-2, holdout=0.0).eval(), waves(n), None
    return redrawn(name), *drawn(redrawn(name), n)


def write(folder: Path) -> None:
    """NAME.frozen, and for every batch size NAME BATCH.lk and NAME BATCH.npz, what it was made of."""
    for name in MODELS:
        model, x, context = made(name, max(BATCHES.values()))
        frozen = freeze(model, (x, context))
        frozen.save(folder / f"{name}.frozen")
        data = x.numpy().astype(np.min_scalar_type(max(model.event.alphabets) - 1))
        for batch, n in BATCHES.items():
            arrays = {"data": data[:n]} | ({} if context is None else {"context": context[:n].numpy()})
            np.savez(folder / f"{name} {batch}.npz", **arrays)
            compress(frozen, data[:n], folder / f"{name} {batch}.lk", context=arrays.get("context"), batch=batch)
