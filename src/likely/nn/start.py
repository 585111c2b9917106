"""The start of a network that leads to a head: its last layer's biases alone are the marginals of the data."""

import torch
from jaxtyping import Int
from torch import Tensor, nn

from likely.nn.heads import CategoricalHead, LogisticsHead


def last_layer(network: nn.Module) -> nn.Module:
    """Return the last part of a network that has biases; the network itself if none has."""
    found = network
    for part in network.modules():
        if isinstance(getattr(part, "bias", None), nn.Parameter):
            found = part
    return found


def without_biases(network: nn.Module) -> None:
    """Set the biases of a network's last layer to 0, of which they start."""
    bias = getattr(last_layer(network), "bias", None)
    if bias is not None:
        nn.init.zeros_(bias)


@torch.no_grad()
def start_at_marginals(head: CategoricalHead | LogisticsHead, layer: nn.Module, x: Int[Tensor, "n c *places"]) -> None:
    """Set the biases of a last layer to parameters of the marginals of x, once.

    A layer has biases for every place or the same ones for all. Those that are no longer as built, 0 everywhere, and
    those of a layer that leads to something else are left alone.

    Args:
        head: from the layer's outputs to distributions.
        layer: the last one of a network.
        x: examples, as the head takes them.
    """
    bias = getattr(layer, "bias", None)
    if bias is None or bias.any():
        return
    found = head.marginals(x.movedim(1, -1).flatten(0, -2))
    if bias.numel() != found.numel():
        found = head.marginals(x).flatten()
    if bias.numel() == found.numel():
        bias.copy_(found)
        if not bias.any():
            bias.fill_(torch.finfo(bias.dtype).tiny)  # it says that examples were seen
