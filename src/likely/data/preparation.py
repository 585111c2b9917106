"""The steps from raw arrays to examples of an event: layout, levels, binarisation. Kept with a run."""

from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from likely.data.formats import Reading
from likely.data.ranges import range_of
from likely.distributions.discrete import uniform
from likely.errors import InputError
from likely.event import Event, refuse, shown
from likely.rows import Rows

Layout = Literal["chw", "hw", "hwc", "flat"]
SHAPES = {"chw": "(n, c, h, w)", "hw": "(n, h, w)", "hwc": "(n, h, w, c)"}
LATER = {"names", "decimals", "reading"}
ROWS = 8192  # binarised at a time, to keep the floating copy small


@runtime_checkable
class Shaped(Protocol):
    """Raw data of a known shape (n, …); None stands for sizes that vary."""

    @property
    def shape(self) -> Sequence[Any]:
        """(n, …)."""


@dataclass(frozen=True)
class Preparation:
    """The steps from a raw array to a batch of an event, in order: layout, then binarisation.

    Args:
        layout: "hw" (n, h, w) → (n, 1, h, w); "hwc" (n, h, w, c) → (n, c, h, w); "chw" images that are channels-first
            already; "flat" any other shape as it is.
        levels: size of the alphabet, one for all or one per column; None for real values.
        binarize: a threshold t, x = [raw/peak > t]; "stochastic", x ~ Bernoulli(raw/peak); None, not at all.
        peak: the raw value that means 1.
        names: of the columns of a table; None: they have none.
        decimals: digits after the point that suffice for each column of a table of real values; None: all of them.
        reading: how files of pictures are read, as `Reading.of_pictures` says it; None: as they are.

    Raises:
        InputError: a value that is none of these.
    """

    layout: Layout
    levels: int | tuple[int, ...] | None
    binarize: float | Literal["stochastic"] | None
    peak: float
    names: tuple[str, ...] | None = None
    decimals: tuple[int | None, ...] | None = None
    reading: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        _check(self.layout, self.levels, self.binarize, self.peak)
        _check_columns(self.names, self.decimals)
        if self.reading is not None:
            Reading.from_json(self.reading)

    @classmethod
    def infer(
        cls,
        raw: Rows | Tensor,
        *,
        binarize: float | Literal["stochastic"] | None = None,
        levels: int | tuple[int, ...] | None = None,
        real: bool = False,
    ) -> "Preparation":
        """Choose the preparation that suits the training data.

        Layout: three dimensions are (n, h, w); four are (n, c, h, w) where c is 1 or 3, else (n, h, w, c) where c is.
        Levels, unless given: 2 with `binarize`; 256 for 8-bit images, that is uint8 images with a value above 127; for
        other whole numbers the largest value + 1, over the whole array, or of each column of a table whose columns have
        names; None for real values, that is floating data
        with a value that is not whole, or negative. Peak: 255 for 8-bit images, else the largest value.

        Args:
            raw: training data as stored, (n, …).
            binarize: threshold, "stochastic" or None.
            levels: size of the alphabet, if not that of the rule above.
            real: whether whole numbers are measurements, that is real values.

        Raises:
            InputError: no data, a number that is not finite, symbols below zero, columns of symbols beside columns of
                real values, or arguments that contradict each other.
        """
        raw = Rows.of(raw)
        if 0 in raw.shape:
            raise InputError(f"data: empty, at least one example is expected, found shape {raw.shape}")
        layout = _layout(raw.shape)
        values = range_of(raw, images=layout != "flat")
        eight_bit = raw.dtype == torch.uint8 and layout != "flat" and values.largest > 127
        if real and (levels is not None or binarize is not None):
            raise InputError(f"real values have no levels, found levels {levels}, binarize {binarize}")
        if levels is None and not real:
            levels = 2
            if binarize is None:
                levels = 256 if eight_bit else values.alphabet(raw.names)
        peak = 1.0
        if values.largest > 0:
            peak = 255.0 if eight_bit else float(values.largest)
        decimals = values.decimals if levels is None and layout == "flat" else None
        return cls(layout, levels, binarize, peak, raw.names, decimals, raw.reading)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Preparation":
        """Build a preparation from the result of `to_json`.

        Raises:
            InputError: a field too many, too few, or of a wrong kind.
        """
        known = [field.name for field in fields(cls)]
        expected = [field.name for field in fields(cls) if field.default is MISSING]
        if not set(expected) <= set(data) <= set(known):
            raise InputError(f"preparation: the fields {', '.join(expected)} are expected, found {', '.join(data)}")
        levels, binarize = data["levels"], data["binarize"]
        if isinstance(levels, list):
            levels = tuple(levels)
        _check(data["layout"], levels, binarize, data["peak"])
        if binarize not in (None, "stochastic"):
            binarize = float(binarize)
        names, decimals = (tuple(data[name]) if data.get(name) else None for name in ("names", "decimals"))
        return cls(data["layout"], levels, binarize, float(data["peak"]), names, decimals, data.get("reading"))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; what files of older versions lack is there only if it says something."""
        values = {name: value for name, value in asdict(self).items() if name not in LATER or value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @property
    def how(self) -> Reading:
        """How files are read: the columns of the training data, and the pictures as they were read."""
        return replace(Reading.from_json(self.reading or {}), columns=self.names)

    def known_to_fit(self, rows: Rows) -> bool:
        """Return whether all values of some rows are sure to be symbols, without reading them."""
        if rows.bounds is None:
            return False
        if self.binarize is not None:
            return rows.bounds[1] <= self.peak
        return isinstance(self.levels, int) and rows.bounds[1] < self.levels

    @property
    def random(self) -> bool:
        """Whether `apply` draws."""
        return self.binarize == "stochastic"

    @property
    def reversible(self) -> bool:
        """Whether `restore` brings back the raw values (else only their layout)."""
        return self.binarize is None

    def event_of(self, raw: Shaped) -> Event:
        """Return the event that one row of a raw array becomes.

        Raises:
            InputError: not the layout this preparation is for.
        """
        _, *shape = raw.shape
        self._check_layout(raw.shape)
        if self.layout == "hw":
            shape = [1, *shape]
        elif self.layout == "hwc":
            shape = [shape[-1], *shape[:-1]]
        return Event(tuple(shape), self.levels)

    def places(self, raw: Shaped) -> list[int]:
        """Return the dimensions of one raw row that are places: height and width of images, else all of them."""
        if self.layout == "flat":
            return list(range(len(raw.shape) - 1))
        first = 1 if self.layout == "chw" else 0
        return [first, first + 1]

    def rows(self, raw: Rows, generator: torch.Generator | None = None) -> Rows:
        """Prepare rows when they are read.

        A random preparation draws for all of them at once where they are in memory, else whenever some are read.
        Arguments and errors are those of `apply`.
        """
        if self.random and raw.in_memory:
            with raw.named():
                x = self.apply(raw.x, generator)
            return raw.with_x(x)
        return raw.prepared(lambda x: self.apply(x, generator))

    def apply(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Prepare a raw array (n, …) as a batch (n, *event.shape).

        Symbols of alphabets up to 256 come as uint8, real values in floating point. Values outside the alphabet are
        left for `Event.check` to refuse.

        Args:
            raw: data as stored.
            generator: of the stochastic binarisation.

        Raises:
            InputError: another layout, a value to binarise that is not within 0 … peak, or no generator.
        """
        if self.binarize is None:
            return self._stored(self._arrange(raw))
        if self.random and generator is None:
            raise InputError("stochastic binarisation draws: a generator is expected")
        self._check_range(raw)
        parts = self._arrange(raw).split(ROWS)
        return torch.cat([_binarize(part, self.binarize, self.peak, generator) for part in parts])

    def restore(self, x: Tensor) -> Tensor:
        """Give a batch (n, *event.shape) the layout that went in; binarised values stay 0 and 1.

        Raises:
            InputError: not images where this preparation makes images.
        """
        if self.layout == "flat":
            return x
        if x.ndim != 4 or (self.layout == "hw" and x.shape[1] != 1):
            raise InputError(f"images (n, c, h, w) are expected, found shape {tuple(x.shape)}")
        if self.layout == "hw":
            return x[:, 0]
        if self.layout == "hwc":
            return x.permute(0, 2, 3, 1)
        return x

    def _stored(self, x: Tensor) -> Tensor:
        """Return real values in floating point, symbols in one byte where all alphabets fit it."""
        if self.levels is None:
            return _floating(x)
        if max(_alphabets(self.levels)) <= 256:
            return _compact(x)
        return x

    def _arrange(self, raw: Tensor) -> Tensor:
        self._check_layout(raw.shape)
        if self.layout == "hw":
            return raw[:, None]
        if self.layout == "hwc":
            return raw.permute(0, 3, 1, 2)
        return raw

    def _check_layout(self, shape: Sequence[int | None]) -> None:
        if self.layout == "flat":
            return
        dimensions = 3 if self.layout == "hw" else 4
        if len(shape) != dimensions:
            raise InputError(f"data: expected images {SHAPES[self.layout]}, found shape {shown(shape)}")

    def _check_range(self, raw: Tensor) -> None:
        low, high = raw.aminmax()  # NaN where there is one
        if low >= 0 and high <= self.peak:
            return
        inside = (raw >= 0) & (raw <= self.peak)
        expected = f"values 0 to {self.peak:g}, the range of the training data, are expected for binarisation"
        refuse(~inside, raw, "data", expected)


def _binarize(x: Tensor, how: float | Literal["stochastic"], peak: float, generator: torch.Generator | None) -> Tensor:
    if not x.is_floating_point():
        x = x.float()
    unit = x / peak
    if how == "stochastic":
        return (uniform(tuple(unit.shape), generator, unit) < unit).byte()
    return (unit > how).byte()


def _layout(shape: tuple[Any, ...]) -> Layout:
    if len(shape) == 3:
        return "hw"
    if len(shape) == 4 and shape[1] in (1, 3):
        return "chw"
    if len(shape) == 4 and shape[3] in (1, 3):
        return "hwc"
    return "flat"


def _floating(x: Tensor) -> Tensor:
    """Return measurements in floating point that holds them exactly (below 2^53)."""
    if x.is_floating_point():
        return x
    dtype = torch.float32 if x.element_size() < 4 else torch.float64
    return x.to(dtype)


def _compact(x: Tensor) -> Tensor:
    """Return symbols as uint8 where that changes no value."""
    if x.dtype == torch.int8 and (x < 0).any():  # −1 would become 255, and come back
        return x
    small = x.to(torch.uint8)
    if torch.equal(small.to(x.dtype), x):
        return small
    return x


def _check(layout: Any, levels: Any, binarize: Any, peak: Any) -> None:
    """Refuse a preparation with a wrong field."""
    if layout not in ("chw", "hw", "hwc", "flat"):
        raise InputError(f"preparation: layout chw, hw, hwc or flat is expected, found {layout!r}")
    if levels is not None and not all(type(count) is int and count >= 1 for count in _alphabets(levels)):
        raise InputError(f"preparation: levels of at least 1, or none, are expected, found {levels!r}")
    if binarize not in (None, "stochastic") and not (_is_number(binarize) and 0 <= binarize < 1):
        raise InputError(f'binarize: "stochastic" or a threshold from 0 to 1 is expected, found {binarize!r}')
    if binarize is not None and levels != 2:
        raise InputError(f"binarised data have 2 levels, found levels {levels}")
    if not _is_number(peak) or not 0 < peak < float("inf"):
        raise InputError(f"preparation: a positive peak is expected, found {peak!r}")


def _check_columns(names: Any, decimals: Any) -> None:
    if names is not None and not all(isinstance(name, str) for name in names):
        raise InputError(f"preparation: names of columns are expected, found {names!r:.80}")
    if decimals is not None and not all(
        count is None or (type(count) is int and 0 <= count < 20) for count in decimals
    ):
        raise InputError(f"preparation: decimals from 0 to 19 are expected, found {decimals!r:.80}")


def _alphabets(levels: Any) -> tuple[Any, ...]:
    if isinstance(levels, tuple):
        return levels
    return (levels,)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
