"""The codecs of all families: importing their files makes `codec` know them."""

from likely.coding import autoregressive, bits_back
from likely.coding.family import Codec, codec

__all__ = ["Codec", "autoregressive", "bits_back", "codec"]
