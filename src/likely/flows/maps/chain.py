"""Several maps of a value as one."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from likely.errors import InputError
from likely.flows.maps.map import Map


class Chain(Map):
    """z = m_K(… m_1(x)), the parameters of one map after those of the other.

    Args:
        maps: m_1, …, m_K, at least one.

    Raises:
        InputError: no map, or a domain that is not the codomain of the map before.
    """

    def __init__(self, maps: Sequence[Map]) -> None:
        self.maps = tuple(maps)
        if not self.maps:
            raise InputError("a chain of maps has at least one, found none")
        for first, second in pairwise(self.maps):
            if first.codomain != second.domain:  # else the chain would not be onto its codomain
                raise InputError(
                    f"{type(second).__name__} takes all values inside {second.domain}, "
                    f"but {type(first).__name__} before it gives those inside {first.codomain}"
                )
        self.count = sum(map.count for map in self.maps)
        self.domain, self.codomain = self.maps[0].domain, self.maps[-1].codomain

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Apply one after the other."""
        total = x.new_zeros(x.shape)
        for map, own in zip(self.maps, self._own(parameters), strict=True):
            x, ladj = map.forward(x, own)
            total = total + ladj
        return x, total

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Invert them backwards."""
        total = z.new_zeros(z.shape)
        pairs = list(zip(self.maps, self._own(parameters), strict=True))
        for map, own in reversed(pairs):
            z, ladj = map.inverse(z, own)
            total = total + ladj
        return z, total

    def _own(self, parameters: Tensor) -> tuple[Tensor, ...]:
        return parameters.split([map.count for map in self.maps], -1)
