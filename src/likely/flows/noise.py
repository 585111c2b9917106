"""Dequantisation noise that is fitted: q(u | x) inside (0, 1), conditioned on the symbols."""

import torch
from torch import Tensor

from likely.bases import Uniform
from likely.density import Density
from likely.event import UNIT, Event
from likely.flows.conditioner import ResidualNetwork, is_image
from likely.flows.coupling import Coupling
from likely.flows.elementwise import Elementwise
from likely.flows.flow import Flow
from likely.flows.map import Map
from likely.flows.spline import RationalQuadraticSpline
from likely.flows.transform import Inverse, Transform
from likely.nn import ContextEncoder

FEATURES = 64


class UnitSpline(Map):
    """A monotone spline of (0, 1) onto itself: what never leaves the interval needs no sigmoid, which saturates.

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
        """Parameters are those of the spline."""
        return self._inside(*self._spline.forward(2 * UNIT.check(x, "x") - 1, parameters))

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """In closed form."""
        return self._inside(*self._spline.inverse(2 * UNIT.check(z, "z") - 1, parameters))

    def _inside(self, value: Tensor, ladj: Tensor) -> tuple[Tensor, Tensor]:
        finfo = torch.finfo(value.dtype)
        return ((value + 1) / 2).clamp(finfo.tiny, 1 - finfo.eps), ladj


def variational_noise(event: Event) -> Density:
    """q(u | x) for symbols x of an event: couplings of splines, uniform at the start, whatever the symbols."""
    if is_image(event.shape):
        return ImageNoise(event)
    parts: list[Transform] = [Elementwise(UnitSpline(), event.shape, FEATURES)]
    if event.dims > 1:
        for swapped in (False, True):
            parts.append(Coupling(UnitSpline(), event.shape, swapped=swapped, features=FEATURES))
    return Flow(Uniform(Event(event.shape)), _drawn_forwards(parts), event, features=FEATURES)


class ImageNoise(Flow):
    """u = couplings of splines (ε; x), ε uniform, in checkerboards, by convolutions that see x at every place.

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

    def _encoded(self, context: Tensor | None) -> Tensor | None:
        features = super()._encoded(context)
        return None if features is None else features.movedim(-1, 1)


def _drawn_forwards(parts: list[Transform]) -> list[Transform]:
    """The transforms u → ε whose inverses, in which noise is drawn, are these."""
    return [Inverse(part) for part in reversed(parts)]
