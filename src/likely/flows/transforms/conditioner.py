"""The network of a coupling: its inputs are the values that pass, its outputs the parameters of the others."""

from torch import Tensor, nn

from likely.errors import InputError
from likely.nn.network import NetworkSpec, Size


class VectorView(nn.Module):
    """The values of an example as a vector; the network sees the values under a mask.

    Args:
        mask: True for values that are seen (*shape).
        count: parameters for each of the other values.
    """

    def __init__(self, mask: Tensor, count: int) -> None:
        super().__init__()
        self.count = count
        self.register_buffer("seen", mask.flatten().nonzero()[:, 0], persistent=False)
        self.inputs: Size = (len(self.seen),)
        self.outputs: Size = (int((~mask).sum()) * count,)

    def visible(self, x: Tensor) -> Tensor:
        """Return the inputs of the network, from x (n, *shape)."""
        return x.flatten(1).index_select(1, self.seen)

    def parameters_of(self, outputs: Tensor) -> Tensor:
        """Return the parameters (n, values, count), in raster order, from the outputs of the network."""
        return outputs.unflatten(1, (-1, self.count))


class ImageView(nn.Module):
    """The values of an image; the network sees the values under a mask.

    Channels that are hidden completely are left out. Where a mask hides a part of a channel, hidden values are zeros.

    Args:
        mask: True for values that are seen (channels, height, width).
        count: parameters for each of the other values.

    Raises:
        InputError: the mask is not (channels, height, width).
    """

    def __init__(self, mask: Tensor, count: int) -> None:
        super().__init__()
        if mask.ndim != 3:
            raise InputError(f"networks over images take events (channels, height, width), found {tuple(mask.shape)}")
        self.count = count
        seen = mask.flatten(1).any(1)  # channels, in part at least
        changed = (~mask).flatten(1).any(1)
        wanted = (~mask)[changed].flatten()
        self.whole = not (seen & changed).any()
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("seen", seen.nonzero()[:, 0], persistent=False)
        self.register_buffer("wanted", wanted.nonzero()[:, 0], persistent=False)
        _, height, width = mask.shape
        self.inputs: Size = (height, width, len(self.seen))
        self.outputs: Size = (height, width, int(changed.sum()) * count)

    def visible(self, x: Tensor) -> Tensor:
        """Return the inputs of the network (n, height, width, channels), from x (n, channels, height, width)."""
        if not self.whole:
            x = x * self.mask
        return x.index_select(1, self.seen).movedim(1, -1)

    def parameters_of(self, outputs: Tensor) -> Tensor:
        """Return the parameters (n, values, count), in raster order, from the outputs of the network."""
        theta = outputs.unflatten(-1, (-1, self.count))
        theta = theta.movedim(3, 1).flatten(1, 3)
        if self.whole:
            return theta
        return theta.index_select(1, self.wanted)


def view_for(spec: NetworkSpec, mask: Tensor, count: int) -> VectorView | ImageView:
    """Return the view that networks of a specification take."""
    view = ImageView if spec.over_images else VectorView
    return view(mask, count)


def start_at_zero(network: nn.Module) -> None:
    """Set the last layer of a network to zero, so that its outputs start at zero."""
    layers = [layer for layer in network.modules() if list(layer.parameters(recurse=False))]
    for parameter in layers[-1].parameters(recurse=False):
        nn.init.zeros_(parameter)
