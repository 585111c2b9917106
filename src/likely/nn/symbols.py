"""Symbols to features."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from likely.nn.leaf import Leaf


class Symbols(Leaf):
    """A learnt feature vector for each symbol: the input layer of every network over discrete data.

    It starts as the cosine basis of the alphabet, cos(π k (v + ½) / levels) for k = 1 … width, so that neighbouring
    symbols start alike; with width = levels − 1 that spans every function of the symbol. Binary symbols become ±1/√2.

    Args:
        levels: size of the alphabet.
        width: features per symbol; None: levels − 1, at most 16.
    """

    def __init__(self, levels: int, width: int | None = None) -> None:
        super().__init__()
        self.levels = levels
        if width is None:
            self.width = max(1, min(levels - 1, 16))
        else:
            self.width = width
        angle = math.pi * (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
        basis = (angle[:, None] * torch.arange(1, self.width + 1)).cos()
        self.weight = nn.Parameter(basis.float())

    def forward(self, x: Int[Tensor, "*batch c"]) -> Float[Tensor, "*batch c_width"]:
        """Replace each symbol along the last dimension by its features, side by side."""
        if self.levels == 2 and torch.is_grad_enabled():
            # The same numbers, to the bit; a look-up's gradient would be gathered one symbol at a time.
            ones = x[..., None].to(self.weight.dtype)
            return torch.lerp(self.weight[0], self.weight[1], ones).flatten(-2)
        return nn.functional.embedding(x, self.weight).flatten(-2)
