"""Fitting: `plan` chooses from data all that is left open; `fit` knows only a model's `loss`; `resume` goes on."""

from likely.training.fit import fit, resume
from likely.training.plan import Plan, plan

__all__ = ["Plan", "fit", "plan", "resume"]
