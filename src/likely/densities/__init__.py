"""Simple densities that models are made of: bases of flows, priors, encoders and decoders."""

from likely.densities.bases import Logistic, Normal, Uniform
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols

__all__ = ["ConditionalNormal", "ConditionalSymbols", "Logistic", "Normal", "Uniform"]
