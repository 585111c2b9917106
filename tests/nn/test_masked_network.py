"""Networks over places: θ_i depends on the inputs before place i, at once and in order."""

import pytest
import torch
from scipy import stats
from torch import nn

from likely.errors import InputError
from likely.laws.promises import multiplications
from likely.nn import MaskedNetwork, RecurrentNetwork, Walk

FEATURES, OUTPUTS = 3, 2
NETWORKS = {
    "masked": lambda dims: MaskedNetwork(dims, OUTPUTS, (16, 24)),
    "masked, context": lambda dims: MaskedNetwork(dims, OUTPUTS, (40,), FEATURES),
    "masked, few units": lambda dims: MaskedNetwork(dims, OUTPUTS, (3, 5), FEATURES),
    "masked, linear": lambda dims: MaskedNetwork(dims, OUTPUTS, ()),
    "recurrent": lambda dims: RecurrentNetwork(dims, OUTPUTS, 6),
    "recurrent, context": lambda dims: RecurrentNetwork(dims, OUTPUTS, 6, FEATURES),
}


@pytest.fixture(params=NETWORKS)
def build(request):
    def built(dims):
        network = NETWORKS[request.param](dims).double()
        generator = torch.Generator().manual_seed(0)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
        return network

    return built


def batch(dims, n=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, dims, generator=generator).double(), torch.randn(n, FEATURES, generator=generator).double()


def in_order(network, x, context):
    """θ and how many places came at each step, the network being handed x whatever it says."""
    walk, found = Walk(network, x.shape[1], x[:, :0], context), []
    for places, theta in walk:
        found.append(theta)
        walk.newest = x[:, places]
    return torch.cat(found, 1), [theta.shape[1] for theta in found]


def test_it_starts_at_zero():
    x, context = batch(4)
    for made in NETWORKS.values():
        assert torch.equal(made(4)(x.float(), context.float()), torch.zeros(5, 4, OUTPUTS))


def few_units(network):
    return isinstance(network, MaskedNetwork) and any(len(layer.bias) < network.dims for layer in network.layers[:-1])


@pytest.mark.parametrize("dims", [1, 2, 7, 40])
def test_in_order_is_at_once(build, dims):
    network, (x, context) = build(dims), batch(dims)
    expected = network(x, context)
    theta, sizes = in_order(network, x, context)
    torch.testing.assert_close(theta, expected, rtol=0, atol=1e-12)
    assert sum(sizes) == dims
    assert len(sizes) == dims or few_units(network)
    with torch.no_grad():
        torch.testing.assert_close(in_order(network, x, context)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dims", [2, 7])
def test_a_place_depends_on_those_before_it(dims):
    x, _ = batch(dims, 1)
    for network in (MaskedNetwork(dims, OUTPUTS, (60, 60)).double(), RecurrentNetwork(dims, OUTPUTS, 60).double()):
        generator = torch.Generator().manual_seed(0)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
        jacobian = torch.autograd.functional.jacobian(lambda row, f=network: f(row)[0], x)[:, :, 0]
        before = torch.ones(dims, dims).tril(-1).bool()
        assert torch.equal((jacobian != 0).any(1), before)


def test_gradients_in_order(build):
    network, (x, context) = build(5), batch(5, 2)
    names, values = zip(*network.named_parameters(), strict=True)
    x.requires_grad_()
    context.requires_grad_()

    def by_steps(x, context, *parameters):
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(
            _InOrder(network), {f"network.{k}": v for k, v in named.items()}, (x, context)
        )

    direction = torch.randn(2, 5, OUTPUTS, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    sources = [x, context, *values]
    found = torch.autograd.grad(by_steps(*sources), sources, direction, allow_unused=True)
    wanted = torch.autograd.grad(network(x, context), sources, direction, allow_unused=True)
    for a, b in zip(found, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


class _InOrder(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, context):
        return in_order(self.network, x, context)[0]


@pytest.mark.parametrize("hidden", [(16,), (64, 64), (5, 300)])
@pytest.mark.parametrize("dims", [2, 5, 8, 20, 63, 200])
def test_multiply_accumulates_in_order(dims, hidden):
    network = MaskedNetwork(dims, OUTPUTS, hidden, FEATURES)
    x, context = (t.float() for t in batch(dims, 3))
    with torch.no_grad():
        whole = multiplications(lambda: network(x, context))
        assert multiplications(lambda: in_order(network, x, context)) <= 1.15 * whole


def test_a_network_that_sees_its_own_place_is_refused():
    walk = Walk(lambda x, features, cache: x[:, :0, None], 3, torch.zeros(2, 0))
    with pytest.raises(InputError, match="determines no place after 0 of 3"):
        next(iter(walk))


def test_hidden_biases_are_spread():
    """b ~ U(±1/√n) of a unit that sees n inputs; the outputs start at zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MaskedNetwork(4, 2, (600, 300))
    *hidden, last = network.layers
    for layer in hidden:
        scaled = layer.bias.detach() * layer.mask.sum(1).clamp(min=1).sqrt()
        assert stats.kstest(scaled.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert not last.weight.any()
