"""NICE: couplings that shift."""

import math

import torch

from likely.densities.bases import Logistic
from likely.density import seeded
from likely.errors import require_sizes
from likely.event import Event
from likely.flows.dequantization import Dequantization, preprocessing
from likely.flows.flow import Flow, context_features
from likely.flows.maps.activation import Scale
from likely.flows.maps.map import Shift
from likely.flows.transforms.coupling import Coupling
from likely.flows.transforms.elementwise import Elementwise, starting_at
from likely.nn.network import Perceptron


class NICE(Flow):
    """z = eˢ ⊙ (additive couplings of x), z logistic: only the diagonal scaling eˢ changes volumes.

    Even and odd values take turns in shifting the others, by perceptrons over the values as a vector. Real values are
    standardised and symbols dequantised first.

    Paper: NICE: Non-linear Independent Components Estimation (Dinh, Krueger, Bengio, 2015),
    https://arxiv.org/abs/1410.8516

    Args:
        event: any, of at least two values.
        context: the event that it is conditioned on, if any.
        layers: number of couplings.
        hidden: units of the hidden layers of each.
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
        hidden: tuple[int, ...] = (128, 128),
        dequantization: Dequantization = "uniform",
        features: int = 64,
        seed: int = 0,
    ) -> None:
        require_sizes(layers=layers, features=features)
        network, shape = Perceptron(hidden), event.shape
        given = context_features(context, features)
        with seeded(seed):
            transforms = preprocessing(event, dequantization)
            for k in range(layers):
                swapped = k % 2 == 1
                transforms.append(
                    Coupling(Shift(), shape, "checkerboard", swapped=swapped, conditioner=network, features=given)
                )
            to_logistic = torch.tensor([math.log(math.pi / math.sqrt(3))])  # from the deviation of standardised data
            transforms.append(starting_at(Elementwise(Scale(), shape), to_logistic))
        super().__init__(Logistic(Event(shape)), transforms, context, features=features, seed=seed)
        self.layers, self.hidden, self.dequantization = layers, network.hidden, dequantization
