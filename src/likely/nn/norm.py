"""Normalising leaves, over the channels of every place by itself: they hold no cache."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.errors import ExactnessError
from likely.nn.exact import HALF, ROOM, ExactLeaf, grid_of, on_input_grid
from likely.nn.leaf import Leaf

EPSILON = 1e-5


class LayerNorm(Leaf, nn.LayerNorm):
    """γ (x − mean) / √(variance + ε) + β, mean and variance over the last dimension.

    Paper: Layer Normalization (Ba, Kiros, Hinton, 2016), https://arxiv.org/abs/1607.06450

    Args:
        channels: size of the last dimension.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPSILON)

    def quantize(self, largest: float) -> dict[str, Tensor]:
        """Return γ, β and the grid of the inputs."""
        return {"weight": self.weight.detach(), "bias": self.bias.detach(), "grid": grid_of(largest)}

    def exact(self, stored: dict[str, Tensor]) -> "ExactNorm":
        """Return the twin by sums of whole numbers."""
        return ExactNorm(stored, centred=True)


class RMSNorm(Leaf, nn.RMSNorm):
    """γ x / √(mean of x² + ε), over the last dimension.

    Paper: Root Mean Square Layer Normalization (Zhang, Sennrich, 2019), https://arxiv.org/abs/1910.07467

    Args:
        channels: size of the last dimension.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPSILON)

    def quantize(self, largest: float) -> dict[str, Tensor]:
        """Return γ and the grid of the inputs."""
        weight = self.weight.detach()
        return {"weight": weight, "bias": torch.zeros_like(weight), "grid": grid_of(largest)}

    def exact(self, stored: dict[str, Tensor]) -> "ExactNorm":
        """Return the twin by sums of whole numbers."""
        return ExactNorm(stored, centred=False)


class ExactNorm(ExactLeaf):
    """Inputs as whole numbers, their sum and sum of squares exact, then single divisions and a square root.

    Args:
        stored: γ, β and the grid.
        centred: whether the mean is taken out.

    Raises:
        ExactnessError: so many channels that a sum of squares could reach 2⁵³.
    """

    def __init__(self, stored: dict[str, Tensor], centred: bool) -> None:
        super().__init__()
        weight = stored["weight"].double()
        if len(weight) * (2 * HALF) ** 2 >= ROOM:
            raise ExactnessError(f"sums of squares over {len(weight)} channels could reach 2^53 or more")
        self.centred = centred
        self.scale = math.ldexp(1.0, int(stored["grid"]))
        self.register_buffer("weight", weight)
        self.register_buffer("bias", stored["bias"].double())

    def forward(self, x: Float[Tensor, "*batch channels"]) -> Float[Tensor, "*batch channels"]:
        """Normalise the last dimension."""
        channels = x.shape[-1]
        x = on_input_grid(x, self.scale)
        if self.centred:
            x = (x - x.sum(-1, keepdim=True) / channels).round_()
        square = (x * x).sum(-1, keepdim=True) / channels
        return x / (square + EPSILON * self.scale * self.scale).sqrt() * self.weight + self.bias
