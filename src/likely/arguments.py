"""Arguments of constructors as plain Python values that can be saved."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Return a NumPy scalar as the Python number that it is, also inside tuples and lists; anything else as it is."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    return value


class PlainArguments:
    """A base of classes that are saved by their constructor's arguments: every constructor receives plain values.

    A model then computes with the same numbers as the one that is built again from its saved configuration.
    """

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "__init__" in vars(cls):
            cls.__init__ = _with_plain_arguments(cls.__init__)

    @classmethod
    def _refuse_arguments(cls, *values: Any) -> None:
        """Refuse arguments before a constructor takes them for something else."""


def _with_plain_arguments(constructor: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(constructor)
    def construct(self: Any, *args: Any, **settings: Any) -> None:
        args, settings = tuple(map(plain, args)), {name: plain(value) for name, value in settings.items()}
        self._refuse_arguments(*args, *settings.values())
        constructor(self, *args, **settings)

    return construct
