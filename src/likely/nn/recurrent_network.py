"""Recurrent networks over the places of an example."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from likely.nn.linear import Linear


class RecurrentNetwork(nn.Module):
    """θ_i = W h_i + b_i, where h_i = GRU(x_{i−1}, h_{i−1}) has read the inputs before, and b_i is the place's own.

    W and the GRU serve all places. As `MaskedNetwork`, it gives every θ_i at once or one after the other. W and b start
    at zero.

    Paper: Learning Phrase Representations using RNN Encoder–Decoder for Statistical Machine Translation (Cho et al.,
    2014), https://arxiv.org/abs/1406.1078

    Args:
        dims: number of places.
        outputs: numbers for each of them.
        hidden: size of the state h.
        features: number of context features that h_0 depends on, if it does.
    """

    def __init__(self, dims: int, outputs: int, hidden: int, features: int | None = None) -> None:
        super().__init__()
        self.hidden, self.sizes = hidden, [1] * dims
        self.recurrent = nn.GRU(1, hidden, batch_first=True)
        self.project = None if features is None else Linear(features, hidden)
        self.weight = nn.Parameter(torch.zeros(outputs, hidden))
        self.bias = nn.Parameter(torch.zeros(dims, outputs))

    def forward(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        """x (n, dims) → θ (n, dims, outputs)."""
        first = self._first(len(x), features)
        states = first.transpose(0, 1)
        if x.shape[1] > 1:
            states = torch.cat([states, self.recurrent(x[:, :-1, None], first)[0]], 1)
        return states @ self.weight.T + self.bias

    def in_order(self, n: int, features: Tensor | None, choose: Callable[[Tensor], Tensor]) -> None:
        """Go through the places in order: `choose` is handed their θ and returns their x.

        Args:
            n: number of examples.
            features: of their contexts.
            choose: θ (1, n, outputs) → x (1, n); it may be differentiable.
        """
        state = self._first(n, features)
        *before, last = self.bias
        for bias in before:
            x = choose(state @ self.weight.T + bias)
            state = self.recurrent(x.T[..., None], state)[1]
        choose(state @ self.weight.T + last)

    def _first(self, n: int, features: Tensor | None) -> Tensor:
        """h_0 (1, n, hidden)."""
        if self.project is None:
            return self.weight.new_zeros(1, n, self.hidden)
        return self.project(features).tanh()[None]
