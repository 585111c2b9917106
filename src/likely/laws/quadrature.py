"""Adaptive quadrature of a density in one and two dimensions, over cells that samples say where to look for."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.polynomial import Legendre
from torch import Tensor

from likely.event import Interval

ENDS = 4  # the power
OUTERMOST = 1 - 2**-40  # coordinate that is looked at
NODES = 6  # along each axis of a box
CROWDED = 512  # samples that a box may hold
MISSED = 2  # times the density at every node: a sample where it is larger makes its box be split
BOXES = 2**15  # that are looked into at most
TOLERANCE = 4e-4  # of the sum of estimated errors
RESOLVED = 1e-3


Density = Callable[[Tensor], Tensor]


@dataclass
class Chart:
    """A smooth, increasing map from coordinates y inside (−1, 1) onto an interval, axis by axis.

    Between infinite ends x = c + s y / (1 − y²), so that heavy tails stay integrable; the middle c and the width s are
    taken from samples. Finite ends are approached by a power, so that p may grow towards them.
    """

    support: Interval
    middle: Tensor  # (dims,)
    width: Tensor  # (dims,)

    @classmethod
    def of(cls, support: Interval, samples: Tensor) -> "Chart":
        """The chart whose unit of length is half the middle half of the samples (n, dims)."""
        low, middle, high = samples.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=samples.dtype), dim=0)
        return cls(support, middle, ((high - low) / 2).clamp_min(torch.finfo(samples.dtype).tiny))

    def value(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """x and ∂x/∂y."""
        low, high = self.support.low, self.support.high
        if math.isinf(low) and math.isinf(high):
            rest = (1 - y) * (1 + y)
            return self.middle + self.width * y / rest, self.width * (1 + y * y) / rest**2
        odds, slope = ((1 + y) / (1 - y)) ** ENDS, 2 * ENDS / ((1 - y) * (1 + y))  # slope is ∂ ln odds / ∂y
        if math.isinf(high):
            return low + (self.middle - low) * odds, (self.middle - low) * odds * slope
        if math.isinf(low):
            return high - (high - self.middle) / odds, (high - self.middle) / odds * slope
        part = odds / (1 + odds)
        return low + (high - low) * part, (high - low) * part / (1 + odds) * slope

    def coordinate(self, x: Tensor) -> Tensor:
        """y."""
        low, high = self.support.low, self.support.high
        if math.isinf(low) and math.isinf(high):
            t = (x - self.middle) / self.width
            return 2 * t / (1 + (1 + 4 * t * t).sqrt())
        if math.isinf(high):
            odds = (x - low) / (self.middle - low)
        else:
            odds = (high - self.middle) / (high - x) if math.isinf(low) else (x - low) / (high - x)
        root = odds ** (1 / ENDS)
        return (root - 1) / (root + 1)


@dataclass
class Cells:
    """Boxes that cover all of the support, in an order in which neighbours are close."""

    mass: Tensor  # (cells,): ∫ p over each
    counts: Tensor  # (cells,): of the samples to be counted
    error: float  # estimated, of Σ mass
    missed: float  # the part of the samples that lie where p is far larger than at any node of their cell

    @property
    def resolved(self) -> bool:
        """Whether the cells were small enough in the end."""
        return self.error <= RESOLVED and self.missed <= RESOLVED / 2


class Partition:
    """Boxes that cover (−1, 1)^dims, each split off another, and which of them every sample lies in."""

    def __init__(self, *samples: Tensor) -> None:
        dims, like = samples[0].shape[1], samples[0]
        self.low, self.high = -like.new_ones(1, dims), like.new_ones(1, dims)
        self.key = like.new_zeros(1)  # volume of all boxes before this one, of the whole: sorts neighbours together
        self.samples = samples
        self.places = [torch.zeros(len(y), dtype=torch.int64) for y in samples]

    def __len__(self) -> int:
        return len(self.low)

    def split(self, which: Tensor, axis: Tensor) -> None:
        """Halve boxes, given by their indices (m,), each across one axis (m,); upper halves are put at the end."""
        rows = torch.arange(len(which))
        middle = (self.low[which, axis] + self.high[which, axis]) / 2
        upper_low, upper_high = self.low[which], self.high[which]
        upper_low[rows, axis] = middle
        upper = torch.full((len(self),), -1)
        upper[which] = len(self) + rows
        across = torch.zeros(len(self), dtype=torch.int64)
        across[which] = axis
        for place, y in zip(self.places, self.samples, strict=True):
            goes = upper[place]
            above = y.gather(1, across[place, None])[:, 0] >= (self.low + self.high)[place, across[place]] / 2
            place.copy_(goes.where((goes >= 0) & above, place))
        self.high[which, axis] = middle
        volume = ((upper_high - upper_low) / 2).prod(1)
        self.low, self.high = torch.cat([self.low, upper_low]), torch.cat([self.high, upper_high])
        self.key = torch.cat([self.key, self.key[which] + volume])

    def crowded(self) -> tuple[Tensor, Tensor]:
        """Boxes with many of the first samples, and the axis along which those spread least for the box's width."""
        place, y = self.places[0], self.samples[0]
        counts = place.bincount(minlength=len(self))
        mean, square = (
            torch.zeros_like(self.low).index_add_(0, place, power) / counts.clamp_min(1)[:, None]
            for power in (y - self.low[place], (y - self.low[place]).square())
        )
        width = self.high - self.low
        spread = (square - mean.square()).clamp_min(0) / width.square()
        splittable = width.amax(1) > 2**-48
        which = ((counts > CROWDED) & splittable).nonzero()[:, 0]
        return which, spread[which].argmin(1)


class Rule:
    """Lobatto's rule in every box (its nodes include the faces: a jump of p is seen), and an error along each axis.

    That is the weight w of the two highest Legendre polynomials that the nodes can tell; where it is small beside the
    mass m, p is smooth, the rule is far better than that, and 60 w² / m is taken (of 3 w and this the smaller).
    """

    def __init__(self, dims: int) -> None:
        self.dims = dims
        last, highest = (Legendre.basis(degree) for degree in (NODES - 2, NODES - 1))
        nodes = np.array([-1.0, *np.sort(highest.deriv().roots().real), 1.0])
        self.weights = torch.from_numpy(1 / (NODES * (NODES - 1) * highest(nodes) ** 2))
        self.highest = torch.from_numpy(np.stack([last(nodes), highest(nodes)])) * self.weights
        self.points = torch.cartesian_prod(*[torch.from_numpy(nodes)] * dims).view(-1, dims)

    def __call__(self, density: Density, chart: Chart, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """∫ p over boxes (m,), the errors along each axis (m, dims), and the largest density in coordinates (m,)."""
        y = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * self.points  # (m, points, dims)
        values = in_coordinates(density, chart, y.flatten(0, 1)).view(len(low), -1)
        peak, values = values.amax(1), values * (high - low).prod(1, keepdim=True)
        values = values.view(-1, *[NODES] * self.dims)
        mass = values
        for _ in range(self.dims):
            mass = mass @ self.weights
        tails = [self._tail(values.movedim(1 + axis, 1).reshape(len(low), NODES, -1)) for axis in range(self.dims)]
        w = torch.stack(tails, 1)
        return mass, 3 * w * (20 * w / mass[:, None].clamp_min(torch.finfo(w.dtype).tiny)).clamp_max(1), peak

    def _tail(self, values: Tensor) -> Tensor:
        """Values (m, nodes, other points) → weight of the highest polynomials (m,)."""
        other = self.weights if self.dims == 2 else values.new_ones(1)
        return (self.highest @ values).abs().sum(1) @ other


def in_coordinates(density: Density, chart: Chart, y: Tensor) -> Tensor:
    """The density of y (n, dims) → (n,)."""
    x, stretch = chart.value(y.clamp(-OUTERMOST, OUTERMOST))
    return density(x) * stretch.prod(1)


def integrate(density: Density, support: Interval, pilot: Tensor, counted: Tensor) -> Cells:
    """∫ p over cells that are split where samples crowd, and then where p is not smooth.

    Args:
        density: p at points (n, dims) → (n,), float64.
        support: the interval that every value lies in.
        pilot: samples (n, dims), dims 1 or 2, that say where to look: no part of p that they show is passed over.
        counted: other samples, whose number in each cell is returned, and who say what was passed over.
    """
    chart, rule = Chart.of(support, pilot), Rule(pilot.shape[1])
    boxes = Partition(chart.coordinate(pilot), chart.coordinate(counted))
    which, axis = boxes.crowded()
    while len(which):
        boxes.split(which, axis)
        which, axis = boxes.crowded()
    at_pilot, at_counted = (in_coordinates(density, chart, y) for y in boxes.samples)
    mass, errors, peak = rule(density, chart, boxes.low, boxes.high)
    spent = len(boxes)
    while True:
        least, rows = errors.amax(1).sort()
        rough = torch.zeros(len(boxes), dtype=torch.bool)
        rough[rows[least.cumsum(0) > TOLERANCE / 2]] = bool(least.sum() > TOLERANCE)
        missed = torch.zeros_like(rough)
        missed[boxes.places[0][at_pilot > MISSED * peak[boxes.places[0]]]] = True
        if not (rough | missed).any() or spent > BOXES:
            break
        axis = torch.where(rough, errors.argmax(1), (boxes.high - boxes.low).argmax(1))
        split = (rough | missed).nonzero()[:, 0]
        boxes.split(split, axis[split])
        both = torch.cat([split, torch.arange(len(mass), len(boxes))])
        found = rule(density, chart, boxes.low[both], boxes.high[both])
        mass, errors, peak = (
            torch.cat([old, old[split]]).index_copy(0, both, new)
            for old, new in zip((mass, errors, peak), found, strict=True)
        )
        spent += len(both)
    unseen = at_counted > MISSED * peak[boxes.places[1]]
    order = boxes.key.argsort()
    counts = boxes.places[1].bincount(minlength=len(boxes)).double()
    return Cells(mass[order], counts[order], float(least.sum()), float(unseen.double().mean()))
