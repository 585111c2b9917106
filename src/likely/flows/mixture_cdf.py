"""A mixture for every value, as a flow."""

from likely.densities.bases import Normal
from likely.errors import require_sizes
from likely.event import Event
from likely.flows.dequantization import Dequantization, preprocessing
from likely.flows.flow import Flow, context_features
from likely.flows.maps.activation import LogisticToNormal
from likely.flows.maps.mixture import Kernel, MixtureLogit
from likely.flows.transforms.elementwise import Elementwise, starting_at


class MixtureCDF(Flow):
    """z_i = Φ⁻¹(F_i(x_i)), F_i the distribution function of a mixture: every value by itself, p(x) = ∏ F_i′(x_i).

    It shows that a flow can be any density of one value: F maps x to a uniform value in the unit interval, Φ⁻¹ that to
    a normal one. Real values are standardised and symbols dequantised first.

    Paper: Flow++: Improving Flow-Based Generative Models with Variational Dequantization and Architecture Design (Ho,
    Chen, Srinivas, Duan, Abbeel, 2019), https://arxiv.org/abs/1902.00275

    Args:
        event: any.
        context: the event that it is conditioned on, if any.
        components: of each mixture.
        kernel: the distribution of a component, "logistic" or "gaussian".
        dequantization: noise that symbols are dequantised with.
        features: number of context features.
        seed: of the context encoder's initial weights.

    Raises:
        InputError: a size, or a number of parts, that is too small.
    """

    def __init__(
        self,
        event: Event,
        context: Event | None = None,
        *,
        components: int = 8,
        kernel: Kernel = "logistic",
        dequantization: Dequantization = "uniform",
        features: int = 64,
        seed: int = 0,
    ) -> None:
        require_sizes(features=features)
        given = context_features(context, features)
        mixture = MixtureLogit(components, kernel)
        transforms = [
            *preprocessing(event, dequantization),
            starting_at(Elementwise(mixture, event.shape, given), mixture.of_deviation_one()),
            Elementwise(LogisticToNormal(), event.shape),
        ]
        super().__init__(Normal(Event(event.shape)), transforms, context, features=features, seed=seed)
        self.components, self.kernel, self.dequantization = components, kernel, dequantization
