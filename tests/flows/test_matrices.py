"""Linear transforms: what their matrices are, and what is refused. (Inverses and determinants: test_transforms.)"""

import pytest
import torch
from scipy.stats import multivariate_normal
from torch import nn

import likely
from likely.densities.bases import Normal
from likely.event import Event
from likely.flows import (
    Composition,
    Flow,
    FullMatrix,
    LUMatrix,
    OrthogonalMatrix,
    Permutation,
    TriangularMatrix,
)

MATRICES = [FullMatrix, TriangularMatrix, LUMatrix, OrthogonalMatrix]


def redrawn(transform, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return transform.double()


def matrix_of(transform):
    """W, column by column: f(e_i) − f(0)."""
    eye = torch.eye(transform.dims, dtype=torch.float64).view(-1, *transform.shape)
    with torch.no_grad():
        return (transform(eye)[0] - transform(torch.zeros_like(eye))[0]).flatten(1).T


@pytest.mark.parametrize("kind", MATRICES)
def test_the_start_is_the_identity(kind):
    x = torch.randn(5, 2, 3)
    z, ladj = kind((2, 3))(x)
    assert torch.equal(z, x)
    assert torch.equal(ladj, torch.zeros(5))


def test_the_matrices_are_of_their_kind():
    lower, lu = redrawn(TriangularMatrix((4,))), redrawn(LUMatrix((4,)))
    assert torch.equal(matrix_of(lower), matrix_of(lower).tril())
    assert (matrix_of(lower).diagonal() > 0).all()
    minors = [torch.linalg.det(matrix_of(lu)[:k, :k]) for k in range(1, 5)]
    assert min(minors) > 0


@pytest.mark.parametrize("dims", [1, 6, 100])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e6])
def test_an_orthogonal_matrix_keeps_lengths_whatever_its_parameters(scale, dims):
    transform = redrawn(OrthogonalMatrix((dims,)), scale)
    nn.init.zeros_(transform.shift)
    matrix = matrix_of(transform)
    assert (matrix @ matrix.T - torch.eye(dims)).abs().max() < 1e-13 * dims


def test_reflections_reach_a_given_rotation():
    """From Q of a QR decomposition, whose reflections LAPACK gives in the same form."""
    generator = torch.Generator().manual_seed(1)
    reflectors, tau = torch.geqrf(torch.randn(5, 5, generator=generator, dtype=torch.float64))
    rotation = -torch.linalg.householder_product(reflectors, tau)
    last = torch.ones(5, dtype=torch.float64)
    last[-1] = -1  # LAPACK leaves the last reflection out
    transform = OrthogonalMatrix((5,)).double()
    with torch.no_grad():
        transform.vectors.copy_(reflectors)
    torch.testing.assert_close(matrix_of(transform), rotation * last)


@pytest.mark.parametrize("kind", MATRICES)
def test_gradients_of_log_prob_in_the_parameters(kind):
    transform = redrawn(kind((3,)), 0.5)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    names, values = zip(*transform.named_parameters(), strict=True)

    def log_prob(*parameters):
        z, ladj = torch.func.functional_call(transform, dict(zip(names, parameters, strict=True)), (x,))
        return ladj - z.square().sum(1) / 2

    assert torch.autograd.gradcheck(log_prob, values)


@pytest.mark.parametrize("seed", [None, 3])
def test_a_permutation_reorders(seed):
    transform = Permutation((2, 3), seed)
    x = torch.arange(6.0).view(1, 2, 3)
    z, ladj = transform(x)
    assert sorted(z.flatten().tolist()) == list(range(6))
    assert not torch.equal(z, x)
    assert (seed is None) == torch.equal(z.flatten(), x.flatten().flip(0))
    assert torch.equal(transform.inverse(z)[0], x)
    assert torch.equal(ladj, torch.zeros(1))


def test_a_flow_of_linear_parts_is_the_gaussian_that_they_say():
    parts = [redrawn(LUMatrix((3,)), 0.7), Permutation((3,), 1), redrawn(OrthogonalMatrix((3,)), 0.7, seed=1)]
    flow = Flow(Normal(Event((3,))), parts).double()
    x = torch.randn(50, 3, dtype=torch.float64) * 3
    with torch.no_grad():
        zero = Composition(parts)(torch.zeros(1, 3, dtype=torch.float64))[0]
        matrix = (Composition(parts)(torch.eye(3, dtype=torch.float64))[0] - zero).T
        inverse = torch.linalg.inv(matrix)
        mean = -(inverse @ zero[0])
        expected = multivariate_normal(mean.numpy(), (inverse @ inverse.T).numpy()).logpdf(x.numpy())
        torch.testing.assert_close(flow.log_prob(x), torch.from_numpy(expected), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_singular_matrix_is_refused(dtype):
    x = torch.randn(2, 3, dtype=dtype)
    full = FullMatrix((3,)).to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in (
            torch.zeros(3, 3),
            torch.arange(9.0).view(3, 3),
            torch.ones(3, 3),
            torch.full((3, 3), torch.nan),
        ):
            full.weight.copy_(weight)
            for direction in (full, full.inverse):
                with pytest.raises(likely.InputError, match="not singular"):
                    direction(x)
        a, b = torch.randn(2, 3, 1, generator=generator, dtype=dtype)
        full.weight.copy_(a @ b.T + b @ a.T)  # of rank two up to rounding
        with pytest.raises(likely.InputError, match="not singular"):
            full(x)
    for kind in (TriangularMatrix, LUMatrix):
        transform = kind((3,)).to(dtype)
        with torch.no_grad():
            transform.log_diagonal[1] = -2000
        with pytest.raises(likely.InputError, match="positive finite"):
            transform(x)


def test_a_matrix_of_very_different_scales_is_not_singular():
    full = FullMatrix((3,))
    with torch.no_grad():
        full.weight.copy_(torch.tensor([1e-12, 1.0, 1e12]).diag())
    z, ladj = full(torch.ones(1, 3))
    assert z[0].tolist() == pytest.approx([1e-12, 1, 1e12])
    assert ladj.item() == pytest.approx(0, abs=1e-5)
