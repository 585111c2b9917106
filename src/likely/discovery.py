"""Finding the models that a package defines: a new model is one new file, listed nowhere by hand."""

import importlib
import inspect
import pkgutil

from likely.density import Density


def models_in(package: str) -> dict[str, type[Density]]:
    """Every public `Density` defined in the modules of a package that can be built from an event, by name."""
    found = {}
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module = importlib.import_module(f"{package}.{info.name}")
        for name, value in vars(module).items():
            if not (inspect.isclass(value) and issubclass(value, Density) and value.__module__ == module.__name__):
                continue
            complete = not inspect.isabstract(value) and name[0] != "_"
            if complete and "event" in inspect.signature(value).parameters:
                found[name] = value
    return found
