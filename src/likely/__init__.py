"""Likelihood-based deep generative models: fit a density to data and put log p(x) to work.

Names are imported when they are first used, so that `import likely` and the command line's help cost nothing.
"""

import importlib
from typing import Any

_PUBLIC = {
    "coding.codec": ["Compressed", "compress", "decompress", "recover"],
    "coding.frozen": ["Frozen", "freeze"],
    "event": ["Event"],
    "density": ["Autoregressive", "Density", "run"],
    "errors": [
        "ConvergenceError",
        "DivergedError",
        "Error",
        "ExactnessError",
        "FormatError",
        "InputError",
        "StoreError",
        "WriteError",
    ],
    "training": ["fit", "resume"],
    "jobs.evaluate": ["Report", "evaluate"],
    "jobs.generate": ["Infilled", "infill", "sample", "sample_from_noise"],
    "jobs.represent": ["Traversal", "embed", "interpolate", "traverse"],
    "laws": ["LawsBroken", "check_model"],
    "store": ["load", "save"],
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"likely.{_HOME[name]}"), name)
    if not name.startswith("_"):
        from likely.catalogue import models

        if name in models():
            return models()[name]
    raise AttributeError(f"module 'likely' has no attribute {name!r}")


def __dir__() -> list[str]:
    from likely.catalogue import models

    return sorted([*globals(), *_HOME, *models()])
