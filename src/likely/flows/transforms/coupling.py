"""Couplings: a part of the values passes unchanged and determines the map of the others."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from likely.errors import InputError
from likely.flows.maps.map import Map, require_parameters
from likely.flows.transforms.conditioner import start_at_zero, view_for
from likely.flows.transforms.transform import Pair, Transform, finite
from likely.nn.network import NetworkSpec, conditioner_for
from likely.nn.own import specification

FAR = 1e12  # a network's inputs are clamped here, so that its activations do not overflow
Mask = Literal["halves", "checkerboard", "channels"] | tuple[bool, ...]


class Coupling(Transform):
    """z_i = x_i where the mask is True, elsewhere z_i = map(x_i; θ_i), θ = network(x where the mask is True, context).

    ln|det ∂z/∂x| = Σ_i ln ∂z_i/∂x_i over the values that change: the Jacobian is triangular.

    ```text
    halves          checkerboard      channels          # passes, · changes, of an image; `swapped`: the other way
    # # # #         # · # ·           # # # #
    # # # #         · # · #           # # # #           halves: in raster order, all the values
    · · · ·         # · # ·           # # # #           channels: the first half of them (of a vector, of its values)
    · · · ·         · # · #           # # # # …
    ```

    Paper: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio, 2017), https://arxiv.org/abs/1605.08803

    Args:
        map: applied to each value that changes.
        shape: of one example.
        mask: the values that pass, by name, or True or False for each value in raster order.
        swapped: whether the others pass.
        conditioner: specification of the network, or a module; by default convolutions over images, else a perceptron.
        features: number of context features that θ depends on, if it does.

    Raises:
        InputError: a mask that leaves nothing to change or nothing to depend on, or one of another size; a map without
            parameters; or a map with a codomain other than its domain, because the values that pass stay in the domain.
    """

    def __init__(
        self,
        map: Map,
        shape: tuple[int, ...],
        mask: Mask = "halves",
        *,
        swapped: bool = False,
        conditioner: NetworkSpec | nn.Module | None = None,
        features: int | None = None,
    ) -> None:
        super().__init__()
        if map.domain != map.codomain:
            raise InputError(
                f"a coupling takes maps of an interval into itself, {type(map).__name__} leads from {map.domain} "
                f"to {map.codomain}"
            )
        self.map, self.shape, self.features = map, tuple(shape), features
        self.mask, self.swapped = mask, swapped
        self.conditioner = specification(conditioner, self.shape) or conditioner_for(self.shape, 64, 2)
        self.domain, self.codomain = map.domain, map.codomain
        passes = _mask(mask, self.shape) ^ swapped
        if passes.all() or not passes.any():
            nothing = "change" if passes.all() else "depend on"
            raise InputError(f"the mask {mask!r} leaves a coupling over shape {self.shape} nothing to {nothing}")
        changes = (~passes).flatten().nonzero()[:, 0]
        self.register_buffer("changes", changes, persistent=False)
        self.view = view_for(self.conditioner, passes, require_parameters(map))
        self.network = self.conditioner.build(self.view.inputs, self.view.outputs, features)
        if self.conditioner.starts_at_zero:
            start_at_zero(self.network)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """Apply the map to the values that change."""
        values, theta = self._values(x, context)
        z, ladj = self.map.forward(values, theta)
        return self._replaced(x, z), ladj.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Apply its inverse with the same parameters, which depend only on unchanged values."""
        values, theta = self._values(z, context)
        x, ladj = self.map.inverse(values, theta)
        return finite(self._replaced(z, x), ladj.sum(1))

    def _values(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        outputs = self.network(self.view.visible(x.clamp(-FAR, FAR)), context)
        values = x.flatten(1).index_select(1, self.changes)
        return values, self.view.parameters_of(outputs)

    def _replaced(self, x: Tensor, values: Tensor) -> Tensor:
        return x.flatten(1).index_copy(1, self.changes, values).view(x.shape)


def _mask(mask: Mask, shape: tuple[int, ...]) -> Tensor:
    """Return True where values pass (*shape)."""
    dims = math.prod(shape)
    if dims < 2:
        raise InputError(f"a coupling takes at least two values, found shape {shape}")
    if not isinstance(mask, str):
        if len(mask) != dims:
            raise InputError(f"a mask of {len(mask)} values does not fit shape {shape}, which has {dims}")
        return torch.tensor([bool(value) for value in mask]).view(shape)
    if mask == "halves":
        return (torch.arange(dims) < dims // 2).view(shape)
    if mask == "channels":
        first = torch.arange(shape[0]) < shape[0] // 2
        return first.view(-1, *[1] * (len(shape) - 1)).expand(shape)
    if mask == "checkerboard":
        sizes = shape[1:] if len(shape) == 3 else shape
        axes = torch.meshgrid(*map(torch.arange, sizes), indexing="ij")
        even = torch.stack(axes).sum(0) % 2 == 0
        return even.expand(shape)
    raise InputError(f'mask "halves", "checkerboard", "channels" or a tuple is expected, found {mask!r}')
