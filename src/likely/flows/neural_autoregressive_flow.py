"""Neural autoregressive flow: every value goes through a small monotone network."""

from likely.densities.bases import Normal
from likely.density import seeded
from likely.errors import require_sizes
from likely.event import Event
from likely.flows.dequantization import Dequantization, preprocessing
from likely.flows.flow import Flow, context_features
from likely.flows.maps.monotone import MonotoneLayer
from likely.flows.transforms.autoregressive import MaskedAutoregressive, Order, alternating
from likely.flows.transforms.transform import Transform


class NeuralAutoregressiveFlow(Flow):
    """z_i = g(x_i; θ_i(x_<i)), g a monotone layer of tanh units; the order is reversed from one layer to the next.

    Of a single value it is a monotone network of `layers` layers, z = g_K(… g_1(x)). The inverse is found by bracketed
    roots. Real values are standardised and symbols dequantised first.

    Paper: Neural Autoregressive Flows (Huang, Krueger, Lacoste, Courville, 2018), https://arxiv.org/abs/1804.00779

    Args:
        event: any.
        context: the event that it is conditioned on, if any.
        layers: number of transforms.
        units: tanh units of every g.
        hidden: units of each hidden layer of the networks that give θ.
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
        layers: int = 2,
        units: int = 8,
        hidden: tuple[int, ...] = (128, 128),
        dequantization: Dequantization = "uniform",
        features: int = 64,
        seed: int = 0,
    ) -> None:
        require_sizes(layers=layers, features=features)
        given = context_features(context, features)
        with seeded(seed):

            def step(order: Order) -> Transform:
                return MaskedAutoregressive(MonotoneLayer(units), event.shape, hidden, order=order, features=given)

            transforms = [*preprocessing(event, dequantization), *alternating(step, layers)]
        super().__init__(Normal(Event(event.shape)), transforms, context, features=features, seed=seed)
        self.layers, self.units, self.hidden, self.dequantization = layers, units, tuple(hidden), dequantization
