"""Models as data: the class and arguments of each of their parts, as JSON values, and models built from them again."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import singledispatch
from typing import Any

import torch

from likely.catalogue import models
from likely.density import Density
from likely.errors import Error, InputError, StoreError, did_you_mean
from likely.event import Configured

RENAMED = {"likely.MultilayerPerceptron": ("likely.Perceptron", {"activation": "relu"})}  # classes of older files
TIED = "tied"  # in a configuration: names of parameters that are the same as another, and the name of that one
SAME = "same as"  # in a configuration: the part at another place
Place = tuple[str | int, ...]  # in a configuration: names of arguments, and numbers in lists


def configuration(thing: Any) -> Any:
    """Return a model's class and its constructor's arguments, recursively, as JSON values; `build` is the inverse.

    A density that is an argument twice, once of a density that borrows its weights, is written once; the second time
    there is the place of the first, {"same as": ["prior", "lender"]}.

    Raises:
        InputError: an argument is no number, text, list, or model.
    """
    config = _written(thing, (), {})
    if isinstance(thing, torch.nn.Module):
        ties = tied(thing)
        if ties:
            return {**config, TIED: ties}
    return config


@singledispatch
def _written(thing: Any, place: Place, places: dict[Density, Place]) -> Any:
    """Return the part of a configuration at a place; `places` are those of the densities written so far."""
    where = ".".join(map(str, place))
    raise InputError(f"{where}: a {type(thing).__name__} cannot be saved as an argument of a model")


@_written.register
def _(thing: str | int | float | None, place: Place, places: dict[Density, Place]) -> Any:
    return thing


@_written.register
def _(thing: torch.nn.Module, place: Place, places: dict[Density, Place]) -> Any:
    if isinstance(thing, Configured):
        return _configured(thing, place, places)
    where = ".".join(map(str, place))
    raise InputError(
        f"{where}: a {type(thing).__name__} cannot be saved as an argument of a model; put it into a class of your own "
        "that derives from likely.Configured and keeps its arguments as attributes"
    )


@_written.register
def _(thing: list | tuple | torch.nn.ModuleList, place: Place, places: dict[Density, Place]) -> Any:
    return [_written(part, (*place, k), places) for k, part in enumerate(thing)]


@_written.register
def _configured(thing: Configured, place: Place, places: dict[Density, Place]) -> Any:
    arguments = {}
    for name in inspect.signature(type(thing)).parameters:
        value = getattr(thing, name)
        if (name, value) not in thing.added.items():
            arguments[name] = _written(value, (*place, name), places)
    return {"class": _public_name(type(thing)), "arguments": arguments}


@_written.register
def _(thing: Density, place: Place, places: dict[Density, Place]) -> Any:
    if places.setdefault(thing, place) != place:
        return {SAME: list(places[thing])}
    return _configured(thing, place, places)


def tied(model: torch.nn.Module) -> dict[str, str]:
    """Return the names of parameters that are the same as an earlier one, and the name of that one."""
    first: dict[torch.nn.Parameter, str] = {}
    parameters = model.named_parameters(remove_duplicate=False)
    return {name: first[weight] for name, weight in parameters if first.setdefault(weight, name) != name}


def tie(model: torch.nn.Module, ties: dict[str, str]) -> None:
    """Put the same parameter at two places again, for every pair of names that `tied` has returned."""
    for name, first in ties.items():
        module, _, own = name.rpartition(".")
        model.get_submodule(module).register_parameter(own, model.get_parameter(first))


def build(config: Any) -> Any:
    """Build a model from its `configuration`, of classes that are already imported only.

    Raises:
        StoreError: an unknown class, arguments that it does not take, or a place where there is nothing.
    """
    known, built = _known_classes(), {}

    def at(place: Place, part: Any) -> Any:
        if isinstance(part, list):
            return tuple(at((*place, k), value) for k, value in enumerate(part))
        if not isinstance(part, dict):
            return part
        if SAME in part:
            with understood(f"there is no part of the model at {part[SAME]}"):
                first = tuple(part[SAME])
                return at(first, _found(config, first))
        if place not in built:
            cls = _class_of(part, known)
            with understood(f"{part['class']} cannot be built from its saved arguments"):
                arguments = _implied(part) | part.get("arguments", {})
                built[place] = cls(**{name: at((*place, name), value) for name, value in arguments.items()})
        return built[place]

    thing = at((), config)
    if isinstance(config, dict) and TIED in config:
        with understood("weights cannot be tied as the configuration says"):
            tie(thing, config[TIED])
    return thing


def _found(config: Any, place: Place) -> Any:
    """Return the part of a configuration at a place."""
    for key in place:
        if isinstance(config, dict):
            config = config["arguments"]
        config = config[key]
    return config


def _class_of(part: dict, known: dict[str, type]) -> type:
    name = str(part.get("class"))
    name = RENAMED.get(name, (name, {}))[0]
    if name not in known:
        raise StoreError(
            f"unknown class {name!r}{did_you_mean(name, known)}: import the module that defines it first (on the "
            "command line: --import FILE.py)"
        )
    return known[name]


def _implied(part: dict) -> dict[str, Any]:
    """Return the arguments that the class of an older file stood for."""
    return dict(RENAMED.get(part["class"], ("", {}))[1])


def renamed(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors of older files, perhaps, under the names that a model's weights have now."""
    names = {}
    for prefix, module in model.named_modules():
        for old, new in vars(type(module)).get("renamed", {}).items():
            names[f"{prefix}.{old}".lstrip(".")] = f"{prefix}.{new}".lstrip(".")
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


@contextmanager
def understood(problem: str) -> Iterator[None]:
    """Turn any error inside, where something is made of a file's contents, into a `StoreError`: problem and cause."""
    try:
        yield
    except Error:
        raise
    except Exception as error:
        cause = " ".join(str(error).split())[:300]
        raise StoreError(f"{problem}: {type(error).__name__}: {cause}") from error


def _public_name(cls: type) -> str:
    if cls.__module__.startswith("likely."):
        return f"likely.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def _known_classes() -> dict[str, type]:
    models()  # imports every family

    def below(cls: type) -> list[type]:
        return [cls, *(c for sub in cls.__subclasses__() for c in below(sub))]

    return {_public_name(cls): cls for cls in below(Configured) if not inspect.isabstract(cls)}
