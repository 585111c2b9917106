"""Name → class, read from the lists of the families."""

import inspect
from functools import cache

from likely import autoregressive, classical, flows, latent
from likely.density import Density
from likely.errors import InputError, suggestion

FAMILIES = (autoregressive, flows, latent, classical)


@cache
def models() -> dict[str, type[Density]]:
    """Return every model of the library by class name, families in their order."""
    listed = ((name, getattr(family, name)) for family in FAMILIES for name in family.__all__)
    return {name: value for name, value in listed if is_model(value)}


def is_model(value: object) -> bool:
    """Return whether a value is a density that can be built from an event alone."""
    if not (inspect.isclass(value) and issubclass(value, Density)) or inspect.isabstract(value):
        return False
    parameters = inspect.signature(value).parameters.values()
    return [p.name for p in parameters if p.default is p.empty] == ["event"]


def find(name: str) -> type[Density]:
    """Return the model of that name, matched without regard to case, hyphens and underscores.

    Raises:
        InputError: there is none; suggests the nearest.
    """
    matches = {flat(known): model for known, model in models().items()}
    if flat(name) not in matches:
        known = [hyphenated(model) for model in models()]
        raise InputError(f'unknown model "{name}"{suggestion(name, known)}')
    return matches[flat(name)]


def flat(name: str) -> str:
    """Return a name without case, hyphens and underscores."""
    return name.lower().replace("-", "").replace("_", "")


def hyphenated(name: str) -> str:
    """Return a model's name on the command line, that of its file with hyphens: GatedPixelCNN → gated-pixelcnn."""
    return models()[name].__module__.rpartition(".")[2].replace("_", "-")
