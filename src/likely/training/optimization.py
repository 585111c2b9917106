"""One gradient step: AdamW, clipped, with a moving average of the weights."""

import math

import torch
from torch import Tensor

from likely.density import Density
from likely.errors import DivergedError
from likely.rows import Rows
from likely.training.averaging import Average
from likely.training.batches import stream
from likely.training.progress import Progress
from likely.training.recipe import Recipe

SMOOTHING, NORM_SMOOTHING = 0.05, 0.01  # of the moving averages of the loss and of the gradient's norm
EXPLOSION = 20  # a loss so many times its size above the lowest is a divergence


class Optimization:
    """The optimiser's state and the average of the weights.

    Args:
        model: whose weights are changed in place.
        recipe: rates, decay, clipping.
    """

    def __init__(self, model: Density, recipe: Recipe) -> None:
        self.model, self.recipe = model, recipe
        self.average = Average(model, recipe.average)
        weights = list(model.parameters()) or [torch.zeros(0, requires_grad=True)]  # models in closed form have none
        self.optimizer = torch.optim.AdamW(
            weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )

    def step(self, rows: Rows, progress: Progress) -> None:
        """Take one step, and tell the progress.

        Raises:
            DivergedError: the loss or its gradient is not finite, or exploded.
        """
        recipe, model = self.recipe, self.model
        rate = recipe.learning_rate_at(progress.step, progress.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        model.train()
        model.advance(progress.fraction)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            loss = model.loss(rows.x, rows.context, generator=stream(recipe.seed, "loss", progress.step))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        value, norm = loss.item(), self._clip(progress)
        refuse_divergence(value, norm, rate, progress)
        self.optimizer.step()
        self.average.update(progress.step)
        progress.loss = value if progress.step == 0 else progress.loss + SMOOTHING * (value - progress.loss)
        progress.lowest = min(progress.lowest, progress.loss)
        progress.step += 1

    def _clip(self, progress: Progress) -> float:
        """Shorten a gradient that is longer than usual, and return its norm before."""
        usual = progress.norm if progress.norm > 0 else math.inf  # NaN before the first step
        limit = self.recipe.clip * usual
        norm = torch.nn.utils.clip_grad_norm_(self.average.parameters, limit).item()
        clipped = min(norm, limit)
        progress.norm = clipped if math.isinf(usual) else usual + NORM_SMOOTHING * (clipped - usual)
        return norm

    def state(self) -> dict[str, Tensor]:
        """Return the optimiser's numbers by name."""
        states = self.optimizer.state_dict()["state"].items()
        return {f"{i}.{name}": tensor for i, state in states for name, tensor in state.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up the optimiser's numbers."""
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            i, _, entry = name.partition(".")
            state.setdefault(int(i), {})[entry] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})


def refuse_divergence(loss: float, norm: float, rate: float, progress: Progress) -> None:
    """Refuse a loss or a gradient that is not finite, or a loss far above the lowest.

    Raises:
        DivergedError: names the step.
    """
    exploded = progress.step > 0 and loss > progress.lowest + EXPLOSION * (abs(progress.lowest) + 1)
    if math.isfinite(loss) and math.isfinite(norm) and not exploded:
        return
    raise DivergedError(
        f"training diverged at step {progress.step + 1}: loss {loss:.4g}, gradient norm {norm:.4g} "
        f"at learning rate {rate:.3g}"
    )
