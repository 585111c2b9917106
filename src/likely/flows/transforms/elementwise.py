"""One map for every value of an example: parameters that are learnt, or that a context determines."""

import math

import torch
from torch import Tensor, nn

from likely.flows.maps.map import Map, require_parameters
from likely.flows.transforms.transform import Pair, Transform, finite, sum_values
from likely.nn import Linear


class Elementwise(Transform):
    """z_i = map(x_i; θ_i), ln|det| = Σ_i ln ∂z_i/∂x_i, with parameters θ of its own for every value.

    Args:
        map: what is done to each value.
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
        self.project = None if features is None else Linear(features, math.prod(size), bias=False)
        if self.project is not None:
            nn.init.zeros_(self.project.weight)

    def _theta(self, n: int, context: Tensor | None) -> Tensor:
        shift = 0 if self.project is None else self.project(context).view(-1, *self.constant.shape)
        return (self.constant + shift).expand(n, *self.constant.shape)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """The map, value by value."""
        z, ladj = self.map.forward(x, self._theta(len(x), context))
        return z, sum_values(ladj.expand(z.shape))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Its inverse, value by value."""
        x, ladj = self.map.inverse(z, self._theta(len(z), context))
        return finite(x, sum_values(ladj.expand(x.shape)))
