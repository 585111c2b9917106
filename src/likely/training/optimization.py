"""One gradient step: the gradient is clipped to its usual norm; one that diverges is an error."""

import math

import torch

from likely.errors import DivergedError
from likely.rows import Batch
from likely.training.chance import Chance
from likely.training.progress import Progress
from likely.training.state import State


def take_step(state: State, batch: Batch, chance: Chance, kept_in: str = "", weight: float = 1.0) -> None:
    """Take one gradient step, and its share of the moving average.

    Args:
        state: it is changed in place.
        batch: examples, and their context.
        chance: generators of the loss.
        kept_in: folder of the best weights, for the error.
        weight: of the loss.

    Raises:
        DivergedError: the loss or a gradient is not finite, or exploded.
    """
    model, progress, recipe = state.model, state.progress, state.recipe
    rate = recipe.learning_rate_at(progress.step, progress.total)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    done = progress.step / progress.total if progress.total else 0.0
    model.train()
    model.advance(done)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        loss = model.loss(*batch, generator=chance.generator("loss", progress.step))
    state.optimizer.zero_grad(set_to_none=True)
    (loss * weight).backward()
    value, norm = loss.item(), _clip(state)
    _refuse_divergence(progress, value, norm, rate, kept_in)
    state.optimizer.step()
    state.average.update(progress.step)
    if progress.step == 0:
        progress.loss = value
    else:
        progress.loss += 0.05 * (value - progress.loss)
    progress.lowest = min(progress.lowest, progress.loss)
    progress.step += 1


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


def _refuse_divergence(progress: Progress, loss: float, norm: float, rate: float, kept_in: str) -> None:
    exploded = progress.step > 0 and loss > progress.lowest + 20 * (abs(progress.lowest) + 1)
    if math.isfinite(loss) and math.isfinite(norm) and not exploded:
        return
    kept = f"; the weights of step {progress.best_step} are kept in {kept_in}" if kept_in else ""
    raise DivergedError(
        f"training diverged at step {progress.step + 1}: loss {loss:.4g}, gradient norm {norm:.4g} "
        f"at learning rate {rate:.3g}{kept}; try a smaller learning rate"
    )
