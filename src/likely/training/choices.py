"""Settings of a fit that follow from the data, the model and the budget, where they are not given."""

import math

from likely.density import Density
from likely.runs.recipe import Budget, Recipe
from likely.training.batches import values_of

LEAST, MOST = 16, 512  # examples of a step, as far as they are small
VALUES = 1 << 14  # of a step, about, at most
EVALUATIONS = 40
ENOUGH, PRODUCTS = 100, 12e9  # steps of a short fit; multiplications that a core makes in a second, about
SHARE = 0.1  # of the work that validation takes
PEAK, LONG, LARGE = 0.01, 1000, 1_000_000  # learning rate; steps and parameters beyond which it is lower
PASSES = 3  # as much work as one pass of the network is a step of training


def batch_size_for(examples: int, dims: int) -> int:
    """Return the number of examples of a step, a power of two: about 2 √n, as far as they are not too large.

    Args:
        examples: n.
        dims: values of one of them.
    """
    wanted = min(max(2 * math.sqrt(examples), LEAST), MOST, VALUES / dims)
    return 2 ** max(0, round(math.log2(wanted)))


def batch_size_of(recipe: Recipe, model: Density, examples: int) -> int:
    """Return the number of examples of a step of a fit: the one that is given, or the one that suits."""
    if recipe.batch_size is not None:
        return recipe.batch_size
    return suited_batch(model, examples, Budget.parse(recipe.budget))


def suited_batch(model: Density, examples: int, budget: Budget) -> int:
    """Return the number of examples of a step of a fit: as `batch_size_for`, fewer where a budget in time is short.

    A hundred steps should fit into it, as far as four examples a step allow. Seconds are counted by the products of one
    pass, convolutions at every place, at a pace of an ordinary core; nothing is timed, so that it is always the same.
    """
    size = batch_size_for(examples, values_of(model))
    if budget.unit != "seconds":
        return size
    places = math.prod(filter(None, model.event.shape[1:]))
    products = sum(p.numel() * (places if p.ndim == 4 else 1) for p in model.parameters())
    affordable = budget.amount * PRODUCTS / (ENOUGH * PASSES * max(1, products))
    return min(size, 2 ** max(2, round(math.log2(affordable))))


def evaluations_within(steps: int, batch_size: int, examples: int) -> int:
    """Return how often to evaluate in so many steps, for a tenth of their work: 4 to 40 times.

    Args:
        steps: of the whole fit.
        batch_size: examples of a step.
        examples: of one evaluation.
    """
    affordable = SHARE * PASSES * steps * batch_size / max(1, examples)
    return round(min(max(affordable, 4), EVALUATIONS))


def peak_rate(parameters: int, steps: float) -> float:
    """Return the peak of the learning rate: 0.01, less for long fits, ∝ steps^(−1/3), and for large models.

    `benchmarks/rates.py` holds it against other ways.

    Args:
        parameters: of the model.
        steps: of the fit; NaN: nobody knows.
    """
    long = LONG / steps if steps > LONG else 1.0
    large = LARGE / parameters if parameters > LARGE else 1.0
    return PEAK * long ** (1 / 3) * large ** (1 / 4)
