"""Roots: functions whose inverses are known in closed form, and functions that have none."""

import math

import pytest
import torch

import likely
from likely.errors import ConvergenceError
from likely.flows.maps.root import invert

DTYPES = [torch.float32, torch.float64]
SIZES = torch.logspace(-30, 6, 145, dtype=torch.float64)


def line(x, parameters):
    """Very steep or very flat: f = eᵃ x."""
    return parameters[..., 0].exp() * x, parameters[..., 0].expand(x.shape)


def cube(x, parameters):
    """Its slope is zero where x is."""
    return x**3, math.log(3) + 2 * x.abs().log()


def root(x, parameters):
    """Its slope is infinite where x is zero."""
    return x.sign() * x.abs().sqrt(), -torch.log(2 * x.abs().sqrt())


def area(x, parameters):
    """f = arsinh x: its inverse grows like eᶻ."""
    return x.asinh(), -torch.log1p(x.square()) / 2


def steps(x, parameters):
    """Nearly flat between steps at −1, 0 and 1, which are nearly upright."""
    u = 1e4 * torch.stack([x + 1, x, x - 1])
    slope = 1e-6 + 1e4 * (u.sigmoid() * (-u).sigmoid()).sum(0)
    return 1e-6 * x + u.sigmoid().sum(0), slope.log()


def jump(x, parameters):
    """Leaves out (−1, 1)."""
    return x + torch.where(x < 0.3, -1.0, 1.0).to(x.dtype), torch.zeros_like(x)


def inverted(function, z, low=-1.0, high=1.0, parameter=0.0):
    z = z.detach()
    return invert(
        function, z, torch.full((*z.shape, 1), parameter).to(z), torch.full_like(z, low), torch.full_like(z, high)
    )


def both_signs(dtype):
    return torch.cat([-SIZES, SIZES]).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (5.0, 6.0), (6.0, 5.0), (0.0, 0.0), (-1e6, -1e5)])
@pytest.mark.parametrize("function", [line, cube, root], ids=lambda function: function.__name__)
def test_to_the_last_digits_from_any_bracket(function, low, high, dtype):
    x = both_signs(dtype)
    z, _ = function(x, torch.zeros(1, dtype=dtype))
    kept = z.abs() > torch.finfo(dtype).tiny
    found, ladj = inverted(function, z[kept], low, high)
    assert ((found - x[kept]).abs() <= 8 * torch.finfo(dtype).eps * x[kept].abs()).all()
    torch.testing.assert_close(ladj, -function(found, torch.zeros(1, dtype=dtype))[1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("slope", [-30.0, 30.0])
def test_very_flat_and_very_steep(slope, dtype):
    x = both_signs(dtype) * 1e-3
    z, _ = line(x, torch.full((1,), slope, dtype=dtype))
    kept = z.abs() > torch.finfo(dtype).tiny
    found, _ = inverted(line, z[kept], parameter=slope)
    assert ((found - x[kept]).abs() <= 8 * torch.finfo(dtype).eps * x[kept].abs()).all()


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 80.0), (torch.float64, 600.0)])
def test_a_root_as_large_as_the_precision_allows(dtype, limit):
    z = torch.linspace(-limit, limit, 101, dtype=dtype)
    found, ladj = inverted(area, z)
    allowed = 8 * torch.finfo(dtype).eps * (found.abs() + (z.abs() + 1) * z.cosh())
    assert ((found.double() - z.double().sinh()).abs() <= allowed).all()
    if dtype == torch.float32:
        return
    torch.testing.assert_close(ladj[z.abs() < 300], z.cosh().log()[z.abs() < 300])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_on_a_staircase(dtype):
    z = torch.linspace(-0.5, 3.5, 1001, dtype=dtype)
    found, _ = inverted(steps, z)
    value, ladj = steps(found, None)
    assert ((value - z).abs() <= 8 * torch.finfo(dtype).eps * (1 + found.abs() * ladj.exp())).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_value_that_is_jumped_over_is_where_the_jump_is(dtype):
    found, _ = inverted(jump, torch.tensor([0.0, 0.9, 3.0], dtype=dtype))
    torch.testing.assert_close(
        found, torch.tensor([0.3, 0.3, 2.0], dtype=dtype), rtol=2 * torch.finfo(dtype).eps, atol=0
    )


def test_zero_is_found_exactly():
    for function in (line, root):
        assert inverted(function, torch.zeros(3), -1.0, 2.0)[0].tolist() == [0.0, 0.0, 0.0]


def test_what_is_beyond_the_range_is_refused():
    with pytest.raises(ConvergenceError, match=r"z: found 1\.5, which no number of this precision is mapped to"):
        inverted(lambda x, parameters: (x.tanh(), -2 * x.cosh().log()), torch.tensor([0.5, 1.5, -2.0]))


def test_a_root_beyond_the_range_is_refused_though_f_overflows_before():
    """The root is 3e39; f is infinite from 1.7e38 on, as if it had jumped over z."""
    for sign in (1, -1):
        with pytest.raises(ConvergenceError, match=r"z: found -?3\.0\d*e\+37, which no number of this precision"):
            inverted(
                lambda x, parameters: (2 * x / 200, torch.full_like(x, -math.log(100))), torch.tensor([sign * 3e37])
            )
    found, _ = inverted(line, torch.tensor([3e37, -3e37]))
    torch.testing.assert_close(found, torch.tensor([3e37, -3e37]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_none_are_refused(value):
    with pytest.raises(likely.InputError, match=r"z: found (nan|inf|-inf) at index \(1,\)"):
        inverted(line, torch.tensor([0.0, value]))


def test_a_function_that_is_none_somewhere_is_refused():
    def broken(x, parameters):
        return torch.where(x.abs() < 1, torch.nan, x), torch.zeros_like(x)

    with pytest.raises(ConvergenceError, match=r"z: found 0\.5, whose root lies between -2\.0 and 2\.0 .* 4 apart"):
        inverted(broken, torch.tensor([0.5]), -2.0, 2.0)


def test_a_value_does_not_depend_on_the_others():
    z = both_signs(torch.float32)
    together = inverted(cube, z)[0]
    assert torch.equal(torch.cat([inverted(cube, part)[0] for part in z.split(7)]), together)


def test_shapes_are_kept():
    z = torch.linspace(-2, 2, 24).view(2, 3, 4)
    found, ladj = inverted(cube, z)
    assert found.shape == ladj.shape == (2, 3, 4)
    assert inverted(cube, torch.tensor(8.0))[0].item() == pytest.approx(2)


def test_few_evaluations():
    """Newton's steps settle smooth functions, and roots that are found are not computed again."""
    counts = []

    def counted(x, parameters):
        counts.append(x.numel())
        return x + x.tanh(), (1 + 1 / x.cosh().square()).log()

    z = torch.linspace(-5, 5, 1001, dtype=torch.float64)
    inverted(counted, z, -6.0, 6.0)
    assert sum(counts) < 12 * 1001
    assert len(counts) < 80


def test_gradients_are_those_of_the_inverse():
    """x = sinh((z − b) / e^a), of f = e^a arsinh x + b."""

    def f(x, parameters):
        a, b = parameters.unbind(-1)
        return a.exp() * x.asinh() + b, a - torch.log1p(x.square()) / 2

    def through_the_root(z, parameters):
        return invert(f, z, parameters, torch.zeros_like(z), torch.zeros_like(z))

    def closed(z, parameters):
        a, b = parameters.unbind(-1)
        u = (z - b) * (-a).exp()
        return u.sinh(), u.cosh().log() - a

    generator = torch.Generator().manual_seed(0)
    z = torch.randn(20, dtype=torch.float64, generator=generator).requires_grad_()
    parameters = torch.randn(20, 2, dtype=torch.float64, generator=generator).requires_grad_()
    weights = torch.randn(2, 20, dtype=torch.float64, generator=generator)
    gradients = []
    for inverse in (through_the_root, closed):
        found = torch.stack(inverse(z, parameters))
        gradients.append((found.detach(), *torch.autograd.grad((weights * found).sum(), [z, parameters])))
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradcheck(through_the_root, (z, parameters), fast_mode=True)


def test_flat_parts_are_left_by_halvings():
    """As rounding makes a function flat whose slope is said to be steep: Newton's steps are next to nothing."""

    def flat(x, parameters):
        return torch.where(x < 6e-5, -1e-5, 1e-5), torch.where(x == 0, 1e-2, 5e5).log()

    found, _ = inverted(flat, torch.zeros(1), -1e-4, 1e-4)
    assert found.item() == pytest.approx(6e-5, rel=1e-6)
