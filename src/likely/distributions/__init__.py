"""What a network's output means: batches of univariate distributions, and the leaf layers that produce them."""

from likely.distributions.discrete import Bernoulli, Categorical, Discrete, Table
from likely.distributions.logistics import DiscretizedLogistics

__all__ = ["Bernoulli", "Categorical", "Discrete", "DiscretizedLogistics", "Table"]
