"""Recurrent networks over the places of an example."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from likely.nn.cache import Cache
from likely.nn.elementwise import Tanh
from likely.nn.linear import Linear
from likely.nn.positions import Positions
from likely.nn.recurrent import GRU


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

    renamed: ClassVar[dict[str, str]] = {"weight": "output.weight", "bias": "places.weight"}  # in older files

    def __init__(self, dims: int, outputs: int, hidden: int, features: int | None = None) -> None:
        super().__init__()
        self.dims = dims
        self.outputs = outputs
        self.hidden = hidden
        recurrent = GRU(1, hidden, "A")
        project = None
        if features is not None:
            project = Linear(features, hidden)
        self.output = Linear(hidden, outputs, bias=False)
        self.places = Positions(dims, outputs)
        self.recurrent = recurrent
        self.project = project
        self.tanh = Tanh()
        nn.init.zeros_(self.output.weight)

    def forward(
        self, x: Float[Tensor, "n inputs"], features: Tensor | None = None, cache: Cache | None = None
    ) -> Float[Tensor, "n places outputs"]:
        """Return every θ, or with a cache those that the newest inputs determine."""
        states = self.recurrent(x[..., None], self._first(x, features), cache)
        return self.places(self.output(states), None, cache)

    def _first(self, x: Tensor, features: Tensor | None) -> Float[Tensor, "n hidden"]:
        if self.project is None:
            return x.new_zeros(len(x), self.hidden)
        return self.tanh(self.project(features))
