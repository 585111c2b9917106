"""Adaptive quadrature of a density in one and two dimensions, over cells that are made where samples are."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import Legendre
from torch import Tensor

from likely.event import Interval

ENDS = 4  # the power
OUTERMOST = 1 - 2**-40  # coordinate at which p is evaluated
NODES = 6  # along each axis of a box
CROWDED = 512  # samples that a box may hold
MISSED = 2  # times the density at every node: a sample where it is larger makes its box be split
BOXES = 2**15  # that are integrated over at most
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
        """Return the chart with half the interquartile range of the samples (n, dims) as its unit of length."""
        quartiles = torch.tensor([0.25, 0.5, 0.75], dtype=samples.dtype)
        low, middle, high = samples.quantile(quartiles, dim=0)
        width = (high - low) / 2
        return cls(support, middle, width.clamp_min(torch.finfo(samples.dtype).tiny))

    def value(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and ∂x/∂y."""
        low, high = self.support.low, self.support.high
        rest = (1 - y) * (1 + y)
        if math.isinf(low) and math.isinf(high):
            return self.middle + self.width * y / rest, self.width * (1 + y * y) / rest**2
        odds = ((1 + y) / (1 - y)) ** ENDS
        slope = 2 * ENDS / rest  # ∂ ln odds / ∂y
        if math.isinf(high):
            distance = (self.middle - low) * odds
            return low + distance, distance * slope
        if math.isinf(low):
            distance = (high - self.middle) / odds
            return high - distance, distance * slope
        distance = (high - low) * (odds / (1 + odds))
        return low + distance, distance / (1 + odds) * slope

    def coordinate(self, x: Tensor) -> Tensor:
        """Return y."""
        low, high = self.support.low, self.support.high
        if math.isinf(low) and math.isinf(high):
            t = (x - self.middle) / self.width
            return 2 * t / (1 + (1 + 4 * t * t).sqrt())
        if math.isinf(high):
            odds = (x - low) / (self.middle - low)
        elif math.isinf(low):
            odds = (high - self.middle) / (high - x)
        else:
            odds = (x - low) / (high - x)
        root = odds ** (1 / ENDS)
        return (root - 1) / (root + 1)


@dataclass
class Cells:
    """Boxes that cover all of the support, in an order that keeps neighbours close."""

    mass: Tensor  # (cells,): ∫ p over each
    counts: Tensor  # (cells,): of the samples to be counted
    error: float  # estimated, of Σ mass
    missed: float  # the part of the samples that lie where p is far larger than at any node of their cell

    @property
    def resolved(self) -> bool:
        """True if the cells were small enough in the end."""
        return self.error <= RESOLVED and self.missed <= RESOLVED / 2


class Partition:
    """Boxes that cover (−1, 1)^dims, each split off another, and the box of every sample."""

    def __init__(self, *samples: Tensor) -> None:
        like = samples[0]
        self.high = like.new_ones(1, like.shape[1])
        self.low = -self.high
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
            goes, axes = upper[place], across[place]
            middles = (self.low + self.high)[place, axes] / 2
            above = y.gather(1, axes[:, None])[:, 0] >= middles
            place.copy_(goes.where((goes >= 0) & above, place))
        self.high[which, axis] = middle
        volume = ((upper_high - upper_low) / 2).prod(1)
        self.low = torch.cat([self.low, upper_low])
        self.high = torch.cat([self.high, upper_high])
        self.key = torch.cat([self.key, self.key[which] + volume])

    def crowded(self) -> tuple[Tensor, Tensor]:
        """Return boxes with many of the first samples, and the axis of their least spread for the box's width."""
        place = self.places[0]
        offset = self.samples[0] - self.low[place]
        counts = place.bincount(minlength=len(self))
        divisor = counts.clamp_min(1)[:, None]
        mean = torch.zeros_like(self.low).index_add_(0, place, offset) / divisor
        square = torch.zeros_like(self.low).index_add_(0, place, offset.square()) / divisor
        width = self.high - self.low
        spread = (square - mean.square()).clamp_min(0) / width.square()
        splittable = width.amax(1) > 2**-48
        which = ((counts > CROWDED) & splittable).nonzero()[:, 0]
        return which, spread[which].argmin(1)


class Integrals(NamedTuple):
    """Integrals of p over boxes, with their errors."""

    mass: Tensor  # (m,): ∫ p
    errors: Tensor  # (m, dims): along each axis
    peak: Tensor  # (m,): the largest density in coordinates, at a node

    def updated(self, rows: Tensor, split: Tensor, new: "Integrals") -> "Integrals":
        """Return integrals with a box added for each of the `split` ones, and new values in some rows."""
        parts = zip(self, new, strict=True)
        return Integrals(*(torch.cat([old, old[split]]).index_copy(0, rows, part) for old, part in parts))


class Rule:
    """Lobatto's rule in every box (its nodes include the faces: a jump of p is seen), and an error along each axis.

    The error is estimated from the weight w of the two highest Legendre polynomials that the nodes resolve. Where w is
    small beside the mass m, p is smooth and the rule is far better than w: the estimate is the smaller of 3 w and
    60 w² / m.
    """

    def __init__(self, dims: int) -> None:
        self.dims = dims
        last, highest = Legendre.basis(NODES - 2), Legendre.basis(NODES - 1)
        nodes = np.array([-1.0, *np.sort(highest.deriv().roots().real), 1.0])
        self.weights = torch.from_numpy(1 / (NODES * (NODES - 1) * highest(nodes) ** 2))
        basis = np.stack([last(nodes), highest(nodes)])
        self.highest = torch.from_numpy(basis) * self.weights
        self.points = torch.cartesian_prod(*[torch.from_numpy(nodes)] * dims).view(-1, dims)

    def __call__(self, density: Density, chart: Chart, low: Tensor, high: Tensor) -> Integrals:
        """Return the integrals of p over boxes from low to high (m, dims)."""
        width = high - low
        y = (low + high)[:, None] / 2 + width[:, None] / 2 * self.points  # (m, points, dims)
        at_nodes = in_coordinates(density, chart, y.flatten(0, 1)).view(len(low), -1)
        values = at_nodes * width.prod(1, keepdim=True)
        values = values.view(-1, *[NODES] * self.dims)
        mass = values
        for _ in range(self.dims):
            mass = mass @ self.weights
        w = torch.stack([self._tail(values.movedim(1 + axis, 1)) for axis in range(self.dims)], 1)
        part = 20 * w / mass[:, None].clamp_min(torch.finfo(w.dtype).tiny)
        return Integrals(mass, 3 * w * part.clamp_max(1), at_nodes.amax(1))

    def _tail(self, values: Tensor) -> Tensor:
        """Values (m, nodes, …) → weight of the highest polynomials (m,)."""
        values = values.reshape(len(values), NODES, -1)
        other = self.weights if self.dims == 2 else values.new_ones(1)
        return (self.highest @ values).abs().sum(1) @ other


def in_coordinates(density: Density, chart: Chart, y: Tensor) -> Tensor:
    """Return the density of y (n, dims) → (n,)."""
    x, stretch = chart.value(y.clamp(-OUTERMOST, OUTERMOST))
    return density(x) * stretch.prod(1)


def integrate(density: Density, support: Interval, pilot: Tensor, counted: Tensor) -> Cells:
    """Integrate p over cells that are split where samples crowd, and then where p is not smooth.

    Args:
        density: p at points (n, dims) → (n,), float64.
        support: the interval that every value lies in.
        pilot: samples (n, dims), dims 1 or 2, that place the cells: no part of p that they reach is missed.
        counted: other samples; they are counted in each cell, and show the parts of p that were missed.
    """
    chart, rule = Chart.of(support, pilot), Rule(pilot.shape[1])
    boxes = Partition(chart.coordinate(pilot), chart.coordinate(counted))
    which, axis = boxes.crowded()
    while len(which):
        boxes.split(which, axis)
        which, axis = boxes.crowded()
    at_pilot, at_counted = (in_coordinates(density, chart, y) for y in boxes.samples)
    found = rule(density, chart, boxes.low, boxes.high)
    spent = len(boxes)
    while spent <= BOXES:
        rough = rough_boxes(found.errors)
        missed = torch.zeros_like(rough)
        missed[boxes.places[0][beyond(at_pilot, found.peak, boxes.places[0])]] = True
        split = (rough | missed).nonzero()[:, 0]
        if not len(split):
            break
        axis = torch.where(rough, found.errors.argmax(1), (boxes.high - boxes.low).argmax(1))
        boxes.split(split, axis[split])
        both = torch.cat([split, torch.arange(len(rough), len(boxes))])
        found = found.updated(both, split, rule(density, chart, boxes.low[both], boxes.high[both]))
        spent += len(both)
    unseen = beyond(at_counted, found.peak, boxes.places[1])
    order = boxes.key.argsort()
    counts = boxes.places[1].bincount(minlength=len(boxes)).double()
    error = found.errors.amax(1).sort()[0].sum()
    return Cells(found.mass[order], counts[order], float(error), float(unseen.double().mean()))


def rough_boxes(errors: Tensor) -> Tensor:
    """Return True for boxes (m,) to be split, from errors (m, dims): all but those with half the tolerance in sum."""
    least, rows = errors.amax(1).sort()
    rough = torch.zeros(len(errors), dtype=torch.bool)
    rough[rows[least.cumsum(0) > TOLERANCE / 2]] = bool(least.sum() > TOLERANCE)
    return rough


def beyond(density: Tensor, peak: Tensor, places: Tensor) -> Tensor:
    """Return True for samples (n,) with a density far above the peak (m,) of the boxes that they lie in."""
    return density > MISSED * peak[places]
