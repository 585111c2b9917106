"""The network of a coupling: it looks at the values that pass, and gives the parameters of the others."""

from torch import Tensor, nn

from likely.errors import InputError
from likely.nn.network import NetworkSpec, Size


class VectorView(nn.Module):
    """The values of an example as a vector, of which a network sees those under a mask.

    Args:
        mask: which values are seen (*shape), bool.
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
    """The values of an image, of which a network sees those under a mask.

    A mask that takes whole channels leaves out the channels that it hides; any other hides values by zeros.

    Args:
        mask: which values are seen (channels, height, width), bool.
        count: parameters for each of the other values.

    Raises:
        InputError: the mask is that of no image.
    """

    def __init__(self, mask: Tensor, count: int) -> None:
        super().__init__()
        if mask.ndim != 3:
            raise InputError(f"networks over images take events (channels, height, width), found {tuple(mask.shape)}")
        self.count = count
        seen, changed = mask.flatten(1).any(1), (~mask).flatten(1).any(1)  # channels, in part at least
        self.whole = not (seen & changed).any()
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("seen", seen.nonzero()[:, 0], persistent=False)
        self.register_buffer("wanted", (~mask)[changed].flatten().nonzero()[:, 0], persistent=False)
        _, height, width = mask.shape
        self.inputs: Size = (height, width, len(self.seen))
        self.outputs: Size = (height, width, int(changed.sum()) * count)

    def visible(self, x: Tensor) -> Tensor:
        """Return the inputs of the network (n, height, width, channels), from x (n, channels, height, width)."""
        x = x if self.whole else x * self.mask
        return x.index_select(1, self.seen).movedim(1, -1)

    def parameters_of(self, outputs: Tensor) -> Tensor:
        """Return the parameters (n, values, count), in raster order, from the outputs of the network."""
        theta = outputs.unflatten(-1, (-1, self.count)).movedim(3, 1).flatten(1, 3)
        return theta if self.whole else theta.index_select(1, self.wanted)


def view_for(spec: NetworkSpec, mask: Tensor, count: int) -> VectorView | ImageView:
    """Return the view that networks of a specification take."""
    return ImageView(mask, count) if spec.over_images else VectorView(mask, count)


def start_at_zero(network: nn.Module) -> None:
    """Let a network begin with outputs of zero, which its last layer gives."""
    layers = [layer for layer in network.modules() if list(layer.parameters(recurse=False))]
    for parameter in layers[-1].parameters(recurse=False):
        nn.init.zeros_(parameter)
