"""Batches of univariate distributions: the meaning of a network's outputs."""

from likely.distributions.discrete import Bernoulli, Categorical, Discrete, Table
from likely.distributions.logistics import DiscretizedLogistics

__all__ = ["Bernoulli", "Categorical", "Discrete", "DiscretizedLogistics", "Table"]
