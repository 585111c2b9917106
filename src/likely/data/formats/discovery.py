"""Classes found in the files of a folder, so that a new one is one file and no list is edited."""

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TypeVar

Kind = TypeVar("Kind")


def one_of_each(package: ModuleType, kind: type[Kind]) -> list[Kind]:
    """Return an instance of every class of a kind that a package's modules define, in the order of their names."""
    found = []
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        own = [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]
        found += [one() for one in own if issubclass(one, kind) and not inspect.isabstract(one)]
    return found
