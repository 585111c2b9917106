"""A flow: a base density and the transforms that lead to it."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from likely.density import Array, Density, seeded
from likely.errors import InputError, require_sizes
from likely.event import Event, Interval, narrowed, refuse
from likely.flows.transforms.transform import Composition, Transform, named
from likely.nn import ContextEncoder
from likely.nn.values import take_units


class Flow(Density):
    """ln p(x) = ln p_base(z) + ln|det ∂z/∂x|, z = f(x).

    `transform(x)` gives (z, ln|det ∂z/∂x|) and `transform.inverse(z)` gives (x, ln|det ∂x/∂z|); of a conditional flow,
    `transform(x, model.encoded(context))`. A flow with transforms that draw (dequantisation) is a lower bound, in
    expectation over their draws.

    Paper: Normalizing Flows for Probabilistic Modeling and Inference (Papamakarios et al., 2021),
    https://arxiv.org/abs/1912.02762

    Args:
        base: density of z; it may itself be a flow, and be given the same context.
        transforms: from x to z; conditional ones are built for `features` context features.
        context: the event that the flow is conditioned on, if any.
        features: number of features that the context is turned into.
        seed: of the context encoder's initial weights.

    Raises:
        InputError: a base that is no density, or transforms that are none; transforms with values that do not fill the
            base's support, so that p would not integrate to one; that do not fit the base's event, or each other's;
            without a dequantisation over symbols; or built for other context features than the flow has.
    """

    def __init__(
        self,
        base: Density,
        transforms: Sequence[Transform],
        context: Event | None = None,
        *,
        features: int = 64,
        seed: int = 0,
    ) -> None:
        require_sizes(features=features)
        _require_base(base)
        transform = Composition(transforms)
        super().__init__(transform.event_before(base.event), context)
        if base.context not in (None, context):
            raise InputError(f"the base is conditioned on {base.context}, the flow on {context}")
        _require_fit(base, transform, self.event)
        given = context_features(context, features)
        if transform.features not in (None, given):
            raise InputError(
                f"the transforms take {transform.features} context features, the flow has {given or 'no context'}"
            )
        self.base, self.transform, self.features, self.seed = base, transform, features, seed
        self.encode: Any = None
        if context is not None:
            with seeded(seed):
                self.encode = ContextEncoder(context, features)

    @property
    def transforms(self) -> nn.ModuleList:
        """The transforms, from x to z."""
        return self.transform.transforms

    @property
    def support(self) -> Interval:  # pyrefly: ignore[bad-override]
        """The interval that the values of x lie in."""
        return self.transform.domain

    @property
    def kind(self) -> Literal["exact", "lower bound"]:  # pyrefly: ignore[bad-override]
        """A lower bound where a transform draws, or the base is one."""
        return "lower bound" if self.transform.stochastic else self.base.kind

    @property
    def precise(self) -> bool:  # pyrefly: ignore[bad-override]
        """Whether the first transform takes location and scale out of x as it is given."""
        return any(part.precise for part in list(self.transform)[:1])

    def encoded(self, context: Array | None) -> Tensor | None:
        """Return the features (n, features) of a batch of contexts, for the transforms."""
        n = 0 if context is None else len(context)
        return self._encoded(self.check_context(context, n))

    def initialize(self, x: Array, context: Array | None = None, *, generator: torch.Generator | None = None) -> None:
        """Initialise every transform that starts from data, from the batch as the transforms before it map it."""
        x, context = self.check(x), self.check_context(context, len(x))
        if self.encode is not None:
            take_units(self.encode, context)
        with torch.no_grad():
            self.transform.initialize(x, self._encoded(context), generator)

    def _encoded(self, context: Tensor | None) -> Tensor | None:
        if self.encode is None:
            return None
        return self.encode(context)

    def _of_base(self, context: Tensor | None) -> Tensor | None:
        return context if self.base.context else None

    def _density(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        z, ladj = self.transform.forward(self._of_precision(x), self._encoded(context), generator)
        return self.base._log_prob(z, self._of_base(context), generator) + ladj

    def _log_prob(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        log_prob = self._density(x, context, generator)
        refuse(~log_prob.isfinite(), log_prob, "log p(x)", "x is further out than this precision can tell")
        return log_prob

    def _loss(self, x: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return -self._density(x, context, generator).mean() / self.event.dims

    def _draw(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        if self.transform.stochastic:
            return super()._draw(n, context, generator)
        drawn = self.base._draw(n, self._of_base(context), generator)
        return self._from_base(*drawn, self._encoded(context))

    def _draw_each(self, count: int, context: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        features = self._encoded(context)
        if self.transform.stochastic or features is None:
            return super()._draw_each(count, context, generator)
        if self.base.context:
            drawn = self.base._draw_each(count, context, generator)
        else:
            drawn = self.base._draw(count * len(context), None, generator)
        return self._from_base(*drawn, features.repeat(count, 1))

    def _from_base(self, z: Tensor, log_prob: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        x, ladj = self.transform.preimage(z.to(self.dtype), features)
        return x, log_prob - ladj

    def _of_precision(self, x: Tensor) -> Tensor:
        """Return x in the model's precision, where the first transform does not see to it."""
        if self.precise or self.event.discrete:
            return x
        return narrowed(x, self.dtype, x)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        z = self.base._sample(n, self._of_base(context), generator).to(self.dtype)
        x, _ = self.transform.preimage(z, self._encoded(context))
        return x


def context_features(context: Event | None, features: int) -> int | None:
    """Return the number of context features that transforms take; None without a context."""
    if context is None:
        return None
    return features


def _require_base(base: Density) -> None:
    if not isinstance(base, Density):
        raise InputError(f"a density is expected as a flow's base, found {type(base).__name__}")
    if base.event.discrete:
        raise InputError(
            f"a flow ends in real values, found a base over symbols, {base.event}; "
            "give it a base of real values, and transforms that begin with Dequantize"
        )


def _require_fit(base: Density, transform: Composition, event: Event) -> None:
    """Require that z has every value of the base's support, and the base's event."""
    if not transform.onto or transform.codomain != base.support:
        names = " → ".join(map(named, transform))
        raise InputError(
            f"p would not integrate to one: the base is a density of values inside {base.support}, which "
            f"{names or 'no transform'} does not fill"
        )
    after = transform.event_after(event)
    if after != base.event:
        raise InputError(f"the transforms lead to {after}, found a base over {base.event}")
