"""Arguments of constructors: plain Python values that can be saved, of the types that the constructor states."""

import functools
import inspect
import typing
from collections.abc import Callable
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any

import numpy as np

from likely.errors import InputError

MOST = 2**63 - 1
EXPECTED = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", NoneType: "None"}


def plain(value: Any) -> Any:
    """Return a NumPy scalar as the Python number that it is, also inside tuples and lists; anything else as it is."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    return value


class PlainArguments:
    """A base of classes that are saved by their constructor's arguments: every constructor receives plain values.

    A model then computes with the same numbers as the one that is built again from its saved configuration. Arguments
    of another type than the constructor states are refused before it takes them for something else.
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
        given = _named(constructor, (self, *args), settings)
        for name, value in given.items():
            require_type(name, value, _types(constructor).get(name, Any))
        self._refuse_arguments(*args, *settings.values())
        constructor(self, *args, **settings)

    return construct


def _named(constructor: Callable[..., None], args: tuple, settings: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by name, as they were given."""
    signature = _signature(constructor)
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        return settings
    return dict(list(signature.bind(*args, **settings).arguments.items())[1:])


@functools.cache
def _signature(constructor: Callable[..., None]) -> inspect.Signature:
    return inspect.signature(constructor)


@functools.cache
def _types(constructor: Callable[..., None]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(constructor)
    except (NameError, TypeError):  # of a class that is defined in a function, say
        return {}


def require_type(name: str, value: Any, annotation: Any) -> None:
    """Refuse a value that is not of a type; types that say nothing about plain values are not looked at.

    Raises:
        InputError: says what is expected.
    """
    if not _is_of(value, annotation):
        found = type(value).__name__
        if not _is_event(annotation):
            found = " ".join(repr(value).split())[:200]
        raise InputError(f"{name}: {_expected(annotation)} is expected, found {found}")
    if name == "seed" and type(value) is int and value < 0:
        raise InputError(f"seed must be at least 0, found {value}")


def _is_of(value: Any, annotation: Any) -> bool:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, UnionType):
        return any(_is_of(value, part) for part in parts)
    if origin is typing.Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin is tuple:
        return isinstance(value, tuple | list) and all(_is_of(part, parts[0]) for part in value)
    if annotation is int:
        return isinstance(value, Integral) and not isinstance(value, bool) and abs(int(value)) <= MOST
    if annotation is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    if annotation in EXPECTED or _is_event(annotation):
        return isinstance(value, annotation)
    return True


def _is_event(annotation: Any) -> bool:
    """Return whether a type is `Event` or `Interval`; models and their parts are told apart by those who take them."""
    return inspect.isclass(annotation) and annotation.__module__ == "likely.event"


def _expected(annotation: Any) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, UnionType):
        return _either([_expected(part) for part in parts])
    if origin is typing.Literal:
        return _either([f'"{part}"' for part in parts])
    if origin is tuple:
        of = {int: "sizes", float: "numbers"}.get(parts[0], "values")
        return f"a tuple of {of}"
    if annotation in EXPECTED:
        return EXPECTED[annotation]
    article = "an" if annotation.__name__[0] in "AEIOU" else "a"
    return f"{article} {annotation.__name__}"


def _either(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
