"""Invertible convolutions."""

import torch
from torch import Tensor, nn

from likely.errors import InputError
from likely.event import refuse_parameter
from likely.flows.transforms.transform import Pair, Transform, finite


class InvertibleConvolution(Transform):
    """z = W x at every place, over the channels, a 1×1 convolution: ln|det ∂z/∂x| = places · ln|det W|.

    W = P L (U + diag(±eˢ)): L lower triangular with ones on its diagonal, U upper triangular above it; the permutation
    P and the signs are fixed. ln|det W| = Σ s. W starts as a random rotation.

    Paper: Glow: Generative Flow with Invertible 1×1 Convolutions (Kingma, Dhariwal, 2018),
    https://arxiv.org/abs/1807.03039

    Args:
        shape: of one example, channels first; the other dimensions are places.
        seed: of the rotation.

    Raises:
        InputError: an event without dimensions.
    """

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        super().__init__()
        self.shape, self.seed = tuple(shape), seed
        if not shape:
            raise InputError("a convolution takes events whose first dimension are channels, found a single value")
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(shape[0], shape[0], dtype=torch.float64, generator=generator)
        rotation, _ = torch.linalg.qr(noise)
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        like = torch.get_default_dtype()
        triangles = lower.tril(-1) + upper.triu(1)
        self.triangles = nn.Parameter(triangles.to(like))  # L below the diagonal, U above it
        self.log_diagonal = nn.Parameter(diagonal.abs().log().to(like))
        self.register_buffer("signs", diagonal.sign().to(like))
        self.register_buffer("order", permutation.argmax(1))  # (P y)_i = y_order(i)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """Return W x, place by place.

        Raises:
            InputError: W is singular in this precision.
        """
        lower, upper = self._factors()
        weight = (lower @ upper)[self.order]
        if x.ndim > 2:
            z = weight @ x.flatten(2)
        else:
            z = x @ weight.T
        return z.view(x.shape), self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """Return W⁻¹ z, place by place; raises as `forward`."""
        lower, upper = self._factors()
        columns = z.index_select(1, self.order.argsort())
        columns = columns.view(len(z), len(lower), -1)
        between = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        x = torch.linalg.solve_triangular(upper, between, upper=True)
        return finite(x.view(z.shape), -self._log_det(z))

    def _factors(self) -> tuple[Tensor, Tensor]:
        diagonal = self.signs * self.log_diagonal.exp()
        refuse_parameter(
            ~(diagonal.isfinite() & (diagonal != 0)),
            diagonal,
            "diagonal of a matrix",
            "finite numbers other than zero are expected",
        )
        ones = torch.ones_like(diagonal).diag()
        return self.triangles.tril(-1) + ones, self.triangles.triu(1) + diagonal.diag()

    def _log_det(self, x: Tensor) -> Tensor:
        places = x[0].numel() // len(self.log_diagonal)
        return (places * self.log_diagonal.sum()).expand(len(x))
