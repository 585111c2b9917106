"""Everything that a fit changes step by step; a checkpoint holds all of it."""

import math

import torch
from torch import Tensor

from likely.density import Density
from likely.runs.recipe import Recipe
from likely.training.averaging import Average
from likely.training.choices import peak_rate
from likely.training.progress import Progress
from likely.training.schedule import learning_rate, steps_expected

SLOWER, SLOWEST = 0.3, 0.03  # factor of the learning rate after a divergence; below it there is none


class State:
    """A model in training, the average of its weights, the optimiser's state, and the weights that are kept so far."""

    def __init__(self, model: Density, recipe: Recipe) -> None:
        self.model, self.recipe = model, recipe
        self.progress = Progress()
        self.average = Average(model, recipe.average)
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        weights = list(model.parameters()) or [torch.zeros(0, requires_grad=True)]  # models in closed form have none
        self.optimizer = torch.optim.AdamW(weights, lr=0.0, weight_decay=recipe.weight_decay, fused=True)
        self.kept: dict[str, Tensor] | None = None

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        peak = self.recipe.learning_rate
        if peak is None:
            peak = peak_rate(self.parameters, steps_expected(self.progress)) * self.progress.slower
        return learning_rate(self.recipe, peak, self.progress)

    def recover(self) -> bool:
        """Go back to the kept weights after a divergence, at a lower learning rate; return whether there is a way."""
        progress = self.progress
        if self.kept is None or progress.slower <= SLOWEST:
            return False
        self.model.load_state_dict(self.kept)
        self.optimizer.state.clear()
        self.restart_average()
        progress.slower *= SLOWER
        progress.loss, progress.lowest, progress.norm, progress.wild = math.nan, math.inf, math.nan, 0
        progress.step += 1  # the one that diverged counts, and gives its place in the data to the next
        return True

    def restart_average(self) -> None:
        """Begin to average at the present weights."""
        self.average = Average(self.model, self.recipe.average)

    def keep(self) -> dict[str, Tensor]:
        """Take the model's present weights as the ones to end with."""
        self.kept = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        return self.kept
