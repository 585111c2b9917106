"""The one mechanism for context: features are computed once and handed to every layer that takes context."""

from typing import Any

import torch
from torch import Tensor, nn

from likely.event import Event
from likely.nn.network import Perceptron, Upscaling
from likely.nn.symbols import Symbols
from likely.nn.units import ContextUnits


class ContextEncoder(nn.Module):
    """Features of a context: (n, features), or (n, h, w, features) for networks over images.

    A label is a learnt vector; a vector or table goes through two linear layers; an image, where a size is given, is
    brought to that size by repeating pixels and goes through two 3×3 convolutions, else it is taken as a vector. Real
    values are standardised first, from the moment that `take_units` has seen some.

    Args:
        context: the event that the model is conditioned on.
        features: number of features.
        size: (h, w) of the images that the network works on, if it does; None where sizes vary. Contexts other than
            images become (n, 1, 1, features).
    """

    def __init__(self, context: Event, features: int, size: tuple[Any, Any] | None = None) -> None:
        super().__init__()
        self.context = context
        self.size = size
        self.spatial = len(context.shape) == 3 and size is not None
        self.symbols, self.units, width = None, None, 1
        if not context.discrete:
            self.units = ContextUnits(context.sizes)
        else:
            self.symbols = Symbols(context.most_levels, features if context.shape == () else None)
            width = self.symbols.width
        if size is not None and self.spatial:
            rows, columns = (torch.arange(new) * old // new for new, old in zip(size, context.shape[1:], strict=True))
            self.register_buffer("rows", rows, persistent=False)
            self.register_buffer("columns", columns, persistent=False)
            layers = Upscaling(features, blocks=0).layers((*size, context.shape[0] * width), (*size, features))
        else:
            layers = Perceptron((features,), "relu").layers((context.dims * width,), (features,))
        self.layers = nn.Sequential(*layers)

    def forward(self, context: Tensor) -> Tensor:
        """Encode (n, *context.shape)."""
        if self.units is not None:
            context = self.units(context)
        if self.spatial:
            x = context[:, :, self.rows[:, None], self.columns].movedim(1, -1)
            return self.layers(self._values(x))
        features = self.layers(self._values(context.flatten(1) if context.ndim > 1 else context[:, None]))
        if self.size is None:
            return features
        return features[:, None, None]

    def _values(self, x: Tensor) -> Tensor:
        if self.symbols is not None:
            return self.symbols(x)
        return x
