"""Autoregressive neural spline flow."""

from likely.densities.bases import Normal
from likely.density import seeded
from likely.errors import require_sizes
from likely.event import Event
from likely.flows.dequantization import Dequantization, preprocessing
from likely.flows.flow import Flow, context_features
from likely.flows.maps.spline import RationalQuadraticSpline
from likely.flows.transforms.autoregressive import MaskedAutoregressive
from likely.flows.transforms.linear import LUMatrix, Permutation


class NeuralSplineFlow(Flow):
    """z_i = spline(x_i; θ_i(x_<i)), each layer after a linear map of all the values, x → L U P x.

    Splines are rational-quadratic and monotone, and the identity far out. Real values are standardised and symbols
    dequantised first.

    Paper: Neural Spline Flows (Durkan, Bekasov, Murray, Papamakarios, 2019), https://arxiv.org/abs/1906.04032

    Args:
        event: any.
        context: the event that it is conditioned on, if any.
        layers: number of splines' layers.
        bins: of each spline.
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
        bins: int = 8,
        hidden: tuple[int, ...] = (128, 128),
        dequantization: Dequantization = "uniform",
        features: int = 64,
        seed: int = 0,
    ) -> None:
        require_sizes(layers=layers, features=features)
        given = context_features(context, features)
        with seeded(seed):
            transforms = preprocessing(event, dequantization)
            for k in range(layers):
                spline = RationalQuadraticSpline(bins)
                transforms += [
                    Permutation(event.shape, k),
                    LUMatrix(event.shape),
                    MaskedAutoregressive(spline, event.shape, hidden, features=given),
                ]
        super().__init__(Normal(Event(event.shape)), transforms, context, features=features, seed=seed)
        self.layers, self.bins, self.hidden, self.dequantization = layers, bins, tuple(hidden), dequantization
