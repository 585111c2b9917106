"""Finding the models that a package defines: a new model is one new file, listed nowhere by hand."""

import importlib
import inspect
import pkgutil

from likely.density import Density


def models_in(package: str) -> dict[str, type[Density]]:
    """Every concrete, public `Density` defined in the modules of a package, by name."""
    found = {}
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module = importlib.import_module(f"{package}.{info.name}")
        for name, value in vars(module).items():
            defined_here = inspect.isclass(value) and value.__module__ == module.__name__
            if defined_here and issubclass(value, Density) and not inspect.isabstract(value) and name[0] != "_":
                found[name] = value
    return found
