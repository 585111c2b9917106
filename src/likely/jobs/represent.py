"""Represent: latents of examples, and examples decoded from latents that are moved."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Literal

import torch
from torch import Tensor

from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.density import Array, Density
from likely.errors import InputError
from likely.flows import Flow
from likely.latent.diagnostics import posterior_means, spread
from likely.latent.hierarchical_vae import OfLowestLayer
from likely.latent.latent import LatentVariable
from likely.rows import Rows

Path = Literal["linear", "spherical"]
DRAWS = 4096  # from a prior, for its mean and deviation
EXAMPLES = 512  # at most, from which the activity of latent values is measured
BATCH = 64  # latents decoded at once
STRAIGHT = 1e-4  # sine of an angle so small that its arc is a line


def embed(model: Density, data: Any, *, batch_size: int = 128, generator: torch.Generator | None = None) -> Tensor:
    """Return the latents of examples, (n, *latent shape), on the model's device.

    Of a latent-variable model E[z | x] under its encoder, exact or the mean of 64 draws; of a latent of symbols, the
    code (or the symbol drawn most often). Of a flow z = f(x), for one draw of its noise if it has any.

    Args:
        model: a latent-variable model with an encoder, or a flow.
        data: `Rows`, examples (n, *event.shape), a pair with their context, or a torch `Dataset`.
        batch_size: examples per pass.
        generator: of the draws (None: seeded with 0).

    Raises:
        InputError: data that are not the model's, or a model that has no representation.
    """
    if batch_size < 1:
        raise InputError(f"a batch size of at least 1 is expected, found {batch_size}")
    rows = Rows.of(data, conditional=model.context is not None).to(model.device)
    model.event.check_shape(rows.read_shape)
    generator = generator or torch.Generator(model.device).manual_seed(0)
    return torch.cat([_latents_of_batch(model, part, generator) for part in rows.batches(batch_size)])


@torch.no_grad()
def _latents_of_batch(model: Density, rows: Rows, generator: torch.Generator) -> Tensor:
    with rows.named():
        x, context = rows.read()
        return _latents(model, model.check(x), model.check_context(context, len(x)), generator)


@singledispatch
def _latents(model: Density, x: Tensor, context: Tensor | None, generator: torch.Generator) -> Tensor:
    raise InputError(
        f"{type(model).__name__} represents nothing by latents: a latent-variable model with an encoder, or a flow, is "
        "expected"
    )


@_latents.register
def _(model: LatentVariable, x: Tensor, context: Tensor | None, generator: torch.Generator) -> Tensor:
    return posterior_means(model, x, generator=generator)


@_latents.register
def _(model: Flow, x: Tensor, context: Tensor | None, generator: torch.Generator) -> Tensor:
    return model.transform(x, model.encoded(context), generator)[0]


@dataclass(frozen=True)
class Traversal:
    """Examples decoded from latents with one value moved and all others at the prior's mean.

    Attributes:
        x: (latent values, places, *event.shape).
        latents: numbers of the latent values that are moved, in raster order, the most active first.
        activity: Var_x E[z | x] of each.
        places: in standard deviations of the prior.
    """

    x: Tensor
    latents: tuple[int, ...]
    activity: tuple[float, ...]
    places: tuple[float, ...]


def traverse(
    model: Density,
    data: Any = None,
    *,
    rows: int = 10,
    columns: int = 11,
    reach: float = 3.0,
    means: bool = True,
    generator: torch.Generator | None = None,
) -> Traversal:
    """Move the most active latent values, one at a time, from −reach to reach standard deviations of the prior.

    Args:
        model: a latent-variable model with an encoder and real latents.
        data: examples from which activity is measured (the first 512 are used); None: samples of the model.
        rows: latent values at most.
        columns: places of each.
        reach: standard deviations.
        means: whether to return the decoder's means where they are known (Gaussians, independent symbols), or samples.
        generator: of the draws (None: seeded with 0).

    Raises:
        InputError: another model, data that are not its, or numbers out of range.
    """
    if not isinstance(model, LatentVariable) or model.encoder is None or model.prior.event.discrete:
        raise InputError(
            f"a traversal needs a latent-variable model with an encoder and real latents, found {_described(model)}"
        )
    if rows < 1 or columns < 2 or not 0 < reach < float("inf"):
        raise InputError(
            "at least 1 row and 2 columns and a positive reach are expected, found "
            f"rows={rows}, columns={columns}, reach={reach}"
        )
    generator = generator or torch.Generator(model.device).manual_seed(0)
    if data is None:
        x = model.sample(EXAMPLES, generator=generator)
    else:
        x = model.check(Rows.of(data)[:EXAMPLES].x)
    activity = spread(model, x, generator=generator).flatten()
    latents = activity.argsort(descending=True, stable=True)[:rows]
    mean, deviation = _prior_moments(model.prior, generator)
    places = torch.linspace(-reach, reach, columns, dtype=mean.dtype, device=mean.device)
    z = mean.flatten().repeat(len(latents), columns, 1)  # (rows, columns, latent values)
    for row, latent in enumerate(latents.tolist()):
        z[row, :, latent] += places * deviation.flatten()[latent]
    decoded = _decoded_all(model, z.view(-1, *mean.shape), None, means, generator)
    return Traversal(
        decoded.unflatten(0, (len(latents), columns)),
        tuple(latents.tolist()),
        tuple(activity[latents].tolist()),
        tuple(places.tolist()),
    )


def interpolate(
    model: Density,
    first: Array,
    second: Array,
    context: Array | None = None,
    *,
    steps: int = 11,
    path: Path = "linear",
    means: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Decode latents on the way from examples to others, (n, steps, *event.shape).

    Args:
        model: a flow, or a latent-variable model with an encoder and real latents.
        first, second: examples (n, *event.shape); their latents (see `embed`) are the ends.
        context: of both ends and the way between (n, *context.shape), where the model is conditional.
        steps: places on the way, both ends included.
        path: "linear" in z, or "spherical", an arc along which the length changes evenly with the angle.
        means: as for `traverse`; a flow decodes to one value in any case.
        generator: of the draws (None: seeded with 0).

    Raises:
        InputError: another model, examples that are not its or not as many, fewer than two steps, or no such path.
    """
    if len(first) != len(second):
        raise InputError(f"as many examples at either end are expected, found {len(first)} and {len(second)}")
    if steps < 2 or path not in ("linear", "spherical"):
        raise InputError(f'at least 2 steps and a "linear" or "spherical" path are expected, found {steps}, {path!r}')
    generator = generator or torch.Generator(model.device).manual_seed(0)
    start = embed(model, (first, context), generator=generator)
    end = embed(model, (second, context), generator=generator)
    if not start.is_floating_point():
        raise InputError(f"symbols have nothing between them: real latents are expected, found {_described(model)}")
    t = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)
    along = _along_line if path == "linear" else _along_arc
    z = along(start, end, t)  # (n, steps, *latent shape)
    contexts = model.check_context(context, len(start))
    if contexts is not None:
        contexts = contexts.repeat_interleave(steps, 0)
    decoded = _decoded_all(model, z.flatten(0, 1), contexts, means, generator)
    return decoded.unflatten(0, (len(start), steps))


def _along_line(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    t = t.view(-1, *[1] * (start.ndim - 1))
    return start[:, None] + t * (end - start)[:, None]


def _along_arc(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """Return (sin((1 − t) ω) start + sin(t ω) end) / sin ω, ω the angle between; a line where ω is 0 or π."""
    a = start.reshape(len(start), 1, -1)
    b = end.reshape(len(end), 1, -1)
    cosine = torch.cosine_similarity(a, b, -1)[..., None].clamp(-1, 1)
    angle, t = cosine.acos(), t[:, None]
    sine = angle.sin()
    arc = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / sine
    line = (1 - t) * a + t * b
    lengths = a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
    turns = (sine > STRAIGHT) & (lengths > 0)
    return torch.where(turns, arc, line).view(len(start), -1, *start.shape[1:])


@singledispatch
def _prior_moments(prior: Density, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every latent value: known of a `Normal`, else of draws."""
    z = prior.sample(DRAWS, generator=generator)
    return z.mean(0), z.std(0)


@_prior_moments.register
def _(prior: Normal, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    z = prior.sample(DRAWS, generator=generator)  # so that later draws do not depend on the kind of prior
    return torch.zeros_like(z[0]), torch.ones_like(z[0])


@torch.no_grad()
def _decoded_all(model: Density, z: Tensor, context: Tensor | None, means: bool, generator: torch.Generator) -> Tensor:
    """Decode latents (m, *latent shape), batch by batch; contexts (m, *context.shape) for a flow."""
    parts = z.split(BATCH)
    contexts: Sequence[Tensor | None] = [None] * len(parts)
    if context is not None:
        contexts = context.split(BATCH)
    batches = zip(parts, contexts, strict=True)
    return torch.cat([_decoded_batch(model, part, given, means, generator) for part, given in batches])


@singledispatch
def _decoded_batch(
    model: Density, z: Tensor, context: Tensor | None, means: bool, generator: torch.Generator
) -> Tensor:
    raise InputError(f"{type(model).__name__} decodes no latents")


@_decoded_batch.register
def _(model: Flow, z: Tensor, context: Tensor | None, means: bool, generator: torch.Generator) -> Tensor:
    return model.transform.inverse(z, model.encoded(context))[0]


@_decoded_batch.register
def _(model: LatentVariable, z: Tensor, context: Tensor | None, means: bool, generator: torch.Generator) -> Tensor:
    decode = _decoded if means else _drawn
    return decode(model.decoder, z, generator)


def _drawn(decoder: Density, z: Tensor, generator: torch.Generator) -> Tensor:
    return decoder.sample(len(z), z, generator=generator)


@singledispatch
def _decoded(decoder: Density, z: Tensor, generator: torch.Generator) -> Tensor:
    """E[x | z] where it is known, else a sample."""
    return _drawn(decoder, z, generator)


@_decoded.register
def _(decoder: ConditionalNormal, z: Tensor, generator: torch.Generator) -> Tensor:
    mu = decoder.parameters_of(z).mu.view(-1, *decoder.event.shape)
    return decoder.in_units(mu)


@_decoded.register
def _(decoder: ConditionalSymbols, z: Tensor, generator: torch.Generator) -> Tensor:
    shape = decoder.event.shape
    if decoder.head == "logistics" and len(shape) == 3 and shape[0] > 1:
        return _drawn(decoder, z, generator)  # channels depend on one another
    anything = torch.zeros(len(z), *shape, dtype=torch.int64, device=z.device)
    table = decoder.conditionals(anything, z).table()
    return table @ torch.arange(table.shape[-1], dtype=table.dtype, device=table.device)


@_decoded.register
def _(decoder: OfLowestLayer, z: Tensor, generator: torch.Generator) -> Tensor:
    return _decoded(decoder.decoder, z[:, : decoder.size], generator)


@singledispatch
def _described(model: Density) -> str:
    return type(model).__name__


@_described.register
def _(model: LatentVariable) -> str:
    article = "no" if model.encoder is None else "an"
    return f"{type(model).__name__} with {article} encoder of {model.prior.event}"
