"""Names and files to tensors, what is done to them before they are symbols, and sources of known entropy."""

from likely.data.load import Data, fingerprint, load, load_context, load_stored, load_validation, validation
from likely.data.preparation import Preparation
from likely.data.sources import Coins, ColourChain, Ising, Source, Upsampled, source_of

__all__ = [
    "Coins",
    "ColourChain",
    "Data",
    "Ising",
    "Preparation",
    "Source",
    "Upsampled",
    "fingerprint",
    "load",
    "load_context",
    "load_stored",
    "load_validation",
    "source_of",
    "validation",
]
