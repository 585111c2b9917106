"""MAF: autoregressive affine transforms, quick to evaluate."""

from likely.densities.bases import Normal
from likely.density import seeded
from likely.errors import require_sizes
from likely.event import Event
from likely.flows.dequantization import Dequantization, preprocessing
from likely.flows.flow import Flow, context_features
from likely.flows.maps.map import Affine
from likely.flows.transforms.autoregressive import MaskedAutoregressive, Order, alternating
from likely.flows.transforms.transform import Transform


class MAF(Flow):
    """z_i = e^{s_i} x_i + b_i, where s_i and b_i depend on x_<i; the order is reversed from one layer to the next.

    log p(x) takes one parallel pass of each layer, a sample as many small steps as there are values. Real values are
    standardised and symbols dequantised first.

    Paper: Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou, Murray, 2017),
    https://arxiv.org/abs/1705.07057

    Args:
        event: any.
        context: the event that it is conditioned on, if any.
        layers: number of transforms.
        hidden: units of each hidden layer of their networks.
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
        layers: int = 5,
        hidden: tuple[int, ...] = (256, 256),
        dequantization: Dequantization = "uniform",
        features: int = 64,
        seed: int = 0,
    ) -> None:
        require_sizes(layers=layers, features=features)
        given = context_features(context, features)
        with seeded(seed):

            def step(order: Order) -> Transform:
                return MaskedAutoregressive(Affine(), event.shape, hidden, order=order, features=given)

            transforms = [*preprocessing(event, dequantization), *alternating(step, layers)]
        super().__init__(Normal(Event(event.shape)), transforms, context, features=features, seed=seed)
        self.layers, self.hidden, self.dequantization = layers, tuple(hidden), dequantization
