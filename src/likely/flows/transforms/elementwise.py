"""One map for every value of an example, with learnt parameters or parameters that depend on a context."""

import math

import torch
from torch import Tensor, nn

from likely.flows.maps.map import Map, require_parameters
from likely.flows.transforms.transform import Pair, Transform, finite, sum_values
from likely.nn import Linear


def starting_at(transform: "Elementwise", parameters: Tensor) -> "Elementwise":
    """Return the transform with the same parameters (map.count,) for every value, to be learnt from there."""
    with torch.no_grad():
        transform.constant.copy_(parameters.expand_as(transform.constant))
    return transform


class Elementwise(Transform):
    """z_i = map(x_i; θ_i), ln|det| = Σ_i ln ∂z_i/∂x_i: every value has parameters θ_i of its own.

    Args:
        map: applied to each value.
        shape: of one example.
        features: number of context features that θ depends on (linearly), if it does.

    Raises:
        InputError: features, for a map without parameters.
    """

    def __init__(self, map: Map, shape: tuple[int, ...], features: int | None = None) -> None:
        super().__init__()
        if features is not None:
            require_parameters(map)
        self.map, self.shape, self.features = map, tuple(shape), features
        self.domain, self.codomain = map.domain, map.codomain
        size = (*self.shape, map.count)
        if map.count:
            self.constant = nn.Parameter(torch.zeros(size))
        else:
            self.register_buffer("constant", torch.zeros(size))  # of no numbers: nothing to fit
        self.project = None
        if features is not None:
            self.project = Linear(features, math.prod(size), bias=False)
            nn.init.zeros_(self.project.weight)

    def _theta(self, n: int, context: Tensor | None) -> Tensor:
        shape, theta = self.constant.shape, self.constant
        if self.project is not None:
            theta = theta + self.project(context).view(-1, *shape)
        return theta.expand(n, *shape)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """Apply the map, value by value."""
        z, ladj = self.map.forward(x, self._theta(len(x), context))
        return z, sum_values(ladj.expand(z.shape))

    def image(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """Apply the map, value by value; what rounds to an end of its codomain is moved inside."""
        z, ladj = self.map.image(x, self._theta(len(x), context))
        return finite(z, sum_values(ladj.expand(z.shape)))

    def preimage(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Apply its inverse, value by value; what rounds to an end of the domain is moved inside."""
        x, ladj = self.map.preimage(z, self._theta(len(z), context))
        return finite(x, sum_values(ladj.expand(x.shape)))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Apply its inverse, value by value."""
        x, ladj = self.map.inverse(z, self._theta(len(z), context))
        return finite(x, sum_values(ladj.expand(x.shape)))
