"""Elementwise leaves; they hold no cache, being causal by themselves."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from likely.distributions import integers
from likely.nn.exact import ExactLeaf
from likely.nn.leaf import Leaf

FINE = 4096  # grid points per unit of a gate's argument
ENDS = 12  # arguments of a gate beyond ±ENDS count as ±ENDS
TABLE_UNIT = 22  # values of a gate's factors are in units of 2⁻²²


class ReLU(Leaf, nn.ReLU):
    """max(x, 0)."""


class Gate(Leaf):
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
        a, b = halves(x, self.width)
        return (a.tanh() * b.sigmoid()).flatten(x.ndim - 1)

    def exact(self, stored: dict[str, Tensor]) -> "ExactGate":
        """Return the gate by tables."""
        return ExactGate(self.width)


class ExactGate(ExactLeaf):
    """tanh(a) · σ(b), looked up on a grid of 2⁻¹² within ±12, in units of 2⁻²² each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.reach = float(ENDS * FINE)
        self.register_buffer("tanh", refined(integers.tangent()), persistent=False)
        middle = ENDS * integers.STEPS
        self.register_buffer("sigmoid", refined(integers.logistic()[middle:-middle]), persistent=False)

    def forward(self, x: Float[Tensor, "*batch two_c"]) -> Float[Tensor, "*batch c"]:
        """Halve the channels."""
        index = (x * FINE).round_().clamp_(-self.reach, self.reach).add_(self.reach).int()
        a, b = halves(index, self.width)
        return integers.look_up(self.tanh, a).mul_(integers.look_up(self.sigmoid, b)).flatten(x.ndim - 1)


def halves(x: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return the two halves of each group of 2·width channels: (…, c), or (…, groups, c) of several groups."""
    if x.shape[-1] == 2 * width:
        a, b = x.chunk(2, -1)
    else:
        a, b = x.unflatten(-1, (-1, 2, width)).unbind(-2)
    return a, b


def refined(table: Int[Tensor, " steps"]) -> Float[Tensor, " refined"]:
    """Return four points for one by linear interpolation, from units of 2⁻³⁰ to values in units of 2⁻²²."""
    fractions = torch.arange(FINE // integers.STEPS)
    between = table[:-1, None] + (table.diff()[:, None] * fractions >> 2)
    whole = torch.cat([between.flatten(), table[-1:]]) >> (integers.UNIT - TABLE_UNIT)
    return whole.double() * 2.0**-TABLE_UNIT
