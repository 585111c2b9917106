"""Finding the models that a package defines: a new model is one new file, listed nowhere by hand."""

import importlib
import inspect
import pkgutil

from likely.density import Density


def models_in(package: str) -> dict[str, type[Density]]:
    """Every public `Density` defined in the modules of a package that can be built from an event alone, by name."""
    found = {}
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module = importlib.import_module(f"{package}.{info.name}")
        for name, value in vars(module).items():
            if not (inspect.isclass(value) and issubclass(value, Density) and value.__module__ == module.__name__):
                continue
            needed = [p.name for p in inspect.signature(value).parameters.values() if p.default is p.empty]
            if not inspect.isabstract(value) and name[0] != "_" and needed == ["event"]:
                found[name] = value
    return found
