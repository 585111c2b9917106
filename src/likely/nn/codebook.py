"""A code book: vectors that codes stand for, and the codes of the nearest of them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from likely.distributions.discrete import uniform
from likely.nn.leaf import Leaf

EPSILON = 1e-5  # of Laplace smoothing
NEVER = -1  # in place of a number of steps, until the entry is put somewhere


class Codebook(Leaf):
    """Entries e_k, each the moving average of the vectors it is the nearest to.

    With n_k of a batch's vectors nearest to e_k, and s_k their sum,

        N_k ← γ N_k + (1 − γ) n_k,  m_k ← γ m_k + (1 − γ) s_k,  e_k = m_k / N̂_k,

    where N̂_k = N (N_k + ε) / (N + K ε), N = Σ_k N_k, is never zero (Laplace smoothing).

    Args:
        codes: K.
        size: values of an entry.
    """

    def __init__(self, codes: int, size: int) -> None:
        super().__init__()
        self.register_buffer("entries", torch.randn(codes, size))
        self.register_buffer("counts", torch.ones(codes))  # N
        self.register_buffer("sums", self.entries.clone())  # m
        self.register_buffer("idle", torch.full((codes,), NEVER))  # steps since it was nearest to anything

    def forward(self, z: Tensor) -> Tensor:
        """Codes (n, *places) → entries (n, *places, size); vectors are returned as they are."""
        return z if z.is_floating_point() else self.entries[z]

    def nearest(self, vectors: Tensor) -> Tensor:
        """Codes (…) of the nearest entries, from vectors (…, size); the first of several."""
        with torch.no_grad():  # in float64, so that a batch of another size makes no difference
            flat = vectors.detach().reshape(-1, vectors.shape[-1]).double()
            distance = torch.cdist(flat, self.entries.double())
            return distance.argmin(1).view(vectors.shape[:-1])

    @torch.no_grad()
    def update(self, vectors: Tensor, z: Tensor, decay: float, revival: int, generator: torch.Generator | None) -> None:
        """Take in the vectors (…, size) of a batch and their codes z (…); start dead entries again.

        Args:
            vectors: of a batch.
            z: their codes.
            decay: γ.
            revival: an entry that was nearest to nothing for so many updates is put where a vector is.
            generator: draws these vectors.
        """
        rows = vectors.reshape(-1, vectors.shape[-1])
        counts, sums = self.sums_by_code(rows, z.flatten())
        self.counts.lerp_(counts, 1 - decay)
        self.sums.lerp_(sums, 1 - decay)
        total = self.counts.sum()
        smoothed = total * (self.counts + EPSILON) / (total + len(self.counts) * EPSILON)
        self.entries.copy_(self.sums / smoothed[:, None])
        self.idle.clamp_min_(0).add_(1).masked_fill_(counts > 0, 0)
        dead = (self.idle >= revival).nonzero()[:, 0]
        if len(dead):
            places = uniform((len(rows),), generator, rows).argsort()[: len(dead)]
            self.place(dead[: len(places)], rows[places])

    @property
    def started(self) -> bool:
        """Whether entries have been taken from data."""
        return bool((self.idle != NEVER).any())

    def place(self, codes: Tensor, entries: Tensor) -> None:
        """Put some entries somewhere, as if each had been the nearest to one vector there."""
        self.entries[codes] = entries
        self.sums[codes] = entries
        self.counts[codes] = 1.0
        self.idle[codes] = 0

    def sums_by_code(self, rows: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Number and sum of the rows (n, size) of every code: (K,), (K, size)."""
        counts = z.bincount(minlength=len(self.entries)).to(self.entries.dtype)
        return counts, torch.zeros_like(self.entries).index_add_(0, z, rows.to(self.entries.dtype))

    def quantize(self, largest: float) -> dict[str, Tensor]:
        """Return the entries: nothing but training reads the rest."""
        return {"entries": self.entries}

    def exact(self, stored: dict[str, Tensor]) -> "ExactCodebook":
        """Return the entries alone."""
        return ExactCodebook(stored["entries"])


class ExactCodebook(Codebook):
    """Entries with distances that are added up value by value, in one order."""

    def __init__(self, entries: Tensor) -> None:
        nn.Module.__init__(self)
        self.register_buffer("entries", entries.double())

    def nearest(self, vectors: Float[Tensor, "*batch size"]) -> Int[Tensor, "*batch"]:
        """Return codes of the nearest entries, the first of several."""
        distance = vectors.new_zeros(())
        for x, e in zip(vectors[..., None].unbind(-2), self.entries.unbind(1), strict=True):
            distance = distance + (x - e) * (x - e)
        return distance.argmin(-1)
