"""Modules from elsewhere as encoders, decoders and conditioners."""

import io

import numpy as np
import pytest
import torch
from torch import nn

import likely
from likely import Configured, Event, InputError
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.density import seeded
from likely.flows import Affine, Coupling, Flow
from likely.latent.vae import Autoencoder
from likely.nn.own import specification
from likely.runs import load, save

PICTURE = Event((1, 4, 4), levels=3)
Z = Event((2,))


def perceptron(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs))


class Net(nn.Module, Configured):
    """A perceptron that is saved by its sizes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.layers = perceptron(inputs, outputs)

    def forward(self, x, features=None):
        return self.layers(x if features is None else torch.cat([x, features], 1))


def autoencoder(encoder, decoder):
    return Autoencoder(
        Normal(Z), ConditionalSymbols(PICTURE, Z, network=decoder), ConditionalNormal(Z, PICTURE, network=encoder)
    )


def convolutional():
    """From pictures, channels first as torch has them, to mean and scale of two latents."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))


def decoder():
    """From two latents to three logits for every pixel, channels first."""
    return nn.Sequential(nn.Linear(2, 48), nn.Unflatten(1, (3, 4, 4)))


def pictures(n):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(3, (n, 1, 4, 1), generator=generator)
    return rows.expand(n, 1, 4, 4).contiguous()


def test_an_autoencoder_of_own_networks_learns():
    """Rows of one symbol: independent pixels cost log2 3 = 1.58 bits each."""
    x = pictures(400)
    with seeded(0):
        model = autoencoder(convolutional(), decoder())
    likely.fit(model, x, budget="300 steps", learning_rate=1e-2)
    assert likely.evaluate(model, x).bits_per_dim < 1.5


def test_symbols_go_in_from_minus_one_to_one():
    seen = []

    class Watches(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.new_zeros(len(x), 4)

    density = ConditionalNormal(Z, Event((3,), levels=(2, 3, 1)), network=Watches())
    density.log_prob(torch.zeros(2, 2), torch.tensor([[0, 0, 0], [1, 1, 0]]))
    assert seen[-1].tolist() == [[-1, -1, -1], [1, 0, -1]]


def test_a_density_with_an_own_network_is_the_formula():
    net = perceptron(3, 4)
    density = ConditionalNormal(Z, Event((3,)), network=net).double()
    x, context = torch.randn(5, 2).double(), torch.randn(5, 3).double()
    mean, _ = net(context).unflatten(1, (2, 2)).unbind(-1)
    torch.testing.assert_close(density.parameters_of(context).mu, mean)
    assert density.log_prob(x, context).shape == (5,)


def test_an_own_conditioner_keeps_the_laws():
    flow = Flow(
        Normal(Event((3,))),
        [Coupling(Affine(), (3,), swapped=k > 0, conditioner=Net(1 + k, 4 - 2 * k)) for k in (0, 1)],
    )
    assert not likely.check_model(flow).broken


def test_an_own_conditioner_takes_a_context():
    coupling = Coupling(Affine(), (3,), conditioner=Net(1 + 2, 4), features=2)
    flow = Flow(Normal(Event((3,))), [coupling], Event((), levels=3), features=2)
    assert not likely.check_model(flow).broken


def test_an_own_conditioner_over_images_has_channels_first():
    coupling = Coupling(Affine(), (2, 4, 4), "channels", conditioner=nn.Conv2d(1, 2, 3, padding=1))
    x = torch.randn(3, 2, 4, 4)
    theta = coupling.network.module(x[:, :1])
    z, ladj = coupling(x)
    assert torch.equal(z[:, :1], x[:, :1])
    a, b = theta.unbind(1)
    s = 5 * torch.tanh(a / 5)
    torch.testing.assert_close(z[:, 1], s.exp() * x[:, 1] + b)
    torch.testing.assert_close(ladj, s.flatten(1).sum(1))


def test_a_configured_module_is_saved_and_loaded(tmp_path):
    density = ConditionalNormal(Z, Event((3,)), network=Net(3, 4))
    save(density, tmp_path / "run")
    x, context = torch.randn(5, 2), torch.randn(5, 3)
    assert torch.equal(load(tmp_path / "run").log_prob(x, context), density.log_prob(x, context))


def test_another_module_is_refused_before_a_fit_is_saved(tmp_path):
    model = autoencoder(convolutional(), decoder())
    with pytest.raises(InputError, match=r"decoder\.network\.module: a Sequential cannot be saved.*likely\.Configured"):
        likely.fit(model, pictures(50), budget="2 steps", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Encoder(Net):
    """Of pictures as vectors."""

    def forward(self, x):
        return super().forward(x.flatten(1))


class Decoder(Net):
    """Pictures, channels first."""

    def forward(self, x):
        return super().forward(x).unflatten(1, (3, 4, 4))


def test_layers_of_torch_are_frozen():
    x = pictures(200)
    model = autoencoder(Encoder(16, 4), Decoder(2, 48))
    likely.fit(model, x, budget="100 steps", learning_rate=1e-2)
    frozen, file = likely.freeze(model, x), io.BytesIO()
    data = x.numpy().astype(np.uint8)
    likely.compress(frozen, data, file)
    file.seek(0)
    assert (likely.decompress(file, frozen) == data).all()


class Raises(nn.Module):
    def forward(self, x):
        raise KeyError("no such thing")


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (perceptron(3, 5), r"Sequential: a module from \(n, 3\) to \(n, 4\) is expected, found \(n, 5\)"),
        (perceptron(2, 4), r"from \(n, 3\) to \(n, 4\) is expected; it raised RuntimeError: mat1 and mat2"),
        (Raises(), r"Raises: .*it raised KeyError: 'no such thing'"),
    ],
)
def test_sizes_that_do_not_fit_are_one_line(module, said):
    with pytest.raises(InputError, match=said):
        ConditionalNormal(Z, Event((3,)), network=module)


@pytest.mark.parametrize("thing", ["a name", 3, nn.Linear])
def test_what_is_no_network_is_refused(thing):
    with pytest.raises(InputError, match="a specification such as"):
        specification(thing, (3,))


def test_a_module_stays_in_training_and_keeps_its_weights():
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
    before = [p.clone() for p in net.parameters()]
    ConditionalNormal(Z, Event((3,)), network=net)
    assert net.training
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
