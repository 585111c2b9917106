"""Flows: invertible transforms between data and a base density, with the change of volume counted."""

from likely.discovery import models_in
from likely.flows.activation import LeakyReLU, LogisticToNormal, Logit, Power, Scale, Sigmoid, Softplus, Tanh
from likely.flows.autoregressive import AutoregressiveTransform, MaskedAutoregressive, RecurrentAutoregressive
from likely.flows.continuous import Continuous, TanhField, VelocityField
from likely.flows.elementwise import Elementwise
from likely.flows.flow import Flow
from likely.flows.linear import FullMatrix, Linear, LUMatrix, OrthogonalMatrix, Permutation, TriangularMatrix
from likely.flows.map import Affine, Map, Shift
from likely.flows.mixture import Mixture
from likely.flows.monotone import MonotoneLayer
from likely.flows.spline import RationalQuadraticSpline
from likely.flows.transform import Composition, Inverse, Surjection, Transform

globals().update(models_in(__name__))

__all__ = [
    "Affine",
    "AutoregressiveTransform",
    "Composition",
    "Continuous",
    "Elementwise",
    "Flow",
    "FullMatrix",
    "Inverse",
    "LUMatrix",
    "LeakyReLU",
    "Linear",
    "LogisticToNormal",
    "Logit",
    "Map",
    "MaskedAutoregressive",
    "Mixture",
    "MonotoneLayer",
    "OrthogonalMatrix",
    "Permutation",
    "Power",
    "RationalQuadraticSpline",
    "RecurrentAutoregressive",
    "Scale",
    "Shift",
    "Sigmoid",
    "Softplus",
    "Surjection",
    "Tanh",
    "TanhField",
    "Transform",
    "TriangularMatrix",
    "VelocityField",
]
