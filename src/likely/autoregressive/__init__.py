"""Autoregressive models of discrete data, one file per system."""

from likely.autoregressive.gated_pixelcnn import GatedPixelCNN
from likely.autoregressive.made import MADE

__all__ = ["MADE", "GatedPixelCNN"]
