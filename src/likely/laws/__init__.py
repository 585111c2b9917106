"""The laws: properties that every density must have, measured for anybody's model.

`check_model` runs them all and returns a table. Each law is a function of a `Case` (a model, the same model with every
weight redrawn, and examples) that returns a measured value; the list in `check` sets a limit to each.
"""

from likely.laws.check import check_model
from likely.laws.table import LawRow, LawsBroken, LawTable

__all__ = ["LawRow", "LawTable", "LawsBroken", "check_model"]
