"""Flows over images: squeezes, scales, and what is built for which size."""

import pytest
import torch
from torch import nn

import likely
from likely.event import Event
from likely.flows import Affine, Composition, Elementwise, FlowPlusPlus, Glow, RealNVP
from likely.flows.maps.activation import Sigmoid
from likely.flows.transforms.coupling import Coupling
from likely.flows.transforms.shape import Multiscale, Squeeze

SMALL = {"width": 8, "depth": 1}


def parts(transform, kind):
    """The transforms of a kind, at whatever depth."""
    return [part for part in transform.modules() if isinstance(part, kind)]


def test_squares_of_pixels_become_channels():
    x = torch.arange(16.0).view(1, 2, 2, 4)
    z, ladj = Squeeze((2, 2, 4))(x)
    assert z.shape == (1, 8, 1, 2)
    assert z[0, :, 0, 0].tolist() == [0, 1, 4, 5, 8, 9, 12, 13]
    assert z[0, :, 0, 1].tolist() == [2, 3, 6, 7, 10, 11, 14, 15]
    assert ladj.tolist() == [0]
    assert torch.equal(Squeeze((2, 2, 4)).inverse(z)[0], x)


@pytest.mark.parametrize("shape", [(1, 3, 4), (1, 4, 5), (8,), (4, 4)], ids=str)
def test_odd_sizes_are_refused_by_a_squeeze(shape):
    with pytest.raises(likely.InputError, match=f"even height, even width.*{shape}".replace("(", r"\(")[:-1]):
        Squeeze(shape)


def test_half_of_the_channels_is_done():
    inner = Elementwise(Affine(), (2, 2, 2))
    nn.init.normal_(inner.constant, generator=torch.Generator().manual_seed(0))
    multiscale, x = Multiscale(inner, (3, 2, 2)), torch.randn(5, 3, 2, 2)
    z, ladj = multiscale(x)
    expected, expected_ladj = inner(x[:, 1:])
    assert torch.equal(z, torch.cat([x[:, :1].flatten(1), expected.flatten(1)], 1))
    assert torch.equal(ladj, expected_ladj)
    assert multiscale.event_after(Event((3, 2, 2))) == Event((12,))
    assert multiscale.event_before(Event((12,))) == Event((3, 2, 2))


def test_what_cannot_be_halved_is_refused():
    with pytest.raises(likely.InputError, match=r"at least two channels .* found shape \(1, 2, 2\)"):
        Multiscale(Composition([]), (1, 2, 2))
    with pytest.raises(likely.InputError, match="leads to other values"):
        Multiscale(Elementwise(Sigmoid(), (1, 2, 2)), (2, 2, 2))


@pytest.mark.parametrize(
    ("shape", "squeezes"),
    [((1, 8, 8), 2), ((1, 28, 28), 2), ((3, 6, 6), 1), ((1, 7, 8), 0), ((1, 5, 5), 0), ((1, 2, 2), 1)],
    ids=str,
)
@pytest.mark.parametrize("model", [RealNVP, Glow])
def test_images_are_squeezed_while_their_sizes_are_even(model, shape, squeezes):
    flow = model(Event(shape), layers=2, scales=2, **SMALL)
    assert [part.shape[1:] for part in parts(flow, Squeeze)] == [
        (shape[1] // 2**k, shape[2] // 2**k) for k in range(squeezes)
    ]
    assert flow.base.event.dims == flow.event.dims


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 4, 6), (1, 5, 5), (3, 3, 2)], ids=str)
@pytest.mark.parametrize("model", [RealNVP, Glow, FlowPlusPlus])
def test_every_pixel_is_changed_and_depends_on_others(model, shape):
    flow = model(Event(shape), **SMALL).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in flow.parameters():  # gently: the determinant of the whole Jacobian must be computable
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    jacobian = torch.autograd.functional.jacobian(lambda row: flow.transform(row[None])[0].flatten(), x)
    jacobian = jacobian.reshape(flow.event.dims, -1)
    assert ((jacobian != 0).sum(1) > 1).sum() >= flow.event.dims - shape[0]
    assert ((jacobian != 0).sum(0) > 1).all()
    _, ladj = flow.transform(x[None])
    torch.testing.assert_close(ladj[0], torch.linalg.slogdet(jacobian)[1], atol=1e-8, rtol=1e-8)


def test_couplings_over_channels_convolve_only_what_they_see():
    coupling = Coupling(Affine(), (8, 4, 4), "channels")
    assert coupling.network.first.weight.shape[1] == 4
    assert len(coupling.network.last.weight) == 4 * 2


@pytest.mark.parametrize("model", [RealNVP, Glow, FlowPlusPlus])
def test_an_image_of_odd_sizes_is_learnt(model):
    """Every image is one of two, with a little noise: about one bit, where independent pixels would pay nine."""
    generator = torch.Generator().manual_seed(0)
    two = torch.randint(2, (2, 1, 3, 3), generator=generator) * 6 + 4
    x = two[torch.randint(2, (600,), generator=generator)] + torch.randint(2, (600, 1, 3, 3), generator=generator)
    flow = model(Event((1, 3, 3), levels=16), seed=1, **SMALL)
    before = likely.evaluate(flow, x[500:]).bits_per_dim
    likely.fit(flow, x[:500], budget="100 steps", learning_rate=1e-2)
    after = likely.evaluate(flow, x[500:]).bits_per_dim
    assert after < 2.4 < before
