"""Make the golden files of this folder: self-contained .lk files of tiny models. Run once per version of a format.

    python tests/coding/golden/make.py [NAME …]

Every later version must decode these files, and encode them to the same bytes.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from likely import freeze
from likely.autoregressive import MADE, GatedPixelCNN
from likely.classical import Histogram
from likely.coding.codec import compress
from likely.data import Preparation
from likely.density import Density
from likely.event import Event
from likely.latent import VAE

FOLDER = Path(__file__).parent
PIXELCNN = {"channels": 2, "layers": 2, "first_kernel": 3, "head": "logistics", "components": 2}


def pictures(n: int) -> np.ndarray:
    """Slanted waves, (n, 5, 4) of 0 … 31."""
    k, i, j = np.ogrid[:n, :5, :4]
    return (31 * (0.5 + 0.5 * np.sin(k + i * 0.9 + j * 0.4))).astype(np.uint8)


def table(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Three columns of 2, 17 and 3 symbols that follow a label of 2."""
    i = np.arange(n)
    return np.stack([i % 2, (i * i + 5 * (i % 2)) % 17, i // 2 % 3], 1).astype(">i2"), i % 2


def states(n: int) -> np.ndarray:
    """Four bits, mostly alike."""
    i = np.arange(n)
    return np.stack([i % 3 > 0, i % 3 > 0, i % 5 > 3, i % 3 > 0], 1)


def pixelcnn() -> tuple[Density, np.ndarray, None, Preparation]:
    return GatedPixelCNN(Event((1, 5, 4), 32), **PIXELCNN), pictures(24), None, Preparation("hw", 32, None, 31.0)


def made() -> tuple[Density, np.ndarray, np.ndarray, None]:
    model = MADE(Event((3,), (2, 17, 3)), Event((), 2), hidden=(3,), orderings=2, features=2)
    return model, *table(40), None


def histogram() -> tuple[Density, np.ndarray, None, None]:
    return Histogram(Event((4,), 2)), states(100), None, None


def vae() -> tuple[Density, np.ndarray, None, None]:
    return VAE(Event((4,), 2), latent=1, hidden=(2,)), states(100), None, None


GOLDEN = {"pixelcnn": pixelcnn, "made": made, "histogram": histogram, "vae": vae}
CHUNKS = {"chunk_items": 17, "batch": 5}  # several chunks, each of several groups


def main() -> None:
    for name in sys.argv[1:] or GOLDEN:
        model, data, context, preparation = GOLDEN[name]()
        x = torch.from_numpy(data.astype(np.int64))
        x = x if preparation is None else preparation.apply(x)
        labels = None if context is None else torch.from_numpy(context)
        if isinstance(model, Histogram):
            model.estimate(x)
        else:
            optimizer = torch.optim.Adam(model.parameters(), 0.03)
            for step in range(150):
                optimizer.zero_grad()
                model.loss(x, labels, generator=torch.Generator().manual_seed(step)).backward()
                optimizer.step()
        frozen = freeze(model.eval(), (x, labels), preparation=preparation)
        file = FOLDER / f"{name}.lk"
        compress(frozen, data, file, context=context, with_model=True, **CHUNKS)
        print(name, file.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
