"""A flow as a density: what it refuses, what it reports, and that it is saved whole."""

import copy
import inspect
import math
import re

import jaxtyping
import pytest
import torch

import likely
from likely.catalogue import models
from likely.classical import SymbolHistogram
from likely.densities.bases import Logistic, Normal, Uniform
from likely.event import Event
from likely.flows import (
    MAF,
    Affine,
    Composition,
    Continuous,
    Elementwise,
    Flow,
    Inverse,
    LeakyReLU,
    MaskedAutoregressive,
    Permutation,
    Power,
    Tanh,
    TanhField,
)
from likely.flows.dequantization import Dequantize, preprocessing
from likely.flows.maps.activation import Logit, Sigmoid
from likely.flows.transforms.actnorm import ActNorm
from likely.flows.transforms.convolution import InvertibleConvolution
from likely.flows.transforms.shape import Squeeze
from likely.flows.transforms.standardization import LogitWithMargin, Standardize

PAIR = likely.Event((2,))
DIGITS = likely.Event((2,), levels=4)


def affine(event=PAIR, features=None):
    layer = Elementwise(Affine(), event.shape, features)
    torch.nn.init.normal_(layer.constant, generator=torch.Generator().manual_seed(0))
    return layer


def test_a_base_that_the_transforms_do_not_fill_is_refused():
    with pytest.raises(likely.InputError, match="would not integrate to one"):
        Flow(Normal(PAIR), [Elementwise(Sigmoid(), (2,))])
    with pytest.raises(likely.InputError, match="would not integrate to one"):
        Flow(Normal(PAIR), [Elementwise(Sigmoid(), (2,)), affine()])
    misfit = r"Elementwise\(Logit\) takes values inside \(0, 1\), but Elementwise\(Affine\) before it .* \(-inf, inf\)"
    with pytest.raises(likely.InputError, match=misfit):
        Flow(Normal(PAIR), [affine(), Elementwise(Logit(), (2,))])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Flow(Normal(PAIR), [affine(), Elementwise(Power(), (2,))]),
            r"Elementwise\(Power\) takes .* \(0, inf\), but Elementwise\(Affine\) before it gives .* \(-inf, inf\)",
        ),
        (
            lambda: Flow(Normal(PAIR), [Inverse(Elementwise(Tanh(), (2,))), Inverse(Elementwise(Sigmoid(), (2,)))]),
            r"Inverse\(Elementwise\(Sigmoid\)\) takes values inside \(0, 1\), but Inverse\(Elementwise\(Tanh\)\)",
        ),
        (
            lambda: Flow(Normal(PAIR), [Elementwise(Affine(), (3,))]),
            r"Elementwise\(Affine\) is built for events of shape \(3,\), found Event\(shape=\(2,\)",
        ),
        (
            lambda: Flow(Normal(Event((5,))), [Squeeze((1, 2, 2))]),
            r"the transforms lead to Event\(shape=\(4, 1, 1\).* found a base over Event\(shape=\(5,\)",
        ),
        (
            lambda: Flow(Normal(Event((1, 2, 2))), [Standardize((2, 1, 1))]),
            r"Standardize is built for events of shape \(2, 1, 1\), found Event\(shape=\(1, 2, 2\)",
        ),
        (
            lambda: Flow(Normal(PAIR), [Continuous(TanhField(3, (4, 4)))]),
            r"velocities over 3 values found Event\(shape=\(2,\)",
        ),
    ],
    ids=["range", "range of an inverse", "shape", "squeeze", "standardisation", "field"],
)
def test_transforms_that_do_not_fit_are_refused_when_a_flow_is_built(build, message):
    with pytest.raises(likely.InputError, match=message):
        build()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Flow(Normal(PAIR), [affine(), Dequantize(4)]),
        lambda: Flow(Uniform(PAIR), [Permutation((2,)), Dequantize(4)]),
        lambda: Composition([affine()]).event_after(DIGITS),
    ],
    ids=["affine", "permutation", "composition"],
)
def test_symbols_are_dequantised_first(build):
    with pytest.raises(
        likely.InputError, match=r"takes real values, found .*levels=4.* grows without bound .* Dequantize"
    ):
        build()


def test_a_flow_ends_in_real_values():
    with pytest.raises(
        likely.InputError, match=r"real values, found a base over symbols, Event\(.*levels=4.* Dequantize"
    ):
        Flow(SymbolHistogram(DIGITS), [affine()])


LABEL = Event((), levels=3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Flow(Normal(PAIR), [affine(features=4)]), "take 4 context features, the flow has no context"),
        (lambda: Flow(Normal(PAIR), [affine(features=4)], LABEL), "take 4 context features, the flow has 64"),
        (
            lambda: Flow(Normal(PAIR), [affine(features=4), Inverse(affine(features=5))], LABEL, features=4),
            r"one number of context features .* found \[4, 5\]",
        ),
        (
            lambda: Flow(Normal(PAIR), [Continuous(TanhField(2, (4, 4), 3))]),
            "take 3 context features, the flow has no context",
        ),
        (
            lambda: Flow(Flow(Normal(PAIR), [affine(features=4)], LABEL, features=4), [affine()]),
            r"the base is conditioned on Event\(shape=\(\), levels=3\), the flow on None",
        ),
    ],
    ids=["none", "another number", "two numbers", "field", "base"],
)
def test_a_context_that_does_not_fit_is_refused_when_a_flow_is_built(build, message):
    with pytest.raises(likely.InputError, match=message):
        build()


def test_context_features_that_are_missing_are_refused():
    flow = Flow(Normal(PAIR), [affine(features=4)], LABEL, features=4)
    for call in (flow.transform, flow.transform.inverse, flow.transforms[0]):
        with pytest.raises(likely.InputError, match=r"expects context features of shape \(3, 4\), found none"):
            call(torch.zeros(3, 2))
        with pytest.raises(likely.InputError, match=r"expects context features of shape \(3, 4\), found \(2, 4\)"):
            call(torch.zeros(3, 2), torch.zeros(2, 4))
    with pytest.raises(likely.InputError, match=r"is conditional: a context of .* is expected, none was given"):
        flow.log_prob(torch.zeros(3, 2))
    with pytest.raises(likely.InputError, match=r"symbols 0 to 2 are expected"):
        flow.log_prob(torch.zeros(3, 2), torch.full((3,), 3))


@pytest.mark.parametrize(
    ("transform", "shape"),
    [
        (Elementwise(Affine(), (1,)), (3,)),
        (ActNorm((1,)), (3,)),
        (ActNorm((2, 1, 1)), (2, 3, 1)),
        (ActNorm((2, 2, 2)), (2, 3, 2)),
        (InvertibleConvolution((2, 1, 2)), (2, 3, 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_shared_by_more_values_counts_for_each(transform, shape):
    """ln|det| of values of another shape than was said is theirs."""
    for parameter in transform.double().parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    x = torch.randn(1, *shape, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: transform(x)[0].flatten(), x).reshape(x.numel(), -1)
    z, ladj = transform(x)
    torch.testing.assert_close(ladj[0], torch.linalg.slogdet(jacobian)[1])
    torch.testing.assert_close(transform.inverse(z)[1], -ladj)


def test_what_overflows_is_refused_but_for_a_loss():
    """Training says by itself, with its step, where a loss is not finite."""
    stretch, x = Elementwise(Affine(), (2,)), torch.tensor([[0.0, 0.0], [1.0, 3e38]])
    flow = Flow(Normal(PAIR), [Elementwise(LeakyReLU(), (2,)), stretch])
    torch.nn.init.constant_(stretch.constant, 3.0)
    for call in (flow.transform, stretch):
        with pytest.raises(likely.InputError, match=r"z: found inf at index \(1, 1\); x is further out"):
            call(x)
    with pytest.raises(likely.InputError, match=r"log p\(x\): found -inf at index \(1,\); x is further out"):
        flow.log_prob(x)
    assert flow.loss(x).isinf()
    torch.nn.init.constant_(stretch.constant, -3.0)
    for call in (flow.transform.inverse, stretch.inverse):
        with pytest.raises(likely.InputError, match=r"x: found inf at index \(1, 1\); z is further out"):
            call(x)


def test_sigmoid_of_a_logistic_value_is_uniform():
    x = torch.randn(50, 2, dtype=torch.float64)
    flow = Flow(Uniform(PAIR), [Elementwise(Sigmoid(), (2,))]).double()
    torch.testing.assert_close(flow.log_prob(x), Logistic(PAIR).double().log_prob(x))


def test_values_outside_the_support_are_refused():
    flow = Flow(Logistic(PAIR), [Elementwise(Logit(), (2,))])
    assert flow.support == likely.event.UNIT
    for call in (flow.log_prob, flow.transform, Elementwise(Logit(), (2,))):
        with pytest.raises(likely.InputError, match=r"x: found 1\.5 at index \(0, 1\); values inside \(0, 1\) are"):
            call(torch.tensor([[0.5, 1.5], [0.0, 0.5]]))


def test_whole_numbers_have_no_density():
    with pytest.raises(likely.InputError, match="grows without bound"):
        Flow(Normal(PAIR), [affine()]).log_prob(torch.tensor([[1, 2]]))


def test_a_flow_as_the_base_of_a_flow():
    inner, outer = affine(), affine()
    torch.nn.init.normal_(outer.constant, generator=torch.Generator().manual_seed(1))
    x = torch.randn(5, 2)
    nested = Flow(Flow(Normal(PAIR), [inner]), [outer])
    torch.testing.assert_close(nested.log_prob(x), Flow(Normal(PAIR), [outer, inner]).log_prob(x))


def test_a_draw_comes_with_its_density_and_a_gradient():
    flow = Flow(Normal(PAIR), [affine()]).double()
    x, log_prob = flow.draw(100, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_prob, flow.log_prob(x.detach()))
    torch.testing.assert_close(flow.sample(100, generator=torch.Generator().manual_seed(0)), x.detach())
    (gradient,) = torch.autograd.grad(x.sum(), flow.transforms[0].constant)
    assert (gradient[:, 1] != 0).all()


def test_the_transform_and_its_inverse_are_public():
    label = likely.Event((), levels=3)
    flow = Flow(Normal(PAIR), [affine(features=4)], label, features=4)
    torch.nn.init.normal_(flow.transforms[0].project.weight)
    x, labels = torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    z, ladj = flow.transform(x, flow.encoded(labels))
    back, inverse_ladj = flow.transform.inverse(z, flow.encoded(labels))
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(inverse_ladj, -ladj)
    torch.testing.assert_close(flow.log_prob(x, labels), Normal(PAIR).log_prob(z) + ladj)
    assert not torch.equal(flow.encoded(labels)[0], flow.encoded(labels)[1])


def test_symbols_come_back_from_their_cells():
    x = torch.arange(4).repeat(2, 500).T
    z, term = Dequantize(4)(x)
    assert ((z > 0) & (z < 1)).all()
    torch.testing.assert_close(term, torch.full((2000,), -2 * math.log(4)))
    assert torch.equal(Dequantize(4).inverse(z)[0], x)
    beyond = torch.tensor([[-0.3, 1.2]])
    assert Dequantize(4).inverse(beyond)[0].tolist() == [[0, 3]]
    with pytest.raises(likely.InputError, match=r"z: found nan at index \(0, 1\)"):
        Dequantize(4).inverse(torch.tensor([[0.5, torch.nan]]))


def test_a_flow_over_symbols_is_a_lower_bound_in_units_of_the_symbols():
    """Under a flow that is uniform over the cells, every symbol has probability 1 / levels, whatever the noise."""
    flow = Flow(Uniform(PAIR), [Dequantize(4)])
    assert flow.event == DIGITS
    assert flow.kind == "lower bound"
    x = torch.randint(4, (10, 2))
    torch.testing.assert_close(flow.log_prob(x), torch.full((10,), -2 * math.log(4)))
    assert likely.evaluate(flow, x).bits_per_dim == pytest.approx(2)
    assert flow.sample(3).dtype == torch.int64
    counts = flow.sample(20_000, generator=torch.Generator().manual_seed(0)).flatten().bincount(minlength=4)
    assert (counts / 40_000 - 0.25).abs().max() < 4 * (0.25 * 0.75 / 40_000) ** 0.5


def test_standardisation_is_set_once_and_saved(tmp_path):
    flow = Flow(Normal(PAIR), preprocessing(PAIR))
    x = torch.randn(1000, 2) * torch.tensor([5.0, 0.1]) + 3
    flow.initialize(x)
    z, _ = flow.transform(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    flow.initialize(x + 7)
    assert torch.equal(flow.transform(x)[0], z)
    likely.save(flow, tmp_path / "run")
    again = likely.load(tmp_path / "run")
    again.initialize(x + 7)
    assert torch.equal(again.log_prob(x), flow.log_prob(x))


def test_a_constant_column_is_named():
    x = torch.stack([torch.randn(9), torch.full((9,), 2.5)], 1)
    with pytest.raises(likely.InputError, match=r"column 2 is 2\.5 in all of 9 examples"):
        Flow(Normal(PAIR), [Standardize((2,))]).initialize(x)


def test_only_a_bijection_can_be_turned_around():
    with pytest.raises(likely.InputError, match="cannot be turned around"):
        Inverse(Dequantize(4))
    x = torch.rand(5, 2)
    torch.testing.assert_close(Inverse(LogitWithMargin())(LogitWithMargin()(x)[0])[0], x)


def test_the_logit_of_a_value_outside_its_interval_is_refused():
    with pytest.raises(likely.InputError, match=r"found 1\.25 at index \(0, 1\); values inside \(-0\.05, 1\.05\)"):
        LogitWithMargin(0.05)(torch.tensor([[0.5, 1.25]]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Flow(Normal(PAIR), [affine(), Affine()]),
            r"Affine is a map of .* wrap it: Elementwise\(Affine\(\), shape",
        ),
        (lambda: Flow(Normal(PAIR), affine()), "a list of transforms is expected, found Elementwise"),
        (lambda: Flow(Normal(PAIR), None), "a list of transforms is expected, found NoneType"),
        (lambda: Flow(Normal(PAIR), [torch.nn.Linear(2, 2)]), "a transform is expected, found Linear"),
        (lambda: Flow(Normal(PAIR), [Permutation]), r"a transform is expected, found <class .*\.Permutation'>"),
        (lambda: Flow(None, [affine()]), "a density is expected as a flow's base, found NoneType"),
        (lambda: Inverse(Affine()), "Affine is a map of single values"),
        (lambda: MaskedAutoregressive(Affine(), (2,), hidden=64), "hidden: a tuple of sizes is expected, found 64"),
        (
            lambda: MaskedAutoregressive(Affine(), (2,), (8, 0.5)),
            r"a tuple of sizes is expected, found \(8, 0\.5\)",
        ),
        (lambda: MAF(PAIR, layers=2.5), r"layers: a whole number is expected, found 2\.5"),
        (lambda: Dequantize(2.5), r"levels: a whole number or a tuple of sizes is expected, found 2\.5"),
        (lambda: Affine("5"), "bound: a number is expected, found '5'"),
    ],
)
def test_plain_mistakes_are_explained(build, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for a user, whose types are not checked
    with pytest.raises(likely.InputError, match=message):
        build()


def test_a_flow_of_maps_without_parameters_has_nothing_to_fit(tmp_path):
    tanh, artanh = Elementwise(Tanh(), (2,)), Inverse(Elementwise(Tanh(), (2,)))
    flow, x = Flow(Normal(PAIR), [tanh, artanh]), torch.linspace(-2, 2, 100).view(50, 2)
    assert not list(flow.parameters())
    with pytest.raises(likely.InputError, match="Flow has no parameters to fit"):
        likely.fit(flow, x, budget="5 steps")
    likely.save(flow, tmp_path / "run")
    torch.testing.assert_close(likely.load(tmp_path / "run").log_prob(x), Normal(PAIR).log_prob(x))


def test_a_transform_stands_at_one_place():
    e = affine()
    with pytest.raises(
        likely.InputError, match=r"the same Elementwise\(Affine\) stands at places 0 and 2; make another"
    ):
        Flow(Normal(PAIR), [e, Permutation((2,)), e])


def test_a_copy_of_a_transform_is_saved(tmp_path):
    e = affine()
    flow, x = Flow(Normal(PAIR), [e, Permutation((2,)), copy.deepcopy(e)]), torch.randn(5, 2)
    likely.save(flow, tmp_path / "run")
    assert torch.equal(likely.load(tmp_path / "run").log_prob(x), flow.log_prob(x))


SIZES = ["layers", "scales", "width", "depth", "hidden", "components", "units", "bins", "features"]
NAMED = {name: model for name, model in models().items() if issubclass(model, Flow)}
SIZED = [(name, size) for name, model in NAMED.items() for size in SIZES if size in inspect.signature(model).parameters]


@pytest.mark.parametrize(("name", "size"), SIZED)
@pytest.mark.parametrize("event", [PAIR, Event((1, 2, 2))], ids=["vector", "image"])
@pytest.mark.parametrize("context", [None, LABEL], ids=["alone", "label"])
def test_sizes_of_named_flows_are_positive(name, size, event, context):
    for wrong in [(0,), (8, -3)] if size == "hidden" else [-1, -3] if size in ("scales", "depth") else [0, -3]:
        with pytest.raises(likely.InputError, match=rf"{size}\b.* at least [01]\b.* found {re.escape(str(wrong))}$"):
            NAMED[name](event, context, **{size: wrong})
