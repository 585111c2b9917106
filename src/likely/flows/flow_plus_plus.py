"""Flow++: couplings of mixtures of logistics, by attention, over images dequantised by a flow."""

from collections.abc import Callable
from functools import partial

from likely.densities.bases import Normal
from likely.density import seeded
from likely.errors import require_sizes
from likely.event import Event
from likely.flows.dequantization import Dequantization, preprocessing
from likely.flows.flow import Flow, context_features
from likely.flows.maps.chain import Chain
from likely.flows.maps.map import Affine
from likely.flows.maps.mixture import MixtureLogit
from likely.flows.transforms.actnorm import ActNorm
from likely.flows.transforms.convolution import InvertibleConvolution
from likely.flows.transforms.coupling import Coupling, Mask
from likely.flows.transforms.shape import Squeeze
from likely.flows.transforms.transform import Composition, Transform
from likely.nn.network import AttentionNetwork, Perceptron, is_image

Shape = tuple[int, ...]


class FlowPlusPlus(Flow):
    """Couplings z = eˢ logit(F(x)) + t, F the distribution function of a mixture of logistics, s, t, F from the others.

    Images: four couplings in a checkerboard, then squares of pixels become channels (where sizes are even), two over
    channels and three in a checkerboard, by networks with attention. Before each are actnorm and, across channels, an
    invertible 1×1 convolution. Real values are standardised and symbols dequantised first.

    Paper: Flow++: Improving Flow-Based Generative Models with Variational Dequantization and Architecture Design
    (Ho, Chen, Srinivas, Duan, Abbeel, 2019), https://arxiv.org/abs/1902.00275

    Args:
        event: any, of at least two values.
        context: the event that it is conditioned on, if any.
        layers: number of couplings of a vector.
        components: of each mixture.
        width: units of the networks' hidden layers, for images their channels.
        depth: number of hidden layers, for images pairs of a convolution and an attention.
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
        layers: int = 6,
        components: int = 8,
        width: int = 64,
        depth: int = 2,
        dequantization: Dequantization = "variational",
        features: int = 64,
        seed: int = 0,
    ) -> None:
        require_sizes(layers=layers, width=width, features=features)
        require_sizes(0, depth=depth)
        step = partial(_step, components, width, depth, context_features(context, features), seed)
        with seeded(seed):
            first, shape = preprocessing(event, dequantization), event.shape
            if is_image(shape):
                rest = _image_steps(shape, step)
            else:
                rest = [part for k in range(layers) for part in step(shape, "halves", k)]
        base = Normal(Composition(rest).event_after(Event(shape)))
        super().__init__(base, [*first, *rest], context, features=features, seed=seed)
        self.layers, self.components, self.width, self.depth = layers, components, width, depth
        self.dequantization = dequantization


def _step(
    components: int, width: int, depth: int, features: int | None, seed: int, shape: Shape, mask: Mask, k: int
) -> list[Transform]:
    map = Chain([MixtureLogit(components), Affine(2.0)])
    if is_image(shape):
        conditioner = AttentionNetwork(width, (depth + 1) // 2)
    else:
        conditioner = Perceptron((width,) * depth)
    coupling = Coupling(map, shape, mask, swapped=k % 2 == 1, conditioner=conditioner, features=features)
    if mask == "checkerboard" or shape[:1] == (1,):
        return [ActNorm(shape), coupling]
    return [ActNorm(shape), InvertibleConvolution(shape, seed + k), coupling]


def _image_steps(shape: Shape, step: Callable[[Shape, Mask, int], list[Transform]]) -> list[Transform]:
    steps = [part for k in range(4) for part in step(shape, "checkerboard", k)]
    if shape[1] % 2 or shape[2] % 2:
        return steps
    squeeze = Squeeze(shape)
    steps.append(squeeze)
    last: Mask = "checkerboard" if is_image(squeeze.after) else "channels"
    masks: list[Mask] = ["channels", "channels", last, last, last]
    for k, mask in enumerate(masks):
        steps += step(squeeze.after, mask, k)
    return steps
