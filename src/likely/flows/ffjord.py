"""FFJORD: a continuous-time flow."""

from typing import Literal

import torch
from torch import Tensor

from likely.densities.bases import Normal
from likely.density import seeded
from likely.errors import require_sizes
from likely.event import Event
from likely.flows.dequantization import Dequantization, preprocessing
from likely.flows.flow import Flow, context_features
from likely.flows.transforms.continuous import Continuous, Solver, TanhField
from likely.flows.transforms.transform import Composition


class FFJORD(Flow):
    """ln p(x) = ln N(z; 0, 1) + ∫₀¹ tr ∂f/∂z dt, where z is x carried along dz/dt = f(z, t) from time 0 to time 1.

    Real values are standardised and symbols dequantised first. With either trace in the loss, the density is evaluated
    with the exact trace, up to the solver's tolerance.

    Paper: FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models (Grathwohl, Chen,
    Bettencourt, Sutskever, Duvenaud, 2019), https://arxiv.org/abs/1810.01367

    Args:
        event: any.
        context: the event that it is conditioned on, if any.
        hidden: units of the two hidden layers of f.
        solver: "rk4", or of torchdiffeq (the extra `ode`) "dopri5" or "dopri5-adjoint"; the last needs less memory.
        tolerance: of the solver, for every value v in units of 1 + |v|, and for the log-determinant; 1e-4 moves the
            mean of ln p(x) by some 1e-6 nats.
        max_steps: of the solver; where they do not reach the tolerance, it raises.
        trace: in the loss: "exact", in closed form for this f, or "hutchinson", the paper's estimate.
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
        hidden: tuple[int, ...] = (64, 64),
        solver: Solver = "rk4",
        tolerance: float = 1e-4,
        max_steps: int = 1024,
        trace: Literal["exact", "hutchinson"] = "exact",
        dequantization: Dequantization = "uniform",
        features: int = 64,
        seed: int = 0,
    ) -> None:
        require_sizes(features=features)
        with seeded(seed):
            field = TanhField(event.dims, hidden, context_features(context, features))
            flow = Continuous(field, solver=solver, tolerance=tolerance, max_steps=max_steps)
            transforms = [*preprocessing(event, dequantization), flow]
        super().__init__(Normal(Event(event.shape)), transforms, context, features=features, seed=seed)
        self.hidden, self.solver, self.tolerance, self.max_steps = field.hidden, solver, tolerance, max_steps
        self.trace, self.dequantization = trace, dequantization

    def _loss(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        if self.trace == "exact":
            return super()._loss(x, context, generator)
        *before, flow = self.transform
        assert isinstance(flow, Continuous)
        features = self._encoded(context)
        z, first = Composition(before)(x, features, generator)
        z, second = flow.estimate(z, features, generator)
        return -(self.base.log_prob(z) + first + second).mean() / self.event.dims
