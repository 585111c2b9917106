"""Location and scale of real values, taken out in float64 before they are cast to a model's precision.

A column far from zero, a Unix time say, has no digits left in float32 once it is cast; so the first thing that happens
to values as they are given is z = (x − mean) / deviation in float64, and the last that happens to draws is its inverse.
What is between sees numbers of ordinary size, whatever the units of the data are.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from likely.event import narrowed
from likely.nn.moments import location_and_scale, warn_of_values_apart

NAMES = ("mean", "deviation")


class InUnits(nn.Module):
    """A module with the location and the scale of values: z = (x − mean) / deviation.

    Both are buffers in float64, and stay so when the module is cast to less. Until they are set z = x, and draws have
    the module's own precision; afterwards they have float64's. A subclass calls `hold_units`.
    """

    mean: Tensor
    deviation: Tensor
    like: Tensor  # has the module's own precision

    later: ClassVar[tuple[str, ...]] = ()  # buffers that files from before they were set are without

    def hold_units(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> None:
        """Register location and scale of values of a shape, as built: 0 and 1."""
        self.register_buffer("mean", torch.zeros(shape, dtype=dtype))
        self.register_buffer("deviation", torch.ones(shape, dtype=dtype))
        self.register_buffer("like", torch.zeros(()), persistent=False)
        self._are_set: bool | None = None
        self._non_persistent_buffers_set.update(self.later)

    def be_saved(self) -> None:
        """Count buffers that are set later among the weights that are saved and loaded."""
        self._non_persistent_buffers_set.difference_update(self.later)

    @property
    def units_are_set(self) -> bool:
        """Whether location and scale were taken from data, by this module or the one that its weights come from."""
        if self._are_set is None:
            self._are_set = bool((self.mean != 0).any() or (self.deviation != 1).any())
        return self._are_set

    @torch.no_grad()
    def set_units(self, x: Tensor, find: Callable[[Tensor], tuple[Tensor, Tensor]] = location_and_scale) -> None:
        """Take location and scale from examples (n, …), the first time.

        Those of a loaded model are left alone. Examples of mean 0 and deviation 1 leave the smallest positive number as
        the mean: it says that they were seen.

        Args:
            x: examples.
            find: what of them to take.

        Raises:
            InputError: as `find`.
        """
        if self.units_are_set:
            return
        if x.shape[1:] == self.mean.shape:
            warn_of_values_apart(x)
        self.replace_units(*find(x.detach()))

    def replace_units(self, mean: Tensor, deviation: Tensor) -> None:
        """Set location and scale, also where they were set before."""
        self._buffers["mean"] = mean.view(self.mean.shape).to(self.mean.device)
        self._buffers["deviation"] = deviation.view(self.mean.shape).to(self.mean.device)
        self._are_set = None
        if not self.units_are_set:
            self.mean.fill_(torch.finfo(torch.float32).tiny)
        self._are_set = True

    def standardized(self, x: Tensor, name: str = "x") -> Tensor:
        """Return values as given (n, …) in units of their own, in the module's precision.

        Raises:
            InputError: a value that is further out than this precision can tell; names the first.
        """
        return narrowed(self._out_of_units(x), self.like.dtype, x, name)

    def _out_of_units(self, x: Tensor) -> Tensor:
        """Return values standardised in float64; as they are before location and scale are set."""
        if self.units_are_set:
            return (x.double() - self.mean) / self.deviation
        return x

    def in_units(self, z: Tensor) -> Tensor:
        """Return standardised values (n, …) in the units of the data."""
        if self.units_are_set:
            return z.double() * self.deviation + self.mean
        return z

    def scaled(self, deviation: Tensor) -> Tensor:
        """Return deviations of standardised values (n, …) as deviations of the data."""
        if self.units_are_set:
            return deviation.double() * self.deviation
        return deviation

    def of_values_as_given(self, log_prob: Tensor) -> Tensor:
        """Return ln p of values as they were given, in float64, from ln p (n,) of one set of standardised ones."""
        if self.units_are_set:
            return log_prob.double() - self.log_scale_of.sum()
        return log_prob

    @property
    def log_scale_of(self) -> Tensor:
        """ln of the scale of every value, of the shape of the scale: 0 before it is set."""
        if self.units_are_set:
            return self.deviation.double().log()
        return torch.zeros_like(self.deviation, dtype=self.like.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move or cast the module, but location and scale to no lower precision."""
        before = {name: self._buffers[name] for name in {*NAMES, *self.later}}
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            after = self._buffers[name]
            assert buffer is not None
            assert after is not None
            if after.dtype.itemsize < buffer.dtype.itemsize:
                self._buffers[name] = buffer.to(after.device)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        if any(prefix + name in state_dict for name in self.later):
            self.be_saved()
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._are_set = None


class ContextUnits(InUnits):
    """Values of a real context in units of their own; those of a channel of an image share mean and deviation.

    A value that is the same in all examples is centred only. Before it is set nothing of it is saved: models of files
    that are older than it take contexts as they are.

    Args:
        shape: of one context.
    """

    later = NAMES

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        size = shape
        if len(shape) == 3 and min(shape[1:]) > 1:
            size = (shape[0], 1, 1)
        self.hold_units(size)

    def initialize(self, context: Tensor) -> None:
        """Take mean and deviation from contexts (n, *shape), the first time."""
        self.set_units(context, self._shared)
        self.be_saved()

    def _shared(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation, of a channel of an image over all places."""
        rows = context
        if self.mean.ndim == 3 and self.mean.shape != context.shape[1:]:
            rows = context.movedim(1, -1).flatten(0, -2)
        return location_and_scale(rows, constant=1.0)

    def forward(self, context: Tensor) -> Tensor:
        """(n, *shape) → (n, *shape)."""
        return self.standardized(context, "context")
