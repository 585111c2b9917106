"""Leaf layers: the parts of every network, elementwise + and × apart.

Without a cache a causal layer is handed everything and returns everything. With one it is handed the inputs that have
just become known, returns the outputs that these determine, and remembers the inputs that later outputs will need. The
cache is handed on, so networks are written once and never ask whether they are sampling. Images run through the layers
channels-last, (n, height, width, channels).
"""

from likely.nn.attention import Attention
from likely.nn.cache import Cache, Walk, raster_places, raster_steps
from likely.nn.codebook import Codebook
from likely.nn.context import ContextEncoder
from likely.nn.convolution import Conv2d, VerticalConv2d
from likely.nn.elementwise import GELU, GLU, Gate, ReLU, Sigmoid, SiLU, Tanh
from likely.nn.exact import ExactLeaf, ExactLinear, LinearLeaf
from likely.nn.heads import CategoricalHead, CountsHead, LogisticsHead
from likely.nn.leaf import Leaf
from likely.nn.linear import Linear, MaskedLinear
from likely.nn.masked_convolution import MaskedConv2d
from likely.nn.masked_network import MaskedNetwork, masked_layers
from likely.nn.network import AttentionNetwork, ConvolutionalNetwork, Perceptron, ResidualNetwork
from likely.nn.norm import LayerNorm, RMSNorm
from likely.nn.normals import NormalHead, Product
from likely.nn.positions import ImagePositions, Positions
from likely.nn.recurrent import GRU, LSTM
from likely.nn.recurrent_network import RecurrentNetwork
from likely.nn.rows_above import RowsAbove
from likely.nn.sequence_convolution import MaskedConv1d
from likely.nn.symbols import Symbols

__all__ = [
    "GELU",
    "GLU",
    "GRU",
    "LSTM",
    "Attention",
    "AttentionNetwork",
    "Cache",
    "CategoricalHead",
    "Codebook",
    "ContextEncoder",
    "Conv2d",
    "ConvolutionalNetwork",
    "CountsHead",
    "ExactLeaf",
    "ExactLinear",
    "Gate",
    "ImagePositions",
    "LayerNorm",
    "Leaf",
    "Linear",
    "LinearLeaf",
    "LogisticsHead",
    "MaskedConv1d",
    "MaskedConv2d",
    "MaskedLinear",
    "MaskedNetwork",
    "NormalHead",
    "Perceptron",
    "Positions",
    "Product",
    "RMSNorm",
    "ReLU",
    "RecurrentNetwork",
    "ResidualNetwork",
    "RowsAbove",
    "SiLU",
    "Sigmoid",
    "Symbols",
    "Tanh",
    "VerticalConv2d",
    "Walk",
    "masked_layers",
    "raster_places",
    "raster_steps",
]
