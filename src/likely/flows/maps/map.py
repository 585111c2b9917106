"""Monotone maps of single values, given their parameters; transforms provide the parameters."""

from abc import ABC, abstractmethod

from torch import Tensor

from likely.arguments import PlainArguments
from likely.errors import InputError, require_positive
from likely.event import REAL, Configured, Interval


class Map(PlainArguments, Configured, ABC):
    """x → z, strictly increasing, value by value, under `count` parameters each.

    Parameters that are zero give the identity, or the map nearest to it: a network with its last layer at zero starts
    there. A subclass keeps its constructor's arguments as attributes of the same names.
    """

    count: int
    domain: Interval = REAL
    codomain: Interval = REAL

    @abstractmethod
    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x (…) under parameters (…, count) → z and ln ∂z/∂x (…)."""

    def image(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `forward` does, for x of any size: a z that rounds to an end of the codomain is moved inside.

        For values that are drawn, where nothing is computed from z any more.
        """
        return self.forward(x, parameters)

    def preimage(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `inverse` does, for z of any size, as `image` does for x."""
        return self.inverse(z, parameters)

    @abstractmethod
    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """z (…) under parameters (…, count) → x and ln ∂x/∂z (…).

        Raises:
            ConvergenceError: a root was bracketed no closer than the precision allows.
        """


def require_parameters(map: Map) -> int:
    """Return the number of a map's parameters.

    Raises:
        InputError: it has none, so that nothing can determine them.
    """
    if not map.count:
        raise InputError(
            f"a map whose parameters depend on something is expected, {type(map).__name__} has none: "
            "take Elementwise, without features"
        )
    return map.count


def bounded(a: Tensor, bound: float) -> Tensor:
    """Return c tanh(a / c), inside ±c and nearly a where a is small."""
    return bound * (a / bound).tanh()


class Shift(Map):
    """z = x + b."""

    count = 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters are b."""
        return x + parameters[..., 0], x.new_zeros(x.shape)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x = z − b."""
        return z - parameters[..., 0], z.new_zeros(z.shape)


class Affine(Map):
    """z = eˢ x + b, with s = c tanh(a / c) to keep the scale within e^±c.

    Args:
        bound: c, largest |ln scale|.

    Raises:
        InputError: c is not positive.
    """

    count = 2

    def __init__(self, bound: float = 5.0) -> None:
        require_positive(bound=bound)
        self.bound = bound

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters are a and b."""
        a, b = parameters.unbind(-1)
        s = bounded(a, self.bound)
        return s.exp() * x + b, s

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x = e⁻ˢ (z − b)."""
        a, b = parameters.unbind(-1)
        s = bounded(a, self.bound)
        return (z - b) / s.exp(), -s
