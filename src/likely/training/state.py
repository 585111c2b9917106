"""Everything that a fit changes step by step; a checkpoint holds all of it."""

import torch
from torch import Tensor

from likely.density import Density
from likely.runs.recipe import Recipe
from likely.training.averaging import Average
from likely.training.progress import Progress


class State:
    """A model in training, the average of its weights, the optimiser's state, and the weights that are kept so far."""

    def __init__(self, model: Density, recipe: Recipe) -> None:
        self.model, self.recipe = model, recipe
        self.progress = Progress()
        self.average = Average(model, recipe.average)
        weights = list(model.parameters()) or [torch.zeros(0, requires_grad=True)]  # models in closed form have none
        self.optimizer = torch.optim.AdamW(
            weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.kept: dict[str, Tensor] | None = None

    def restart_average(self) -> None:
        """Begin to average at the present weights."""
        self.average = Average(self.model, self.recipe.average)

    def keep(self) -> dict[str, Tensor]:
        """Take the model's present weights as the ones to end with."""
        self.kept = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        return self.kept
