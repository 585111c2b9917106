"""Continuous flows: fields against their Jacobians, solvers against closed forms, and what is refused.

An ODE is solved to a tolerance and not to the last bit, so that these transforms are not in the table of instances: the
same laws hold here within 10 × the tolerance.
"""

import importlib.util
import itertools
import math

import pytest
import torch
from torch import nn

from likely.densities.bases import Normal
from likely.errors import ConvergenceError, InputError
from likely.event import Event
from likely.flows import FFJORD, Flow
from likely.flows.transforms.continuous import Continuous, TanhField, VelocityField
from likely.laws.bijections import jacobian
from likely.runs import store

SOLVERS = ["rk4", "dopri5", "dopri5-adjoint"]
CASES = [(solver, *case) for solver in SOLVERS for case in ((torch.float32, 1e-5), (torch.float64, 1e-8))]
TRACES = ["exact", "hutchinson"]
SMALL = Event((2,))


class Linear(VelocityField):
    """f = A z, whose flow is z = exp(A) x and ln|det| = tr A."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows
        self.matrix = nn.Parameter(torch.tensor(rows, dtype=torch.float64))

    def forward(self, z, t, context=None):
        return z @ self.matrix.T


class Square(VelocityField):
    """f = z² + t: blows up within the unit of time where x is larger than about one."""

    def forward(self, z, t, context=None):
        return z.square() + t


def redrawn(module, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        scale = 0.3 if parameter.ndim < 2 else (2 / parameter.shape[1]) ** 0.5
        nn.init.normal_(parameter, std=scale, generator=generator)
    return module.to(dtype)


def values(*shape, dtype=torch.float64, seed=1):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def jacobians(function, x, context):
    """∂function/∂x of every example (n, dims, dims), by automatic differentiation."""
    pairs = zip(x, [None] * len(x) if context is None else context[:, None], strict=True)
    found = [torch.autograd.functional.jacobian(lambda row, c=c: function(row[None], c)[0], row) for row, c in pairs]
    return torch.stack(found).reshape(len(x), x[0].numel(), -1)


def within(found, expected, tolerance):
    """|found − expected| ≤ tolerance · (1 + |expected|), everywhere."""
    return bool(((found - expected).abs() <= tolerance * (1 + expected.abs())).all())


@pytest.mark.parametrize("context", [None, values(5, 4)], ids=["alone", "context"])
def test_the_trace_in_closed_form_is_that_of_the_jacobian(context):
    field = redrawn(TanhField(3, (7, 6), None if context is None else 4), torch.float64)
    z, t = values(5, 3), 0.3
    f, trace = field.divergence(z, t, context)
    expected = jacobians(lambda row, c: field(row, t, c), z, context).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(trace, expected, atol=1e-12, rtol=0)
    for found in (VelocityField.divergence(field, z, t, context), (f, trace)):
        torch.testing.assert_close(found, (field(z, t, context), expected), atol=1e-12, rtol=0)


def test_hutchinsons_estimate_averages_to_the_trace():
    """Over all 2³ signs exactly."""
    field, z = redrawn(TanhField(3, (7, 6)), torch.float64), values(5, 3)
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)), dtype=torch.float64)
    estimates = torch.stack([field.estimate(z, 0.3, None, e.expand_as(z))[1] for e in signs])
    torch.testing.assert_close(estimates.mean(0), field.divergence(z, 0.3)[1], atol=1e-12, rtol=0)
    assert estimates.std(0).min() > 0.01


@pytest.mark.parametrize(("solver", "dtype", "tolerance"), CASES, ids=str)
def test_a_linear_field_in_closed_form(solver, dtype, tolerance):
    rows = ((-0.5, 2.0, 0.0), (-2.0, -0.5, 0.3), (0.1, 0.0, 1.2))
    transform = Continuous(Linear(rows), solver=solver, tolerance=tolerance).to(dtype)
    x, matrix = values(20, 3, dtype=dtype), torch.tensor(rows, dtype=torch.float64)
    z, ladj = transform(x)
    assert z.dtype == ladj.dtype == dtype
    assert within(z.double(), x.double() @ torch.matrix_exp(matrix).T, 10 * tolerance)
    assert within(ladj.double(), matrix.trace().expand(20), 10 * tolerance)


@pytest.mark.parametrize(("solver", "dtype", "tolerance"), CASES, ids=str)
@pytest.mark.parametrize("shape", [(2,), (1, 2, 2)], ids=str)
def test_round_trip_and_log_determinant(solver, dtype, tolerance, shape):
    transform = Continuous(redrawn(TanhField(math.prod(shape), (16, 16), 3)), solver=solver, tolerance=tolerance).to(
        dtype
    )
    x, context = values(4, *shape, dtype=dtype), values(4, 3, dtype=dtype)
    z, ladj = transform(x, context)
    back, inverse_ladj = transform.inverse(z, context)
    assert z.shape == x.shape
    assert ladj.shape == (4,)
    assert within(back, x, 10 * tolerance)
    assert within(inverse_ladj, -ladj, 10 * tolerance)
    expected = torch.linalg.slogdet(jacobian(transform, x, context).double())[1]
    assert within(ladj.double(), expected, 10 * tolerance)


def test_the_error_is_within_the_tolerance():
    field, x = redrawn(TanhField(3, (32, 32)), torch.float64), values(100, 3)
    with torch.no_grad():
        truth = Continuous(field, tolerance=1e-10)(x)
        for solver, tolerance in itertools.product(SOLVERS[:2], [1e-3, 1e-5, 1e-7]):
            transform = Continuous(field, solver=solver, tolerance=tolerance)
            for found, expected in zip(transform(x), truth, strict=True):
                assert within(found, expected, 10 * tolerance), (solver, tolerance)


def test_the_solvers_and_their_gradients_agree():
    field, x, context = redrawn(TanhField(2, (8, 8), 3), torch.float64), values(6, 2), values(6, 3)
    found = []
    for solver in SOLVERS:
        points, given = x.clone().requires_grad_(), context.clone().requires_grad_()
        z, ladj = Continuous(field, solver=solver, tolerance=1e-8)(points, given)
        loss = z.square().sum() + ladj.sum()
        found.append((loss.detach(), *torch.autograd.grad(loss, [points, given, *field.parameters()])))
    for others in found[1:]:
        torch.testing.assert_close(others, found[0], atol=1e-6, rtol=1e-6)


def test_the_estimate_of_the_log_determinant_is_unbiased():
    transform = Continuous(redrawn(TanhField(2, (16, 16))), tolerance=1e-4)
    x = values(1, 2, dtype=torch.float32).expand(4000, 2)
    with torch.no_grad():
        expected, exact = transform(x[:1])
        z, found = transform.estimate(x, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(z[:1], expected, atol=1e-4, rtol=1e-4)
    assert found.std() > 0.01
    assert abs(float((found.mean() - exact) / (found.std() / 4000**0.5))) < 4


def test_an_example_does_not_depend_on_the_others():
    """A difficult example takes more steps; the easy ones keep theirs."""
    transform = Continuous(Square(), tolerance=1e-9)
    easy, hard = values(5, 1) * 0.1 - 0.5, torch.tensor([[0.55]], dtype=torch.float64)
    for alone, together in zip(transform(easy), transform(torch.cat([easy, hard])), strict=True):
        assert torch.equal(alone, together[:5])


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_ode_that_blows_up_is_refused(solver):
    x = torch.tensor([[0.1], [3.0]], dtype=torch.float64)
    with pytest.raises(ConvergenceError, match=r"tolerance of 1e-06 .* steps|not finite at time .* example 1"):
        Continuous(Square(), solver=solver, tolerance=1e-6, max_steps=64)(x)


def test_the_error_says_which_example_and_how_far():
    x = torch.tensor([[0.1], [0.2], [0.55]], dtype=torch.float64)
    expected = r"its tolerance of 1e-12 in 16 steps: the error is \d\.\de-\d\d at example 0, and too large at 3 of 3"
    with pytest.raises(ConvergenceError, match=expected):
        Continuous(Square(), tolerance=1e-12, max_steps=16)(x)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_tolerance_beyond_the_precision_is_refused(solver):
    transform = Continuous(redrawn(TanhField(2, (32, 32))), solver=solver, tolerance=1e-6)
    with pytest.raises(ConvergenceError, match=r"tolerance of 1e-06 is beyond torch.float32: at least 1.9e-06"):
        transform(values(5, 2, dtype=torch.float32))
    assert transform.double()(values(5, 2))[1].isfinite().all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_step_limit_is_kept(solver):
    field = Linear(((0.0, 300.0), (-300.0, 0.0)))  # fifty turns
    with pytest.raises(ConvergenceError, match=r"tolerance of 1e-06 .* 32 steps"):
        Continuous(field, solver=solver, tolerance=1e-6, max_steps=32).double()(values(3, 2))


@pytest.mark.parametrize("size", [1e-30, 1e-3, 30.0, 1e3, 1e6, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values_far_out_are_right_or_refused(dtype, size):
    transform = Continuous(redrawn(TanhField(2, (16, 16)))).to(dtype)
    x = values(8, 2, dtype=dtype) * size
    z, ladj = transform(x)
    assert ladj.isfinite().all()
    assert within(transform.inverse(z)[0], x, 1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": 0.0}, "tolerance=0.0"),
        ({"max_steps": 4}, "max_steps=4"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Continuous(Square(), **arguments)


def test_an_unknown_solver_is_refused():
    with pytest.raises(Exception, match="euler"):  # by the types already, where they are checked
        Continuous(Square(), solver="euler")


def test_two_hidden_layers_are_expected():
    with pytest.raises(InputError, match=r"hidden=\(8, 8, 8\)"):
        TanhField(2, (8, 8, 8))


def test_without_torchdiffeq(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert FFJORD(SMALL).log_prob(torch.zeros(1, 2)).isfinite().all()
    with pytest.raises(InputError, match=r'pip install "likely\[ode\]"'):
        FFJORD(SMALL, solver="dopri5")


def test_it_starts_as_the_identity():
    x = values(7, 3, dtype=torch.float32)
    assert torch.equal(FFJORD(Event((3,))).log_prob(x), Normal(Event((3,))).log_prob(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_density_integrates_to_one(dtype):
    model = FFJORD(SMALL, hidden=(16, 16)).to(dtype)
    redrawn(model.transform.transforms[-1], dtype)
    grid = torch.linspace(-9, 9, 181, dtype=dtype)
    with torch.no_grad():
        log_prob = model.log_prob(torch.cartesian_prod(grid, grid))
    assert abs(float(log_prob.double().exp().sum() * 0.1**2) - 1) < 1e-3


def test_draws_carry_their_density():
    model = FFJORD(SMALL, hidden=(16, 16))
    redrawn(model.transform.transforms[-1])
    with torch.no_grad():
        x, log_prob = model.draw(50, generator=torch.Generator().manual_seed(0))
        assert within(model.log_prob(x), log_prob, 1e-3)


@pytest.mark.parametrize("trace", TRACES)
def test_the_loss_reaches_every_weight(trace):
    model = FFJORD(Event((2,), levels=5), Event((), levels=3), hidden=(8, 8), trace=trace, features=4)
    x, labels = torch.randint(5, (40, 2)), torch.randint(3, (40,))
    model.initialize(x, labels)
    redrawn(model.transform.transforms[-1])
    model.loss(x, labels, generator=torch.Generator().manual_seed(0)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.numel())


def test_the_loss_with_hutchinsons_trace_is_the_exact_one_on_average():
    exact, estimated = (FFJORD(SMALL, hidden=(8, 8), trace=trace, tolerance=1e-3) for trace in TRACES)
    for model in (exact, estimated):
        redrawn(model.transform.transforms[-1])
    x = values(100, 2, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        draws = torch.stack([estimated.loss(x, generator=generator) for _ in range(25)])
        assert abs(float((draws.mean() - exact.loss(x)) / (draws.std() / 25**0.5))) < 4
        assert torch.equal(exact.log_prob(x), estimated.log_prob(x))


def test_saved_and_built_again():
    flow = Flow(Normal(SMALL), [Continuous(redrawn(TanhField(2, (8, 8))), tolerance=1e-5)])
    again = store.build(store.configuration(flow))
    again.load_state_dict(flow.state_dict())
    x = values(4, 2, dtype=torch.float32)
    assert torch.equal(again.log_prob(x), flow.log_prob(x))


def test_half_precision_training_solves_in_single():
    model, x = FFJORD(SMALL, hidden=(8, 8)), values(6, 2, dtype=torch.float32)
    redrawn(model.transform.transforms[-1])
    expected = model.loss(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.loss(x), expected)
