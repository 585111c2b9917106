"""Generate: samples, tempered samples, samples from given noise, and in-filling of hidden values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from likely.density import Array, Autoregressive, Density, Where, run, sample_with
from likely.distributions import Categorical, Discrete
from likely.distributions.discrete import uniform
from likely.errors import InputError, require_draws
from likely.event import Event, as_tensor, refuse


@dataclass(frozen=True)
class Infilled:
    """Completed examples (n, *event.shape), and whether they are exact draws from p(hidden | observed).

    They are exact where the observed values come first in the model's order. An observed value after a hidden one is
    only forced: the hidden values before it were drawn without knowledge of it.
    """

    x: Tensor
    exact: bool


def sample(
    model: Density,
    n: int,
    context: Array | None = None,
    *,
    size: Sequence[int] | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw n examples (n, *event.shape); `context` is one value for all or n values.

    Where the sizes of examples vary, `size` is the size to draw: (height, width) of pictures.

    A temperature t other than 1 draws from each conditional's p^(1/t), normalised: sharper below 1, flatter above.
    Such samples are no longer from the model's density.

    Raises:
        InputError: n, size, temperature or context is not as expected, or the model cannot be tempered.
    """
    if size is not None:
        model = model.of_size(size)
    if temperature == 1:
        return model.sample(n, context, generator=generator)
    if not 0 < temperature < float("inf"):
        raise InputError(f"temperature must be a positive number, found {temperature}")
    require_draws(n, model.event.dims)
    model = _autoregressive(model, "temperature")
    context = model.check_context(context, n, broadcast=True)

    def choose(where: Where, p: Discrete) -> Tensor:
        return p.tempered(temperature).sample(generator)

    with torch.no_grad():
        return sample_with(model, n, context, choose, generator)


def sample_from_noise(model: Autoregressive, noise: Array, context: Array | None = None, *, order: int = 0) -> Tensor:
    """Return the examples of uniform noise u (n, *event.shape) in [0, 1): x_i = F_i⁻¹(u_i; x_<i).

    Raises:
        InputError: noise of another shape or beyond [0, 1), no such ordering, or context is not as expected.
    """
    model = _autoregressive(model, "drawing from noise")
    noise = Event(model.event.shape).check(noise, "noise")
    model = model.of_size(noise.shape[1:])
    refuse((noise < 0) | (noise >= 1), noise, "noise", "numbers from 0 to 1, which is excluded, are expected")
    if not 0 <= order < model.orders:
        raise InputError(f"order must be from 0 to {model.orders - 1}, found {order}")
    noise = noise.to(model.device)
    with torch.no_grad():
        steps = model.steps(len(noise), context, order=order)
        return run(steps, lambda where, p: p.quantile(noise[where]))


def infill(
    model: Density,
    x: Array,
    observed: Array | Literal["top", "left"],
    context: Array | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Infilled:
    """Draw the hidden values of x given the observed ones.

    A model with several orderings runs each of them and keeps one for every example, drawn in proportion to the
    probability that each gave to the observed values: the posterior of the ordering, where the observed values come
    first in all.

    Args:
        model: an autoregressive density.
        x: examples (n, *event.shape); hidden values may be anything.
        observed: True where given, event-shaped or (n, *event.shape); "top" or "left" half of an image.
        context: as for `sample`.
        generator: of the draws.

    Raises:
        InputError: the model is not autoregressive, or x, observed or context is not as expected.
    """
    model = _autoregressive(model, "in-filling")
    x = as_tensor(x, "x")
    model.event.check_shape(tuple(x.shape))
    model = model.of_size(x.shape[1:])
    mask = observed_mask(model.event, observed, x.shape)
    x = model.check(_without_hidden(model.event, x, mask.to(x.device)))
    mask = mask.to(model.device)
    context = model.check_context(context, len(x), broadcast=True)
    with torch.no_grad():
        runs = [_forced(model.event, x, mask, generator).through(model, context, k) for k in range(model.orders)]
    chosen = _chosen(torch.stack([forced.log_weight for forced in runs]), generator)
    results = torch.stack([forced.result for forced in runs])
    completed = results[chosen, torch.arange(len(x), device=chosen.device)]
    return Infilled(completed, not any(forced.late for forced in runs))


def _without_hidden(event: Event, x: Tensor, observed: Tensor) -> Tensor:
    """Return x with other values in the hidden places: zeros; of strings a letter, or an end where one came before."""
    if event.end is None:
        return torch.where(observed, x, torch.zeros((), dtype=x.dtype))
    letter = torch.tensor((event.end + 1) % event.most_levels, dtype=x.dtype)
    x = torch.where(observed, x, letter)
    return torch.where(observed, x, event.filled(x))


def _forced(event: Event, x: Tensor, observed: Tensor, generator: torch.Generator | None) -> "_Forced":
    if event.end is None:
        return _Forced(x, observed, generator)
    return _ForcedString(event.end, x, observed, generator)


def _chosen(log_weights: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw an ordering for every example (n,), from log-weights (orders, n)."""
    weights = log_weights.softmax(0)
    edges = weights.cumsum(0).T[:, :-1].contiguous()
    u = uniform((len(edges),), generator, weights)
    return torch.searchsorted(edges, u[:, None])[:, 0]


class _Forced:
    """One pass that forces the observed values and multiplies their probabilities."""

    def __init__(self, x: Tensor, observed: Tensor, generator: torch.Generator | None) -> None:
        self.x, self.observed, self.generator = x, observed, generator
        self.log_weight = torch.zeros(len(x), device=x.device)
        self.hidden = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.late = False

    def choose(self, where: Where, p: Discrete) -> Tensor:
        observed = self.observed[where]
        value = torch.where(observed, self.x[where], self._drawn(where, p))
        rows = observed.reshape(len(observed), -1)
        self.late = self.late or bool((self.hidden[:, None] & rows).any())
        self.hidden |= (~rows).any(1)
        log_p = (p.log_prob(value) * observed).reshape(rows.shape)
        self.log_weight = self.log_weight + log_p.sum(1)
        return value

    def _drawn(self, where: Where, p: Discrete) -> Tensor:
        return p.sample(self.generator)

    def through(self, model: Autoregressive, context: Tensor | None, order: int) -> "_Forced":
        steps = model.steps(len(self.x), context, order=order)
        self.result = run(steps, self.choose)
        return self


class _ForcedString(_Forced):
    """One pass through strings, which do not end before an observed letter."""

    def __init__(self, end: int, x: Tensor, observed: Tensor, generator: torch.Generator | None) -> None:
        super().__init__(x, observed, generator)
        letters = observed & (x != end)
        self.end, self.unended = end, letters.flip(1).cumsum(1).flip(1) > 0

    def _drawn(self, where: Where, p: Discrete) -> Tensor:
        logits = p.log_table()
        ends = torch.arange(logits.shape[-1], device=logits.device) == self.end
        unended = self.unended[where].to(logits.device)
        return Categorical(logits.masked_fill(unended[..., None] & ends, -torch.inf)).sample(self.generator)


def _autoregressive(model: Density, job: str) -> Autoregressive:
    if not isinstance(model, Autoregressive):
        raise InputError(f"{job} needs an autoregressive model, found {type(model).__name__}")
    return model


def observed_mask(event: Event, observed: Array | str, shape: torch.Size) -> Bool[Tensor, "..."]:
    """Return `observed` as a mask (n, *event.shape)."""
    if isinstance(observed, str):
        mask = _half(event, observed)
    else:
        mask = torch.as_tensor(observed)
        binary = (mask == 0) | (mask == 1)
        if mask.dtype != torch.bool and not bool(binary.all()):
            raise InputError("observed: True or 1 where given and False or 0 where hidden are expected")
    mask = mask.bool()
    if tuple(mask.shape) not in (event.shape, tuple(shape)):
        raise InputError(f"observed: expected shape {event.shape} or {tuple(shape)}, found {tuple(mask.shape)}")
    if tuple(mask.shape) == tuple(shape):
        return mask.expand(len(mask), *event.shape)
    return mask.expand(shape[0], *event.shape)


def _half(event: Event, name: str) -> Tensor:
    if name not in ("top", "left") or len(event.shape) != 3:
        raise InputError(f'observed: "top" or "left" of an image, or a mask, is expected; found {name!r} for {event}')
    mask = torch.zeros(event.shape, dtype=torch.bool)
    _, height, width = event.shape
    if name == "top":
        mask[:, : height // 2] = True
    else:
        mask[:, :, : width // 2] = True
    return mask
