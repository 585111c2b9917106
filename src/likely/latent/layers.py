"""Latents in layers: Gaussians one given the other, from the top down, and decoders of the lowest layer alone."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from likely.densities.bases import Normal
from likely.density import Array, Density
from likely.distributions.normals import Normals
from likely.event import Event
from likely.latent.latent import Layered

Conditionals = Callable[[int, Tensor | None], Normals]  # of layer l, given the one above it


class TopDown(Layered):
    """∏_l N(z_l; μ_l, diag σ_l²), where μ_l and σ_l depend on z_{l+1}, and on a context if there is one."""

    def __init__(self, layers: tuple[int, ...], context: Event | None = None) -> None:
        super().__init__(Event((sum(layers),)), context)
        self.layers = tuple(layers)
        self.noise = Normal(self.event)

    @property
    @abstractmethod
    def prior(self) -> "TopDown":
        """The density p(z) with the same layers; it may be this one."""

    @abstractmethod
    def _conditionals(self, n: int, context: Tensor | None) -> Conditionals:
        """Return the factors for n vectors, a multiple of the contexts, taken in turn."""

    def _factors(self, z: Tensor, context: Tensor | None) -> Tensor:
        factor = self._conditionals(len(z), context)
        parts = z.split(self.layers, 1)
        pairs = zip(parts, (*parts[1:], None), strict=True)
        return torch.stack([factor(level, above).log_prob(part) for level, (part, above) in enumerate(pairs)])

    def _draw_factors(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        factor = self._conditionals(n, context)
        epsilon = self.noise._sample(n, None, generator).split(self.layers, 1)
        parts, factors, above = [], [], None
        for level in reversed(range(len(self.layers))):
            p = factor(level, above)
            above = p.at(epsilon[level])
            parts.append(above)
            factors.append(p.log_prob(above))
        return torch.cat(parts[::-1], 1), torch.stack(factors[::-1])


class OfLowestLayer(Density):
    """p(x | z) = p(x | z_1), where z_1 are the first values of z.

    Args:
        decoder: p(x | z_1).
        context: the event of z.
    """

    def __init__(self, decoder: Density, context: Event) -> None:
        super().__init__(decoder.event, context)
        assert decoder.context is not None
        self.decoder, self.size = decoder, decoder.context.dims

    @property
    def precise(self) -> bool:  # pyrefly: ignore[bad-override]
        """Whether p(x | z_1) takes real values as they are given."""
        return self.decoder.precise

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """As p(x | z_1) does."""
        given = self.check_context(context, len(x))
        assert given is not None
        self.decoder.initialize(x, given[:, : self.size], generator=generator)

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        assert context is not None
        return self.decoder._log_prob(x, context[:, : self.size], generator)

    def _score_each(self, x: Tensor, context: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.decoder._score_each(x, context[:, : self.size], generator)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        assert context is not None
        return self.decoder._sample(n, context[:, : self.size], generator)
