"""Elementwise leaves; they hold no cache, being causal by themselves."""

from jaxtyping import Float
from torch import Tensor, nn


class ReLU(nn.ReLU):
    """max(x, 0)."""


class Gate(nn.Module):
    """tanh(a) · σ(b), where each group of 2·width channels is a then b.

    Paper: Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), https://arxiv.org/abs/1606.05328

    Args:
        width: channels that a group leaves with; any number of groups may be handed in.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Float[Tensor, "*batch two_c"]) -> Float[Tensor, "*batch c"]:
        """Halve the channels."""
        if x.shape[-1] == 2 * self.width:
            a, b = x.chunk(2, -1)
            return a.tanh() * b.sigmoid()
        a, b = x.unflatten(-1, (-1, 2, self.width)).unbind(-2)
        return (a.tanh() * b.sigmoid()).flatten(-2)
