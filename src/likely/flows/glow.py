"""Glow: couplings between learnt rotations of the channels."""

from collections.abc import Callable
from functools import partial

from likely.densities.bases import Normal
from likely.density import seeded
from likely.errors import require_sizes
from likely.event import Event
from likely.flows.dequantization import Dequantization, preprocessing
from likely.flows.flow import Flow, context_features
from likely.flows.maps.map import Affine
from likely.flows.transforms.actnorm import ActNorm
from likely.flows.transforms.convolution import InvertibleConvolution
from likely.flows.transforms.coupling import Coupling
from likely.flows.transforms.shape import Multiscale, Squeeze
from likely.flows.transforms.transform import Composition, Transform
from likely.nn.network import conditioner_for, is_image

Shape = tuple[int, ...]


class Glow(Flow):
    """Steps of actnorm, invertible 1×1 convolution and affine coupling.

    Images: squares of pixels become channels (where sizes are even), then the steps follow (in a checkerboard where
    there is only one channel). Half of the channels is done after a coupling that conditions it on the rest; the rest
    goes on in the same way at the next scale. Real values are standardised and symbols dequantised first. Scales of
    couplings stay within e^±2.

    Paper: Glow: Generative Flow with Invertible 1×1 Convolutions (Kingma, Dhariwal, 2018),
    https://arxiv.org/abs/1807.03039

    Args:
        event: any, of at least two values.
        context: the event that it is conditioned on, if any.
        layers: number of steps, for images at every scale.
        scales: number of scales for images, as far as their sizes are even.
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
        require_sizes(layers=layers, scales=scales, width=width, features=features)
        require_sizes(0, depth=depth)
        step = partial(_step, width, depth, context_features(context, features), seed)
        with seeded(seed):
            first = preprocessing(event, dequantization)
            if is_image(event.shape):
                rest = _scale(event.shape, layers, scales, step)
            else:
                rest = [part for k in range(layers) for part in step(event.shape, k)]
        base = Normal(Composition(rest).event_after(Event(event.shape)))
        super().__init__(base, [*first, *rest], context, features=features, seed=seed)
        self.layers, self.scales, self.width, self.depth = layers, scales, width, depth
        self.dequantization = dequantization


def _step(width: int, depth: int, features: int | None, seed: int, shape: Shape, k: int) -> list[Transform]:
    single = shape[:1] == (1,)
    mask = "checkerboard" if single else "channels"
    network = conditioner_for(shape, width, depth)
    coupling = Coupling(Affine(2.0), shape, mask, swapped=k % 2 == 1, conditioner=network, features=features)
    if single:
        return [ActNorm(shape), coupling]
    return [ActNorm(shape), InvertibleConvolution(shape, seed + k), coupling]


def _scale(shape: Shape, layers: int, scales: int, step: Callable[[Shape, int], list[Transform]]) -> list[Transform]:
    if shape[1] % 2 or shape[2] % 2:
        return [part for k in range(layers) for part in step(shape, k)]
    squeeze = Squeeze(shape)
    shape = squeeze.after
    here = [squeeze, *(part for k in range(layers) for part in step(shape, k))]
    if scales <= 1:
        return here
    *_, conditional = step(shape, 1)  # the channels that are done, given the others
    going = (shape[0] // 2, *shape[1:])
    inner = Composition(_scale(going, layers, scales - 1, step))
    return [*here, conditional, Multiscale(inner, shape)]
