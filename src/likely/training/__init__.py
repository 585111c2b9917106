"""Fitting: one function, `fit`, which knows only a model's `loss`."""

from likely.training.fit import fit, resume

__all__ = ["fit", "resume"]
