"""Dequantisation: noise turns symbols into real values. Also the transforms that a flow over data begins with."""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Literal

import torch
from torch import Tensor

from likely.density import Density
from likely.distributions.discrete import uniform
from likely.errors import InputError, require_sizes
from likely.event import UNIT, Event, refuse
from likely.flows.noise import SymbolNoise, variational_noise
from likely.flows.transforms.standardization import LogitWithMargin, Standardize
from likely.flows.transforms.tails import StandardizeTails
from likely.flows.transforms.transform import Pair, Surjection, Transform, sum_values

FEW = 256  # symbols, of which every cell has enough numbers in float32

Dequantization = Literal["uniform", "factorized", "variational"]


class Dequantize(Surjection):
    """z = (x + u) / levels with noise u inside (0, 1), uniform or u ~ q(u | x): symbols become values inside (0, 1).

    P(x) = ∫ p((x + u) / levels) du / ∏ levels ≥ exp E_q[ln p(z) − ln q(u | x)] / ∏ levels. The inverse gives the symbol
    of the cell that z lies in; the cells of the first and the last symbol extend to infinity, so that P sums to one.

    Of more than 256 symbols a cell holds few numbers of float32, and noise in it would be no longer uniform. Where a
    transform that comes soon takes float64 and casts itself (`precise`), noise and z are in float64 then.

    Paper: A note on the evaluation of generative models (Theis, van den Oord, Bethge, 2016),
    https://arxiv.org/abs/1511.01844; with q, Flow++ (Ho et al., 2019), https://arxiv.org/abs/1902.00275

    Args:
        levels: size of the alphabet, one for all or one per column.
        noise: q, a density inside (0, 1) conditioned on the symbols, with differentiable draws; None: uniform.

    Raises:
        InputError: an alphabet that is empty or too large for single precision, or a noise of another support.
    """

    codomain = UNIT

    def __init__(self, levels: int | tuple[int, ...], noise: Density | None = None) -> None:
        super().__init__()
        each = levels if isinstance(levels, tuple | list) else (levels,)
        for count in each:
            require_sizes(levels=count)
        counts = torch.tensor(levels)
        if int(counts.max()) > 2**16:
            raise InputError(f"dequantisation takes alphabets of at most 65,536 symbols, found {int(counts.max())}")
        if noise is not None and noise.support != UNIT:
            raise InputError(f"dequantisation noise inside (0, 1) is expected, found a density inside {noise.support}")
        self.levels, self.noise = levels, noise
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("like", torch.zeros(()), persistent=False)  # has the precision
        self.wide = False  # whether z is in float64

    def followed_by(self, others: Sequence[Transform]) -> None:
        """Give z in float64, where cells are small, if it is cast by one of the others, and kept by those before."""
        kept = takewhile(lambda other: other.precise or other.keeps_precision, others)
        self.wide = int(self.counts.max()) > FEW and any(other.precise for other in kept)

    def forward(self, x: Tensor, context: Tensor | None = None, generator: torch.Generator | None = None) -> Pair:
        """Symbols (n, …) → values inside (0, 1) and −ln q(z | x) (n,)."""
        like = self.like.to(x.device)
        if self.wide:
            like = like.double()
        if self.noise is None:
            u = uniform(x.shape, generator, like)
            log_q = u.new_zeros(len(x))
        else:
            u, log_q = self.noise.draw(len(x), x, generator=generator)
            u = u.to(like)
        edge = 4 * torch.finfo(u.dtype).eps * self.counts  # so that rounding takes no value into the next cell
        z = (x + u.maximum(edge).minimum(1 - edge)) / self.counts
        log_counts = self.counts.to(u.dtype).log()
        return z, -log_q - sum_values(log_counts.expand(x.shape))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Values → the symbols (n, …) of the cells that they lie in, int64, and zeros (n,)."""
        refuse(z.isnan(), z, "z", "numbers are expected")
        symbols = (z * self.counts).floor().long()
        return symbols.clamp_min(0).minimum(self.counts - 1), z.new_zeros(len(z))

    def event_after(self, before: Event) -> Event:
        """Real values; x must be of this alphabet."""
        if before.levels != self.levels:
            raise InputError(f"dequantisation of {self.levels} levels found {before}")
        return Event(before.shape)

    def event_before(self, after: Event) -> Event:
        """Symbols."""
        return Event(after.shape, self.levels)


def noise_for(event: Event, dequantization: Dequantization) -> Density | None:
    """Return the noise of a name, for symbols of an event; None is uniform noise."""
    kinds: dict[str, Callable[[Event], Density | None]] = {
        "uniform": lambda _: None,
        "factorized": SymbolNoise,
        "variational": variational_noise,
    }
    if dequantization not in kinds:
        raise InputError(f"dequantization: one of {', '.join(kinds)} is expected, found {dequantization!r}")
    return kinds[dequantization](event)


def preprocessing(event: Event, dequantization: Dequantization = "uniform") -> list[Transform]:
    """Return the first transforms of a flow over data: to real values of mean zero and standard deviation one.

    Symbols are dequantised, and their logit is taken (with a margin, as in MAF). The pixels of a channel share mean and
    deviation: at a pixel that is black in nearly all images, one pixel of ink would lie hundreds of the pixel's own
    deviations out.

    Args:
        event: of the data.
        dequantization: noise that symbols are dequantised with: "uniform", or fitted, of every value by itself given
            its symbol ("factorized"), or of all values given all symbols ("variational").
    """
    if event.levels is None:
        return [StandardizeTails(event.shape)]
    shape = event.shape
    if len(shape) == 3:
        shape = (shape[0], 1, 1)
    noise = noise_for(event, dequantization)
    return [Dequantize(event.levels, noise), LogitWithMargin(), Standardize(shape)]
