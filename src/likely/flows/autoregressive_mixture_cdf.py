"""A mixture for every value, given the values before it, as a flow."""

from likely.densities.bases import Logistic
from likely.density import seeded
from likely.errors import require_sizes
from likely.event import Event
from likely.flows.dequantization import Dequantization, preprocessing
from likely.flows.flow import Flow, context_features
from likely.flows.maps.mixture import MixtureLogit
from likely.flows.transforms.autoregressive import MaskedAutoregressive, Order, alternating
from likely.flows.transforms.transform import Transform


class AutoregressiveMixtureCDF(Flow):
    """z_i = logit F_i(x_i), F_i the distribution function of a mixture of logistics that depends on x_<i.

    One layer is the model p(x) = ∏ F_i′(x_i | x_<i), with mixtures as conditionals. Each further layer, in reversed
    order, does the same with the output of the one before. Real values are standardised and symbols dequantised first.

    Paper: Neural Autoregressive Flows (Huang, Krueger, Lacoste, Courville, 2018), https://arxiv.org/abs/1804.00779

    Args:
        event: any.
        context: the event that it is conditioned on, if any.
        layers: number of transforms.
        components: of each mixture.
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
        layers: int = 2,
        components: int = 8,
        hidden: tuple[int, ...] = (64, 64),
        dequantization: Dequantization = "uniform",
        features: int = 64,
        seed: int = 0,
    ) -> None:
        require_sizes(layers=layers, features=features)
        given = context_features(context, features)
        with seeded(seed):

            def step(order: Order) -> Transform:
                return MaskedAutoregressive(MixtureLogit(components), event.shape, hidden, order=order, features=given)

            transforms = [*preprocessing(event, dequantization), *alternating(step, layers)]
        super().__init__(Logistic(Event(event.shape)), transforms, context, features=features, seed=seed)
        self.layers, self.components, self.hidden = layers, components, tuple(hidden)
        self.dequantization = dequantization
