"""Maps of one value: derivatives against autodiff, densities against quadrature and scipy, inverses however far out."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

import likely
from likely.densities.bases import Logistic, Normal, Uniform
from likely.event import POSITIVE, REAL, UNIT, Event
from likely.flows import (
    Affine,
    Elementwise,
    Flow,
    Inverse,
    LeakyReLU,
    LogisticToNormal,
    Logit,
    Map,
    MixtureLogit,
    MonotoneLayer,
    Power,
    RationalQuadraticSpline,
    Scale,
    Shift,
    Sigmoid,
    Softplus,
    Tanh,
)
from likely.flows.noise import UnitSpline

DTYPES = [torch.float32, torch.float64]
VALUE = Event(())

# name: (map, size of the terms that z is a sum of: rounding those costs what rounding z and x does)
MAPS = {
    "shift": (Shift(), 1),
    "affine": (Affine(), 1),
    "scale": (Scale(), 0),
    "sigmoid": (Sigmoid(), 0),
    "logit": (Logit(), 0),
    "tanh": (Tanh(), 0),
    "softplus": (Softplus(), 0),
    "leaky ReLU": (LeakyReLU(), 0),
    "power": (Power(), 0),
    "logistic to normal": (LogisticToNormal(), 0),
    "spline": (RationalQuadraticSpline(), 5),
    "spline of one bin": (RationalQuadraticSpline(1, 2.0), 2),
    "logistics": (MixtureLogit(), 1),
    "one logistic": (MixtureLogit(1), 1),
    "gaussians": (MixtureLogit(8, "gaussian"), 1),
    "one gaussian": (MixtureLogit(1, "gaussian"), 1),
    "monotone": (MonotoneLayer(), 6),
    "monotone, one unit": (MonotoneLayer(1), 6),
}
ONTO_REALS = [name for name, (map, _) in MAPS.items() if map.codomain == REAL and map.domain == REAL]


def parameters(map, n, scale=1.0, dtype=torch.float64, seed=0):
    draw = torch.randn(n, map.count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (scale * draw).to(dtype)


def values(map, n, seed=1):
    """Inside the map's domain (n,), float64."""
    x = 2 * torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x.sigmoid() if map.domain == UNIT else x.exp() if map.domain == POSITIVE else x


def density(map, scale=1.0, base=Normal, after=(), seed=0):
    """The flow of one value through the map, with random parameters."""
    layer = Elementwise(map, ())
    layer.constant.data = parameters(map, 1, scale, seed=seed)[0]
    return Flow(base(VALUE), [layer, *after]).double()


def test_every_map_is_tried():
    def below(kind):
        return {kind, *(leaf for part in kind.__subclasses__() for leaf in below(part))}

    parts = ("activation", "map", "mixture", "monotone", "spline")
    defined = {kind for kind in below(Map) if kind.__module__ in {f"likely.flows.maps.{part}" for part in parts}}
    assert defined - {Map} == {type(map) for map, _ in MAPS.values()}


@pytest.mark.parametrize("scale", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("name", MAPS)
def test_the_slope_is_the_derivative(name, scale):
    map, _ = MAPS[name]
    x, theta = values(map, 300).requires_grad_(), parameters(map, 300, scale)
    z, ladj = map.forward(x, theta)
    (slope,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(ladj, slope.log(), atol=1e-9, rtol=1e-9)
    again = z.detach().requires_grad_()
    back, ladj = map.inverse(again, theta)
    (slope,) = torch.autograd.grad(back.sum(), again)
    torch.testing.assert_close(ladj, slope.log(), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("scale", [0.3, 1.0])
@pytest.mark.parametrize("name", MAPS)
def test_single_precision_is_double_precision_rounded(name, scale):
    map, _ = MAPS[name]
    x, theta = values(map, 300).float(), parameters(map, 300, scale, torch.float32)
    found, expected = map.forward(x, theta), map.forward(x.double(), theta.double())
    assert all(part.dtype == torch.float32 for part in found)
    for ours, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), truth, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("name", MAPS)
def test_it_is_increasing(name, scale, dtype):
    map, terms = MAPS[name]
    x = values(map, 2000).to(dtype).unique()
    for seed in range(5):
        theta = parameters(map, 1, scale, dtype, seed).expand(len(x), -1)
        z, ladj = map.forward(x, theta)
        assert (z.diff() >= -8 * torch.finfo(dtype).eps * (z[1:].abs() + terms)).all()
        assert (z.diff()[(x.diff() > 1e-3) & (ladj[1:] > -5) & (ladj[:-1] > -5)] > 0).all()
        assert ladj.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("name", MAPS)
def test_there_and_back_from_1e30th_to_a_million(name, scale, dtype):
    """|f⁻¹(f(x)) − x| ≤ 16 eps (|x| + (|z| + terms) / f′), or refused."""
    map, terms = MAPS[name]
    size = torch.logspace(-30, 6, 73, dtype=torch.float64)
    x = torch.cat([-size, size]).to(dtype)
    theta = parameters(map, len(x), scale, dtype)
    compared = 0
    for rows in [slice(None)] if name in ONTO_REALS else range(len(x)):
        part = x[rows].view(-1), theta[rows].view(x[rows].numel(), map.count)
        try:
            z, ladj = map.forward(*part)
            back, inverse_ladj = map.inverse(z, part[1])
        except likely.InputError:
            continue
        assert all(found.isfinite().all() for found in (z, ladj, back, inverse_ladj))
        unit = torch.finfo(dtype).eps * (part[0].abs() + (z.abs() + terms) * (-ladj).exp())
        assert ((back - part[0]).abs() <= 16 * unit).all()
        compared += len(part[0])
    assert compared == len(x) if name in ONTO_REALS else compared > 20


@pytest.mark.parametrize("name", MAPS)
def test_gradients_through_both_directions(name):
    map, _ = MAPS[name]
    x = values(map, 2).requires_grad_()
    theta = parameters(map, 2, 0.7).requires_grad_()
    z = map.forward(x, theta)[0].detach().requires_grad_()
    assert torch.autograd.gradcheck(map.forward, (x, theta))
    assert torch.autograd.gradcheck(map.inverse, (z, theta))


@pytest.mark.parametrize(
    "name", ["logistic to normal", "logistics", "one logistic", "gaussians", "one gaussian", "monotone"]
)
def test_gradients_at_the_centre(name):
    """Where formulas for either side meet."""
    map, _ = MAPS[name]
    x, theta = torch.zeros(1, dtype=torch.float64).requires_grad_(), parameters(map, 1, 0.0).requires_grad_()
    assert torch.autograd.gradcheck(map.forward, (x, theta))
    assert torch.autograd.gradcheck(map.inverse, (x, theta))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-8)])
@pytest.mark.parametrize("name", MAPS)
def test_gradients_however_far_out(name, dtype, tolerance):
    map, _ = MAPS[name]
    for value in (-1e6, -1e3, -30.0, -1e-30, 0.0, 1e-30, 0.5, 30.0, 1e3, 1e6):
        x, theta = torch.tensor([value], dtype=dtype).requires_grad_(), parameters(map, 1, 1.0, dtype).requires_grad_()
        inputs = [x, theta] if map.count else [x]
        try:
            z, ladj = map.forward(x, theta)
            back, _ = map.inverse(z, theta)
        except likely.InputError:
            continue
        if name in ONTO_REALS:
            slope = torch.autograd.grad(z, x, retain_graph=True)[0]
            torch.testing.assert_close(slope.log(), ladj, rtol=0, atol=tolerance)
        for output in (z, ladj, back):
            if output.requires_grad:
                found = torch.autograd.grad(output.sum(), inputs, retain_graph=True, allow_unused=True)
                assert all(gradient is None or gradient.isfinite().all() for gradient in found)


@pytest.mark.parametrize("name", ["scale", "affine", "shift", "spline", "power"])
def test_parameters_of_zero_are_the_identity(name):
    map, _ = MAPS[name]
    x = values(map, 100)
    z, ladj = map.forward(x, parameters(map, 100, 0.0))
    torch.testing.assert_close(z, x, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(ladj, torch.zeros_like(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["logistics", "gaussians", "monotone"])
def test_parameters_of_zero_are_nearly_the_identity(name):
    map, _ = MAPS[name]
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)
    z, _ = map.forward(x, parameters(map, 41, 0.0))
    z = LogisticToNormal().forward(z, z)[0] if name == "gaussians" else z
    assert (z - x).abs().max() < 0.3
    assert (z.diff() / x.diff()).sub(1).abs().max() < 0.5


def reals(n=200_000, reach=16.0):
    """x and dx, points around zero that are dense there and reach far out."""
    t = torch.linspace(-reach, reach, n, dtype=torch.float64)
    return t.sinh(), t.cosh() * (2 * reach / (n - 1))


@pytest.mark.parametrize("base", [Normal, Logistic])
@pytest.mark.parametrize("name", ONTO_REALS)
def test_the_density_integrates_to_one(name, base):
    x, dx = reals()
    for seed in range(3):
        p = density(MAPS[name][0], 0.7, base, seed=seed).log_prob(x).exp()
        assert float((p * dx).sum().detach()) == pytest.approx(1, abs=1e-6)


def test_densities_over_intervals_integrate_to_one():
    x, dx = reals()
    mixture = Elementwise(MixtureLogit(3), ())
    torch.nn.init.normal_(mixture.constant, generator=torch.Generator().manual_seed(0))
    to_unit = Flow(Uniform(VALUE), [mixture, Elementwise(Sigmoid(), ())]).double()
    inside = x.abs() < 30
    assert float((to_unit.log_prob(x[inside]).exp() * dx[inside]).sum().detach()) == pytest.approx(1, abs=1e-6)
    half = x.exp()[x.abs() < 30]
    for after in (
        [Inverse(Elementwise(Softplus(), ()))],
        [Elementwise(Power(), ()), Inverse(Elementwise(Softplus(), ()))],
    ):
        p = Flow(Normal(VALUE), after).double().log_prob(half).exp()
        assert float((p * half * dx[x.abs() < 30]).sum().detach()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_normal_quantiles_in_both_tails(dtype):
    """ln Φ(−z) = ln σ(−x) by scipy, and Φ(z) − ½ = σ(x) − ½ where x is small."""
    eps, size = torch.finfo(dtype).eps, torch.logspace(-30, 6, 3001, dtype=torch.float64).to(dtype)
    z, _ = LogisticToNormal().forward(size, size)
    below, _ = LogisticToNormal().forward(-size, size)
    assert torch.equal(below, -z)
    x, u = size.double().numpy(), z.double().numpy()
    log_tail, central = special.log_expit(-x), x < 1
    assert (np.abs(special.log_ndtr(-u) / log_tail - 1)[~central] < 8 * eps).all()
    assert (np.abs(special.erf(u * math.sqrt(0.5)) / np.tanh(x / 2) - 1)[central] < 8 * eps).all()


def components(map, layer):
    """π, μ and s of an elementwise mixture, as float64 arrays."""
    log_pi, mu, log_s = (part.detach().double().numpy() for part in map._parts(layer.constant))
    return log_pi, mu, np.exp(log_s)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("kernel", "law"), [("logistic", stats.logistic), ("gaussian", stats.norm)])
def test_a_mixture_is_that_of_scipy_in_the_tails_too(kernel, law, dtype, tolerance):
    size = torch.cat(
        [torch.logspace(-30, 6, 200, dtype=torch.float64), torch.linspace(0.1, 20, 200, dtype=torch.float64)]
    )
    x = torch.cat([-size, size]).to(dtype)
    for seed in range(3):
        map = MixtureLogit(5, kernel)
        layer = Elementwise(map, ()).to(dtype)
        layer.constant.data = parameters(map, 1, 1.0, dtype, seed)[0]
        log_pi, mu, s = components(map, layer)
        u = (x.double().numpy()[:, None] - mu) / s
        log_f = special.logsumexp(log_pi + law.logcdf(u), 1)
        log_g = special.logsumexp(log_pi + law.logsf(u), 1)
        log_p = torch.from_numpy(special.logsumexp(log_pi + law.logpdf(u) - np.log(s), 1))
        z, _ = layer(x)
        torch.testing.assert_close(z.double(), torch.from_numpy(log_f - log_g), rtol=tolerance, atol=tolerance)
        for base, after in ((Logistic, []), (Normal, [Elementwise(LogisticToNormal(), ())])):
            found = Flow(base(VALUE), [layer, *after]).to(dtype).log_prob(x)
            torch.testing.assert_close(found.double(), log_p, rtol=tolerance, atol=2 * tolerance)


@pytest.mark.parametrize("kernel", ["logistic", "gaussian"])
def test_from_a_mixture_to_uniform_values_and_on_to_normal_ones(kernel):
    map = MixtureLogit(4, kernel)
    theta = parameters(map, 1)[0].expand(50_000, -1)
    log_pi, mu, log_s = (part[0] for part in map._parts(theta))
    generator = torch.Generator().manual_seed(0)
    which = torch.multinomial(log_pi.exp(), 50_000, True, generator=generator)
    u = torch.rand(50_000, dtype=torch.float64, generator=generator)
    noise = u.logit() if kernel == "logistic" else torch.special.ndtri(u)
    z, _ = map.forward(mu[which] + log_s[which].exp() * noise, theta)
    uniform, _ = Sigmoid().forward(z, theta)
    normal, _ = LogisticToNormal().forward(z, theta)
    assert stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(normal.numpy(), "norm").pvalue > 1e-3
    torch.testing.assert_close(normal, torch.special.ndtri(uniform), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kernel", ["logistic", "gaussian"])
def test_between_components_that_are_far_apart(kernel, dtype):
    """F is constant to the precision over nearly a hundred, and its inverse still gives F back."""
    map = MixtureLogit(2, kernel, bound=10.0)
    theta = torch.tensor([0.0, 0.5, -50, 50, -6, -6], dtype=dtype).expand(2001, -1)
    z = torch.linspace(-10, 10, 2001, dtype=dtype)
    x, ladj = map.inverse(z, theta)
    again, slope = map.forward(x, theta)
    assert ((again - z).abs() <= 16 * torch.finfo(dtype).eps * (1 + z.abs() + x.abs() * slope.exp())).all()
    assert torch.equal(ladj, -slope)
    assert ((x.abs() - 50).abs() < 1.5).float().mean() > 0.99


@pytest.mark.parametrize(
    ("map", "x", "message"),
    [
        (Sigmoid(), 20.0, r"σ\(x\): found 1\.0 at index \(1,\); values inside \(0, 1\)"),
        (Sigmoid(), -200.0, r"σ\(x\): found 0\.0"),
        (Tanh(), 10.0, r"tanh x: found 1\.0 .* inside \(-1, 1\)"),
        (Softplus(), -100.0, r"ln\(1 \+ eˣ\): found 3\.\d+e-44"),
        (Logit(), 1.0, r"x: found 1\.0 at index \(1,\); values inside \(0, 1\)"),
        (Logit(), torch.nan, r"found nan"),
        (Power(), -1.0, r"x: found -1\.0 .* inside \(0, inf\)"),
    ],
)
def test_what_an_interval_cannot_hold_is_refused(map, x, message):
    with pytest.raises(likely.InputError, match=message):
        map.forward(torch.tensor([0.5, x]), torch.zeros(2, map.count))


def test_powers_beyond_the_range_are_refused():
    for x in (1e-30, 1e30):
        with pytest.raises(likely.InputError, match="xᵖ: found"):
            Power().forward(torch.tensor([x]), torch.tensor([[1.0]]))
        with pytest.raises(likely.InputError, match=r"z\^\(1/p\): found"):
            Power().inverse(torch.tensor([x]), torch.tensor([[-1.0]]))


def test_a_spline_meets_itself_where_its_bins_end():
    map = RationalQuadraticSpline(6, 3.0)
    theta = parameters(map, 1, 1.5)
    x0, _, width, _ = map._bin(torch.linspace(-2.999, 2.999, 10_001, dtype=torch.float64), theta.expand(10_001, -1), 0)
    knots = torch.cat([x0[0].unique(), torch.tensor([3.0], dtype=torch.float64)])
    assert len(knots) == 7
    torch.testing.assert_close(knots.diff(), width[0][x0[0].diff(prepend=x0[0][:1] - 1) != 0])
    sides = [map.forward(knots + side, theta.expand(7, -1)) for side in (-1e-11, 1e-11)]
    torch.testing.assert_close(*sides, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MixtureLogit(0), "components must be at least 1, found 0"),
        (lambda: MonotoneLayer(0), "units must be at least 1, found 0"),
        (lambda: RationalQuadraticSpline(0), "bins must be at least 1, found 0"),
        (lambda: RationalQuadraticSpline(4, -1.0), r"bound: a positive number is expected, found -1\.0"),
        (lambda: RationalQuadraticSpline(4, slopes=0.0), r"slopes: a positive number is expected, found 0\.0"),
        (lambda: UnitSpline(0), "bins must be at least 1, found 0"),
        (lambda: MixtureLogit(bound=math.inf), "bound: a positive number is expected, found inf"),
        (lambda: MonotoneLayer(bound=0.0), r"bound: a positive number is expected, found 0\.0"),
        (lambda: Scale(0.0), r"bound: a positive number is expected, found 0\.0"),
        (lambda: Scale(-1.0), r"bound: a positive number is expected, found -1\.0"),
        (lambda: Affine(bound=math.nan), "bound: a positive number is expected, found nan"),
        (lambda: Affine(bound=0.0), r"bound: a positive number is expected, found 0\.0"),
        (lambda: Power(bound=-1.0), r"bound: a positive number is expected, found -1\.0"),
        (lambda: LeakyReLU(math.nan), "slope: a positive number is expected, found nan"),
        (lambda: LeakyReLU(0.0), r"slope: a positive number is expected, found 0\.0"),
    ],
)
def test_bad_arguments_are_refused(build, message):
    with pytest.raises(likely.InputError, match=message):
        build()
