"""Random compositions of transforms and conditioners: log-determinants against autograd's Jacobian, and inverses."""

import copy
import math

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import likely
from likely.event import POSITIVE, REAL, UNIT, Event
from likely.flows import (
    Affine,
    Composition,
    Elementwise,
    FullMatrix,
    Inverse,
    LeakyReLU,
    LogisticToNormal,
    Logit,
    LUMatrix,
    MaskedAutoregressive,
    MixtureLogit,
    MonotoneLayer,
    OrthogonalMatrix,
    Permutation,
    Power,
    RationalQuadraticSpline,
    RecurrentAutoregressive,
    Scale,
    Shift,
    Sigmoid,
    Softplus,
    Tanh,
    TriangularMatrix,
)
from likely.flows.maps.activation import SYMMETRIC
from likely.flows.maps.chain import Chain
from likely.flows.noise import UnitSpline
from likely.flows.transforms.actnorm import ActNorm
from likely.flows.transforms.convolution import InvertibleConvolution
from likely.flows.transforms.coupling import Coupling
from likely.flows.transforms.shape import Multiscale, Squeeze
from likely.laws.bijections import jacobian, leaves
from likely.laws.case import inside
from likely.nn.network import AttentionNetwork, Perceptron, ResidualNetwork

EXAMPLES, FEATURES = 2, 3
SHAPES = [(), (1,), (2,), (3,), (6,), (2, 3), (1, 2, 2), (1, 2, 3), (3, 1, 2), (4, 1, 1), (2, 1, 3)]
MAPS = {
    REAL: [
        Shift(),
        Affine(),
        Scale(),
        LeakyReLU(0.3),
        LogisticToNormal(),
        RationalQuadraticSpline(4, 3.0),
        MixtureLogit(3),
        MixtureLogit(2, "gaussian"),
        MonotoneLayer(3),
        Chain([MixtureLogit(2), Affine(2.0)]),
    ],
    UNIT: [UnitSpline(4)],
    POSITIVE: [Power()],
}
INTO = {REAL: [Sigmoid(), Tanh(), Softplus()], UNIT: [Logit()]}  # another interval
OUT_OF = {UNIT: Sigmoid(), POSITIVE: Softplus(), SYMMETRIC: Tanh()}
MATRICES = [FullMatrix, TriangularMatrix, LUMatrix, OrthogonalMatrix]


def conditioner(draw, shape):
    """A network for a coupling over events of a shape."""
    kinds = [Perceptron((5,)), Perceptron(())]
    if len(shape) == 3:
        kinds += [ResidualNetwork(4, 1), AttentionNetwork(4, 1)]
    return draw(st.sampled_from(kinds))


def coupling(draw, map, shape, features):
    """A coupling with a random mask."""
    mask = draw(st.lists(st.booleans(), min_size=math.prod(shape), max_size=math.prod(shape)).map(tuple))
    assume(len(set(mask)) == 2)
    return Coupling(map, shape, mask, conditioner=conditioner(draw, shape), features=features)


def single(draw, shape, interval, onto=False):
    """One transform of events of a shape, whose values lie inside an interval."""
    features = draw(st.sampled_from([None, FEATURES]))
    order = draw(st.sampled_from(["raster", "reversed", 5]))
    map = draw(st.sampled_from(MAPS[interval])) if interval in MAPS else None
    kinds = {"leave": lambda: Inverse(Elementwise(OUT_OF[interval], shape))} if interval in OUT_OF else {}
    if map is not None:
        kinds["elementwise"] = lambda: Elementwise(map, shape, features if map.count else None)
    if map is not None and map.count:
        kinds["masked"] = lambda: MaskedAutoregressive(map, shape, (6,), order=order, features=features)
        kinds["recurrent"] = lambda: RecurrentAutoregressive(map, shape, 3, order=order, features=features)
        if math.prod(shape) > 1:
            kinds["coupling"] = lambda: coupling(draw, map, shape, features)
    if interval in INTO and not onto:
        kinds["into"] = lambda: Elementwise(draw(st.sampled_from(INTO[interval])), shape)
    if interval == REAL:
        kinds["matrix"] = lambda: draw(st.sampled_from(MATRICES))(shape)
        kinds["permutation"] = lambda: Permutation(shape, draw(st.sampled_from([None, 1])))
        kinds["actnorm"] = lambda: ActNorm(shape)
        if shape:
            kinds["convolution"] = lambda: InvertibleConvolution(shape, 1)
        if len(shape) == 3 and shape[1] % 2 == shape[2] % 2 == 0:
            kinds["squeeze"] = lambda: Squeeze(shape)
        if len(shape) == 3 and shape[0] > 1:
            going = (shape[0] - shape[0] // 2, *shape[1:])
            kinds["multiscale"] = lambda: Multiscale(single(draw, going, REAL, onto=True), shape)
    part = kinds[draw(st.sampled_from(sorted(kinds)))]()
    turned = onto_itself(part) and part.event_after(Event(shape)).shape == shape and draw(st.booleans())
    return Inverse(part) if turned else part


def onto_itself(transform):
    return transform.domain == transform.codomain


def composed(draw):
    """A composition with random weights, values that it takes, and features."""
    shape, domain = draw(st.sampled_from(SHAPES)), draw(st.sampled_from([REAL, REAL, REAL, UNIT, POSITIVE]))
    parts, before = [], (shape, domain)
    for _ in range(draw(st.integers(1, 4))):
        part = single(draw, *before)
        parts.append(part)
        before = part.event_after(Event(before[0])).shape, part.codomain
    composition, generator = Composition(parts), torch.Generator().manual_seed(draw(st.integers(0, 99)))
    for parameter in composition.parameters():
        size = max(1, parameter[0].numel()) if parameter.ndim > 1 else 4
        nn.init.normal_(parameter, std=size**-0.5, generator=generator)
    t = torch.randn(EXAMPLES, *shape, generator=generator)
    features = torch.randn(EXAMPLES, FEATURES, generator=generator)
    return composition.eval(), inside(t, domain), features


def tried(call, *arguments):
    """What a call returns; what is refused is not of interest here."""
    try:
        return call(*arguments)
    except likely.Error:
        assume(False)


def steps(composition, x, features):
    """Of every transform: |x|, |z| (n, dims) and ∂z/∂x (n, dims, dims)."""
    for part in leaves(composition):
        z, _ = part(x, features)
        yield x.reshape(len(x), -1).abs(), z.reshape(len(z), -1).abs(), jacobian(part, x, features)
        x = z


def moved(found):
    """What rounding may do to f⁻¹(f(x)), in units of eps (n, dims), to first order, from what `steps` found.

    Every z, what it is a sum of, and every x are rounded, and later roundings are carried back.
    """
    total = 0.0
    for x, z, slope in reversed(found):
        terms = 1 + z + (slope.abs() @ x[..., None])[..., 0]
        total = x + (torch.linalg.inv(slope).abs() @ (terms + total)[..., None])[..., 0]
    return total


def check(composition, x, features, expected, unit, limit):
    """Log-determinants within `limit` of what is expected, and what rounding may add; inverses within rounding."""
    eps = torch.finfo(x.dtype).eps
    z, ladj = tried(composition, x, features)
    back, inverse_ladj = tried(composition.inverse, z, features)
    there = tried(composition, back, features)[1]  # not at x, which rounding z may have moved
    allowed = limit * (1 + expected.abs()) + 8 * eps * unit.sum(1)
    assert ((ladj - expected).abs() <= allowed).all()
    assert ((inverse_ladj + there).abs() <= allowed).all()
    assert ((back.double() - x.double()).abs().reshape(len(x), -1) <= 16 * eps * unit).all()
    total = 0.0
    for part in composition:
        x, own = part(x, features)
        total = total + own
    assert torch.equal(x, z)
    assert torch.equal(total, ladj)


@settings(max_examples=130, derandomize=True, database=None, deadline=None)
@given(st.data())
def test_random_compositions(data):
    """The same weights in both precisions, against the Jacobian in double precision."""
    single, x, features = composed(data.draw)
    double, wide = copy.deepcopy(single).double(), (x.double(), features.double())
    with torch.no_grad():
        tried(double, *wide)
        expected = torch.linalg.slogdet(jacobian(double, *wide))[1]
        unit = moved(list(steps(double, *wide)))
        assume(unit.max() < 1e6)
        check(double, *wide, expected, unit, 1e-9)
        if unit.max() < 1e3:
            check(single, x, features, expected, unit, 1e-5)
