"""Leaf layers: what networks are made of, elementwise + and × apart.

A causal layer consumes what has become known and returns what has thereby become determined. Without a cache it is
handed everything and returns everything; with one it is handed the newest part only, remembers what later outputs
will need, and returns just the new outputs. A cache is a dict keyed by the layer, so networks are written once and
never ask whether they are sampling. Images run through the layers channels-last, (n, height, width, channels).
"""

from likely.nn.codebook import Codebook
from likely.nn.context import ContextEncoder
from likely.nn.convolution import Conv2d, MaskedConv2d, RowsAbove, VerticalConv2d
from likely.nn.elementwise import Gate, ReLU
from likely.nn.exact import ExactLeaf, ExactLinear, LinearLeaf
from likely.nn.heads import CategoricalHead, CountsHead, LogisticsHead
from likely.nn.leaf import Leaf
from likely.nn.linear import Linear, MaskedLinear
from likely.nn.masked_network import MaskedNetwork, masked_layers
from likely.nn.normals import NormalHead, Product
from likely.nn.recurrent_network import RecurrentNetwork
from likely.nn.symbols import Symbols

__all__ = [
    "CategoricalHead",
    "Codebook",
    "ContextEncoder",
    "Conv2d",
    "CountsHead",
    "ExactLeaf",
    "ExactLinear",
    "Gate",
    "Leaf",
    "Linear",
    "LinearLeaf",
    "LogisticsHead",
    "MaskedConv2d",
    "MaskedLinear",
    "MaskedNetwork",
    "NormalHead",
    "Product",
    "ReLU",
    "RecurrentNetwork",
    "RowsAbove",
    "Symbols",
    "VerticalConv2d",
    "masked_layers",
]
