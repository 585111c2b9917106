"""Types and shapes of the library's functions, checked at some of their calls.

jaxtyping checks every call of every function: half of the suite's time. Here each function is checked at its first
calls in a process, and now and then after that.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping

FIRST, EVERY = 16, 128  # calls

every_call = jaxtyping.jaxtyped


def some_calls(typechecker: Callable) -> Callable:
    """Decorate as `jaxtyping.jaxtyped` does; a class at every call, a function at some."""

    def decorate(function: Any) -> Any:
        if inspect.isclass(function):
            return every_call(function, typechecker=typechecker)
        calls, checked = 0, None

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls, checked
            calls += 1
            if calls > FIRST and calls % EVERY:
                return function(*args, **kwargs)
            if checked is None:
                checked = every_call(function, typechecker=typechecker)
            return checked(*args, **kwargs)

        return call

    return decorate


def check_some_calls() -> None:
    """Let jaxtyping's import hook decorate so; call it before the library is imported."""
    jaxtyping.jaxtyped = some_calls
