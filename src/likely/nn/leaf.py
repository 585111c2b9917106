"""Leaf layers: the smallest parts of a network, each with three lives side by side.

    forward(x, …)           everything at once, in training
    forward(x, …, cache)    the newest part of x, in drawing and decoding
    exact(stored)           the twin that computes with whole numbers, the same bits on every machine

A network is made of leaves, of movements of data, and of single elementwise operations. A new leaf is one class in one
file: nothing else in the library knows its name.
"""

import copy
from typing import TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


class Leaf(nn.Module):
    """A layer that says how it is frozen.

    The defaults suit a leaf that moves its weights about and does no arithmetic with them, or that applies single
    elementwise operations: it is exact as it is.
    """

    def quantize(self, largest: float) -> dict[str, Tensor]:
        """Return the numbers that the exact twin computes with, by name.

        Args:
            largest: the largest |input| that the leaf has been seen to take.
        """
        return own_state(self)

    def blank(self) -> dict[str, Tensor]:
        """Return tensors of the shapes and dtypes that `quantize` returns, to hold a file's numbers against.

        Only those that are orders need values; others may be on the meta device. A leaf whose `quantize` takes long
        says it without computing.
        """
        return self.quantize(0.0)

    def exact(self, stored: dict[str, Tensor]) -> nn.Module:
        """Return the twin that computes with the stored numbers.

        Args:
            stored: as `quantize` returned them, of the same shapes.
        """
        return with_state(self, stored)


def own_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and saved buffers of a module, without those of its children."""
    weights = dict(module.named_parameters(recurse=False))
    buffers = dict(module.named_buffers(recurse=False))
    return weights | {name: buffers[name] for name in buffers if name not in module._non_persistent_buffers_set}


def with_state(module: nn.Module, stored: dict[str, Tensor]) -> nn.Module:
    """Return the module with stored numbers in place of its own; floating ones become float64."""
    for name, value in stored.items():
        value = value.double() if value.is_floating_point() else value
        if name in module._parameters:
            module._parameters[name] = nn.Parameter(value, requires_grad=False)
        else:
            module._buffers[name] = value
    return module


def shallow_copy(module: Module) -> Module:
    """Return a copy; replacing its tensors and children does not touch the original."""
    twin = copy.copy(module)
    twin._parameters = dict(module._parameters)
    twin._buffers = dict(module._buffers)
    twin._modules = dict(module._modules)
    return twin


def without_child(module: Module, name: str) -> Module:
    """Return a copy with None in place of a child."""
    twin = shallow_copy(module)
    twin._modules[name] = None
    return twin
