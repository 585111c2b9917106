"""Name → class, read from the lists of the families; and the models of one's own that were imported."""

import inspect
import re
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


def own_models() -> dict[str, type[Density]]:
    """Return the models that are defined outside of the library and have been imported, by class name."""

    def below(cls: type[Density]) -> list[type[Density]]:
        return [cls, *(model for sub in cls.__subclasses__() for model in below(sub))]

    return {cls.__name__: cls for cls in below(Density) if is_model(cls) and not _is_ours(cls)}


def find(name: str) -> type[Density]:
    """Return the model of that name, matched without regard to case, hyphens and underscores.

    Raises:
        InputError: there is none; suggests the nearest.
    """
    known = models() | own_models()
    matches = {flat(each): model for each, model in known.items()}
    if flat(name) not in matches:
        raise InputError(f'unknown model "{name}"{suggestion(name, map(hyphenated, known.values()))}')
    return matches[flat(name)]


def flat(name: str) -> str:
    """Return a name without case, hyphens and underscores."""
    return name.lower().replace("-", "").replace("_", "")


def hyphenated(model: type[Density]) -> str:
    """Return a model's name on the command line: that of its file with hyphens, GatedPixelCNN → gated-pixelcnn.

    The name of a model of one's own is that of its class: BeliefNet → belief-net.
    """
    if _is_ours(model):
        return model.__module__.rpartition(".")[2].replace("_", "-")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", model.__name__).lower()


def _is_ours(model: type[Density]) -> bool:
    return model.__module__.split(".")[0] == "likely"
