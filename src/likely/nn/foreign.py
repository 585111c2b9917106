"""Layers of torch that networks written elsewhere are made of, as leaves."""

from torch import nn

from likely.nn.elementwise import ReLU, Sigmoid, SiLU, Tanh
from likely.nn.leaf import Leaf, shallow_copy
from likely.nn.linear import Linear

LEAF_OF: dict[type[nn.Module], type[Leaf]] = {
    nn.Linear: Linear,
    nn.ReLU: ReLU,
    nn.Sigmoid: Sigmoid,
    nn.SiLU: SiLU,
    nn.Tanh: Tanh,
}


def as_leaf(module: nn.Module) -> Leaf | None:
    """Return a leaf as it is, torch's own layer as the leaf of the same weights, and None for any other module."""
    if isinstance(module, Leaf):
        return module
    kind = LEAF_OF.get(type(module))
    if kind is None:
        return None
    leaf = shallow_copy(module)
    leaf.__class__ = kind
    assert isinstance(leaf, Leaf)
    return leaf
