"""A guard over torch's operations: portable ones between exact leaves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from likely.errors import InputError
from likely.nn.exact import ExactLeaf
from likely.runs.bounds import Eager

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


class _Portable(Eager):
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
