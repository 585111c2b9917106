"""Densities of one or two real values, seen: p(x), samples beside data, and where a flow takes them."""

import torch
from PIL import Image
from torch import Tensor

from likely.density import Density
from likely.errors import InputError
from likely.event import Event
from likely.flows import Flow
from likely.pictures.axes import BLUE, GREY, INK, ORANGE, Panels, Range

CELLS = 200  # of a panel, along each axis
BATCH = 5000  # points at a time
SHOWN = 2000  # points, of data and of samples


def density(
    model: Density,
    data: Tensor | None = None,
    context: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Image.Image:
    """Panels of a model of one or two real values: its density, its samples with data, and of a flow z = f(x).

    Args:
        model: over one or two real values.
        data: examples (n, *event.shape) to show beside the samples.
        context: one value, where the model is conditional.
        generator: of the samples.

    Raises:
        InputError: an event of symbols or of more than two values.
    """
    _refuse_others(model.event)
    drawn = _rows(model.sample(SHOWN, context, generator=generator))
    shown = drawn[:0] if data is None else _rows(model.check(data[_some(len(data))]))
    view = _View(model, context, drawn, shown, generator)
    panels = Panels(3 if view.flow is not None else 2)
    if model.event.dims == 1:
        view.curve(panels)
        view.histograms(panels)
        view.map(panels)
    else:
        view.surface(panels)
        view.scattered(panels)
        view.mapped(panels)
    return panels.finished()


def scatter(x: Tensor, event: Event) -> Image.Image:
    """Examples (n, *event.shape) of one or two real values: points, or a histogram.

    Raises:
        InputError: an event of symbols or of more than two values.
    """
    _refuse_others(event)
    rows, panels = _rows(x), Panels(1)
    if event.dims == 2:
        axes = panels.panel(0, *_square(rows))
        axes.points(rows, BLUE)
    else:
        edges, heights = _histogram(rows, _range(rows[:, 0]))
        axes = panels.panel(0, _range(rows[:, 0]), (0.0, 1.1 * float(heights.max())))
        axes.bars(edges, heights, BLUE)
    axes.frame(f"{len(rows):,} samples")
    return panels.finished()


class _View:
    """A model, what was drawn from it and what is shown beside, (n, dims) each."""

    def __init__(
        self,
        model: Density,
        context: Tensor | None,
        drawn: Tensor,
        shown: Tensor,
        generator: torch.Generator | None,
    ) -> None:
        self.model, self.context, self.drawn, self.shown, self.generator = model, context, drawn, shown, generator
        self.points = torch.cat([drawn, shown])
        self.flow = model if isinstance(model, Flow) and model.base.event.dims == model.event.dims else None
        self.title = "density p(x)" if model.kind == "exact" else "density p(x), a lower bound"
        self.legend = (("samples", ORANGE), ("data", GREY)) if len(shown) else (("samples", ORANGE),)

    def _contexts(self, n: int) -> Tensor | None:
        return self.model.check_context(self.context, n, broadcast=True)

    def p(self, x: Tensor) -> Tensor:
        """The density at points (n, dims), zero outside the support."""
        p, support = x.new_zeros(len(x)), self.model.support
        inside = ((x > support.low) & (x < support.high)).all(1).nonzero()[:, 0]
        with torch.no_grad():
            for rows in inside.split(BATCH):
                at = x[rows].view(-1, *self.model.event.shape)
                p[rows] = self.model.log_prob(at, self._contexts(len(rows)), generator=self.generator).exp()
        return p

    def z(self, x: Tensor) -> Tensor:
        """z = f(x) of points (n, dims) inside the support."""
        assert self.flow is not None
        with torch.no_grad():
            parts = [
                self.flow.transform(
                    rows.view(-1, *self.model.event.shape), self.flow.encoded(self._contexts(len(rows)))
                )
                for rows in x.split(BATCH)
            ]
        return torch.cat([_rows(z) for z, _ in parts])

    def surface(self, panels: Panels) -> None:
        """p over the plane."""
        x, y = _square(self.points)
        axes = panels.panel(0, x, y)
        p = self.p(_grid(x, y, self.drawn)).view(CELLS, CELLS)
        axes.surface(p / p.max().clamp_min(torch.finfo(p.dtype).tiny))
        axes.frame(self.title, ((f"darkest {p.max().item():.3g}", BLUE),))

    def scattered(self, panels: Panels) -> None:
        """Samples on data."""
        axes = panels.panel(1, *_square(self.points))
        axes.points(self.shown, GREY)
        axes.points(self.drawn, ORANGE)
        axes.frame("samples beside data" if len(self.shown) else "samples", self.legend)

    def mapped(self, panels: Panels) -> None:
        """Data, or else samples, in the space of z, over the base's density."""
        if self.flow is None:
            return
        z = self.z(self.shown if len(self.shown) else self.drawn)
        base = self.flow.base
        given = self.context if base.context else None
        x, y = _square(torch.cat([z, _rows(base.sample(SHOWN, given, generator=self.generator))]))
        axes = panels.panel(2, x, y)
        at = _grid(x, y, z).view(-1, *base.event.shape)
        with torch.no_grad():
            p = base.log_prob(at, self._contexts(len(at)) if base.context else None).exp()
        axes.surface(0.45 * p.view(CELLS, CELLS) / p.max())
        axes.points(z, INK)
        axes.frame("z = f(x)", (("data" if len(self.shown) else "samples", INK), ("base", BLUE)))

    def curve(self, panels: Panels) -> None:
        """p along the line, over a histogram of the data."""
        x = _range(self.points[:, 0])
        line = torch.linspace(*x, 5 * CELLS, dtype=self.drawn.dtype)
        p = self.p(line[:, None])
        heights = _histogram(self.shown, x)[1] if len(self.shown) else p
        axes = panels.panel(0, x, (0.0, 1.1 * float(torch.maximum(p.max(), heights.max()))))
        if len(self.shown):
            axes.bars(*_histogram(self.shown, x), GREY)
        axes.line(torch.stack([line, p], 1), BLUE)
        axes.frame(self.title, (("data", GREY),) if len(self.shown) else ())

    def histograms(self, panels: Panels) -> None:
        """Samples beside data."""
        x = _range(self.points[:, 0])
        found = [
            (_histogram(rows, x), colour) for rows, colour in ((self.shown, GREY), (self.drawn, ORANGE)) if len(rows)
        ]
        axes = panels.panel(1, x, (0.0, 1.1 * max(float(heights.max()) for (_, heights), _ in found)))
        for (edges, heights), colour in found:
            axes.bars(edges, heights, colour)
        axes.frame("samples beside data" if len(self.shown) else "samples", self.legend)

    def map(self, panels: Panels) -> None:
        """z against x."""
        if self.flow is None:
            return
        x, support = _range(self.points[:, 0]), self.model.support
        line = torch.linspace(*x, 5 * CELLS, dtype=self.drawn.dtype)[:, None]
        line = line[(line[:, 0] > support.low) & (line[:, 0] < support.high)]
        z = self.z(line)
        axes = panels.panel(2, x, _range(z[:, 0]))
        axes.line(torch.cat([line, z], 1), BLUE)
        axes.frame("z = f(x)")


def _refuse_others(event: Event) -> None:
    if event.discrete or event.dims > 2:
        raise InputError(f"a picture of a density needs one or two real values, found {event}")


def _some(n: int) -> Tensor:
    """Which of n examples are shown."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:SHOWN]


def _rows(x: Tensor) -> Tensor:
    return x.detach().reshape(len(x), -1)


def _range(values: Tensor) -> Range:
    """All but the outermost thousandths, and some room."""
    low, high = (
        values.double().quantile(torch.tensor([0.001, 0.999], dtype=torch.float64, device=values.device)).tolist()
    )
    room = 0.08 * (high - low) or max(1.0, abs(low)) * 1e-3
    return low - room, high + room


def _square(points: Tensor) -> tuple[Range, Range]:
    """Ranges of equal length around points (n, 2), so that both axes have one scale."""
    ranges = [_range(points[:, i]) for i in range(2)]
    half = max(high - low for low, high in ranges) / 2
    x, y = (((low + high) / 2 - half, (low + high) / 2 + half) for low, high in ranges)
    return x, y


def _grid(x: Range, y: Range, like: Tensor) -> Tensor:
    """The middles of the cells, rows from the bottom, (cells², 2)."""
    middles = (torch.arange(CELLS, dtype=torch.float64) + 0.5) / CELLS
    across, up = (low + (high - low) * middles for low, high in (x, y))
    rows, columns = torch.meshgrid(up, across, indexing="ij")
    return torch.stack([columns, rows], -1).view(-1, 2).to(like)


def _histogram(rows: Tensor, x: Range, bars: int = 50) -> tuple[Tensor, Tensor]:
    """Edges and heights of a histogram whose area is one."""
    values, edges = rows[:, 0].double().cpu(), torch.linspace(*x, bars + 1, dtype=torch.float64)
    counts = torch.histogram(values, edges).hist
    return edges, counts / (len(values) * (x[1] - x[0]) / bars)
