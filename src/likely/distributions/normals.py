"""Batches of Gaussians over vectors."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Normals(NamedTuple):
    """A batch of Gaussians over vectors: x = μ + L ε, where L has σ on the diagonal and `corner` below it.

    mu, log_sigma (n, dims); corner (n, dims · (dims − 1) / 2) row by row, or None.
    """

    mu: Tensor
    log_sigma: Tensor
    corner: Tensor | None

    def repeated(self, count: int) -> "Normals":
        """All of them, `count` times one after the other."""
        if self.corner is None:
            corner = None
        else:
            corner = self.corner.repeat(count, 1)
        return Normals(self.mu.repeat(count, 1), self.log_sigma.repeat(count, 1), corner)

    def scale(self) -> Tensor:
        """L (n, dims, dims)."""
        scale = self.log_sigma.exp().diag_embed()
        if self.corner is not None:
            rows, columns = torch.ones_like(scale[0]).tril(-1).nonzero(as_tuple=True)
            batch = torch.arange(len(scale), device=scale.device)[:, None]
            scale = scale.index_put((batch, rows, columns), self.corner)
        return scale

    def at(self, epsilon: Tensor) -> Tensor:
        """μ + L ε."""
        if self.corner is None:
            return self.mu + self.log_sigma.exp() * epsilon
        return self.mu + (self.scale() @ epsilon[..., None])[..., 0]

    def log_prob(self, x: Tensor) -> Tensor:
        """ln N(x; μ, L Lᵀ) of vectors (n, dims), (n,)."""
        if self.corner is None:
            epsilon = (x - self.mu) * (-self.log_sigma).exp()
        else:
            difference = (x - self.mu)[..., None]
            epsilon = torch.linalg.solve_triangular(self.scale(), difference, upper=False)[..., 0]
        constant = 0.5 * math.log(2 * math.pi)
        return -(0.5 * epsilon.square() + self.log_sigma + constant).sum(1)
