"""Flows: invertible transforms between data and a base density, with the change of volume counted."""

from likely.flows.affine_flow import AffineFlow
from likely.flows.autoregressive_mixture_cdf import AutoregressiveMixtureCDF
from likely.flows.dequantization import Dequantize, preprocessing
from likely.flows.ffjord import FFJORD
from likely.flows.flow import Flow
from likely.flows.flow_plus_plus import FlowPlusPlus
from likely.flows.glow import Glow
from likely.flows.iaf import IAF
from likely.flows.maf import MAF
from likely.flows.maps.activation import LeakyReLU, LogisticToNormal, Logit, Power, Scale, Sigmoid, Softplus, Tanh
from likely.flows.maps.chain import Chain
from likely.flows.maps.map import Affine, Map, Shift
from likely.flows.maps.mixture import MixtureLogit
from likely.flows.maps.monotone import MonotoneLayer
from likely.flows.maps.spline import RationalQuadraticSpline
from likely.flows.mixture_cdf import MixtureCDF
from likely.flows.neural_autoregressive_flow import NeuralAutoregressiveFlow
from likely.flows.neural_spline_coupling import NeuralSplineCoupling
from likely.flows.neural_spline_flow import NeuralSplineFlow
from likely.flows.nice import NICE
from likely.flows.real_nvp import RealNVP
from likely.flows.transforms.actnorm import ActNorm
from likely.flows.transforms.autoregressive import (
    AutoregressiveTransform,
    MaskedAutoregressive,
    RecurrentAutoregressive,
)
from likely.flows.transforms.continuous import Continuous, TanhField, VelocityField
from likely.flows.transforms.convolution import InvertibleConvolution
from likely.flows.transforms.coupling import Coupling
from likely.flows.transforms.elementwise import Elementwise
from likely.flows.transforms.linear import FullMatrix, Linear, LUMatrix, OrthogonalMatrix, Permutation, TriangularMatrix
from likely.flows.transforms.shape import Multiscale, Squeeze
from likely.flows.transforms.standardization import LogitWithMargin, Standardize
from likely.flows.transforms.transform import Composition, Inverse, Surjection, Transform
from likely.nn.network import AttentionNetwork, Perceptron, ResidualNetwork

__all__ = [
    "FFJORD",
    "IAF",
    "MAF",
    "NICE",
    "ActNorm",
    "Affine",
    "AffineFlow",
    "AttentionNetwork",
    "AutoregressiveMixtureCDF",
    "AutoregressiveTransform",
    "Chain",
    "Composition",
    "Continuous",
    "Coupling",
    "Dequantize",
    "Elementwise",
    "Flow",
    "FlowPlusPlus",
    "FullMatrix",
    "Glow",
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
    "MixtureCDF",
    "MixtureLogit",
    "MonotoneLayer",
    "Multiscale",
    "NeuralAutoregressiveFlow",
    "NeuralSplineCoupling",
    "NeuralSplineFlow",
    "OrthogonalMatrix",
    "Perceptron",
    "Permutation",
    "Power",
    "RationalQuadraticSpline",
    "RealNVP",
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
