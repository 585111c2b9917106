"""Dequantisation noise that is fitted: q(u | x) inside (0, 1), conditioned on the symbols."""

from likely.bases import Logistic
from likely.density import Density
from likely.event import Event
from likely.flows.activation import Sigmoid
from likely.flows.elementwise import Elementwise
from likely.flows.flow import Flow
from likely.flows.map import Affine
from likely.flows.transform import Inverse


def variational_noise(event: Event) -> Density:
    """u = σ(a(x) ε + b(x)), ε logistic: uniform noise at the start, whatever the symbols."""
    features = 64
    return Flow(
        Logistic(Event(event.shape)),
        [
            Inverse(Elementwise(Sigmoid(), event.shape)),
            Inverse(Elementwise(Affine(), event.shape, features)),
        ],
        context=event,
        features=features,
    )
