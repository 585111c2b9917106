"""Exponential moving average of weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """w̄ ← w̄ + (1 − d)(w − w̄), with d = min(decay, (1 + t)/(10 + t)), so that short fits are not held back.

    Real buffers that are saved are averaged like weights. Some move in training, such as the entries of a codebook:
    their values at one step would not fit averaged weights. The others stay the same to the bit.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters: list[Tensor] = list(model.parameters())
        saved = model.state_dict().keys()
        buffers = {name: t for name, t in model.named_buffers() if name in saved and t.is_floating_point()}
        self.names = [*(name for name, _ in model.named_parameters()), *buffers]
        self.tensors = [*self.parameters, *buffers.values()]
        self.averages = [tensor.detach().clone() for tensor in self.tensors]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step t = `step`, counted from 0."""
        if self.averages:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.averages, self.tensors, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in the model's place inside the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, Tensor]:
        """Return the averages by name."""
        return dict(zip(self.names, self.averages, strict=True))

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take the averages from `state`."""
        for name, average in self.state().items():
            average.copy_(state[name])

    def _swap(self) -> None:
        for i, tensor in enumerate(self.tensors):
            tensor.data, self.averages[i] = self.averages[i], tensor.data
