"""The two ends of a network: symbols and contexts on the way in, heads on the way out."""

import math

import pytest
import torch

from likely import Event
from likely.nn import CategoricalHead, ContextEncoder, LogisticsHead, Symbols


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_symbols_start_as_cosines_and_stand_side_by_side(levels):
    layer, x = Symbols(levels), torch.randint(levels, (4, 5, 3))
    width = layer.width
    assert width == min(levels - 1, 16)
    expected = torch.cos(math.pi * (x[..., None] + 0.5) / levels * torch.arange(1, width + 1))
    torch.testing.assert_close(layer(x), expected.flatten(-2))


@pytest.mark.parametrize(("levels", "width"), [(2, 1), (2, 3), (5, 4)])
def test_symbols_are_a_look_up_to_the_bit_with_its_gradient(levels, width):
    layer, x = Symbols(levels, width), torch.randint(levels, (4, 5))
    with torch.no_grad():
        layer.weight.normal_()
        cached = layer(x)
    assert torch.equal(cached, layer.weight[x].flatten(-2))
    assert torch.equal(layer(x), cached)
    direction = torch.randn_like(cached)
    found = torch.autograd.grad(layer(x), layer.weight, direction)[0]
    expected = torch.zeros(levels, width).index_add(0, x.flatten(), direction.reshape(-1, width))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("context", "size", "shape"),
    [
        (Event((), levels=10), None, (6, 8)),
        (Event((), levels=10), (4, 5), (6, 1, 1, 8)),
        (Event((5,)), None, (6, 8)),
        (Event((5,)), (4, 5), (6, 1, 1, 8)),
        (Event((3,), levels=(2, 4, 3)), None, (6, 8)),
        (Event((1, 2, 3), levels=4), None, (6, 8)),
        (Event((1, 2, 3), levels=4), (4, 5), (6, 4, 5, 8)),
        (Event((3, 4, 5)), (4, 5), (6, 4, 5, 8)),
        (Event((2, 8, 9)), (4, 5), (6, 4, 5, 8)),
    ],
    ids=str,
)
def test_contexts_become_features(context, size, shape):
    encode = ContextEncoder(context, 8, size)
    if context.discrete:
        value = torch.stack([torch.randint(k, (6,)) for k in context.alphabets], 1).reshape(6, *context.shape)
    else:
        value = torch.randn(6, *context.shape)
    features = encode(value)
    assert features.shape == shape
    assert torch.allclose(encode(value[2:3]), features[2:3], atol=1e-6)
    assert (features[0] != features[1]).any() or torch.equal(value[0], value[1])
    for parameter, gradient in zip(
        encode.parameters(), torch.autograd.grad(features.square().sum(), list(encode.parameters())), strict=True
    ):
        assert gradient.isfinite().all()
        assert gradient.shape == parameter.shape


def test_an_image_as_context_keeps_its_places():
    encode = ContextEncoder(Event((1, 2, 2)), 4, (8, 8))
    with torch.no_grad():
        for parameter in encode.parameters():
            parameter.abs_().add_(0.1)  # nothing is switched off
    x = torch.rand(1, 1, 2, 2, requires_grad=True)
    corner = torch.autograd.grad(encode(x)[0, 0, 0].sum(), x)[0][0, 0]
    assert torch.equal(corner != 0, torch.tensor([[True, False], [False, False]]))


def test_categorical_heads_lie_as_events_do():
    parameters = torch.randn(2, 4, 5, 3 * 7)
    p = CategoricalHead((7, 7, 7))(parameters)
    assert p.shape == (2, 3, 4, 5)
    assert torch.equal(p.logits[1, 2, 3, 4], parameters[1, 3, 4, 14:])
    binary = CategoricalHead((2, 2, 2))(parameters[..., :3])
    assert binary.shape == (2, 3, 4, 5)
    assert torch.equal(binary.logit[1, 2, 3, 4], parameters[1, 3, 4, 2:3])


def test_a_ragged_table_gives_nothing_to_symbols_that_are_not_there():
    head = CategoricalHead((2, 4, 3))
    p = head(torch.randn(6, 12, dtype=torch.float64))
    table = p.table()
    assert torch.equal(table[0] > 0, torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]).bool())
    torch.testing.assert_close(table.sum(-1), torch.ones(6, 3, dtype=torch.float64))
    part = head(torch.randn(6, 4, dtype=torch.float64), part=slice(2, 3))
    assert part.shape == (6, 1)
    assert (part.table()[..., 3] == 0).all()
    assert p.quantile(torch.full((6, 3), 1 - 1e-16, dtype=torch.float64)).amax(0).tolist() == [1, 3, 2]


@pytest.mark.parametrize(("channels", "components", "levels"), [(1, 4, 5), (2, 3, 5), (3, 2, 4), (3, 5, 256)])
def test_the_parts_of_logistics_multiply_to_the_joint_mixture(channels, components, levels):
    """Σ_k π_k ∏_c p_k(x_c | x_<c), from logistic functions written anew."""
    n, h, w = 3, 2, 2
    head = LogisticsHead(levels, channels, components)
    parameters = torch.randn(n, h, w, round(channels * head.width), dtype=torch.float64)
    x = torch.randint(levels, (n, channels, h, w))
    found = head(parameters, x).log_prob(x).sum(1)

    logits, means, log_scales, couplings = parameters.unflatten(-1, (-1, components)).split(head.parts, -2)
    value, joint, next_coupling = 2 * x.double() / (levels - 1) - 1, logits[..., 0, :].softmax(-1), 0
    for c in range(channels):
        mean = means[..., c, :]
        for earlier in range(c):
            mean = mean + couplings[..., next_coupling, :].tanh() * value[:, earlier, ..., None]
            next_coupling += 1
        scale = log_scales[..., c, :].exp()
        upper = torch.sigmoid((value[:, c, ..., None] + 1 / (levels - 1) - mean) / scale)
        lower = torch.sigmoid((value[:, c, ..., None] - 1 / (levels - 1) - mean) / scale)
        symbol = x[:, c, ..., None]
        joint = joint * (torch.where(symbol == levels - 1, 1, upper) - torch.where(symbol == 0, 0, lower))
    torch.testing.assert_close(found, joint.sum(-1).log(), rtol=1e-9, atol=1e-9)


def test_each_part_of_logistics_is_given_only_the_channels_before_it():
    head = LogisticsHead(5, 3, 2)
    parameters = torch.randn(1, 1, 1, round(3 * head.width), dtype=torch.float64)
    x = torch.tensor([1, 2, 3]).reshape(1, 3, 1, 1)
    for changed in range(3):
        other = x.clone()
        other[:, changed] = 4
        same = (head(parameters, x).log_table() == head(parameters, other).log_table()).all(-1)[0, :, 0, 0]
        assert same.tolist() == [c <= changed for c in range(3)]
