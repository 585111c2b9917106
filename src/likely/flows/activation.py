"""Activations as maps: between all real values and an interval."""

from torch import Tensor
from torch.nn.functional import logsigmoid

from likely.event import UNIT
from likely.flows.map import Map


class Sigmoid(Map):
    """z = σ(x) = 1 / (1 + e⁻ˣ), from the reals into (0, 1).

    Raises:
        InputError: x so large that σ(x) rounds to 0 or 1.
    """

    count = 0
    codomain = UNIT

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """No parameters."""
        return UNIT.check(x.sigmoid(), "σ(x)"), logsigmoid(x) + logsigmoid(-x)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x = ln z − ln(1 − z)."""
        UNIT.check(z, "z")
        return z.logit(), -z.log() - (-z).log1p()


class Logit(Map):
    """z = ln x − ln(1 − x), from (0, 1) onto the reals: the inverse of `Sigmoid`."""

    count = 0
    domain = UNIT

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """No parameters."""
        return Sigmoid().inverse(x, parameters)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x = σ(z)."""
        return Sigmoid().forward(z, parameters)
