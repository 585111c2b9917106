"""Networks from elsewhere in place of a specification: any `nn.Module` of the right sizes.

Vectors go in and come out as (n, channels); images, as torch's own layers have them, as (n, channels, height, width).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from likely.errors import InputError
from likely.event import Event
from likely.nn.network import NetworkSpec, Places, Size, is_image
from likely.nn.values import ChannelsLast, Values


@dataclass(frozen=True, eq=False)
class OwnNetwork(NetworkSpec):
    """A network that is given, in place of one that is built.

    It is called as module(x), or module(x, features) where there is a context, and keeps the weights that it has.
    Symbols go in as numbers from −1 to 1, real values standardised. It is tried with zeros when a model is built with
    it. A model with it is saved if its class is `Configured`, and frozen if it is made of layers that can be.

    Args:
        module: from x to the outputs.
        over_images: whether images go in as images, not as vectors.
    """

    module: nn.Module
    over_images: bool = True  # pyrefly: ignore[bad-override]

    starts_at_zero = False

    def build(self, inputs: Size, outputs: Size, features: int | None = None) -> "Adapter":
        """Return the module between inputs and outputs.

        Raises:
            InputError: it does not lead from these inputs to these outputs; says which it got.
        """
        adapter = Adapter(self.module, inputs, outputs)
        adapter.require_sizes(features)
        return adapter

    def of_event(self, given: Event, places: Places, outputs: int) -> nn.Sequential:
        """Return the module after the one that turns examples of an event into numbers."""
        values = ScaledSymbols(given.alphabets, given.shape) if given.discrete else Values(given)
        if self.over_images and is_image(given.shape):
            channels, height, width = given.shape
            return nn.Sequential(values, ChannelsLast(), self.build((height, width, channels), (*places, outputs)))
        return nn.Sequential(values, nn.Flatten(), self.build((given.dims,), (*places, outputs)))


class ScaledSymbols(nn.Module):
    """Symbols 0 … levels − 1 as numbers from −1 to 1: (n, *shape) → (n, *shape, 1).

    Args:
        alphabets: of every value.
        shape: of one example.
    """

    def __init__(self, alphabets: tuple[int, ...], shape: tuple[int, ...]) -> None:
        super().__init__()
        most = torch.tensor(alphabets).clamp(min=2).view(shape) - 1.0
        self.register_buffer("most", most, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale."""
        return ((2 * x.to(self.most.dtype) - self.most) / self.most)[..., None]


class Adapter(nn.Module):
    """A module whose images are channels first, in a library whose images are channels last."""

    def __init__(self, module: nn.Module, inputs: Size, outputs: Size) -> None:
        super().__init__()
        self.module, self.inputs, self.outputs = module, inputs, outputs

    def forward(self, x: Tensor, *features: Tensor | None) -> Tensor:
        """Apply the module."""
        given = [part for part in features if part is not None]
        return _channels_last(self.module(_channels_first(x), *given))

    def require_sizes(self, features: int | None) -> None:
        """Raise InputError if the module does not lead from inputs to outputs."""
        weight = next(self.module.parameters(), torch.zeros(()))
        given = [weight.new_zeros(2, *self.inputs)]
        if features is not None:
            given.append(weight.new_zeros(2, features))
        name, was_training = type(self.module).__name__, self.module.training
        expected = f"a module from {_said(self.inputs)} to {_said(self.outputs)} is expected"
        self.module.eval()
        try:
            with torch.no_grad():
                found = tuple(self(*given).shape[1:])
        except Exception as error:
            cause = " ".join(str(error).split())[:200]
            raise InputError(f"{name}: {expected}; it raised {type(error).__name__}: {cause}") from error
        finally:
            self.module.train(was_training)
        if found != tuple(self.outputs):
            raise InputError(f"{name}: {expected}, found {_said(found)}")


def _channels_first(x: Tensor) -> Tensor:
    return x.movedim(-1, 1) if x.ndim == 4 else x


def _channels_last(x: Tensor) -> Tensor:
    return x.movedim(1, -1) if x.ndim == 4 else x


def _said(size: Size) -> str:
    *places, channels = size
    return f"(n, {', '.join(map(str, [channels, *places]))})"


def specification(network: Any, shape: tuple[int, ...]) -> NetworkSpec | None:
    """Return a specification or None as it is, and a module as one that builds it.

    Args:
        network: as it was given.
        shape: of the examples that go into it.

    Raises:
        InputError: neither.
    """
    if network is None or isinstance(network, NetworkSpec):
        return network
    if not isinstance(network, nn.Module):
        raise InputError(f"a network: a specification such as Perceptron((64, 64)) or an nn.Module, found {network!r}")
    return OwnNetwork(network, is_image(shape))
