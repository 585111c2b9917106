"""Continuous-time flows: a field of velocities carries x at time 0 to z at time 1.

A field gives dz/dt = f(z, t; context), and the trace of ∂f/∂z. The solvers are in `ode`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from likely.arguments import PlainArguments
from likely.errors import ConvergenceError, InputError, require_hidden, require_sizes
from likely.event import Configured, Event
from likely.flows.transforms.ode import STEPS, dormand_prince, require_torchdiffeq, runge_kutta
from likely.flows.transforms.transform import Pair, Transform, vectors
from likely.nn import Linear

Solver = Literal["rk4", "dopri5", "dopri5-adjoint"]


class VelocityField(nn.Module, PlainArguments, Configured, ABC):
    """f(z, t; context): the velocity, at time t, of a point at z.

    A subclass keeps its constructor's arguments as attributes of the same names and writes `forward`. It also writes
    `divergence`, if it has a cheaper way than one pass for every dimension.
    """

    dims: int | None = None  # of z; None: any
    features: int | None = None  # of the context that it requires; None: it uses none

    @abstractmethod
    def forward(self, z: Tensor, t: float | Tensor, context: Tensor | None = None) -> Tensor:
        """z (n, dims) at one time t → f (n, dims)."""

    def divergence(self, z: Tensor, t: float | Tensor, context: Tensor | None = None) -> Pair:
        """Return f (n, dims) and tr ∂f/∂z (n,), exact: the diagonal of ∂f/∂z, from its rows."""
        f, pull = _pullback(lambda z: self(z, t, context), z)
        identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        rows = torch.func.vmap(lambda e: pull(e.expand_as(z)))(identity)  # (dims, n, dims)
        return f, rows.diagonal(dim1=0, dim2=2).sum(1)

    def estimate(self, z: Tensor, t: float | Tensor, context: Tensor | None, e: Tensor) -> Pair:
        """Return f (n, dims) and Hutchinson's eᵀ (∂f/∂z) e (n,): the trace on average over noise e with E[e eᵀ] = I."""
        f, pull = _pullback(lambda z: self(z, t, context), z)
        return f, (pull(e) * e).sum(1)


def _pullback(function: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return f(z), and e → eᵀ ∂f/∂z."""
    f, pull, *_ = torch.func.vjp(function, z)
    return f, lambda e: pull(e)[0]


class TanhField(VelocityField):
    """f = W₃ h₂ + a₃, h₂ = tanh(W₂ h₁ + a₂), h₁ = tanh(W₁ z + a₁), each a linear in time and context.

    With two hidden layers the trace is exact at the price of one more product, whatever the number of dimensions:
    tr ∂f/∂z = tr(W₃ D₂ W₂ D₁ W₁) = Σ_ij (D₂)_i (W₂)_ij (W₁ W₃)_ji (D₁)_j, where D = 1 − h².

    Args:
        dims: of z.
        hidden: units of the two hidden layers.
        features: number of context features, if there are any.

    Raises:
        InputError: sizes of less than 1, or not two hidden ones.
    """

    def __init__(self, dims: int, hidden: tuple[int, ...] = (64, 64), features: int | None = None) -> None:
        super().__init__()
        require_sizes(dims=dims)
        require_hidden(hidden)
        if len(hidden) != 2:
            raise InputError(f"two hidden sizes are expected, found hidden={hidden}")
        self.dims, self.hidden, self.features = dims, tuple(hidden), features
        first, second = hidden
        self.enter = Linear(dims, first, bias=False)
        self.middle = Linear(first, second, bias=False)
        self.leave = Linear(second, dims, bias=False)
        inputs = 1 + (features or 0)
        self.shifts = nn.ModuleList(Linear(inputs, outputs) for outputs in (first, second, dims))
        for layer in (self.leave, self.shifts[2]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def _hidden(self, z: Tensor, t: float | Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return h₁, h₂ and f."""
        time = torch.zeros_like(z[:, :1]) + t

        def given() -> Tensor:
            return time if context is None else torch.cat([time, context], 1)

        a1, a2, a3 = (shift(given()) for shift in self.shifts)
        h1 = (self.enter(z) + a1).tanh()
        h2 = (self.middle(h1) + a2).tanh()
        return h1, h2, self.leave(h2) + a3

    def forward(self, z: Tensor, t: float | Tensor, context: Tensor | None = None) -> Tensor:
        """z (n, dims) at one time t → f (n, dims)."""
        return self._hidden(z, t, context)[2]

    def divergence(self, z: Tensor, t: float | Tensor, context: Tensor | None = None) -> Pair:
        """Return f and its exact trace, in closed form."""
        h1, h2, f = self._hidden(z, t, context)
        paths = self.middle.weight * (self.enter.weight @ self.leave.weight).T  # (W₂)_ij (W₁ W₃)_ji
        inner = (1 - h1.square()) @ paths.T
        return f, ((1 - h2.square()) * inner).sum(1)


class Continuous(Transform):
    """dz/dt = f(z, t; context) from x at time 0 to z at time 1; ln|det ∂z/∂x| = ∫ tr ∂f/∂z dt.

    The inverse integrates backwards. The trace is exact, and so, within the solver's tolerance, is the log-determinant.
    `estimate` has Hutchinson's unbiased estimate of the log-determinant, for training only, because its exp is biased.

    Paper: FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models (Grathwohl, Chen,
    Bettencourt, Sutskever, Duvenaud, 2019), https://arxiv.org/abs/1810.01367

    Args:
        field: f, over the values of an example in raster order.
        solver: "rk4" takes even Runge-Kutta steps, and doubles their number for the examples that need it; "dopri5"
            chooses its steps for the whole batch (torchdiffeq, in the extra `ode`); "dopri5-adjoint" is the same with
            gradients from a second ODE, solved backwards, in place of stored steps.
        tolerance: largest error of every value of z and of the log-determinant, v, in units of 1 + |v|; estimated for
            the whole way by "rk4", for each step by "dopri5".
        max_steps: of the solver; it raises if they do not reach the tolerance.

    Raises:
        InputError: a tolerance or a number of steps that is not positive, or torchdiffeq is wanted and missing.
    """

    def __init__(
        self, field: VelocityField, *, solver: Solver = "rk4", tolerance: float = 1e-4, max_steps: int = 1024
    ) -> None:
        super().__init__()
        if not 0 < tolerance < 1 or max_steps < 2 * STEPS:
            raise InputError(
                f"a tolerance from 0 to 1 and max_steps of at least {2 * STEPS} are expected, "
                f"found tolerance={tolerance}, max_steps={max_steps}"
            )
        if solver not in ("rk4", "dopri5", "dopri5-adjoint"):
            raise InputError(f'unknown solver "{solver}"; there are rk4, dopri5 and dopri5-adjoint')
        if solver != "rk4":
            require_torchdiffeq()
        self.field, self.features = field, field.features
        self.solver, self.tolerance, self.max_steps = solver, tolerance, max_steps

    def event_after(self, before: Event) -> Event:
        """Return the same event, of as many values as the field takes."""
        if self.field.dims not in (None, before.dims):
            raise InputError(f"a field of velocities over {self.field.dims} values found {before}")
        return super().event_after(before)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """Integrate from time 0 to time 1.

        Raises:
            ConvergenceError: the tolerance is not reached, or beyond the precision of x.
        """
        return self._carried(x, context, 0.0, 1.0)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Integrate from time 1 back to time 0; raises as `forward`."""
        return self._carried(z, context, 1.0, 0.0)

    def estimate(self, x: Tensor, context: Tensor | None = None, generator: torch.Generator | None = None) -> Pair:
        """Return z, and an unbiased estimate of ln|det ∂z/∂x| by Hutchinson's trace; raises as `forward`."""
        device = x.device if generator is None else generator.device
        coins = torch.randint(2, vectors(x).shape, generator=generator, device=device)
        signs = (2 * coins - 1).to(x)
        return self._carried(x, context, 0.0, 1.0, signs)

    def _carried(
        self, x: Tensor, context: Tensor | None, start: float, stop: float, signs: Tensor | None = None
    ) -> Pair:
        def rate(t: float | Tensor, state: Tensor, rows: Tensor) -> Tensor:
            z = state[:, :-1]
            c = context[rows] if context is not None else None
            if signs is None:
                f, trace = self.field.divergence(z, t, c)
            else:
                f, trace = self.field.estimate(z, t, c, signs[rows])
            return torch.cat([f, trace[:, None]], 1)

        finest = 16 * torch.finfo(x.dtype).eps
        if self.tolerance < finest:
            raise ConvergenceError(f"a tolerance of {self.tolerance:g} is beyond {x.dtype}: at least {finest:.2g}")
        state = torch.cat([vectors(x), x.new_zeros(len(x), 1)], 1)  # (n, dims + 1): z, and ∫ tr ∂f/∂z dt so far
        settings = start, stop, self.tolerance, self.max_steps
        with torch.autocast(x.device.type, enabled=False):  # half-precision products have no such tolerance
            if self.solver == "rk4":
                state = runge_kutta(rate, state, *settings)
            elif self.solver == "dopri5":
                state = dormand_prince(rate, state, *settings)
            else:
                given = () if context is None else (context,)
                state = dormand_prince(rate, state, *settings, adjoint=(*self.field.parameters(), *given))
        return state[:, :-1].view_as(x), state[:, -1]
