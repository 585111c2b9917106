"""The rehearsal of a frozen model: every part of it runs under guard, and its two views are held against each other."""

from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from likely.coding.codecs import codec
from likely.coding.guards import portable
from likely.coding.rans import Stack
from likely.density import Autoregressive, Density, run
from likely.errors import InputError
from likely.latent.latent import LatentVariable
from likely.latent.layers import OfLowestLayer


@torch.no_grad()
def rehearse(model: Density, x: Tensor, context: Tensor | None) -> None:
    """Run every part of the frozen model under guard, and hold the two views of a factorisation against each other.

    Raises:
        InputError: an operation that is not portable, or steps that differ from the parallel pass.
    """
    _rehearse(model, x, context, model)


@singledispatch
def _rehearse(density: Density, x: Tensor, context: Tensor | None, whole: Density) -> None:
    """Rehearse a density without a network of its own steps: by its codec.

    Args:
        density: a part of the frozen model.
        x: of its examples, or numbers of parts.
        context: of each.
        whole: the frozen model; a density may borrow layers of another.
    """
    own = codec(density, len(x))
    with portable(whole):
        own.push(Stack(), own.pop(Stack(), len(x), context), context)


@_rehearse.register
def _(density: LatentVariable, x: Tensor, context: Tensor | None, whole: Density) -> None:
    numbers = torch.zeros(len(x), *density.prior.event.shape, dtype=torch.int64)
    if density.encoder is not None:
        _rehearse(density.encoder, numbers, x, whole)
    _rehearse(density.prior, numbers, None, whole)
    with portable(whole):
        z = codec(density.prior, len(x)).values(numbers)
    _rehearse(density.decoder, x, z, whole)


@_rehearse.register
def _(density: OfLowestLayer, x: Tensor, context: Tensor | None, whole: Density) -> None:
    assert context is not None
    _rehearse(density.decoder, x, context[:, : density.size], whole)


@_rehearse.register
def _(density: Autoregressive, x: Tensor, context: Tensor | None, whole: Density) -> None:
    for order in range(density.orders):
        with portable(density):
            parallel = density._factors(x, context, order)
            differ = []

            def choose(where: Any, p: Any, parallel: Any = parallel, differ: list = differ) -> Tensor:
                differ.append((where, p))
                return x[where]

            run(density._walk(len(x), context, order), choose)
        for where, p in differ:
            if not torch.equal(p.log_table(), parallel[where].log_table()):
                raise InputError(
                    f"{type(density).__name__} cannot be frozen: the conditional at {where[1:]} differs between its "
                    "steps and its parallel pass"
                )
