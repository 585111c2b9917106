"""The likelihood of independent dimensions: the least that a fit should come to."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from likely.classical import IndependentPixels, SymbolHistogram
from likely.classical.counts import Counts
from likely.event import Event
from likely.rows import Rows

CELLS = 1 << 24  # of a table of counts for every place, at most
CHUNK = 1024  # rows that are scored at once
NARROW = 0.02  # least width of a bin, in deviations of its dimension

Score = Callable[[Tensor], Tensor]  # values (n, dims) → ln p of each


def independent_bits(event: Event, x: Tensor, rows: Rows) -> float:
    """Return the bits/dim of rows under independent dimensions; NaN for strings.

    Symbols have their frequencies, place by place, or wherever they stand if sizes vary. Real values have a histogram
    with as many bins of equal mass as suit the number of examples, and tails. Contexts are not looked at.

    Args:
        event: of the rows.
        x: examples (n, *event.shape) that the marginals are taken from.
        rows: at least one, in memory.
    """
    if event.end is not None:
        return math.nan
    if event.discrete:
        score = _counted(event, x)
    else:
        score = _histograms(x.reshape(len(x), -1).double())
    total, count = 0.0, 0
    for part in rows.batches(CHUNK):
        given = part.read()[0].to(x.device)
        total += score(given.reshape(len(given), -1)).double().sum().item()
        count += given.numel()
    return -total / count / math.log(2)


def _counted(event: Event, x: Tensor) -> Score:
    if not event.varies and event.dims * event.most_levels <= CELLS:
        model: Counts = IndependentPixels(event)
    else:
        model, x = SymbolHistogram(Event((), event.most_levels)), x.flatten()
    model.to(x.device).estimate(x)
    return lambda given: model.log_prob(given.reshape(-1, *model.event.shape))


def _histograms(x: Tensor) -> Score:
    """Return ln of ∏ k-bin histograms of x (n, dims), each with the mass of one example beyond either end."""
    bins = max(2, round(2 * len(x) ** (1 / 3)))
    edges = torch.quantile(x, torch.linspace(0, 1, bins + 1, dtype=x.dtype, device=x.device), 0).T.contiguous()
    widths = edges.diff(dim=1).clamp_min(NARROW * x.std(0, correction=0)[:, None].clamp_min(1e-30))
    edges = torch.cat([edges[:, :1], edges[:, :1] + widths.cumsum(1)], 1)  # (dims, bins + 1)
    beyond = 1 / (len(x) + 2)
    inside = math.log((1 - 2 * beyond) / bins) - widths.log()

    def score(given: Tensor) -> Tensor:
        values = given.double().T.contiguous()  # (dims, n)
        place = torch.searchsorted(edges, values, right=True) - 1
        inner = inside.gather(1, place.clamp(0, bins - 1))
        below, above = (edges[:, :1] - values).clamp_min(0), (values - edges[:, -1:]).clamp_min(0)
        scale = torch.where(below > 0, widths[:, :1], widths[:, -1:])
        outer = math.log(beyond) - scale.log() - (below + above) / scale
        return torch.where((below + above) > 0, outer, inner)

    return score
