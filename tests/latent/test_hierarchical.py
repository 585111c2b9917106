"""Layers of latents: their factors against quadrature and one another, their bounds, and who keeps the weights."""

import copy
import math

import pytest
import torch

from likely.data import load
from likely.errors import InputError
from likely.event import Event
from likely.latent import HierarchicalVAE, LatentVariable, importance_sampling
from likely.latent.latent import Terms, draw_terms, training_loss
from likely.runs import store

TABLE = Event((3,), (2, 3, 4))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(latents=(1, 1), event=TABLE, scale=0.45):
    """In float64, every weight drawn anew, so that nothing is independent of anything."""
    model, generator = HierarchicalVAE(event, latents=latents, hidden=(6,)).double(), seeded(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.requires_grad_(False)


def rows(n=4):
    return torch.tensor([[0, 1, 2], [1, 2, 3], [1, 0, 0], [0, 2, 1]])[:n]


def plane(reach=12.0, step=0.06):
    u = torch.arange(-reach, reach, step, dtype=torch.float64)
    return torch.cartesian_prod(u, u), step**2


def test_prior_and_posterior_integrate_to_one():
    model, (z, area) = small(), plane()
    assert float(model.prior.log_prob(z).exp().sum() * area) == pytest.approx(1, abs=1e-6)
    for x in rows():
        assert float(model.encoder.log_prob(z, x.expand(len(z), -1)).exp().sum() * area) == pytest.approx(1, abs=1e-6)


def test_a_draw_knows_its_density_layer_by_layer():
    model, x = small(latents=(3, 2, 1)), rows()
    for density, context in ((model.prior, None), (model.encoder, x)):
        z, factors = density._draw_factors(4, context, seeded())
        assert factors.shape == (3, 4)
        assert torch.allclose(factors, density._factors(z, context), atol=1e-10)
        drawn = density.draw(4, context, generator=seeded())
        assert torch.equal(drawn[0], z)
        assert torch.allclose(drawn[1], density.log_prob(z, context), atol=1e-10)


def test_examples_are_drawn_for_in_turn():
    model, x = small(), rows()
    z, log_q = model.encoder._draw_each(3, x, seeded())
    assert torch.allclose(log_q, model.encoder.log_prob(z, x.repeat(3, 1)), atol=1e-10)


def test_the_posterior_of_a_layer_is_the_product_of_evidence_and_prior():
    model, x = small(latents=(2, 1)), rows(1)
    evidence, generator = model.encoder.evidence(x)[0], seeded()
    z = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    z[:, 2] = 0.4
    lowest = model.encoder._factors(z, x.expand(20, -1))[0]
    product = evidence.repeated(20).log_prob(z[:, :2]) + model.prior._factors(z, None)[0]
    assert float((lowest - product).std()) < 1e-10  # the same but for a constant
    assert float((lowest - product).abs().min()) > 0.01


def test_kl_of_layers_add_up():
    model, x = small(latents=(3, 2, 1)), rows()
    terms = draw_terms(model, x, 5, seeded())
    named = terms.by_name()
    assert list(named) == ["reconstruction", "KL", "KL of layer 1", "KL of layer 2", "KL of layer 3"]
    assert all(part.shape == (5, 4) for part in named.values())
    layers = sum(named[f"KL of layer {number}"] for number in (1, 2, 3))
    assert torch.allclose(layers, named["KL"], atol=1e-10)
    assert torch.allclose(terms.log_weight, named["reconstruction"] - named["KL"], atol=1e-10)
    top = draw_terms(model, x, 4000, seeded()).kl_of_layers[2].mean(0)
    p = model.encoder.evidence(x)[2]  # KL(N(μ, σ²) ‖ N(0, 1)) is known
    exact = (0.5 * (p.mu.square() + (2 * p.log_sigma).exp() - 1) - p.log_sigma).sum(1)
    assert torch.allclose(top, exact, atol=0.1)


def test_every_layer_has_free_nats_of_its_own():
    parts = torch.tensor([[[0.5, 1.5]], [[3.0, 5.0]]]).double()
    zeros = torch.zeros(1, 2).double()
    terms = Terms(zeros - 7, zeros, parts.sum(0), kl_of_layers=parts)
    assert float(training_loss(terms)) == pytest.approx(7 + 1 + 4)
    assert float(training_loss(terms, free_nats=2.0)) == pytest.approx(7 + 2 + 4)
    assert float(training_loss(terms, weight=0.5, free_nats=6.0)) == pytest.approx(7 + 0.5 * (6 + 6))
    together = terms._replace(kl_of_layers=None)
    assert float(training_loss(together, free_nats=2.0)) == pytest.approx(7 + 5)


def test_bounds_in_order():
    model, x, (z, area) = small(), rows(), plane()
    joint = [model.decoder.log_prob(row.expand(len(z), -1), z) + model.prior.log_prob(z) for row in x]
    exact = torch.stack(joint).logsumexp(1) + math.log(area)
    log_weights = draw_terms(model, x, 20_000, seeded()).log_weight
    bounds = [(log_weights.view(k, -1, 4).logsumexp(0) - math.log(k)) for k in (1, 5, 50)]
    means = [bound.mean(0) for bound in bounds]
    errors = [bound.std(0) / len(bound) ** 0.5 for bound in bounds]
    for lower, upper, error in zip(means, [*means[1:], exact], errors, strict=True):
        assert (lower < upper + 4 * error).all()
    assert float(importance_sampling(model, x, 20_000, generator=seeded(1)).value.sub(exact).abs().max()) < 0.03


def test_borrowed_weights_are_kept_once(tmp_path):
    model, x = small(latents=(2, 1)), rows()
    assert not any("lender" in name for name in model.state_dict())
    twin = copy.deepcopy(model)
    assert twin.encoder.lender is twin.prior
    store.save(model.float(), tmp_path / "run")
    loaded = store.load(tmp_path / "run")
    assert loaded.encoder.lender is loaded.prior
    assert torch.equal(loaded.log_prob(x, generator=seeded()), model.log_prob(x, generator=seeded()))
    with pytest.raises(InputError, match="LadderPosterior computes with the weights of a LadderPrior, which must"):
        LatentVariable(twin.prior, model.decoder, model.encoder)


def test_sizes_are_refused():
    for latents, message in (((3,), "two layers at least"), ((3, 0), "sizes of at least 1")):
        with pytest.raises(InputError, match=f"latents: {message}"):
            HierarchicalVAE(TABLE, latents=latents)


def test_both_layers_are_used_on_digits():
    x = torch.as_tensor(load("digits", "train").x[:200]).view(-1, 1, 8, 8)
    model = HierarchicalVAE(Event((1, 8, 8), 17), latents=(8, 4), hidden=(32,), head="logistics")
    generator = seeded()
    model.initialize(x, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(80):
        optimizer.zero_grad()
        model.advance(step / 80)
        model.loss(x[step % 2 :: 2], generator=generator).backward()
        optimizer.step()
    with torch.no_grad():
        named = draw_terms(model, model.check(x), 4, generator).by_name()
    assert min(float(named[f"KL of layer {number}"].mean()) for number in (1, 2)) > 0.5 * math.log(2)
