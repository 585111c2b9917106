"""Couplings: which values pass, what their networks see, what is refused; and the models that are made of them."""

import math

import pytest
import torch
from torch import nn

import likely
from likely.densities.bases import Logistic, Normal
from likely.event import Event
from likely.flows import (
    NICE,
    Affine,
    Elementwise,
    Flow,
    FlowPlusPlus,
    Glow,
    MaskedAutoregressive,
    RealNVP,
    RecurrentAutoregressive,
    Shift,
)
from likely.flows.maps.activation import LeakyReLU, Logit, Scale, Tanh
from likely.flows.maps.chain import Chain
from likely.flows.transforms.actnorm import ActNorm
from likely.flows.transforms.convolution import InvertibleConvolution
from likely.flows.transforms.coupling import Coupling
from likely.flows.transforms.standardization import Standardize
from likely.nn.network import AttentionNetwork, Perceptron, ResidualNetwork

LABEL = Event((), levels=3)
MODELS = {
    "NICE": lambda event, context=None: NICE(event, context, layers=3, hidden=(8, 8), features=4),
    "RealNVP": lambda event, context=None: RealNVP(event, context, layers=4, width=8, depth=1, features=4),
    "Glow": lambda event, context=None: Glow(event, context, layers=3, width=8, depth=1, features=4),
    "FlowPlusPlus": lambda event, context=None: FlowPlusPlus(
        event, context, layers=2, components=3, width=8, depth=1, features=4
    ),
}


def redrawn(module, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        scale = 0.3 if parameter.ndim < 2 else (2 / max(1, parameter[0].numel())) ** 0.5
        nn.init.normal_(parameter, std=scale, generator=generator)
    return module.to(dtype)


def values(*shape, dtype=torch.float64, seed=1):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("mask", "shape", "passes"),
    [
        ("halves", (5,), [1, 1, 0, 0, 0]),
        ("halves", (1, 2, 2), [1, 1, 0, 0]),
        ("checkerboard", (5,), [1, 0, 1, 0, 1]),
        ("checkerboard", (2, 2, 3), [1, 0, 1, 0, 1, 0] * 2),
        ("checkerboard", (2, 3), [1, 0, 1, 0, 1, 0]),
        ("channels", (3, 1, 2), [1, 1, 0, 0, 0, 0]),
        ("channels", (4,), [1, 1, 0, 0]),
        ((True, False, False, True), (2, 2), [1, 0, 0, 1]),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_what_passes_is_unchanged_and_decides_alone_what_happens_to_the_rest(mask, shape, passes, swapped):
    """∂z/∂x is the identity on the values that pass, and diagonal on the others."""
    coupling = redrawn(Coupling(Affine(), shape, mask, swapped=swapped), torch.float64)
    passes = torch.tensor(passes, dtype=torch.bool) ^ swapped
    x = values(3, *shape)
    z, _ = coupling(x)
    same = (z == x).flatten(1)
    assert same[:, passes].all()
    assert not same[:, ~passes].any()
    for row in x:
        jacobian = torch.autograd.functional.jacobian(lambda r: coupling(r[None])[0].flatten(), row)
        jacobian = jacobian.reshape(len(passes), -1)
        assert torch.equal(jacobian[passes], torch.eye(len(passes), dtype=x.dtype)[passes])
        among_changed = jacobian[~passes][:, ~passes]
        assert torch.equal(among_changed, among_changed.diagonal().diag())
        assert (jacobian[~passes][:, passes] != 0).any()


@pytest.mark.parametrize("conditioner", [ResidualNetwork(8, 1), AttentionNetwork(8, 1), Perceptron((8,))], ids=str)
@pytest.mark.parametrize("mask", ["halves", "checkerboard", "channels", (True,) * 11 + (False,)], ids=str)
def test_a_network_sees_only_what_passes(conditioner, mask):
    coupling = redrawn(Coupling(Affine(), (3, 2, 2), mask, conditioner=conditioner), torch.float64)
    x = values(1, 3, 2, 2).requires_grad_()
    (seen,) = torch.autograd.grad(coupling.network(coupling.view.visible(x)).square().sum(), x)
    changed = torch.zeros(12, dtype=torch.bool).index_fill(0, coupling.changes, True)
    assert torch.equal((seen == 0).flatten(), changed)


def test_the_parameters_start_at_zero():
    x = values(4, 3, 2, 2, dtype=torch.float32)
    for conditioner in (ResidualNetwork(8), AttentionNetwork(8), Perceptron()):
        z, ladj = Coupling(Affine(), (3, 2, 2), conditioner=conditioner)(x)
        assert torch.equal(z, x)
        assert (ladj == 0).all()


@pytest.mark.parametrize(
    ("shape", "mask", "message"),
    [
        ((3,), (True, True, True), r"leaves a coupling over shape \(3,\) nothing to change"),
        ((3,), (False, False, False), r"leaves a coupling over shape \(3,\) nothing to depend on"),
        ((1, 2, 2), "channels", r"the mask 'channels' leaves a coupling over shape \(1, 2, 2\) nothing to depend on"),
        ((3, 1, 1), "checkerboard", "nothing to change"),
        ((3,), (True, False), r"a mask of 2 values does not fit shape \(3,\), which has 3"),
        ((1,), "halves", r"at least two values, found shape \(1,\)"),
        ((), "halves", r"at least two values, found shape \(\)"),
    ],
)
def test_bad_masks_are_refused(shape, mask, message):
    with pytest.raises(likely.InputError, match=message):
        Coupling(Affine(), shape, mask)


def test_an_unknown_mask_is_refused():
    with pytest.raises(Exception, match="diagonal"):  # by the types already, where they are checked
        Coupling(Affine(), (4,), "diagonal")


def test_a_map_into_another_interval_is_refused():
    with pytest.raises(likely.InputError, match=r"Logit leads from \(0, 1\) to \(-inf, inf\)"):
        Coupling(Logit(), (2,))


def test_a_map_without_parameters_has_nothing_to_depend_on():
    for build in (
        lambda: Coupling(LeakyReLU(), (2,)),
        lambda: MaskedAutoregressive(LeakyReLU(), (2,)),
        lambda: RecurrentAutoregressive(LeakyReLU(), (2,)),
        lambda: Elementwise(LeakyReLU(), (2,), 3),
    ):
        with pytest.raises(likely.InputError, match="depend on something is expected, LeakyReLU has none"):
            build()


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(likely.InputError, match=r"take events \(channels, height, width\), found \(4,\)"):
        Coupling(Affine(), (4,), conditioner=ResidualNetwork())
    with pytest.raises(likely.InputError, match="3 heads do not divide 64 channels"):
        AttentionNetwork(heads=3)


def test_a_chain_of_maps_is_one_after_the_other():
    maps = [Scale(), LeakyReLU(), Shift()]
    chain, x, theta = Chain(maps), values(7), values(7, 2)
    by_hand = maps[2].forward(maps[1].forward(maps[0].forward(x, theta[:, :1])[0], theta)[0], theta[:, 1:])[0]
    assert torch.equal(chain.forward(x, theta)[0], by_hand)
    assert chain.count == 2
    with pytest.raises(likely.InputError, match=r"Logit takes all values inside \(0, 1\), but Scale before it"):
        Chain([Scale(), Logit()])
    not_onto = r"Affine takes all values inside \(-inf, inf\), but Tanh before it gives those inside \(-1, 1\)"
    with pytest.raises(likely.InputError, match=not_onto):  # a density of Affine(tanh x) would not integrate to one
        Chain([Tanh(), Affine()])
    with pytest.raises(likely.InputError, match="at least one"):
        Chain([])


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)], ids=str)
def test_actnorm_starts_from_a_batch_once_and_is_saved(shape, tmp_path):
    event = Event(shape)
    flow = Flow(Normal(event), [ActNorm(shape)])
    x = (
        values(500, *shape, dtype=torch.float32) * torch.linspace(0.1, 7, shape[0]).view(-1, *[1] * (len(shape) - 1))
        + 3
    )
    flow.initialize(x)
    z, ladj = flow.transform(x)
    dims = (0, 2, 3) if len(shape) == 3 else (0,)
    torch.testing.assert_close(z.mean(dims), torch.zeros(shape[0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(dims, correction=0), torch.ones(shape[0]), atol=1e-5, rtol=0)
    deviations = x.double().std(dims, correction=0)
    expected = -deviations.log().sum() * (math.prod(shape) // shape[0])
    torch.testing.assert_close(ladj.double(), expected.expand(500), atol=1e-4, rtol=0)
    likely.save(flow, tmp_path / "run")
    for again in (flow, likely.load(tmp_path / "run")):
        again.initialize(5 * x - 2)
        assert torch.equal(again.transform(x)[0], z)


def test_actnorm_refuses_what_is_the_same_everywhere():
    x = values(9, 2, 3, 3)
    x[:, 1] = 4
    with pytest.raises(likely.InputError, match=r"the channel at \(1,\) is the same in all of 9 examples"):
        ActNorm((2, 3, 3)).double().initialize(x)
    with pytest.raises(likely.InputError, match=r"the value at \(0,\) is the same in all of 1 examples"):
        ActNorm((2,)).double().initialize(x[:1, :, 0, 0])


def test_an_invertible_convolution_is_one_matrix_at_every_place():
    """It starts as a rotation or reflection; later, its log-determinant is that of the matrix, places times."""
    for shape in [(4,), (4, 3, 5)]:
        convolution, x = InvertibleConvolution(shape, seed=2).double(), values(6, *shape)
        z, ladj = convolution(x)
        torch.testing.assert_close(z.square().sum(1), x.square().sum(1), atol=1e-6, rtol=0)
        torch.testing.assert_close(ladj, torch.zeros(6, dtype=x.dtype), atol=1e-5, rtol=0)
        redrawn(convolution, torch.float64)
        basis = torch.eye(4, dtype=x.dtype).view(4, 4, *[1] * (len(shape) - 1)).expand(4, *shape)
        matrix = convolution(basis)[0].flatten(2)[..., 0].T if len(shape) == 3 else convolution(basis)[0].T
        z, ladj = convolution(x)
        torch.testing.assert_close(z, torch.einsum("ij,nj...->ni...", matrix, x))
        torch.testing.assert_close(ladj, (torch.linalg.slogdet(matrix)[1] * math.prod(shape[1:])).expand(6))


def test_a_singular_convolution_is_refused():
    convolution = InvertibleConvolution((3,))
    nn.init.constant_(convolution.log_diagonal, -200.0)
    with pytest.raises(likely.InputError, match="diagonal of a matrix: found"):
        convolution(torch.zeros(1, 3))
    with pytest.raises(likely.InputError, match="found a single value"):
        InvertibleConvolution(())


def test_nice_preserves_volumes_but_for_its_scaling():
    model = redrawn(NICE(Event((3,)), layers=4), torch.float64)
    x = values(20, 3)
    *couplings, scaling = model.transforms[1:]
    for coupling in couplings:
        z, ladj = coupling(x)
        assert (ladj == 0).all()
        jacobian = torch.autograd.functional.jacobian(lambda row, f=coupling: f(row[None])[0][0], x[0])
        torch.testing.assert_close(torch.linalg.det(jacobian), torch.ones((), dtype=x.dtype))
        assert not torch.equal(z, x)
    _, ladj = model.transform(x)
    torch.testing.assert_close(ladj, scaling(x)[1])
    assert (ladj == ladj[0]).all()


def test_a_real_nvp_starts_as_its_base():
    x = values(7, 4, dtype=torch.float32)
    assert torch.equal(MODELS["RealNVP"](Event((4,))).log_prob(x), Normal(Event((4,))).log_prob(x))


def test_a_nice_starts_as_logistics_of_deviation_one():
    x = values(7, 4, dtype=torch.float32)
    scale = math.exp(5 * math.tanh(math.log(math.pi / math.sqrt(3)) / 5))  # bounded, as every scale
    expected = Logistic(Event((4,))).log_prob(scale * x) + 4 * math.log(scale)
    torch.testing.assert_close(MODELS["NICE"](Event((4,))).log_prob(x), expected)


EVENTS = {
    "vector": Event((3,)),
    "table": Event((4,), levels=(2, 5, 3, 7)),
    "matrix": Event((2, 3)),
    "image": Event((1, 4, 4), levels=5),
    "odd image": Event((1, 3, 5), levels=5),
    "colour image": Event((3, 2, 3)),
    "line": Event((1, 1, 4), levels=3),
}


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("context", [None, LABEL], ids=["alone", "label"])
def test_every_weight_is_used_and_what_is_drawn_is_of_the_event(name, kind, context):
    event = EVENTS[kind]
    model = MODELS[name](event, context)
    n = 40
    alphabets = torch.tensor(event.alphabets).view(event.shape) if event.discrete else None
    x = values(n, *event.shape, dtype=torch.float32)
    x = x if alphabets is None else (torch.rand(n, *event.shape) * alphabets).long()
    labels = None if context is None else torch.arange(n) % 3
    model.initialize(x, labels)
    redrawn(model)
    for part in model.modules():
        if isinstance(part, ActNorm):
            nn.init.zeros_(part.log_scale)
    model.loss(x, labels).backward()
    unused = [key for key, p in model.named_parameters() if p.numel() and (p.grad is None or not p.grad.any())]
    assert unused == []
    MODELS[name](event, context).check(MODELS[name](event, context).sample(5, None if context is None else labels[:5]))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_inputs_far_out_are_finite_or_refused(name, dtype, seed):
    for size in (1e3, 1e6, -1e6):
        model = redrawn(MODELS[name](Event((3,))), dtype, seed)
        for x in size * values(20, 3, dtype=dtype):
            try:
                log_prob = model.log_prob(x[None])
                z, ladj = model.transform(x[None])
            except likely.Error:
                continue
            assert log_prob.isfinite().all()
            assert z.isfinite().all()
            assert ladj.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_one_value_is_no_coupling(name):
    for shape in [(), (1,), (1, 1, 1)]:
        with pytest.raises(likely.InputError, match="at least two values"):
            MODELS[name](Event(shape))


def test_the_density_of_a_coupling_in_closed_form():
    """x₂ | x₁ ~ N(−t(x₁) e^{−s(x₁)}, e^{−2 s(x₁)})."""
    coupling = redrawn(Coupling(Affine(2.0), (2,)), torch.float64)
    x = values(9, 2)
    a, t = coupling.network(coupling.view.visible(x)).unbind(1)
    s = 2 * (a / 2).tanh()
    first = torch.distributions.Normal(torch.zeros(9, dtype=x.dtype), 1).log_prob(x[:, 0])
    second = torch.distributions.Normal(-t * (-s).exp(), (-s).exp()).log_prob(x[:, 1])
    torch.testing.assert_close(Flow(Normal(Event((2,))), [coupling]).double().log_prob(x), first + second)


def test_real_nvp_learns_a_banana():
    """x₂ = x₁² + ½ ε: its entropy is that of the normal and of ½ ε."""
    x = values(4000, 2, dtype=torch.float32)
    x[:, 1] = x[:, 0].square() + 0.5 * x[:, 1]
    model = RealNVP(Event((2,)), layers=4, width=32)
    likely.fit(model, x[:3000], budget="500 steps", batch_size=200, learning_rate=5e-3)
    true = Normal(Event((2,))).log_prob(torch.stack([x[:, 0], 2 * (x[:, 1] - x[:, 0].square())], 1)) + math.log(2)
    with torch.no_grad():
        gap = (true - model.log_prob(x))[3000:]
    error = float(gap.std()) / 1000**0.5
    assert -3 * error <= float(gap.mean()) <= 0.1
    assert isinstance(model.transforms[0], Standardize)
