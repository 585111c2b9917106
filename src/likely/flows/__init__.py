"""Flows: invertible transforms between data and a base density, with the change of volume counted."""

from likely.discovery import models_in
from likely.flows.activation import LeakyReLU, LogisticToNormal, Logit, Power, Scale, Sigmoid, Softplus, Tanh
from likely.flows.actnorm import ActNorm
from likely.flows.autoregressive import AutoregressiveTransform, MaskedAutoregressive, RecurrentAutoregressive
from likely.flows.chain import Chain
from likely.flows.conditioner import AttentionNetwork, Conditioner, Perceptron, ResidualNetwork
from likely.flows.continuous import Continuous, TanhField, VelocityField
from likely.flows.convolution import InvertibleConvolution
from likely.flows.coupling import Coupling
from likely.flows.dequantization import Dequantize, LogitWithMargin, Standardize, preprocessing
from likely.flows.elementwise import Elementwise
from likely.flows.flow import Flow
from likely.flows.linear import FullMatrix, Linear, LUMatrix, OrthogonalMatrix, Permutation, TriangularMatrix
from likely.flows.map import Affine, Map, Shift
from likely.flows.mixture import MixtureLogit
from likely.flows.monotone import MonotoneLayer
from likely.flows.shape import Multiscale, Squeeze
from likely.flows.spline import RationalQuadraticSpline
from likely.flows.transform import Composition, Inverse, Surjection, Transform

globals().update(models_in(__name__))

__all__ = [
    "ActNorm",
    "Affine",
    "AttentionNetwork",
    "AutoregressiveTransform",
    "Chain",
    "Composition",
    "Conditioner",
    "Continuous",
    "Coupling",
    "Dequantize",
    "Elementwise",
    "Flow",
    "FullMatrix",
    "Inverse",
    "InvertibleConvolution",
    "LUMatrix",
    "LeakyReLU",
    "Linear",
    "LogisticToNormal",
    "Logit",
    "LogitWithMargin",
    "Map",
    "MaskedAutoregressive",
    "MixtureLogit",
    "MonotoneLayer",
    "Multiscale",
    "OrthogonalMatrix",
    "Perceptron",
    "Permutation",
    "Power",
    "RationalQuadraticSpline",
    "RecurrentAutoregressive",
    "ResidualNetwork",
    "Scale",
    "Shift",
    "Sigmoid",
    "Softplus",
    "Squeeze",
    "Standardize",
    "Surjection",
    "Tanh",
    "TanhField",
    "Transform",
    "TriangularMatrix",
    "VelocityField",
    "preprocessing",
]
