"""Linear transforms, z = W x + b over the flattened values of an example, parametrised so that ln|det W| is known."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from likely.event import refuse_parameter
from likely.flows.transforms.transform import Pair, Transform, finite, vectors


class Linear(Transform, ABC):
    """z = W x + b, ln|det ∂z/∂x| = ln|det W|; W starts as the identity, b at zero.

    A subclass writes the product with W, the solution of W x = z, both row by row (n, dims), and ln|det W|.

    Args:
        shape: of one example; its values are a vector in raster order.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.dims = tuple(shape), math.prod(shape)
        self.shift = nn.Parameter(torch.zeros(self.dims))

    @abstractmethod
    def _times(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _solve(self, z: Tensor) -> Tensor: ...

    @abstractmethod
    def _log_det(self) -> Tensor: ...

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """Return W x + b.

        Raises:
            InputError: W is singular in this precision.
        """
        z = self._times(vectors(x)) + self.shift
        return z.view(x.shape), self._log_det().expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Return W⁻¹ (z − b); raises as `forward`."""
        x = self._solve(vectors(z) - self.shift)
        return finite(x.view(z.shape), -self._log_det().expand(len(z)))


class FullMatrix(Linear):
    """W as it is, dims² numbers; its LU decomposition gives determinant and inverse, in dims³ operations each time."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.weight = nn.Parameter(torch.eye(self.dims))

    def _factored(self) -> tuple[Tensor, Tensor]:
        """Return the factors of W = P L U; a pivot that is not above the rounding error of its row is refused."""
        factors, pivots, _ = torch.linalg.lu_factor_ex(self.weight)
        ones = torch.eye(self.dims, dtype=factors.dtype, device=factors.device)
        lower = factors.tril(-1).abs() + ones
        size = (lower * factors.triu().abs().T).sum(1)  # the diagonal of |L| |U|
        pivot = factors.diagonal()
        least = self.dims * torch.finfo(pivot.dtype).eps * size
        singular = ~(pivot.abs() > least)
        refuse_parameter(singular, pivot, "pivots of a matrix", "a matrix that is not singular is expected")
        return factors, pivots

    def _times(self, x: Tensor) -> Tensor:
        return x @ self.weight.T

    def _solve(self, z: Tensor) -> Tensor:
        return torch.linalg.lu_solve(*self._factored(), z.T).T

    def _log_det(self) -> Tensor:
        factors, _ = self._factored()
        return factors.diagonal().abs().log().sum()


class TriangularMatrix(Linear):
    """W lower triangular with a positive diagonal e^d: ln|det W| = Σ d. With a normal base, every Gaussian density."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.lower = nn.Parameter(torch.zeros(self.dims, self.dims))  # read below the diagonal
        self.log_diagonal = nn.Parameter(torch.zeros(self.dims))

    def _matrix(self) -> Tensor:
        return self.lower.tril(-1) + _positive(self.log_diagonal).diag()

    def _times(self, x: Tensor) -> Tensor:
        return x @ self._matrix().T

    def _solve(self, z: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self._matrix(), z.T, upper=False).T

    def _log_det(self) -> Tensor:
        return self.log_diagonal.sum()


class LUMatrix(Linear):
    """W = L U: L lower triangular with ones on its diagonal, U upper triangular with e^d on it: ln|det W| = Σ d.

    Nearly every matrix with positive leading minors has this form; any other after a `Permutation` or changes of sign.

    Paper: Glow: Generative Flow with Invertible 1×1 Convolutions (Kingma, Dhariwal, 2018),
    https://arxiv.org/abs/1807.03039
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.triangles = nn.Parameter(torch.zeros(self.dims, self.dims))  # L below the diagonal, U above it
        self.log_diagonal = nn.Parameter(torch.zeros(self.dims))

    def _factors(self) -> tuple[Tensor, Tensor]:
        ones = torch.ones_like(self.log_diagonal).diag()
        lower = self.triangles.tril(-1) + ones
        upper = self.triangles.triu(1) + _positive(self.log_diagonal).diag()
        return lower, upper

    def _times(self, x: Tensor) -> Tensor:
        lower, upper = self._factors()
        return x @ upper.T @ lower.T

    def _solve(self, z: Tensor) -> Tensor:
        lower, upper = self._factors()
        between = torch.linalg.solve_triangular(lower, z.T, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, between, upper=True).T

    def _log_det(self) -> Tensor:
        return self.log_diagonal.sum()


class OrthogonalMatrix(Linear):
    """W = −H_1 ⋯ H_D, reflections H_k = I − 2 v_k v_kᵀ / |v_k|²: W⁻¹ = Wᵀ, ln|det W| = 0.

    v_k is zero before its k-th entry, and one there. This takes D (D − 1) / 2 numbers, the dimension of the rotations,
    and reaches every rotation but a set of measure zero.

    Paper: Improving Variational Auto-Encoders using Householder Flow (Tomczak, Welling, 2016),
    https://arxiv.org/abs/1611.09630
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.vectors = nn.Parameter(torch.zeros(self.dims, self.dims))  # v_k below the diagonal of column k

    def _matrix(self) -> Tensor:
        vectors = self.vectors.tril(-1)
        return -torch.linalg.householder_product(vectors, 2 / (1 + vectors.square().sum(0)))

    def _times(self, x: Tensor) -> Tensor:
        return x @ self._matrix().T

    def _solve(self, z: Tensor) -> Tensor:
        return z @ self._matrix()

    def _log_det(self) -> Tensor:
        return self.shift.new_zeros(())


class Permutation(Transform):
    """The values of an example in another order: ln|det| = 0.

    Args:
        shape: of one example; its values are taken in raster order.
        seed: of a random order; None: reversed.
    """

    def __init__(self, shape: tuple[int, ...], seed: int | None = None) -> None:
        super().__init__()
        self.shape, self.seed = tuple(shape), seed
        dims = math.prod(shape)
        if seed is None:
            order = torch.arange(dims).flip(0)
        else:
            order = torch.randperm(dims, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("order", order)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """z_i = x_order(i)."""
        z = vectors(x)[:, self.order]
        return z.view(x.shape), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """x_order(i) = z_i."""
        x = vectors(z)[:, self.order.argsort()]
        return x.view(z.shape), z.new_zeros(len(z))


def _positive(log_diagonal: Tensor) -> Tensor:
    """Return e^d; it is refused unless positive and finite in this precision, because the matrix would be singular."""
    diagonal = log_diagonal.exp()
    refuse_parameter(
        ~((diagonal > 0) & diagonal.isfinite()),
        diagonal,
        "diagonal of a matrix",
        "positive finite numbers are expected",
    )
    return diagonal
