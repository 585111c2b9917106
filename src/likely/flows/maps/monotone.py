"""Neural monotone maps of a value."""

import torch
from torch import Tensor

from likely.errors import require_positive, require_sizes
from likely.flows.maps.map import Map, bounded
from likely.flows.maps.root import invert

REACH = 3.0  # of the units' centres at the start, on either side of zero


class MonotoneLayer(Map):
    """z = ½ eˢ (x + Σ_j w_j tanh(v_j (x − c_j))) + b with positive w and v: a network of one layer, composed for more.

    Its slope is positive and at least ½ eˢ, so that it is onto the reals. Parameters of zero give centres c spread
    evenly and a z that is nearly x between them. ln w, ln v and s stay within ±bound of their start.

    Paper: Neural Autoregressive Flows (Huang, Krueger, Lacoste, Courville, 2018), https://arxiv.org/abs/1804.00779

    Args:
        units: number of tanh units.
        bound: largest change of a logarithm.

    Raises:
        InputError: no unit, or a bound that is not positive.
    """

    def __init__(self, units: int = 8, bound: float = 5.0) -> None:
        require_sizes(units=units)
        require_positive(bound=bound)
        self.units, self.bound = units, bound
        self.count = 3 * units + 2

    def _parts(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return w, v, c (…, units), ½ eˢ and b (…)."""
        units = parameters[..., :-2].unflatten(-1, (3, self.units))
        s, b = parameters[..., -2:].unbind(-1)
        log_w, log_v = bounded(units[..., :2, :], self.bound).unbind(-2)
        spacing = 2 * REACH / self.units
        centres = torch.arange(self.units, dtype=parameters.dtype, device=parameters.device) + 0.5
        w = spacing / 2 * log_w.exp()
        v = log_v.exp() / spacing
        c = units[..., 2, :] + spacing * centres - REACH
        scale = bounded(s, self.bound).exp() / 2
        return w, v, c, scale, b

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters are those of w, v and c, one of each per unit, then s and b."""
        w, v, c, scale, b = self._parts(parameters)
        u = v * (x[..., None] - c)
        slope = 4 * v * (2 * u).sigmoid() * (-2 * u).sigmoid()  # tanh′ = 1 − tanh², without the difference
        z = scale * (x + (w * u.tanh()).sum(-1)) + b
        ladj = (scale * (1 + (w * slope).sum(-1))).log()
        return z, ladj

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Find the root, no further from (z − b) / ½ eˢ than Σ w."""
        w, _, _, scale, b = self._parts(parameters)
        x, reach = (z - b) / scale, w.sum(-1)
        return invert(self.forward, z, parameters, x - reach, x + reach)
