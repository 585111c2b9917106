"""Run folders: the files of a fit or a saved model on disk, and an index of many of them."""

from likely.runs.run import Run
from likely.runs.store import load, save

__all__ = ["Run", "load", "save"]
