"""The settings of a fit, which a run remembers: `likely.runs.recipe`."""

from likely.runs.recipe import Budget, Recipe

__all__ = ["Budget", "Recipe"]
