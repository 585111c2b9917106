"""Attention over queries, keys and values."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from likely.distributions import integers
from likely.distributions.frequencies import softmax
from likely.errors import ExactnessError, InputError
from likely.nn.cache import Cache
from likely.nn.exact import HALF, ROOM, ExactLeaf, extreme_inputs, grid_of, on_input_grid
from likely.nn.leaf import Leaf

WEIGHT_BITS = 20  # e^(score − largest) is in units of 2⁻²⁰
SHARE_BITS = 15  # the shares of the values are in units of 2⁻¹⁵
FAR = 1 << 20  # beyond which no score lies, in units of the table


class Attention(Leaf):
    """y_i = Σ_j softmax_j(q_i · k_j / √d) v_j, for each of several heads.

    Causal, place i sees the places j ≤ i, and with a cache it is handed the newest places and remembers their keys and
    values. Otherwise every place sees all.

    Paper: Attention Is All You Need (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762

    Args:
        heads: number of heads, a divisor of the width.
        causal: whether a place sees those before it and itself only.
    """

    def __init__(self, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal

    def forward(
        self, qkv: Float[Tensor, "n places three_width"], features: None = None, cache: Cache | None = None
    ) -> Float[Tensor, "n places width"]:
        """Mix the values of places.

        Args:
            qkv: queries, keys and values side by side.
            features: not taken.
            cache: of a draw, where the attention is causal.
        """
        q, k, v = by_head(qkv, self.heads)
        before = 0
        if cache is not None:
            k, v, before = cache.of(self, Memory).extend(k, v)
        mask = seen(q, k, before) if self.causal else None
        return side_by_side(self._mix(q, k, v, mask))

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def quantize(self, largest: float) -> dict[str, Tensor]:
        """Return the grid of queries, keys and values."""
        return {"grid": grid_of(largest)}

    def exact(self, stored: dict[str, Tensor]) -> "ExactAttention":
        """Return the twin in whole numbers."""
        return ExactAttention(self.heads, self.causal, stored)


class ExactAttention(ExactLeaf, Attention):
    """Scores of whole numbers, e^score by table, an integer sum, one division, and values of whole numbers."""

    def __init__(self, heads: int, causal: bool, stored: dict[str, Tensor]) -> None:
        super().__init__(heads, causal)
        self.scale = math.ldexp(1.0, int(stored["grid"]))

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if q.shape[-1] * HALF * HALF >= ROOM or k.shape[-2] * (HALF << SHARE_BITS) >= ROOM:
            raise ExactnessError(f"attention over {k.shape[-2]} places of width {q.shape[-1]} could reach 2^53")
        q, k, v = (on_input_grid(x, self.scale) for x in (q, k, v))
        unit = integers.STEPS / (self.scale * self.scale * math.sqrt(q.shape[-1]))
        scores = (q @ k.mT * unit).round_().clamp_(-FAR, FAR).long()  # (n, heads, places, places)
        if mask is not None:
            scores = scores.masked_fill(~mask, -2 * FAR)
        weights = softmax(scores, WEIGHT_BITS)
        shares = ((weights << SHARE_BITS).double() / weights.sum(-1, keepdim=True)).round_()
        return shares @ v / (self.scale * (1 << SHARE_BITS))

    def test(self, generator: torch.Generator) -> None:
        """Hold sums of products of extreme inputs against integer arithmetic.

        Raises:
            ExactnessError: they differ on this machine.
        """
        x = extreme_inputs((2, 5, 7), generator)
        if not torch.equal((x.double() @ x.double().mT).long(), x @ x.mT):
            raise ExactnessError("this machine's float64 products of matrices are not exact")


class Memory:
    """The keys and values of the places so far, (n, heads, places, width)."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return all keys, all values, and how many places came before these."""
        if self.keys is None or self.values is None:
            self.keys, self.values = k, v
            return k, v, 0
        before = self.keys.shape[-2]
        self.keys = torch.cat([self.keys, k], -2)
        self.values = torch.cat([self.values, v], -2)
        return self.keys, self.values, before


def by_head(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split (n, places, 3 · width) into queries, keys and values (n, heads, places, width / heads).

    Raises:
        InputError: the heads do not divide the width.
    """
    if qkv.shape[-1] % (3 * heads):
        raise InputError(f"{heads} heads do not divide queries, keys and values of width {qkv.shape[-1]}")
    q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


def side_by_side(y: Tensor) -> Tensor:
    """Join the heads (n, heads, places, width / heads) to (n, places, width)."""
    return y.transpose(1, 2).flatten(2)


def seen(q: Tensor, k: Tensor, before: int) -> Tensor:
    """Return the places (columns) that each place (rows) sees, the rows beginning after `before` places."""
    rows = torch.arange(q.shape[-2], device=q.device)[:, None] + before
    return torch.arange(k.shape[-2], device=q.device) <= rows
