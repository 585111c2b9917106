"""Name → class, read from the families themselves."""

import importlib
import importlib.util
from functools import cache

from likely.density import Density
from likely.discovery import models_in
from likely.errors import InputError, suggestion

FAMILIES = ("autoregressive", "flows", "latent", "classical")


@cache
def models() -> dict[str, type[Density]]:
    """Every model of the library by class name, families in their order."""
    packages = [f"likely.{family}" for family in FAMILIES if importlib.util.find_spec(f"likely.{family}")]
    return {name: model for package in packages for name, model in models_in(package).items()}


def find(name: str) -> type[Density]:
    """The model of that name, matched without regard to case, hyphens and underscores.

    Raises:
        InputError: there is none; suggests the nearest.
    """
    matches = {flat(known): model for known, model in models().items()}
    if flat(name) not in matches:
        raise InputError(f'unknown model "{name}"{suggestion(name, (hyphenated(known) for known in models()))}')
    return matches[flat(name)]


def flat(name: str) -> str:
    """A name without case, hyphens and underscores."""
    return name.lower().replace("-", "").replace("_", "")


def hyphenated(name: str) -> str:
    """A model's name as the command line writes it, which is its file's: GatedPixelCNN → gated-pixelcnn."""
    return models()[name].__module__.rpartition(".")[2].replace("_", "-")
