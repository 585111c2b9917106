"""Autoregressive flows: what their Jacobians, inverses and densities are. (Law 5: test_transforms.)"""

import math

import pytest
import torch
from torch import nn
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    SigmoidTransform,
    TransformedDistribution,
    Uniform,
)

import likely
from likely.flows import (
    IAF,
    MAF,
    Affine,
    AutoregressiveMixtureCDF,
    Inverse,
    MaskedAutoregressive,
    NeuralSplineCoupling,
    NeuralSplineFlow,
    RationalQuadraticSpline,
    RecurrentAutoregressive,
)
from likely.laws.promises import multiplications

ORDERS = ["raster", "reversed", 3]


def redrawn(module, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        fan = max(1, parameter[0].numel()) if parameter.ndim > 1 else 4
        nn.init.normal_(parameter, std=scale * fan**-0.5, generator=generator)
    return module


def normal(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_fixed_point(transform, z, context=None):
    """The inverse as a pass per value: after k passes, the first k values in order are right."""
    x = torch.zeros_like(z)
    with torch.no_grad():
        for _ in range(z[0].numel()):
            theta = transform.network(x.flatten(1)[:, transform.places], context)[:, transform.places.argsort()]
            x = transform.map.inverse(z, theta.view(*z.shape, -1))[0]
    return x


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", [MaskedAutoregressive, RecurrentAutoregressive])
def test_a_value_depends_on_those_before_it_in_order(kind, order):
    transform = redrawn(kind(Affine(), (2, 3), order=order)).double()
    x = normal(1, 2, 3)
    jacobian = torch.autograd.functional.jacobian(lambda x: transform(x)[0].flatten(), x).view(6, 6)
    in_order = jacobian[transform.places][:, transform.places]
    assert torch.equal(in_order != 0, torch.ones(6, 6).tril().bool())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("map", [Affine(), RationalQuadraticSpline()], ids=["affine", "spline"])
@pytest.mark.parametrize("kind", [MaskedAutoregressive, RecurrentAutoregressive])
def test_the_inverse_in_one_pass_is_that_in_as_many_as_values(kind, map, order):
    transform = redrawn(kind(map, (11,), order=order, features=3)).double()
    z, context = normal(20, 11), normal(20, 3, seed=2)
    expected = by_fixed_point(transform, z, context)
    torch.testing.assert_close(transform.inverse(z, context)[0], expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(transform.inverse(z, context)[0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("dims", "hidden"), [(63, (256, 256)), (64, (1024, 1024)), (784, (500,)), (20, ()), (63, (7, 7)), (3, (8,))]
)
def test_the_inverse_costs_a_pass(dims, hidden):
    transform = MaskedAutoregressive(Affine(), (dims,), hidden, features=2)
    x, context = normal(2, dims, dtype=torch.float32), normal(2, 2, dtype=torch.float32)
    one = multiplications(lambda: transform(x, context))
    assert multiplications(lambda: transform.inverse(x, context)) <= 1.15 * one
    with torch.no_grad():
        assert multiplications(lambda: transform.inverse(x, context)) <= 1.15 * one


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", [MaskedAutoregressive, RecurrentAutoregressive])
def test_gradients_of_the_inverse(kind, order):
    hidden = 5 if kind is RecurrentAutoregressive else (5, 6)
    transform = redrawn(kind(Affine(), (4,), hidden, order=order, features=2)).double()
    names, values = zip(*transform.named_parameters(), strict=True)
    z, context = normal(2, 4).requires_grad_(), normal(2, 2, seed=2).requires_grad_()

    def inverse(z, context, *parameters):
        named = {f"transform.{name}": value for name, value in zip(names, parameters, strict=True)}
        return torch.func.functional_call(Inverse(transform), named, (z, context))

    assert torch.autograd.gradcheck(inverse, (z, context, *values), fast_mode=True)


def test_what_the_inverse_gives_without_gradients_can_be_used_with_them():
    transform = redrawn(MaskedAutoregressive(Affine(), (4,), (8,)))
    with torch.no_grad():
        x, _ = transform.inverse(normal(3, 4, dtype=torch.float32))
    transform(x.requires_grad_())[1].sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_the_round_trip_of_five_layers(precision):
    flow = MAF(likely.Event((63,))).to(precision)
    redrawn(flow, scale=0.5)
    x = normal(256, 63, dtype=precision)
    with torch.no_grad():
        back, _ = flow.transform.inverse(flow.transform(x)[0])
    assert (back - x).abs().max() <= 1e-5


def test_one_affine_layer_is_a_product_of_gaussians():
    """z_i = eˢ x_i + b ~ N(0, 1): x_i given those before it has mean −b e⁻ˢ and deviation e⁻ˢ."""
    flow = redrawn(MAF(likely.Event((5,)), layers=1, hidden=(9,))).double()
    x = normal(30, 5)
    a, b = flow.transforms[-1].network(x).unbind(-1)
    s = 5 * (a / 5).tanh()
    expected = Independent(Normal(-b * (-s).exp(), (-s).exp()), 1).log_prob(x)
    torch.testing.assert_close(flow.log_prob(x), expected)


def test_one_layer_of_mixtures_is_a_product_of_mixtures():
    flow = redrawn(AutoregressiveMixtureCDF(likely.Event((3,)), layers=1, components=4, hidden=(9,))).double()
    x = normal(30, 3)
    transform = flow.transforms[-1]
    logits, shifts, log_factors = transform.network(x).unflatten(-1, (3, 4)).unbind(-2)
    means, scale = transform.map._start
    components = TransformedDistribution(
        Uniform(torch.zeros(30, 3, 4).double(), torch.ones(30, 3, 4).double(), validate_args=False),
        [
            SigmoidTransform().inv,
            torch.distributions.AffineTransform(
                shifts + torch.tensor(means), scale * (5 * (log_factors / 5).tanh()).exp()
            ),
        ],
    )
    expected = MixtureSameFamily(Categorical(logits=logits), components).log_prob(x).sum(1)
    torch.testing.assert_close(flow.log_prob(x), expected)


def test_iaf_is_maf_turned_around():
    event = likely.Event((6,))
    iaf, maf = IAF(event, layers=1, hidden=(8,), seed=4), MAF(event, layers=1, hidden=(8,), seed=4)
    redrawn(iaf), redrawn(maf)
    z = normal(10, 6, dtype=torch.float32)
    x, ladj = iaf.transform.inverse(z)
    expected, expected_ladj = maf.transform(z)
    torch.testing.assert_close(x, expected)
    torch.testing.assert_close(ladj, expected_ladj)


@pytest.mark.parametrize("model", [MAF, IAF, AutoregressiveMixtureCDF, NeuralSplineFlow, NeuralSplineCoupling])
def test_draws_carry_their_density_and_gradients(model):
    label = likely.Event((), levels=3)
    flow = redrawn(model(likely.Event((2, 2)), label, layers=2, hidden=(8,), features=4), scale=0.5).double()
    context = torch.tensor([0, 1, 2, 2, 1])
    x, log_prob = flow.draw(5, context, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_prob, flow.log_prob(x, context), rtol=1e-8, atol=1e-8)
    gradients = torch.autograd.grad(x.square().mean() + log_prob.mean(), list(flow.parameters()), allow_unused=True)
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_a_posterior_of_inverse_autoregressive_flow_finds_a_gaussian():
    """KL(q‖p) to a correlated Gaussian, whose minimum is 0, from draws of q alone."""
    target = torch.distributions.MultivariateNormal(torch.tensor([1.0, -2.0]), torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    q = IAF(likely.Event((2,)), layers=2, hidden=(16,))
    optimizer, generator = torch.optim.Adam(q.parameters(), 0.02), torch.Generator().manual_seed(0)
    for _ in range(200):
        x, log_q = q.draw(128, generator=generator)
        optimizer.zero_grad()
        (log_q - target.log_prob(x)).mean().backward()
        optimizer.step()
    x, log_q = q.draw(2000, generator=generator)
    assert (log_q - target.log_prob(x)).mean() < 0.02


@pytest.mark.parametrize("n", [1, 1000])
@pytest.mark.parametrize("model", [MAF, IAF, AutoregressiveMixtureCDF, NeuralSplineFlow, NeuralSplineCoupling])
def test_samples_of_one_and_of_a_thousand(model, n):
    flow = redrawn(model(likely.Event((1, 2, 2), 5), hidden=(8,)), scale=0.3)
    x = flow.sample(n, generator=torch.Generator().manual_seed(0))
    assert x.dtype == torch.int64
    assert flow.log_prob(x, generator=torch.Generator().manual_seed(0)).isfinite().all()
    values = flow.eval().transform.inverse(normal(n, 1, 2, 2, dtype=torch.float32))[0]
    assert values.shape == (n, 1, 2, 2)


@pytest.mark.parametrize("model", [MAF, IAF, AutoregressiveMixtureCDF, NeuralSplineFlow])
def test_one_value(model):
    """A line has no value before, and every point of it some density: ∫ p = 1."""
    flow = redrawn(model(likely.Event((1,)), hidden=(4,)), scale=0.5).double()
    x = torch.linspace(-60, 60, 40_001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        assert float(flow.log_prob(x).exp().sum() * 120 / 40_000) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("model", [MAF, IAF])
def test_a_fit_in_half_precision(model):
    x = normal(256, 3, dtype=torch.float32) * 3 + 1
    flow = model(likely.Event((3,)), likely.Event((2,)), layers=2, hidden=(8,), features=4)
    likely.fit(flow, (x, x[:, :2]), budget="20 steps", precision="bfloat16")
    assert likely.evaluate(flow, (x, x[:, :2])).nats < 3 * (0.5 * math.log(2 * math.pi) + 0.5 + math.log(3)) + 0.5
