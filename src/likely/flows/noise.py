"""Dequantisation noise that is fitted: q(u | x) inside (0, 1), conditioned on the symbols."""

import torch
from torch import Tensor, nn

from likely.densities.bases import Uniform
from likely.density import Density
from likely.event import UNIT, Event
from likely.flows.flow import Flow
from likely.flows.maps.map import Map
from likely.flows.maps.spline import RationalQuadraticSpline
from likely.flows.transforms.coupling import Coupling
from likely.flows.transforms.elementwise import Elementwise
from likely.flows.transforms.transform import Inverse, Pair, Transform, finite, sum_values
from likely.nn import ContextEncoder, Leaf
from likely.nn.network import ResidualNetwork, is_image

FEATURES = 64


class UnitSpline(Map):
    """A monotone spline of (0, 1) onto itself, in place of a sigmoid, because a sigmoid saturates.

    Values next to an end are as exact as numbers near one, and none is rounded onto it.

    Args:
        bins: of the spline.
    """

    domain = codomain = UNIT

    def __init__(self, bins: int = 8) -> None:
        self.bins = bins
        self._spline = RationalQuadraticSpline(bins, 1.0)
        self.count = self._spline.count

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the spline; parameters are its own."""
        centred = 2 * UNIT.check(x, "x") - 1
        z, ladj = self._spline.forward(centred, parameters)
        return _inside(z), ladj

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Invert the spline in closed form."""
        centred = 2 * UNIT.check(z, "z") - 1
        x, ladj = self._spline.inverse(centred, parameters)
        return _inside(x), ladj


def _inside(value: Tensor) -> Tensor:
    """Map (−1, 1) into (0, 1)."""
    finfo = torch.finfo(value.dtype)
    return ((value + 1) / 2).clamp(finfo.tiny, 1 - finfo.eps)


def variational_noise(event: Event) -> Density:
    """Return q(u | x) for symbols x of an event: couplings of splines; at the start u is uniform for any symbols."""
    if is_image(event.shape):
        return ImageNoise(event)
    parts: list[Transform] = [Elementwise(UnitSpline(), event.shape, FEATURES)]
    if event.dims > 1:
        for swapped in (False, True):
            parts.append(Coupling(UnitSpline(), event.shape, swapped=swapped, features=FEATURES))
    return Flow(Uniform(Event(event.shape)), _drawn_forwards(parts), event, features=FEATURES)


class SymbolNoise(Flow):
    """u_i = spline(ε_i; θ_{x_i}), ε_i uniform: noise that depends only on the value's own symbol, nearly free of cost.

    Where many values have one symbol, such as a black background, it learns a shape that the flow can fit.

    Args:
        symbols: the event of x.
        bins: of the splines.
    """

    def __init__(self, symbols: Event, bins: int = 8) -> None:
        spline = UnitSpline(bins)
        base = Uniform(Event(symbols.shape))
        super().__init__(base, [Inverse(GivenParameters(spline))], symbols)
        self.symbols, self.bins = symbols, bins
        self.encode = Table(symbols, spline.count)


class GivenParameters(Transform):
    """z_i = map(x_i; θ_i), ln|det| = Σ_i ln ∂z_i/∂x_i, with the context as parameters θ (n, …, map.count).

    Args:
        map: applied to each value.
    """

    def __init__(self, map: Map) -> None:
        super().__init__()
        self.map = map
        self.domain, self.codomain = map.domain, map.codomain

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """Apply the map, value by value."""
        assert context is not None
        z, ladj = self.map.forward(x, context)
        return z, sum_values(ladj)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Apply its inverse, value by value."""
        assert context is not None
        x, ladj = self.map.inverse(z, context)
        return finite(x, sum_values(ladj))


class Table(Leaf):
    """A row of numbers for every symbol (of every column, where columns have their own alphabets); zero at first.

    Args:
        symbols: the event.
        width: numbers per symbol.
    """

    def __init__(self, symbols: Event, width: int) -> None:
        super().__init__()
        sizes = torch.tensor(symbols.levels).view(-1)  # one alphabet, or one per column
        self.register_buffer("starts", sizes.cumsum(0) - sizes, persistent=False)
        self.rows = nn.Parameter(torch.zeros(int(sizes.sum()), width))

    def forward(self, x: Tensor) -> Tensor:
        """Symbols (n, …) → (n, …, width)."""
        return self.rows[x + self.starts]


class ImageNoise(Flow):
    """u = couplings of splines (ε; x), ε uniform, in checkerboards, with convolutions that see x at every place.

    Paper: Flow++: Improving Flow-Based Generative Models with Variational Dequantization and Architecture Design (Ho,
    Chen, Srinivas, Duan, Abbeel, 2019), https://arxiv.org/abs/1902.00275

    Args:
        symbols: the event of x.
    """

    def __init__(self, symbols: Event) -> None:
        network = ResidualNetwork(32, 1)
        parts: list[Transform] = [
            Coupling(UnitSpline(), symbols.shape, "checkerboard", swapped=swapped, conditioner=network, features=32)
            for swapped in (False, True, False, True)
        ]
        super().__init__(Uniform(Event(symbols.shape)), _drawn_forwards(parts), symbols, features=32)
        self.symbols = symbols
        _, height, width = symbols.shape
        self.encode = ContextEncoder(symbols, 32, (height, width))


def _drawn_forwards(parts: list[Transform]) -> list[Transform]:
    """Return the transforms u → ε with inverses ε → u given by `parts`: noise is drawn in the direction of these."""
    return [Inverse(part) for part in reversed(parts)]
