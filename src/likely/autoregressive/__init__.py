"""Autoregressive models of discrete data, one file per system."""

from likely.discovery import models_in

globals().update(models_in(__name__))
