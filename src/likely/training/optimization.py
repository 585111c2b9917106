"""One gradient step: the gradient is clipped to its usual norm; one that diverges is an error."""

import math

import torch

from likely.errors import DivergedError
from likely.rows import Batch
from likely.training.chance import Chance
from likely.training.progress import Progress
from likely.training.state import State

WILD = 10  # steps in a row with a loss far above the lowest are a divergence


def take_step(state: State, batch: Batch, rate: float, chance: Chance, kept_in: str = "", weight: float = 1.0) -> None:
    """Take one gradient step, and its share of the moving average.

    Args:
        state: it is changed in place.
        batch: examples, and their context.
        rate: the learning rate.
        chance: generators of the loss.
        kept_in: folder of the best weights, for the error.
        weight: of the loss.

    Raises:
        DivergedError: the loss or a gradient is not finite, or exploded.
    """
    model, progress, recipe = state.model, state.progress, state.recipe
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    model.train()
    model.advance((progress.cycle + progress.fraction) / (progress.cycle + 1))
    with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        loss = model.loss(*batch, generator=chance.generator("loss", progress.step))
    state.optimizer.zero_grad(set_to_none=True)
    (loss * weight).backward()
    value, norm = loss.item(), _clip(state)
    wild = _note(progress, value)
    if wild >= WILD or not (math.isfinite(value) and math.isfinite(norm)):
        raise _diverged(progress, value, norm, rate, kept_in)
    state.optimizer.step()
    state.average.update(progress.step - progress.begun)
    progress.step += 1


def _note(progress: Progress, loss: float) -> int:
    """Take a loss into the moving average; return how many steps in a row it has been far above the lowest average.

    One of them alone, of an example far out, say, is no divergence; its gradient is clipped like any other.
    """
    if math.isnan(progress.loss):
        progress.loss = progress.lowest = loss
    if loss > progress.lowest + 20 * (abs(progress.lowest) + 1):
        progress.wild += 1
        return progress.wild
    progress.wild = 0
    progress.loss += 0.05 * (loss - progress.loss)
    progress.lowest = min(progress.lowest, progress.loss)
    return 0


def _clip(state: State) -> float:
    """Shorten a gradient that is longer than usual; return its norm before that."""
    progress = state.progress
    usual = progress.norm if progress.norm > 0 else math.inf  # NaN before the first step
    limit = state.recipe.clip * usual
    norm = torch.nn.utils.clip_grad_norm_(state.average.parameters, limit).item()
    clipped = min(norm, limit)
    if math.isinf(usual):
        progress.norm = clipped
    else:
        progress.norm = usual + 0.01 * (clipped - usual)
    return norm


def _diverged(progress: Progress, loss: float, norm: float, rate: float, kept_in: str) -> DivergedError:
    kept = f"; the weights of step {progress.best_step} are kept in {kept_in}" if kept_in else ""
    return DivergedError(
        f"training diverged at step {progress.step + 1}: loss {loss:.4g}, gradient norm {norm:.4g} "
        f"at learning rate {rate:.3g}{kept}; try a smaller learning rate"
    )
