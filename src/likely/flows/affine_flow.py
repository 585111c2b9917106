"""AffineFlow: the Gaussian density with a full covariance, as a flow."""

from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from likely.densities.bases import Normal
from likely.density import seeded
from likely.errors import InputError, require_sizes
from likely.event import Event
from likely.flows.dequantization import Dequantization, Dequantize, noise_for
from likely.flows.flow import Flow
from likely.flows.maps.map import Shift
from likely.flows.transforms.elementwise import Elementwise
from likely.flows.transforms.linear import TriangularMatrix
from likely.flows.transforms.standardization import Standardize
from likely.flows.transforms.transform import Transform
from likely.nn.moments import whitening
from likely.rows import Rows

FAINT = 1e-3  # singular values of features, relative to the largest, that a regression does without


class AffineFlow(Flow):
    """z = W (x − μ) with W triangular, z ~ N(0, I): p(x) = N(x; μ, (Wᵀ W)⁻¹), every Gaussian density.

    `fit` estimates it in closed form. With a context c, μ is linear in the features φ(c): a mean of its own for every
    label, with one covariance. The estimate is the regression on the features as they are; gradient steps, with a
    budget, learn the features too. Symbols are dequantised into (0, 1).

    Paper: Normalizing Flows for Probabilistic Modeling and Inference (Papamakarios et al., 2021), section 3.2,
    https://arxiv.org/abs/1912.02762

    Args:
        event: any; its values are taken as one vector.
        context: the event that μ depends on, if any.
        floor: smallest variance in any direction, where that of each value of the data is 1.
        dequantization: noise that symbols are dequantised with, "uniform" or fitted ("factorized", "variational").
        features: number of features that the context is turned into.
        seed: of the features.

    Raises:
        InputError: a floor that is not inside (0, 1), or no features.
    """

    def __init__(
        self,
        event: Event,
        context: Event | None = None,
        *,
        floor: float = 1e-6,
        dequantization: Dequantization = "uniform",
        features: int = 64,
        seed: int = 0,
    ) -> None:
        require_sizes(features=features)
        if not 0 < floor < 1:
            raise InputError(f"a floor inside (0, 1) is expected, found {floor}")
        with seeded(seed):
            parts: list[Transform] = []
            if event.levels is not None:
                parts.append(Dequantize(event.levels, noise_for(event, dequantization)))
            parts.append(Standardize(event.shape))
            if context is not None:
                parts.append(Elementwise(Shift(), event.shape, features))
            parts.append(TriangularMatrix(event.shape))
        super().__init__(Normal(Event(event.shape)), parts, context, features=features, seed=seed)
        self.floor, self.dequantization = floor, dequantization

    def estimate(self, data: Any, *, generator: torch.Generator | None = None) -> None:
        """Maximum likelihood, of one draw of the noise where symbols are dequantised.

        Args:
            data: `Rows`, examples (n, *event.shape), or a pair with their context.
            generator: of the noise.

        Raises:
            InputError: a column that is constant.
        """
        x, context = Rows.of(data).read()
        self.initialize(x, context, generator=generator)
        z, features = self.check(x), self.encoded(context)
        with torch.no_grad():
            for part in self.transform:
                _estimate(part, z.double().reshape(len(z), -1), features, self.floor)
                noise = (generator,) if part.stochastic else ()
                z, _ = part(z, features, *noise)


@singledispatch
def _estimate(part: Transform, y: Tensor, features: Tensor | None, floor: float) -> None:
    """Set the weights of a transform, if it has any, by maximum likelihood of its inputs y (n, dims)."""


@_estimate.register
def _(shift: Elementwise, y: Tensor, features: Tensor | None, floor: float) -> None:
    """Set the shift to minus the best prediction of y from the features, linear with a constant.

    Directions in which the features hardly vary are left out: weights along them would be huge, and worth nothing but
    rounding errors in float32 and wild predictions beyond the contexts that were seen.
    """
    assert features is not None
    assert shift.project is not None
    f = features.double()
    solution = torch.linalg.pinv(f - f.mean(0), rtol=FAINT) @ (y - y.mean(0))  # (features, dims)
    shift.project.weight.copy_(-solution.T)
    constant = f.mean(0) @ solution - y.mean(0)
    shift.constant.copy_(constant.view(shift.constant.shape))


@_estimate.register
def _(matrix: TriangularMatrix, y: Tensor, features: Tensor | None, floor: float) -> None:
    """Set W and b so that z has mean zero and covariance I, as far as the floor permits."""
    covariance = y.T.cov(correction=0).view(matrix.dims, matrix.dims)
    w = whitening(covariance, floor)
    matrix.log_diagonal.copy_(w.diagonal().log())
    matrix.lower.copy_(w.tril(-1))
    matrix.shift.copy_(-w @ y.mean(0))
