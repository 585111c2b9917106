"""Elementwise leaves; they hold no cache, being causal by themselves."""

from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from likely.distributions import integers
from likely.nn.exact import ExactLeaf
from likely.nn.leaf import Leaf

FINE = 4096  # grid points per unit of an argument
ENDS = 12  # arguments of σ and tanh beyond ±ENDS count as ±ENDS
TABLE_UNIT = 22  # values are in units of 2⁻²²


class ReLU(Leaf, nn.ReLU):
    """max(x, 0)."""


class Sigmoid(Leaf, nn.Sigmoid):
    """1 / (1 + e^−x)."""

    def exact(self, stored: dict[str, Tensor]) -> "Lookup":
        """Return the table."""
        return Lookup(sigmoid_table())


class Tanh(Leaf, nn.Tanh):
    """tanh(x)."""

    def exact(self, stored: dict[str, Tensor]) -> "Lookup":
        """Return the table."""
        return Lookup(tanh_table())


class SiLU(Leaf, nn.SiLU):
    """x · σ(x).

    Paper: Gaussian Error Linear Units (Hendrycks, Gimpel, 2016), https://arxiv.org/abs/1606.08415
    """

    def exact(self, stored: dict[str, Tensor]) -> "ExactShare":
        """Return the product with a table of σ."""
        return ExactShare(Lookup(sigmoid_table()))


class GELU(Leaf, nn.GELU):
    """x · Φ(x), Φ being the distribution function of a standard normal variable.

    Paper: Gaussian Error Linear Units (Hendrycks, Gimpel, 2016), https://arxiv.org/abs/1606.08415
    """

    def exact(self, stored: dict[str, Tensor]) -> "ExactShare":
        """Return the product with a table of Φ."""
        return ExactShare(Lookup(normal_table(), integers.TAILS))


class ExactShare(ExactLeaf):
    """x · share(x), the share of x that passes, from a table; below the table's end none does.

    Args:
        share: the table.
    """

    def __init__(self, share: "Lookup") -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return the share of every value."""
        return torch.where(x < -self.share.ends, 0.0, x * self.share(x))


class GLU(Leaf):
    """a · σ(b), where the last dimension is a then b.

    Paper: Language Modeling with Gated Convolutional Networks (Dauphin, Fan, Auli, Grangier, 2017),
    https://arxiv.org/abs/1612.08083
    """

    def forward(self, x: Float[Tensor, "*batch two_c"]) -> Float[Tensor, "*batch c"]:
        """Halve the channels."""
        return nn.functional.glu(x, -1)

    def exact(self, stored: dict[str, Tensor]) -> "ExactGLU":
        """Return the gate by a table."""
        return ExactGLU()


class ExactGLU(ExactLeaf):
    """a · σ(b), with σ looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = Lookup(sigmoid_table())

    def forward(self, x: Float[Tensor, "*batch two_c"]) -> Float[Tensor, "*batch c"]:
        """Halve the channels."""
        a, b = x.chunk(2, -1)
        return a * self.sigmoid(b)


class Lookup(ExactLeaf):
    """A function looked up on a grid of 2⁻¹² within ±ends, in units of 2⁻²².

    Args:
        table: its values at every point of the grid.
        ends: where the table ends; arguments beyond count as the end.
    """

    def __init__(self, table: Float[Tensor, " points"], ends: int = ENDS) -> None:
        super().__init__()
        self.ends = ends
        self.register_buffer("table", table, persistent=False)

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return the function of every value."""
        return integers.look_up(self.table, grid_index(x, self.ends))


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
        self.register_buffer("tanh", tanh_table(), persistent=False)
        self.register_buffer("sigmoid", sigmoid_table(), persistent=False)

    def forward(self, x: Float[Tensor, "*batch two_c"]) -> Float[Tensor, "*batch c"]:
        """Halve the channels."""
        a, b = halves(grid_index(x), self.width)
        gated = integers.look_up(self.tanh, a)
        gated.mul_(integers.look_up(self.sigmoid, b))
        return gated.flatten(x.ndim - 1)


def grid_index(x: Tensor, ends: int = ENDS) -> Int[Tensor, "..."]:
    """Return the place of each value in a table over the grid of 2⁻¹² within ±ends."""
    reach = float(ends * FINE)
    return (x * FINE).round_().clamp_(-reach, reach).add_(reach).int()


@cache
def tanh_table() -> Float[Tensor, " points"]:
    """Return tanh at every point of the grid; all who look it up share one."""
    return refined(integers.tangent())


@cache
def sigmoid_table() -> Float[Tensor, " points"]:
    """Return 1 / (1 + e^−x) at every point of the grid; all who look it up share one."""
    middle = ENDS * integers.STEPS
    return refined(integers.logistic()[middle:-middle])


@cache
def normal_table() -> Float[Tensor, " points"]:
    """Return Φ at every point of the grid; all who look it up share one."""
    return refined(integers.normal())


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
