"""Latents of examples, and what is decoded where they are moved."""

import math

import numpy as np
import pytest
import torch

import likely
from likely import pictures
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.density import Density
from likely.flows import Affine, Elementwise, Flow
from likely.latent import LatentVariable
from likely.nn.network import Perceptron

PLANE, IMAGE, LATENTS = likely.Event((2,)), likely.Event((1, 2, 3), levels=5), likely.Event((4,))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def redrawn(model, scale=0.5):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=seeded(3)))
    return model.double().requires_grad_(False)


def vae(event=IMAGE):
    return redrawn(likely.VAE(event, latent=4, hidden=(8,)))


def images(n=20):
    return torch.randint(5, (n, 1, 2, 3), generator=seeded(1))


class Halved(Density):
    """A deterministic encoder: symbols by pairs."""

    def _log_prob(self, x, context, generator):
        return torch.where((x == context.flatten(1)[:, ::2] // 2).all(1), 0.0, -math.inf).double()

    def _sample(self, n, context, generator):
        return context.flatten(1)[:, ::2] // 2


def coded():
    codes = likely.Event((3,), levels=3)
    network = Perceptron((8,), "relu")
    decoder = ConditionalSymbols(IMAGE, codes, network=network)
    return LatentVariable(likely.IndependentPixels(codes), decoder, Halved(codes, IMAGE))


def test_of_a_flow():
    model = redrawn(likely.MAF(PLANE, likely.Event((), levels=3), layers=2, hidden=(8,), features=4))
    x, labels = torch.randn(30, 2, generator=seeded()).double(), torch.arange(30) % 3
    z = likely.embed(model, (x, labels), batch_size=7)
    assert torch.equal(z, likely.embed(model, (x.numpy(), labels.numpy())))
    back, _ = model.transform.inverse(z, model.encoded(labels))
    assert torch.allclose(back, x, atol=1e-9)
    with pytest.raises(likely.InputError, match="context"):
        likely.embed(model, x)


def test_of_a_latent_variable_model():
    model, x = vae(), images()
    z = likely.embed(model, x, batch_size=7)
    p = model.encoder.parameters_of(x)
    assert torch.allclose(z, p.mu * model.encoder.deviation + model.encoder.mean)
    assert torch.equal(likely.embed(coded(), x), x.flatten(1)[:, ::2] // 2)


def test_other_models_represent_nothing():
    message = "MADE represents nothing by latents: a latent-variable model with an encoder, or a flow, is expected"
    with pytest.raises(likely.InputError, match=message):
        likely.embed(likely.MADE(PLANE_OF_SYMBOLS, hidden=(4,)), torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(likely.InputError, match="no encoder"):
        likely.embed(LatentVariable(vae().prior, vae().decoder), images())
    with pytest.raises(likely.InputError, match="symbols 0 to 4"):
        likely.embed(vae(), images() + 1)
    with pytest.raises(likely.InputError, match="batch size"):
        likely.embed(vae(), images(), batch_size=0)


PLANE_OF_SYMBOLS = likely.Event((2,), levels=3)


def test_a_way_through_a_flow_of_symbols_has_the_examples_at_its_ends():
    model, x = redrawn(likely.NICE(IMAGE, layers=2, hidden=(8,)), 0.2), images()
    way = likely.interpolate(model, x[:10], x[10:], steps=5)
    assert way.shape == (10, 5, 1, 2, 3)
    assert way.dtype == torch.int64
    assert torch.equal(way[:, 0], x[:10])
    assert torch.equal(way[:, -1], x[10:])


def test_a_way_is_straight_in_z():
    model = Flow(Normal(PLANE), [Elementwise(Affine(), (2,))])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    a, b = torch.randn(2, 6, 2, generator=seeded())
    way = likely.interpolate(model, a, b, steps=5)
    t = torch.linspace(0, 1, 5)[:, None]
    assert torch.allclose(way, a[:, None] + t * (b - a)[:, None], atol=1e-6)  # z is affine in x


def test_a_way_along_an_arc():
    model = Flow(Normal(PLANE), [])
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    b = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [4.0, 0.0], [0.0, 0.0]])
    way = likely.interpolate(model, a, b, steps=3, path="spherical")
    assert torch.allclose(way[:, 0], a, atol=1e-6)
    assert torch.allclose(way[:, -1], b, atol=1e-6)
    half = 2**-0.5
    assert torch.allclose(way[0, 1], torch.tensor([half, half]))  # a quarter of a circle
    assert torch.allclose(way[1:, 1], torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 1.5]]), atol=1e-6)  # lines


def test_a_way_through_a_latent_variable_model_is_decoded():
    model, x = vae(), images()
    way = likely.interpolate(model, x[:3], x[3:6], steps=4)
    z = torch.lerp(*(likely.embed(model, part) for part in (x[:3], x[3:6])), 1 / 3)
    table = model.decoder.conditionals(torch.zeros(3, 1, 2, 3, dtype=torch.int64), z).table()
    assert torch.allclose(way[:, 1], (table * torch.arange(5)).sum(-1))
    drawn = likely.interpolate(model, x[:3], x[3:6], steps=4, means=False)
    assert drawn.dtype == torch.int64
    assert drawn.shape == way.shape


def test_refused_ways():
    model, x = vae(), images()
    with pytest.raises(likely.InputError, match="found 2 and 3"):
        likely.interpolate(model, x[:2], x[:3])
    with pytest.raises(likely.InputError, match="found 1, 'linear'"):
        likely.interpolate(model, x[:2], x[2:4], steps=1)
    with pytest.raises(likely.InputError, match="symbols have nothing between them"):
        likely.interpolate(coded(), x[:2], x[2:4])


def linear(event, context, matrix):
    density = ConditionalNormal(event, context, network=Perceptron((), "relu")).requires_grad_(False)
    (layer,) = (part for part in density.modules() if isinstance(part, torch.nn.Linear))
    layer.weight.zero_()
    layer.weight[0::2] = matrix
    layer.bias.zero_()
    return density


def test_a_traversal_moves_the_most_active_values():
    """x = A z: the columns of A, from −2 to 2 deviations of the prior."""
    event = likely.Event((3,))
    a = torch.tensor([[1.0, 2.0, 0.0], [0.0, -1.0, 1.0]]).T
    slopes = torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.9, 0.0]])
    model = LatentVariable(Normal(PLANE), linear(event, PLANE, a), linear(PLANE, event, slopes))
    x = torch.randn(300, 3, generator=seeded())
    found = likely.traverse(model, x, columns=5, reach=2.0)
    assert found.latents == (1, 0)
    assert found.activity == pytest.approx((0.81 * float(x[:, 1].var()), 0.01 * float(x[:, 0].var())), rel=1e-4)
    assert found.places == (-2.0, -1.0, 0.0, 1.0, 2.0)
    places = torch.tensor(found.places)[:, None]
    assert torch.allclose(found.x, torch.stack([places * a[:, 1], places * a[:, 0]]), atol=1e-6)
    assert likely.traverse(model, rows=1, columns=2).x.shape == (1, 2, 3)
    assert torch.equal(found.x, likely.traverse(model, x.numpy(), columns=5, reach=2.0).x)


def test_a_traversal_of_other_priors_and_decoders():
    mixture = likely.GaussianMixture(PLANE, components=1)
    mixture.estimate(5 + 3 * torch.randn(4000, 2, generator=seeded()))
    model = LatentVariable(mixture, linear(PLANE, PLANE, torch.eye(2)), linear(PLANE, PLANE, torch.eye(2)))
    found = likely.traverse(model, rows=1, columns=3)
    moved = found.x[0, :, found.latents[0]]
    assert moved.numpy() == pytest.approx(np.array([-4, 5, 14]), abs=0.7)
    symbols = likely.traverse(vae(), images(), means=False)
    assert symbols.x.dtype == torch.int64
    layered = likely.HierarchicalVAE(IMAGE, latents=(3, 2), hidden=(8,))
    means = likely.traverse(layered, images(), columns=3).x
    assert means.shape == (5, 3, 1, 2, 3)
    assert means.is_floating_point()


def test_refused_traversals():
    with pytest.raises(likely.InputError, match="found NICE"):
        likely.traverse(likely.NICE(IMAGE, layers=2, hidden=(8,)))
    with pytest.raises(likely.InputError, match="real latents, found LatentVariable with an encoder of"):
        likely.traverse(coded())
    for options in ({"rows": 0}, {"columns": 1}, {"reach": 0.0}, {"reach": math.inf}):
        with pytest.raises(likely.InputError, match="at least 1 row"):
            likely.traverse(vae(), images(), **options)


def test_a_picture_has_rows_and_columns():
    x = likely.traverse(vae(), images(), columns=5).x
    picture = pictures.rows(x, 5)
    assert picture.mode == "L"
    assert picture.width / picture.height == pytest.approx(5 * 3 / (4 * 2), rel=0.2)
    shades = np.asarray(picture).astype(float)
    darkest = float((x * 255 / 4).round().min())
    assert shades.min() == darkest
