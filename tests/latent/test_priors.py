"""Learnt priors and flow posteriors: densities against quadrature, draws against densities, bounds in order."""

import copy
import functools
import math

import pytest
import torch

from likely.errors import InputError
from likely.event import Event
from likely.latent import IAFVAE, VAE, LatentVariable, importance_sampling
from likely.latent.latent import draw_terms
from likely.latent.priors import VampPrior
from likely.runs import store

TABLE, PLANE = Event((3,), (2, 3, 4)), Event((2,))
KINDS = ("mixture", "flow", "vamp")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fitted(model, steps=60):
    """In float64, after a short fit from data, so that nothing is independent of anything."""
    model.double()
    x, generator = data(model.event), seeded(3)
    model.initialize(x, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(x, generator=generator).backward()
        optimizer.step()
    return model


def data(event, n=60):
    """The second value follows the first, the third the second."""
    x = torch.randn(n, event.dims, generator=seeded(), dtype=torch.float64).cumsum(1)
    return (x > 0).long() * torch.tensor(event.alphabets).sub(1) if event.discrete else 2 + 3 * x


def rows(n=4):
    return torch.tensor([[0, 1, 2], [1, 2, 3], [1, 0, 0], [0, 2, 1]])[:n]


def plane(reach=12.0, step=0.08):
    u = torch.arange(-reach, reach, step, dtype=torch.float64)
    return torch.cartesian_prod(u, u), step**2


@functools.cache
def vae(kind, event=TABLE):
    return fitted(VAE(event, latent=2, hidden=(6,), prior_kind=kind, components=3))


@functools.cache
def iaf(kind="normal", event=TABLE):
    return fitted(IAFVAE(event, latent=2, hidden=(6,), layers=2, flow_hidden=(8,), features=4, prior_kind=kind))


@pytest.mark.parametrize("kind", KINDS)
def test_priors_integrate_to_one(kind):
    prior, (z, area) = vae(kind).prior, plane()
    with torch.no_grad():
        assert float(prior.log_prob(z).exp().sum() * area) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_priors_are_of_their_density(kind):
    prior, (z, area) = vae(kind).prior, plane()
    sample = prior.sample(20_000, generator=seeded())
    with torch.no_grad():
        p = prior.log_prob(z).exp() * area
    for values in (lambda z: z[:, 0], lambda z: z[:, 1], lambda z: z.prod(1).tanh()):
        error = values(sample).std() / len(sample) ** 0.5
        assert float((values(sample).mean() - p @ values(z)) / error) == pytest.approx(0, abs=4)


def test_a_vamp_prior_is_the_mean_posterior_of_examples():
    for event, x in ((TABLE, rows(3)), (PLANE, data(PLANE, 3))):
        model = copy.deepcopy(vae("vamp", event))
        model.prior.start_from(model.check(x))
        z = torch.randn(5, 2, generator=seeded(1), dtype=torch.float64)
        posteriors = torch.stack([model.encoder.log_prob(z, row.expand(5, *row.shape)) for row in x])
        assert torch.allclose(model.prior.log_prob(z), posteriors.logsumexp(0) - math.log(3), atol=1e-10)


def test_a_vamp_prior_borrows_the_encoder(tmp_path):
    model, x = copy.deepcopy(vae("vamp")).float(), rows()
    assert [name for name in model.state_dict() if name.startswith("prior")] == ["prior.inputs"]
    twin = copy.deepcopy(model)
    assert twin.prior.lender is twin.encoder
    store.save(model, tmp_path / "run")
    loaded = store.load(tmp_path / "run")
    assert torch.equal(loaded.log_prob(x, generator=seeded()), model.log_prob(x, generator=seeded()))
    with pytest.raises(InputError, match="VampPrior computes with the weights of a ConditionalNormal, which must be a"):
        LatentVariable(twin.prior, model.decoder, model.encoder)


def test_what_a_vamp_prior_cannot_borrow_is_refused():
    with pytest.raises(InputError, match="ConditionalNormal of diagonal covariance"):
        VAE(TABLE, latent=2, prior_kind="vamp", covariance="full")
    with pytest.raises(InputError, match="ConditionalNormal of diagonal covariance"):
        VampPrior(iaf().encoder)
    with pytest.raises(InputError, match="components must be at least 1"):
        VAE(TABLE, latent=2, prior_kind="vamp", components=0)


def test_a_flow_posterior_integrates_to_one_and_knows_its_draws():
    encoder, (z, area) = iaf().encoder, plane(reach=8.0, step=0.04)
    with torch.no_grad():
        for x in rows(1):
            total = encoder.log_prob(z, x.expand(len(z), -1)).exp().sum() * area
            assert float(total) == pytest.approx(1, abs=1e-6)
        z, log_q = encoder._draw_each(5, rows(), seeded())
        assert torch.allclose(log_q, encoder.log_prob(z, rows().repeat(5, 1)), atol=1e-9)


def test_a_flow_posterior_looks_at_an_example_once():
    encoder, seen = copy.deepcopy(iaf().encoder), []
    for network in (encoder.base.body, encoder.encode):
        network.register_forward_hook(lambda module, given, found: seen.append(len(given[0])))
    encoder._draw_each(50, rows(), seeded())
    assert seen == [4, 4]


def test_draws_of_a_flow_posterior_are_differentiable():
    """Every parameter moves what is drawn by as much as its gradient says."""
    encoder = copy.deepcopy(iaf().encoder)

    def value():
        z, log_q = encoder._draw_each(3, rows(), seeded())
        return z.sin().sum() + log_q.sum()

    parameters = list(encoder.parameters())
    gradients = torch.autograd.grad(value(), parameters)
    step = 1e-6
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            place = int(gradient.abs().argmax())
            parameter.view(-1)[place] += step
            above = value()
            parameter.view(-1)[place] -= 2 * step
            below = value()
            parameter.view(-1)[place] += step
            assert float((above - below) / (2 * step)) == pytest.approx(
                float(gradient.flatten()[place]), rel=1e-5, abs=1e-7
            )
    assert sum(float(gradient.abs().sum()) > 0 for gradient in gradients) > 0.9 * len(gradients)


MODELS = {
    **{f"VAE, {kind}": lambda kind=kind: vae(kind) for kind in KINDS},
    "IAF": iaf,
    "IAF, flow": lambda: iaf("flow"),
}


@pytest.mark.parametrize("name", MODELS)
def test_bounds_of_composed_models_are_in_order(name):
    model, x, (z, area) = MODELS[name](), rows(3), plane()
    with torch.no_grad():
        prior = model.prior.log_prob(z)
        joint = [model.decoder.log_prob(row.expand(len(z), -1), z) + prior for row in x]
        exact = torch.stack(joint).logsumexp(1) + math.log(area)
        log_weights = draw_terms(model, x, 10_000, seeded()).log_weight
    bounds = [(log_weights.view(k, -1, len(x)).logsumexp(0) - math.log(k)) for k in (1, 5, 50)]
    means = [bound.mean(0) for bound in bounds]
    errors = [bound.std(0) / len(bound) ** 0.5 for bound in bounds]
    for lower, upper, error in zip(means, [*means[1:], exact], errors, strict=True):
        assert (lower < upper + 4 * error).all()
    sampled = importance_sampling(model, x, 10_000, proposal=model.prior, generator=seeded())  # of weights below 1
    assert ((sampled.value - exact).abs() < 4 * sampled.standard_error).all()
    assert (sampled.standard_error < 0.1).all()
