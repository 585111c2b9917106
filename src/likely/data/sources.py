"""Sources of known entropy: densities to draw data from, with an exact `log_prob` to measure a model against.

All probabilities are float64. `entropy()` is in nats per example; for a conditional source it is H(x | context).
"""

from abc import abstractmethod

import torch
from torch import Tensor

from likely.density import Density
from likely.distributions.discrete import uniform
from likely.errors import InputError
from likely.event import Event


class Source(Density):
    """A density with an entropy that is known exactly."""

    @abstractmethod
    def entropy(self) -> float:
        """Entropy of one example in nats, exact."""


class Coins(Source):
    """Independent coins, p(x) = ∏_i p_i^{x_i} (1 − p_i)^{1 − x_i}.

    Args:
        probabilities: of a one, for each coin.
    """

    def __init__(self, probabilities: tuple[float, ...]) -> None:
        if not all(0 <= p <= 1 for p in probabilities):
            raise InputError(f"probabilities from 0 to 1 are expected, found {probabilities}")
        super().__init__(Event((len(probabilities),), levels=2))
        self.probabilities = probabilities
        ones = torch.tensor(probabilities, dtype=torch.float64)
        self.register_buffer("table", torch.stack([1 - ones, ones]), persistent=False)  # (2, coins)

    def entropy(self) -> float:
        """Σ_i H(p_i)."""
        return _entropy(self.table)

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.table.log().gather(0, x).sum(1)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return (uniform((n, len(self.probabilities)), generator, self.table) < self.table[1]).long()


class Ising(Source):
    """The Ising model on a square with free boundaries, p(x) ∝ exp(β Σ_{i~j} s_i s_j), s = 2x − 1, by enumeration.

    Args:
        side: of the square, at most 4 (2^16 states).
        beta: inverse temperature; 0.44 is critical on the infinite lattice.
    """

    def __init__(self, side: int = 4, beta: float = 0.44) -> None:
        if not 1 <= side <= 4:
            raise InputError(f"all 2^(side²) states are enumerated: side 1 to 4 is expected, found {side}")
        super().__init__(Event((1, side, side), levels=2))
        self.side, self.beta = side, beta
        bits = torch.arange(side * side)
        states = torch.arange(2 ** (side * side))
        spins = 2 * (states[:, None] >> bits & 1).view(-1, side, side) - 1
        bonds = (spins[:, 1:] * spins[:, :-1]).sum((1, 2)) + (spins[:, :, 1:] * spins[:, :, :-1]).sum((1, 2))
        self.register_buffer("bits", bits, persistent=False)
        self.register_buffer("table", (beta * bonds.double()).softmax(0), persistent=False)  # (states,)

    def entropy(self) -> float:
        """−Σ p ln p over all states."""
        return _entropy(self.table)

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.table.log()[(x.flatten(1) << self.bits).sum(1)]

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return (_draw(self.table, (n,), generator)[:, None] >> self.bits & 1).view(n, *self.event.shape)


class ColourChain(Source):
    """RGB images: every value is a sum of earlier ones plus noise e ~ q, modulo `levels`.

    R = R' + e, G = R + e, B = R + G + e, where R' is the red of the pixel to the left (in the first column: above;
    the first pixel's red is uniform) and q = (1 − noise)·δ_0 + noise·uniform. So H = ln levels + (3hw − 1) H(q).

    Args:
        height: of the image.
        width: of the image.
        levels: of each colour.
        noise: from 0 (excluded) to 1.
    """

    def __init__(self, height: int, width: int, levels: int = 4, noise: float = 0.5) -> None:
        super().__init__(Event((3, height, width), levels=levels))
        self.height, self.width, self.levels, self.noise = height, width, levels, noise
        self.register_buffer("q", _noise(levels, noise), persistent=False)

    def entropy(self) -> float:
        """Closed form, ln levels + (3hw − 1) H(q)."""
        return float(torch.tensor(self.levels).double().log()) + (self.event.dims - 1) * _entropy(self.q)

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        r, g, b = x.unbind(1)
        e = torch.stack([r - _previous(r), g - r, b - r - g], 1) % self.levels
        terms = self.q.log()[e].flatten(1)
        return terms[:, 1:].sum(1) + torch.full_like(terms[:, 0], 1 / self.levels).log()

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        e = _draw(self.q, (n, *self.event.shape), generator)
        e[:, 0, 0, 0] = _draw(torch.full_like(self.q, 1 / self.levels), (n,), generator)
        e[:, 0, :, 0] = e[:, 0, :, 0].cumsum(1)
        r = e[:, 0].cumsum(2)
        g = r + e[:, 1]
        return torch.stack([r, g, r + g + e[:, 2]], 1) % self.levels


class Upsampled(Source):
    """Images given small ones, p(x | c): each pixel is its context pixel plus noise modulo `levels`, x = c↑ + e.

    The noise is sticky: e equals the noise to the left (in the first column: above) with probability `stay`, else it
    is drawn afresh from q = (1 − noise)·δ_0 + noise·uniform. So context and neighbours both inform, and
    H(x | c) = H(q) + (hw − 1) Σ_k q_k H(stay·δ_k + (1 − stay)·q), whatever c.

    Args:
        height: of the image, even; the context has half of it.
        width: of the image, even; the context has half of it.
        levels: of the image and of the context.
        noise: from 0 (excluded) to 1.
        stay: from 0 to 1 (excluded).
    """

    def __init__(self, height: int, width: int, levels: int = 4, noise: float = 0.5, stay: float = 0.5) -> None:
        if height % 2 or width % 2 or not 0 <= stay < 1:
            raise InputError(f"even sizes and 0 <= stay < 1 are expected, found {height}×{width}, stay {stay}")
        super().__init__(Event((1, height, width), levels), Event((1, height // 2, width // 2), levels))
        self.height, self.width, self.levels, self.noise, self.stay = height, width, levels, noise, stay
        q = _noise(levels, noise)
        self.register_buffer("q", q, persistent=False)
        steps = stay * torch.eye(levels, dtype=torch.float64) + (1 - stay) * q  # p(e | e'), (e', e)
        self.register_buffer("steps", steps, persistent=False)

    def entropy(self) -> float:
        """Closed form of H(x | context), the same for every context."""
        step = sum(float(p) * _entropy(row) for p, row in zip(self.q, self.steps, strict=True))
        return _entropy(self.q) + (self.event.dims - 1) * step

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        e = (x - self._enlarge(context))[:, 0] % self.levels
        terms = self.steps.log()[_previous(e), e].flatten(1)
        return terms[:, 1:].sum(1) + self.q.log()[e[:, 0, 0]]

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        e = _draw(self.q, (n, self.height, self.width), generator)
        stays = uniform(tuple(e.shape), generator, self.q) < self.stay
        for i in range(1, self.height):
            e[:, i, 0] = torch.where(stays[:, i, 0], e[:, i - 1, 0], e[:, i, 0])
        for j in range(1, self.width):
            e[:, :, j] = torch.where(stays[:, :, j], e[:, :, j - 1], e[:, :, j])
        return (self._enlarge(context) + e[:, None]) % self.levels

    def _enlarge(self, context: Tensor | None) -> Tensor:
        assert context is not None
        return context.repeat_interleave(2, 2).repeat_interleave(2, 3)


def _noise(levels: int, noise: float) -> Tensor:
    """q = (1 − noise)·δ_0 + noise·uniform, (levels,)."""
    if levels < 1 or not 0 < noise <= 1:
        raise InputError(f"levels >= 1 and 0 < noise <= 1 are expected, found levels {levels}, noise {noise}")
    q = torch.full((levels,), noise / levels, dtype=torch.float64)
    q[0] += 1 - noise
    return q


def _draw(p: Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Symbols of one distribution p (levels,), by the inverse of its CDF."""
    return torch.searchsorted(p.cumsum(0)[:-1], uniform(shape, generator, p), right=True)


def _previous(plane: Tensor) -> Tensor:
    """The value to the left, in the first column the one above, for the first pixel 0; (n, h, w)."""
    previous = plane.roll(1, 2)
    previous[:, 1:, 0] = plane[:, :-1, 0]
    previous[:, 0, 0] = 0
    return previous


def _entropy(p: Tensor) -> float:
    return -float(torch.xlogy(p, p).sum())
