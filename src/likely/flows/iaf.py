"""IAF: autoregressive affine transforms, quick to sample."""

from likely.densities.bases import Normal
from likely.density import seeded
from likely.errors import require_sizes
from likely.event import Event
from likely.flows.dequantization import Dequantization, preprocessing
from likely.flows.flow import Flow, context_features
from likely.flows.maps.map import Affine
from likely.flows.transforms.autoregressive import MaskedAutoregressive, Order, alternating
from likely.flows.transforms.transform import Inverse, Transform


class IAF(Flow):
    """x_i = e^{s_i} z_i + b_i, where s_i and b_i depend on z_<i; the order is reversed from one layer to the next.

    It is the inverse of `MAF`: a sample, and its density, take one parallel pass of each layer, as suits a posterior.
    log p of other values takes as many small steps as there are values, also for gradients. Real values are
    standardised and symbols dequantised first.

    Paper: Improving Variational Inference with Inverse Autoregressive Flow (Kingma, Salimans, Jozefowicz, Chen,
    Sutskever, Welling, 2016), https://arxiv.org/abs/1606.04934

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
        layers: int = 4,
        hidden: tuple[int, ...] = (64, 64),
        dequantization: Dequantization = "uniform",
        features: int = 64,
        seed: int = 0,
    ) -> None:
        require_sizes(layers=layers, features=features)
        given = context_features(context, features)
        with seeded(seed):

            def step(order: Order) -> Transform:
                return Inverse(MaskedAutoregressive(Affine(), event.shape, hidden, order=order, features=given))

            transforms = [*preprocessing(event, dequantization), *alternating(step, layers)]
        super().__init__(Normal(Event(event.shape)), transforms, context, features=features, seed=seed)
        self.layers, self.hidden, self.dequantization = layers, tuple(hidden), dequantization
