"""Pictures of densities of one or two real values: p(x), samples beside data, and z = f(x) of a flow."""

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
    """Draw panels of a model of one or two real values: its density, its samples with data, and of a flow z = f(x).

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
    shown = drawn[:0]
    if data is not None:
        shown = _rows(model.check(data[_some(len(data))]))
    view = _View(model, context, drawn, shown, generator)
    panels = Panels(2 + (view.flow is not None))
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
    """Draw examples (n, *event.shape) of one or two real values: points, or a histogram.

    Raises:
        InputError: an event of symbols or of more than two values.
    """
    _refuse_others(event)
    rows, panels = _rows(x), Panels(1)
    if event.dims == 2:
        axes = panels.panel(0, *_square(rows))
        axes.points(rows, BLUE)
    else:
        width = _range(rows[:, 0])
        edges, heights = _histogram(rows, width)
        axes = panels.panel(0, width, _from_zero(heights))
        axes.bars(edges, heights, BLUE)
    axes.frame(f"{len(rows):,} samples")
    return panels.finished()


class _View:
    """A model, samples drawn from it and data shown beside them, (n, dims) each."""

    def __init__(
        self,
        model: Density,
        context: Tensor | None,
        drawn: Tensor,
        shown: Tensor,
        generator: torch.Generator | None,
    ) -> None:
        self.model, self.context, self.generator = model, context, generator
        self.drawn, self.shown = drawn, shown
        self.points = torch.cat([drawn, shown])
        self.flow = None
        if isinstance(model, Flow) and model.base.event.dims == model.event.dims:
            self.flow = model
        self.title = "density p(x)"
        if model.kind != "exact":
            self.title += ", a lower bound"
        self.heading, self.legend = "samples", (("samples", ORANGE),)
        if len(shown):
            self.heading, self.legend = "samples beside data", (("samples", ORANGE), ("data", GREY))

    def _contexts(self, n: int) -> Tensor | None:
        return self.model.check_context(self.context, n, broadcast=True)

    def p(self, x: Tensor) -> Tensor:
        """Return the density at points (n, dims), zero outside the support."""
        p, support = x.new_zeros(len(x)), self.model.support
        inside = ((x > support.low) & (x < support.high)).all(1).nonzero()[:, 0]
        with torch.no_grad():
            for rows in inside.split(BATCH):
                at = x[rows].view(-1, *self.model.event.shape)
                contexts = self._contexts(len(rows))
                p[rows] = self.model.log_prob(at, contexts, generator=self.generator).exp()
        return p

    @torch.no_grad()
    def z(self, x: Tensor) -> Tensor:
        """Return z = f(x) of points (n, dims) inside the support."""
        assert self.flow is not None
        parts = []
        for rows in x.split(BATCH):
            features = self.flow.encoded(self._contexts(len(rows)))
            z, _ = self.flow.transform(rows.view(-1, *self.model.event.shape), features)
            parts.append(_rows(z))
        return torch.cat(parts)

    def surface(self, panels: Panels) -> None:
        """Draw p over the plane."""
        x, y = _square(self.points)
        axes = panels.panel(0, x, y)
        p = self.p(_grid(x, y, self.drawn)).view(CELLS, CELLS)
        most = p.max().clamp_min(torch.finfo(p.dtype).tiny)
        axes.surface(p / most)
        axes.frame(self.title, ((f"darkest {p.max().item():.3g}", BLUE),))

    def scattered(self, panels: Panels) -> None:
        """Draw samples on data."""
        axes = panels.panel(1, *_square(self.points))
        axes.points(self.shown, GREY)
        axes.points(self.drawn, ORANGE)
        axes.frame(self.heading, self.legend)

    def mapped(self, panels: Panels) -> None:
        """Draw data, or else samples, in the space of z, over the base's density."""
        if self.flow is None:
            return
        kind, points = "samples", self.drawn
        if len(self.shown):
            kind, points = "data", self.shown
        z = self.z(points)
        base = self.flow.base
        given = self.context if base.context else None
        drawn = _rows(base.sample(SHOWN, given, generator=self.generator))
        x, y = _square(torch.cat([z, drawn]))
        axes = panels.panel(2, x, y)
        at = _grid(x, y, z).view(-1, *base.event.shape)
        contexts = self._contexts(len(at)) if base.context else None
        with torch.no_grad():
            p = base.log_prob(at, contexts).exp()
        axes.surface(0.45 * p.view(CELLS, CELLS) / p.max())
        axes.points(z, INK)
        axes.frame("z = f(x)", ((kind, INK), ("base", BLUE)))

    def curve(self, panels: Panels) -> None:
        """Draw p along the line, over a histogram of the data."""
        x = _range(self.points[:, 0])
        line = torch.linspace(*x, 5 * CELLS, dtype=self.drawn.dtype)
        p = self.p(line[:, None])
        if len(self.shown):
            edges, heights = _histogram(self.shown, x)
            axes = panels.panel(0, x, _from_zero(p, heights))
            axes.bars(edges, heights, GREY)
            legend = (("data", GREY),)
        else:
            axes = panels.panel(0, x, _from_zero(p))
            legend = ()
        axes.line(torch.stack([line, p], 1), BLUE)
        axes.frame(self.title, legend)

    def histograms(self, panels: Panels) -> None:
        """Draw samples beside data."""
        x = _range(self.points[:, 0])
        coloured = [(rows, colour) for rows, colour in ((self.shown, GREY), (self.drawn, ORANGE)) if len(rows)]
        bars = [_histogram(rows, x) for rows, _ in coloured]
        axes = panels.panel(1, x, _from_zero(*(heights for _, heights in bars)))
        for (edges, heights), (_, colour) in zip(bars, coloured, strict=True):
            axes.bars(edges, heights, colour)
        axes.frame(self.heading, self.legend)

    def map(self, panels: Panels) -> None:
        """Draw z against x."""
        if self.flow is None:
            return
        x, support = _range(self.points[:, 0]), self.model.support
        line = torch.linspace(*x, 5 * CELLS, dtype=self.drawn.dtype)
        line = line[(line > support.low) & (line < support.high)][:, None]
        z = self.z(line)
        axes = panels.panel(2, x, _range(z[:, 0]))
        axes.line(torch.cat([line, z], 1), BLUE)
        axes.frame("z = f(x)")


def _refuse_others(event: Event) -> None:
    if event.discrete or event.dims > 2:
        raise InputError(f"a picture of a density needs one or two real values, found {event}")


def _some(n: int) -> Tensor:
    """Return the numbers of the examples that are shown, of n."""
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return shuffled[:SHOWN]


def _rows(x: Tensor) -> Tensor:
    return x.detach().reshape(len(x), -1)


def _range(values: Tensor) -> Range:
    """Return a range of all values but the outermost thousandths, and some room."""
    edges = torch.tensor([0.001, 0.999], dtype=torch.float64, device=values.device)
    low, high = values.double().quantile(edges).tolist()
    room = 0.08 * (high - low) or max(1.0, abs(low)) * 1e-3
    return low - room, high + room


def _from_zero(*heights: Tensor) -> Range:
    """Return a range from zero to a tenth above the largest height."""
    return 0.0, 1.1 * max(float(part.max()) for part in heights)


def _square(points: Tensor) -> tuple[Range, Range]:
    """Return ranges of equal length around points (n, 2), so that both axes have one scale."""
    x, y = _range(points[:, 0]), _range(points[:, 1])
    half = max(x[1] - x[0], y[1] - y[0]) / 2
    return _around(x, half), _around(y, half)


def _around(ends: Range, half: float) -> Range:
    middle = sum(ends) / 2
    return middle - half, middle + half


def _grid(x: Range, y: Range, like: Tensor) -> Tensor:
    """Return the middles of the cells, rows from the bottom, (cells², 2)."""
    middles = (torch.arange(CELLS, dtype=torch.float64) + 0.5) / CELLS
    across = x[0] + (x[1] - x[0]) * middles
    up = y[0] + (y[1] - y[0]) * middles
    rows, columns = torch.meshgrid(up, across, indexing="ij")
    return torch.stack([columns, rows], -1).view(-1, 2).to(like)


def _histogram(rows: Tensor, x: Range, bars: int = 50) -> tuple[Tensor, Tensor]:
    """Return the edges and heights of a histogram of area one."""
    values = rows[:, 0].double().cpu()
    edges = torch.linspace(*x, bars + 1, dtype=torch.float64)
    counts = torch.histogram(values, edges).hist
    area = len(values) * (x[1] - x[0]) / bars
    return edges, counts / area
