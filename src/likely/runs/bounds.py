"""Bounds on what a configuration may ask for, where a file is not believed before its numbers are there."""

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from likely.errors import FormatError

MODEST = 1 << 24  # elements that building a model may take beyond 64 times those in its file
MOST = 1 << 28  # elements that building a model without a file of its numbers may take
DIMENSIONS = 64  # of one example


class Limits(NamedTuple):
    """Bounds on the numbers in a configuration.

    Attributes:
        count: the largest number.
        values: of one example.
        free: arguments that may be any number.
    """

    count: int
    values: int
    free: tuple[str, ...]


OF_RUNS = Limits(1 << 20, 1 << 22, ("seed", "levels", "end", "shape"))
OF_FROZEN = Limits(MODEST, MODEST, ("seed",))


def refuse_counts(config: Any, limits: Limits, name: str = "") -> None:
    """Refuse counts that no model has, before anything is made of them.

    Raises:
        FormatError: names the argument.
    """
    if isinstance(config, dict):
        for key, value in config.items():
            refuse_counts(value, limits, key)
    elif isinstance(config, list):
        if name == "shape":
            _refuse_shape(config, limits.values)
        for value in config:
            refuse_counts(value, limits, name)
    elif type(config) is int and abs(config) > limits.count and name not in limits.free:
        raise FormatError(f"{name}: at most {limits.count:,} is expected, found {config}")


def _refuse_shape(shape: list, most: int) -> None:
    if len(shape) <= DIMENSIONS and math.prod(max(abs(size), 1) for size in shape if type(size) is int) <= most:
        return
    raise FormatError(
        f"shape: at most {DIMENSIONS} dimensions and {most:,} values are expected, found {len(shape)} dimensions, "
        f"{shape[:8]}"
    )


class Eager(TorchDispatchMode):
    """A mode that does not import torch's compiler: that would take most of the time of loading a model."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class Bounded(Eager):
    """Refuse to make more than so many elements: a configuration is not to be believed before its numbers are there."""

    def __init__(self, most: int, least: int = 1 << 12) -> None:
        super().__init__()
        self.left, self.least = most, least  # that an operation counts for, at least: small parts are made, too

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [a for a in args if isinstance(a, Tensor)]
        sizes = [math.prod(a) for a in args if isinstance(a, list | tuple) and all(isinstance(n, int) for n in a)]
        if not tensors:
            sizes += [a for a in args if isinstance(a, int)]  # arange, randperm
        elif torch.Tag.pointwise in func.tags:
            sizes.append(_together([tensor.shape for tensor in tensors]))
        elif func.overloadpacket.__name__ == "repeat":
            sizes = [tensors[0].numel() * size for size in sizes]
        self.left -= max([self.least, *sizes])
        if self.left < 0:
            raise FormatError("the configuration asks for far more numbers than the file holds")
        return func(*args, **(kwargs or {}))


class Modest(Bounded):
    """As `Bounded`, and first weights are no draws: the file's come soon."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("uniform_", "normal_"):
            return args[0].zero_()
        return super().__torch_dispatch__(func, types, args, kwargs)


def _together(shapes: Sequence[torch.Size]) -> int:
    """Return the elements of shapes that are broadcast; torch's own function imports SymPy, for half a second."""
    return math.prod(max(sizes) for sizes in zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1))
