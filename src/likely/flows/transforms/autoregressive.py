"""Autoregressive transforms: the map of a value depends on the values before it."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from likely.errors import InputError, require_hidden, require_sizes
from likely.flows.maps.map import Map, require_parameters
from likely.flows.transforms.transform import Pair, Transform, finite, vectors
from likely.nn import MaskedNetwork, RecurrentNetwork, Walk

Order = Literal["raster", "reversed"] | int


class AutoregressiveTransform(Transform):
    """z_i = map(x_i; θ_i), θ_i = network(x_<i, context), with x_<i the values before x_i in a given order.

    The Jacobian is triangular: ln|det ∂z/∂x| = Σ_i ln ∂z_i/∂x_i. `forward` is one parallel pass of the network.
    `inverse` goes through the values in order, one step each, and also needs only the arithmetic of one pass.

    Args:
        map: applied to each value.
        shape: of one example.
        order: of its values, "raster", "reversed", or drawn at random with this seed.
        network: gives θ (n, dims, map.count), at once or place by place.
    """

    def __init__(
        self, map: Map, shape: tuple[int, ...], order: Order, network: MaskedNetwork | RecurrentNetwork
    ) -> None:
        super().__init__()
        self.map, self.shape, self.order, self.network = map, tuple(shape), order, network
        self.domain, self.codomain = map.domain, map.codomain
        self.register_buffer("places", _places(math.prod(self.shape), order))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """Compute z in one parallel pass."""
        values = vectors(x).index_select(1, self.places)
        ordered, ladj = self.map.forward(values, self.network(values, context))
        z = ordered.index_select(1, self.places.argsort())
        return z.view(x.shape), ladj.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Compute x value by value, differentiably, like `forward`; raises the errors of the map's inverse."""
        if torch.is_grad_enabled():
            return finite(*self._inverse(z, context))
        with torch.inference_mode():  # a step is few and small operations, which autograd's bookkeeping would slow down
            x, ladj = self._inverse(z, context)
        return finite(x.clone(), ladj.clone())

    def _inverse(self, z: Tensor, context: Tensor | None) -> Pair:
        rows = vectors(z).index_select(1, self.places).T.contiguous().T  # the examples of a place are neighbours
        features = context
        if features is not None:
            features = features.to(z.dtype)
        values, ladjs = [], []
        with torch.autocast(z.device.type, enabled=False):  # half the digits would be lost step by step
            walk = Walk(self.network, rows.shape[1], rows[:, :0], features)
            for places, theta in walk:
                x, ladj = self.map.inverse(rows[:, places], theta)
                walk.newest = x
                values.append(x.T)
                ladjs.append(ladj.T)
        x = torch.cat(values).index_select(0, self.places.argsort())
        return x.T.contiguous().view(z.shape), torch.cat(ladjs).sum(0)


class MaskedAutoregressive(AutoregressiveTransform):
    """θ_i from a masked perceptron.

    Paper: Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou, Murray, 2017),
    https://arxiv.org/abs/1705.07057

    Args:
        map: applied to each value.
        shape: of one example.
        hidden: units of each hidden layer.
        order: of the values, "raster", "reversed", or drawn at random with this seed.
        features: number of context features that θ depends on, if it does.

    Raises:
        InputError: a map without parameters, an unknown order, or hidden sizes of less than 1.
    """

    def __init__(
        self,
        map: Map,
        shape: tuple[int, ...],
        hidden: tuple[int, ...] = (256, 256),
        *,
        order: Order = "raster",
        features: int | None = None,
    ) -> None:
        require_hidden(hidden)
        network = MaskedNetwork(math.prod(shape), require_parameters(map), hidden, features)
        super().__init__(map, shape, order, network)
        self.hidden, self.features = tuple(hidden), features


class RecurrentAutoregressive(AutoregressiveTransform):
    """θ_i from a recurrent network.

    Paper: Transformation Autoregressive Networks (Oliva, Dubey, Zaheer, Póczos, Salakhutdinov, Xing, Schneider, 2018),
    https://arxiv.org/abs/1801.09819

    Args:
        map: applied to each value.
        shape: of one example.
        hidden: size of the network's state.
        order: of the values, "raster", "reversed", or drawn at random with this seed.
        features: number of context features that θ depends on, if it does.

    Raises:
        InputError: a map without parameters, an unknown order, or hidden sizes of less than 1.
    """

    def __init__(
        self,
        map: Map,
        shape: tuple[int, ...],
        hidden: int = 64,
        *,
        order: Order = "raster",
        features: int | None = None,
    ) -> None:
        require_sizes(hidden=hidden)
        network = RecurrentNetwork(math.prod(shape), require_parameters(map), hidden, features)
        super().__init__(map, shape, order, network)
        self.hidden, self.features = hidden, features


def alternating(build: Callable[[Order], Transform], layers: int) -> list[Transform]:
    """Return transforms in raster order and reversed, in turn, each built for its order."""
    orders: tuple[Order, ...] = ("raster", "reversed")
    return [build(orders[k % 2]) for k in range(layers)]


def _places(dims: int, order: Order) -> Tensor:
    if order == "raster":
        return torch.arange(dims)
    if order == "reversed":
        return torch.arange(dims).flip(0)
    if isinstance(order, str):
        raise InputError(f'order: "raster", "reversed" or a seed is expected, found {order!r}')
    return torch.randperm(dims, generator=torch.Generator().manual_seed(order))
