"""The rehearsal of a frozen model: every part of it runs under guard, and its two views are held against each other."""

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
    """Run every part of the frozen model under guard, both views of what has two, and hold those against each other.

    Raises:
        InputError: an operation that is not portable, or steps that differ from the parallel pass.
    """
    if isinstance(model, LatentVariable):
        _rehearse_latents(model, x)
    else:
        assert isinstance(model, Autoregressive)
        _rehearse_steps(model, x, context)


def _rehearse_latents(model: LatentVariable, x: Tensor) -> None:
    numbers = torch.zeros(len(x), *model.prior.event.shape, dtype=torch.int64)
    for density, given in ((model.encoder, x), (model.prior, None)):
        if isinstance(density, Autoregressive):
            _rehearse_steps(density, numbers, given)
        elif density is not None:
            own = codec(density, len(x))
            with portable(model):  # a density may borrow layers of another
                own.push(Stack(), own.pop(Stack(), len(x), given), given)
    with portable(model):
        z = codec(model.prior, len(x)).values(numbers)
    decoder = model.decoder
    if isinstance(decoder, OfLowestLayer):
        decoder, z = decoder.decoder, z[:, : decoder.size]
    assert isinstance(decoder, Autoregressive)
    _rehearse_steps(decoder, x, z)


def _rehearse_steps(model: Autoregressive, x: Tensor, context: Tensor | None) -> None:
    for order in range(model.orders):
        with portable(model):
            parallel = model._factors(x, context, order)
            differ = []

            def choose(where: Any, p: Any, parallel: Any = parallel, differ: list = differ) -> Tensor:
                differ.append((where, p))
                return x[where]

            run(model._walk(len(x), context, order), choose)
        for where, p in differ:
            if not torch.equal(p.log_table(), parallel[where].log_table()):
                raise InputError(
                    f"{type(model).__name__} cannot be frozen: the conditional at {where[1:]} differs between its "
                    "steps and its parallel pass"
                )
