"""RealNVP: affine couplings."""

from collections.abc import Callable
from functools import partial

from likely.densities.bases import Normal
from likely.density import seeded
from likely.errors import require_sizes
from likely.event import Event
from likely.flows.dequantization import Dequantization, preprocessing
from likely.flows.flow import Flow, context_features
from likely.flows.maps.map import Affine
from likely.flows.transforms.coupling import Coupling, Mask
from likely.flows.transforms.shape import Multiscale, Squeeze
from likely.flows.transforms.transform import Composition, Transform
from likely.nn.network import conditioner_for, is_image

Shape = tuple[int, ...]


class RealNVP(Flow):
    """Affine couplings, z_b = e^{s(x_a)} x_b + t(x_a), with the parts a and b exchanged from one to the next.

    Images: half of the couplings in a checkerboard, then squares of pixels become channels (where sizes are even), then
    the other half over channels. Half of the channels is done; the rest goes on in the same way at the next scale.
    Real values are standardised and symbols dequantised first.

    Paper: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio, 2017), https://arxiv.org/abs/1605.08803

    Args:
        event: any, of at least two values.
        context: the event that it is conditioned on, if any.
        layers: number of couplings, for images at every scale.
        scales: how often images are squeezed at most.
        width: units of the networks' hidden layers, for images their channels.
        depth: number of hidden layers, for images in residual blocks of two.
        dequantization: noise that symbols are dequantised with.
        features: number of context features.
        seed: of the initial weights.

    Raises:
        InputError: a size, or a number of parts, that is too small.
    """

    def __init__(
        self,
        event: Event,
        context: Event | None = None,
        *,
        layers: int = 8,
        scales: int = 2,
        width: int = 64,
        depth: int = 2,
        dequantization: Dequantization = "uniform",
        features: int = 64,
        seed: int = 0,
    ) -> None:
        require_sizes(layers=layers, width=width, features=features)
        require_sizes(0, scales=scales, depth=depth)
        coupling = partial(_coupling, width, depth, context_features(context, features))
        with seeded(seed):
            first = preprocessing(event, dequantization)
            if is_image(event.shape):
                rest = _scale(event.shape, layers, scales, coupling)
            else:
                masks: list[Mask] = ["halves", "halves", "checkerboard", "checkerboard"]
                rest = [coupling(event.shape, masks[k % 4], k) for k in range(layers)]
        base = Normal(Composition(rest).event_after(Event(event.shape)))
        super().__init__(base, [*first, *rest], context, features=features, seed=seed)
        self.layers, self.scales, self.width, self.depth = layers, scales, width, depth
        self.dequantization = dequantization


def _coupling(width: int, depth: int, features: int | None, shape: Shape, mask: Mask, k: int) -> Transform:
    conditioner = conditioner_for(shape, width, depth)
    return Coupling(Affine(2.0), shape, mask, swapped=k % 2 == 1, conditioner=conditioner, features=features)


def _scale(
    shape: Shape, layers: int, scales: int, coupling: Callable[[Shape, Mask, int], Transform]
) -> list[Transform]:
    mask: Mask = "checkerboard" if is_image(shape) else "channels"
    here = [coupling(shape, mask, k) for k in range((layers + 1) // 2)]
    if scales == 0 or shape[1] % 2 or shape[2] % 2:
        return here
    squeeze = Squeeze(shape)
    channels, *size = squeeze.after
    across = [coupling(squeeze.after, "channels", k) for k in range(layers // 2)]
    inner = Composition(_scale((channels // 2, *size), layers, scales - 1, coupling))
    return [*here, squeeze, *across, Multiscale(inner, squeeze.after)]
