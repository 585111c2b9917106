"""Recurrent leaves: states that have read the inputs so far.

They come in two kinds, as masked convolutions do. Output i of kind "A" has read the inputs before place i, output i of
kind "B" the input of place i too. Cached, kind "A" is handed nothing at first and returns the first output.
"""

from abc import abstractmethod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.nn.cache import Cache
from likely.nn.elementwise import Lookup, sigmoid_table, tanh_table
from likely.nn.exact import ExactLeaf
from likely.nn.leaf import Leaf
from likely.nn.linear import Linear

Kind = Literal["A", "B"]
States = tuple[Tensor, ...]  # (n, hidden) each, the first of which is the output
INPUT, STATE = "input_", "state_"  # before the names of stored numbers


class _States(nn.Module):
    """Outputs in order, from a first one; a subclass says how one state follows from another."""

    kind: Kind
    carried: int  # tensors of a state

    @abstractmethod
    def _run(self, x: Float[Tensor, "n steps inputs"], state: States) -> tuple[Tensor, States]:
        """Return the outputs after each of some inputs (n, steps, hidden), one at least, and the last state."""

    def _begin(self, first: Tensor) -> States:
        """Return the state with this output, before anything is read; the rest of the state starts at zero."""
        return (first, *(torch.zeros_like(first) for _ in range(self.carried - 1)))

    def _after(self, x: Tensor, state: States) -> tuple[Tensor, States]:
        """Return the outputs after each of some inputs, or none, and the last state."""
        if not x.shape[1]:
            return state[0].new_zeros(len(x), 0, state[0].shape[1]), state
        return self._run(x, state)

    def forward(
        self, x: Float[Tensor, "n steps inputs"], first: Float[Tensor, "n hidden"], cache: Cache | None = None
    ) -> Float[Tensor, "n steps_after hidden"]:
        """Return all outputs, or with a cache those that the newest inputs lead to.

        Args:
            x: inputs of all places, or of the newest.
            first: the output before anything is read.
            cache: of a draw.
        """
        if cache is not None:
            return self._advance(x, first, cache)
        if self.kind == "B":
            return self._after(x, self._begin(first))[0]
        later, _ = self._after(x[:, :-1], self._begin(first))
        return torch.cat([first[:, None], later], 1)

    def _advance(self, x: Tensor, first: Tensor, cache: Cache) -> Tensor:
        draw = cache.of(self, lambda: _Draw(self._begin(first)))
        outputs, draw.state = self._after(x, draw.state)
        if self.kind == "A" and not draw.begun:
            outputs = torch.cat([first[:, None], outputs], 1)
        draw.begun = True
        return outputs


class _Draw:
    """The state of a draw, and whether the first output was returned."""

    def __init__(self, state: States) -> None:
        self.state, self.begun = state, False


class _RecurrentLeaf(Leaf):
    """A leaf with the weights of torch's recurrent layer of one level."""

    def linear_parts(self) -> tuple[Linear, Linear]:
        """Return the maps of the inputs and of the state to the gates."""
        return self._linear("ih"), self._linear("hh")

    def _linear(self, name: str) -> Linear:
        weight, bias = (self.get_parameter(f"{kind}_{name}_l0").detach() for kind in ("weight", "bias"))
        layer = Linear(weight.shape[1], len(weight), dtype=weight.dtype)
        layer.weight = nn.Parameter(weight)
        layer.bias = nn.Parameter(bias)
        return layer

    def quantize(self, largest: float) -> dict[str, Tensor]:
        """Return the weights of inputs and of states on grids; outputs are inside ±1."""
        of_input, of_state = self.linear_parts()
        numbers = {INPUT + name: value for name, value in of_input.quantize(largest).items()}
        return numbers | {STATE + name: value for name, value in of_state.quantize(1.0).items()}

    def blank(self) -> dict[str, Tensor]:
        """Return tensors like the weights of inputs and of states, without values."""
        of_input, of_state = self.linear_parts()
        numbers = {INPUT + name: value for name, value in of_input.blank().items()}
        return numbers | {STATE + name: value for name, value in of_state.blank().items()}


class GRU(_States, _RecurrentLeaf, nn.GRU):  # pyrefly: ignore[inconsistent-inheritance]
    """h' = (1 − z) n + z h with gates r, z = σ(W x + U h), n = tanh(W x + r (U h)).

    Paper: Learning Phrase Representations using RNN Encoder–Decoder for Statistical Machine Translation (Cho et al.,
    2014), https://arxiv.org/abs/1406.1078

    Args:
        inputs: numbers of a place.
        hidden: size of the state h.
        kind: "A" or "B".
    """

    carried = 1

    def __init__(self, inputs: int, hidden: int, kind: Kind = "B") -> None:
        nn.GRU.__init__(self, inputs, hidden, batch_first=True)
        self.kind: Kind = kind

    def _run(self, x: Tensor, state: States) -> tuple[Tensor, States]:
        outputs, last = nn.GRU.forward(self, x, state[0][None].contiguous())
        return outputs, (last[0],)

    def exact(self, stored: dict[str, Tensor]) -> "ExactGRU":
        """Return the twin by tables."""
        return ExactGRU(self, stored)


class LSTM(_States, _RecurrentLeaf, nn.LSTM):  # pyrefly: ignore[inconsistent-inheritance]
    """c' = f c + i g, h' = o tanh(c') with gates i, f, o = σ(W x + U h), g = tanh(W x + U h). c starts at zero.

    Paper: Long Short-Term Memory (Hochreiter, Schmidhuber, 1997), https://doi.org/10.1162/neco.1997.9.8.1735; the
    forget gate: Learning to Forget (Gers, Schmidhuber, Cummins, 2000)

    Args:
        inputs: numbers of a place.
        hidden: size of the states h and c.
        kind: "A" or "B".
    """

    carried = 2

    def __init__(self, inputs: int, hidden: int, kind: Kind = "B") -> None:
        nn.LSTM.__init__(self, inputs, hidden, batch_first=True)
        self.kind: Kind = kind

    def _run(self, x: Tensor, state: States) -> tuple[Tensor, States]:
        h, c = (part[None].contiguous() for part in state)
        outputs, (h, c) = nn.LSTM.forward(self, x, (h, c))
        return outputs, (h[0], c[0])

    def exact(self, stored: dict[str, Tensor]) -> "ExactLSTM":
        """Return the twin by tables."""
        return ExactLSTM(self, stored)


class _ExactStates(_States, ExactLeaf):
    """A recurrent leaf step by step: products on grids, gates by tables, single elementwise operations between."""

    def __init__(self, leaf: GRU | LSTM, stored: dict[str, Tensor]) -> None:
        super().__init__()
        self.kind: Kind = leaf.kind
        of_input, of_state = leaf.linear_parts()
        self.of_input = of_input.exact(_of(INPUT, stored))
        self.of_state = of_state.exact(_of(STATE, stored))
        self.sigmoid = Lookup(sigmoid_table())
        self.tanh = Lookup(tanh_table())

    @abstractmethod
    def _step(self, from_input: Tensor, state: States) -> States:
        """Return the state after one input, given as its products with the weights (n, gates · hidden)."""

    def _run(self, x: Tensor, state: States) -> tuple[Tensor, States]:
        outputs = []
        for from_input in self.of_input(x).unbind(1):
            state = self._step(from_input, state)
            outputs.append(state[0])
        return torch.stack(outputs, 1), state


class ExactGRU(_ExactStates):
    """As `GRU`."""

    carried = 1

    def _step(self, from_input: Tensor, state: States) -> States:
        (h,) = state
        r_x, z_x, n_x = from_input.chunk(3, 1)
        r_h, z_h, n_h = self.of_state(h).chunk(3, 1)
        r, z = self.sigmoid(r_x + r_h), self.sigmoid(z_x + z_h)
        n = self.tanh(n_x + r * n_h)
        return ((1 - z) * n + z * h,)


class ExactLSTM(_ExactStates):
    """As `LSTM`."""

    carried = 2

    def _step(self, from_input: Tensor, state: States) -> States:
        h, c = state
        i, f, g, o = (from_input + self.of_state(h)).chunk(4, 1)
        c = self.sigmoid(f) * c + self.sigmoid(i) * self.tanh(g)
        return self.sigmoid(o) * self.tanh(c), c


def _of(prefix: str, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
