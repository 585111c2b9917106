"""Classical models, fitted in closed form, one file per system."""

from likely.classical.gaussian_mixture import GaussianMixture
from likely.classical.histogram import Histogram
from likely.classical.independent_pixels import IndependentPixels
from likely.classical.symbol_histogram import SymbolHistogram

__all__ = ["GaussianMixture", "Histogram", "IndependentPixels", "SymbolHistogram"]
