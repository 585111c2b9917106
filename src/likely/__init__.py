"""Likelihood-based deep generative models: fit a density to data and put log p(x) to work.

The public names stand in `__init__.pyi`. They are imported when they are first used, so that `import likely` and the
command line's help do not wait for torch.
"""

import ast
import importlib
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

MOVED = {  # names of earlier releases, which work for one more
    "bases": "likely.densities.bases",
    "conditional": "likely.densities.conditional",
    "index": "likely.runs.index",
    "store": "likely.runs.store",
}


@cache
def _homes() -> dict[str, str]:
    """Return the module that each public name is imported from, as the stub says."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def __getattr__(name: str) -> Any:
    home = _homes().get(name)
    if home == __name__:
        return _submodule(name)
    if home is not None:
        return getattr(importlib.import_module(home), name)
    if name in MOVED:
        return _moved(name)
    raise AttributeError(f"module 'likely' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_homes()})


def _submodule(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def _moved(name: str) -> ModuleType:
    warnings.warn(f"likely.{name} is {MOVED[name]} now", DeprecationWarning, stacklevel=3)
    return importlib.import_module(MOVED[name])
