"""Guards over torch's operations: portable ones between exact leaves, and modest sizes where a file is not believed."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from likely.errors import FormatError, InputError
from likely.nn.exact import ExactLeaf

# Single elementwise IEEE operations and movements of data give the same bits everywhere.
PORTABLE = {
    *("add", "sub", "rsub", "mul", "div", "sqrt", "round", "floor", "clamp", "clamp_min", "clamp_max", "relu", "abs"),
    *("maximum", "minimum", "where", "square", "neg", "sign", "eq", "ne", "lt", "le", "gt", "ge", "masked_fill"),
    *("cat", "stack", "slice", "select", "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand"),
    *("unsqueeze", "squeeze", "split", "split_with_sizes", "unbind", "index", "index_select", "gather", "embedding"),
    *("constant_pad_nd", "copy", "clone", "_to_copy", "detach", "alias", "lift_fresh", "index_put", "as_strided"),
    *("zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "empty", "empty_like", "new_empty", "fill"),
    *("full", "full_like", "arange", "zero", "repeat", "_local_scalar_dense", "scalar_tensor", "new_empty_strided"),
    *("argmin",),
}
MODEST = 1 << 24  # elements that building a model may take beyond 64 times those in its file


def refuse_sizes(config: Any, name: str = "") -> None:
    """Refuse sizes that no frozen model has, before lists are made of them."""
    if isinstance(config, dict):
        for key, value in config.items():
            refuse_sizes(value, key)
    elif isinstance(config, list):
        if name == "shape" and (len(config) > 64 or math.prod(size or 1 for size in config) > MODEST):
            raise FormatError(f"examples of {len(config)} dimensions and more than {MODEST} values are not expected")
        for value in config:
            refuse_sizes(value, name)
    elif isinstance(config, int) and config > MODEST and name != "seed":
        raise FormatError(f"{name}: at most {MODEST} is expected, found {config}")


class _Eager(TorchDispatchMode):
    """A mode that does not import torch's compiler: that would take most of the time of loading a model."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class Modest(_Eager):
    """Refuse to make more than so many elements: a configuration is not to be believed before its numbers are there."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [a for a in args if isinstance(a, Tensor)]
        sizes = [math.prod(a) for a in args if isinstance(a, list | tuple) and all(isinstance(n, int) for n in a)]
        if not tensors:
            sizes += [a for a in args if isinstance(a, int)]  # arange, randperm
        elif torch.Tag.pointwise in func.tags:
            sizes.append(_together([tensor.shape for tensor in tensors]))
        elif func.overloadpacket.__name__ == "repeat":
            sizes = [tensors[0].numel() * size for size in sizes]
        self.left -= max([1 << 12, *sizes])
        if self.left < 0:
            raise FormatError("the configuration asks for far more numbers than the file holds")
        if func.overloadpacket.__name__ in ("uniform_", "normal_"):
            return args[0].zero_()  # a layer's first weights, soon replaced by the file's
        return func(*args, **(kwargs or {}))


def _together(shapes: Sequence[torch.Size]) -> int:
    """Return the elements of shapes that are broadcast; torch's own function imports SymPy, for half a second."""
    return math.prod(max(sizes) for sizes in zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1))


class _Portable(_Eager):
    """Refuse operations between the leaves with results that differ from machine to machine."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []  # names of the modules that run, the innermost last
        self.exact = 0  # how many of them are exact leaves

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.exact and any(isinstance(a, Tensor) and a.is_floating_point() for a in args):
            name = func.overloadpacket.__name__.rstrip("_")
            scaled = name in ("add", "sub", "rsub") and kwargs.get("alpha", 1) != 1
            if scaled or name not in PORTABLE:
                self._refuse(name + " with a factor" * scaled)
        return func(*args, **kwargs)

    def _refuse(self, operation: str) -> None:
        place = f" in {self.open[-1]}" if self.open else ""
        raise InputError(
            f"this network cannot be frozen: between its leaf layers{place} it uses {operation}, whose result "
            "differs from machine to machine"
        )


@contextmanager
def portable(model: nn.Module) -> Iterator[None]:
    """Hold everything outside the exact leaves to portable operations."""
    guard, hooks = _Portable(), []

    def watch(name: str, module: nn.Module) -> None:
        exact = isinstance(module, ExactLeaf)

        def enter(module: nn.Module, inputs: tuple) -> None:
            guard.open.append(f"{name} ({type(module).__name__})")
            guard.exact += exact

        def leave(module: nn.Module, inputs: tuple, output: Any) -> None:
            guard.open.pop()
            guard.exact -= exact

        hooks.extend((module.register_forward_pre_hook(enter), module.register_forward_hook(leave)))

    for name, module in model.named_modules():
        watch(name, module)
    try:
        with guard:
            yield
    finally:
        for hook in hooks:
            hook.remove()
