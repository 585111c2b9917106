"""The settings of a fit; a run keeps them: `likely.runs.recipe`."""

from likely.runs.recipe import Budget, Recipe

__all__ = ["Budget", "Recipe"]
