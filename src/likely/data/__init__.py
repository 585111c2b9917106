"""Names and files to tensors, their preparation for an event, and sources of known entropy."""

from likely.data.fingerprints import fingerprint
from likely.data.formats import Reading
from likely.data.generated import source_of
from likely.data.load import Data, as_stored, load, load_context, load_validation, load_with_stored, validation
from likely.data.preparation import Preparation
from likely.data.real_sources import BlurredArcs, Checkerboard, LinearGaussian, RoundedGaussian
from likely.data.sources import Coins, ColourChain, Ising, Source, Upsampled

__all__ = [
    "BlurredArcs",
    "Checkerboard",
    "Coins",
    "ColourChain",
    "Data",
    "Ising",
    "LinearGaussian",
    "Preparation",
    "Reading",
    "RoundedGaussian",
    "Source",
    "Upsampled",
    "as_stored",
    "fingerprint",
    "load",
    "load_context",
    "load_validation",
    "load_with_stored",
    "source_of",
    "validation",
]
