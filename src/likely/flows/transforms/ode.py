"""Solvers of ordinary differential equations, dy/dt = rate(t, y), each to a tolerance or with an error.

An error e of a value v counts as e / (1 + |v|), the largest over all values of an example.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from likely.errors import ConvergenceError, InputError

Rate = Callable[[float | Tensor, Tensor, Tensor], Tensor]  # (t, states of examples, their numbers) → rates of change

STEPS = 4  # that are first tried
SAFETY = 4  # a solver's estimate of its error is the leading term only, and may be luckily small


def runge_kutta(rate: Rate, state: Tensor, start: float, stop: float, tolerance: float, max_steps: int) -> Tensor:
    """Solve by even steps of the classical fourth-order method, doubled for examples that are not at the tolerance.

    Halved steps leave a sixteenth of the error: two grids differ by 15 times the error of the finer one. No example
    depends on the others of its batch.

    Args:
        rate: of change of states (m, values) at a time, given the numbers of their examples (m,).
        state: at the start (n, values).
        start, stop: times.
        tolerance: largest error at the end, estimated.
        max_steps: largest number of steps.

    Raises:
        ConvergenceError: some examples are not at the tolerance after the largest number of steps.
    """
    rows, steps, end = torch.arange(len(state), device=state.device), STEPS, state
    with torch.no_grad():
        coarse = _even_steps(rate, state, rows, start, stop, steps)
    while True:
        steps *= 2
        fine = _even_steps(rate, state[rows], rows, start, stop, steps)
        value = fine.detach()
        difference = (value - coarse) / (1 + value.abs())
        error = difference.abs().amax(1) * SAFETY / 15
        reached = error <= tolerance  # not where it is NaN
        end = end.index_put((rows[reached],), fine[reached])
        if reached.all():
            return end
        rows, coarse, error = rows[~reached], value[~reached], error[~reached]
        if 2 * steps > max_steps:
            raise ConvergenceError(
                f"the ODE does not reach its tolerance of {tolerance:g} in {steps} steps: the error is {error[0]:.1e} "
                f"at example {rows[0]}, and too large at {len(rows)} of {len(state)}"
            )


def _even_steps(rate: Rate, y: Tensor, rows: Tensor, start: float, stop: float, steps: int) -> Tensor:
    h = (stop - start) / steps
    for k in range(steps):
        t = start + k * h
        k1 = rate(t, y, rows)
        k2 = rate(t + h / 2, y + h / 2 * k1, rows)
        k3 = rate(t + h / 2, y + h / 2 * k2, rows)
        k4 = rate(t + h, y + h * k3, rows)
        y = y + h / 6 * (k1 + 2 * (k2 + k3) + k4)
    return y


def dormand_prince(
    rate: Rate,
    state: Tensor,
    start: float,
    stop: float,
    tolerance: float,
    max_steps: int,
    adjoint: tuple[Tensor, ...] | None = None,
) -> Tensor:
    """Solve by adaptive steps of torchdiffeq's fifth-order method, the same for the whole batch.

    Args:
        rate, state, start, stop: as for `runge_kutta`.
        tolerance: largest error of a step, for every example.
        max_steps: largest number of steps, rejected ones included.
        adjoint: tensors that get gradients, like the state, from a second ODE solved backwards; None: autograd is used.

    Raises:
        ConvergenceError: the tolerance is not reached: a rate is not finite, or steps are too many or too small.
    """
    torchdiffeq: Any = importlib.import_module("torchdiffeq")
    rows, calls = torch.arange(len(state), device=state.device), 0
    missed = f"its tolerance of {tolerance:g} is not reached in {max_steps} steps of {state.dtype}"

    def watched(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        rates = rate(t, y, rows)
        if not rates.isfinite().all():
            first = (~rates.isfinite()).nonzero()[0, 0]
            raise ConvergenceError(f"the ODE's rate of change is not finite at time {t:.4g}, example {first}; {missed}")
        if calls > 8 * max_steps:  # asserted by torchdiffeq, but not where assertions are off
            raise ConvergenceError(f"the ODE is at time {t:.4g} after {calls} evaluations; {missed}")
        return rates

    times = torch.tensor([start, stop], dtype=torch.float64, device=state.device)
    settings = {
        "rtol": tolerance / SAFETY,
        "atol": tolerance / SAFETY,
        "method": "dopri5",
        "options": {
            "norm": lambda error: error.abs().max(),
            "max_num_steps": max_steps,
            "step_t": times,  # it ends on a step, and not between two
        },
    }
    try:
        if adjoint is None:
            return torchdiffeq.odeint(watched, state, times, **settings)[-1]
        return torchdiffeq.odeint_adjoint(watched, state, times, **settings, adjoint_params=adjoint)[-1]
    except AssertionError as error:
        raise ConvergenceError(f"the ODE is not solved: {error}; {missed}") from error


def require_torchdiffeq() -> None:
    """Require torchdiffeq, for `dormand_prince`.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec("torchdiffeq") is None:
        raise InputError('the solver "dopri5" needs torchdiffeq: pip install "likely[ode]", or take the solver "rk4"')
