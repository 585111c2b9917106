"""What the matrix of environments codes: frozen models, data, and files of them in every batch size."""

from pathlib import Path

import numpy as np
from frozen_models import drawn
from matrix_job import BATCHES

from likely.autoregressive import MADE, GatedPixelCNN
from likely.coding.codec import compress
from likely.coding.frozen import freeze
from likely.density import Density
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


def redrawn(name: str) -> Density:
    """With random weights, large enough for conditionals that depend on what came before."""
    model = Case(MODELS[name]()).redrawn.eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(1.5)
    return model


def write(folder: Path) -> None:
    """NAME.frozen, and for every batch size NAME BATCH.lk and NAME BATCH.npz, what it was made of."""
    for name in MODELS:
        model = redrawn(name)
        x, context = drawn(model, max(BATCHES.values()))
        if isinstance(model, LatentVariable):  # an encoder that was drawn would cost more than it gets back
            fit(model, x, budget="100 steps", learning_rate=5e-3)
        frozen = freeze(model.eval(), (x, context))
        frozen.save(folder / f"{name}.frozen")
        data = x.numpy().astype(np.min_scalar_type(max(model.event.alphabets) - 1))
        for batch, n in BATCHES.items():
            arrays = {"data": data[:n]} | ({} if context is None else {"context": context[:n].numpy()})
            np.savez(folder / f"{name} {batch}.npz", **arrays)
            compress(frozen, data[:n], folder / f"{name} {batch}.lk", context=arrays.get("context"), batch=batch)
