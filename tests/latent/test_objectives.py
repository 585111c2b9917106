"""What models are trained on, and that it changes nothing of what they report."""

import json
import math

import pytest
import torch
from latent_problems import (
    LINEAR,
    bound,
    estimates,
    exact,
    flat_gradient,
    of_bits,
    of_encoder,
    of_plane,
    scored,
    z_scores,
)

import likely
from likely import compress, decompress, freeze
from likely.autoregressive import MADE
from likely.classical import IndependentPixels
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.errors import InputError
from likely.event import Event
from likely.latent import IWAE, VAE, BetaVAE, DiscreteVAE
from likely.latent.bounds import enumeration, importance_sampling, importance_weighted_bound
from likely.latent.indicators import Indicators, OnIndicators
from likely.latent.latent import LatentVariable, draw_terms
from likely.latent.objectives import OBJECTIVES, OF_REAL_LATENTS, TrainedOn, refuse_unknown
from likely.latent.priors import VampPrior
from likely.nn.network import Perceptron
from likely.runs import store

PICTURE = Event((1, 2, 2), 3)
SMALL = {"latent": 2, "hidden": (8,)}


def seeded():
    return torch.Generator().manual_seed(3)


def pictures(n=6):
    return torch.randint(3, (n, 1, 2, 2), generator=seeded())


def built(name, draws=3):
    return of_plane(name, draws) if name in OF_REAL_LATENTS else of_bits(4, name, draws)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_is_the_objective_and_log_prob_the_bound_of_one_draw(name):
    model, x = built(name)
    x = x.repeat(5, 1)
    expected = -OBJECTIVES[name](model, x, 3, seeded()).mean() / x.shape[1]
    assert float(model.loss(x, generator=seeded()).detach()) == float(expected.detach())
    plain = LatentVariable(model.prior, model.decoder, model.encoder)
    assert torch.equal(model.log_prob(x, generator=seeded()), plain.log_prob(x, generator=seeded()))


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"prior sampling", "importance sampling"}))
def test_every_objective_trains(name):
    """Half of the examples alternate one way, half the other: ln p(x) is exact, and ln ½ its limit."""
    model, x = built(name, 4)
    x = torch.cat([x, (x + 1) % model.event.alphabets[0]])
    before = exact_log_prob(model, x)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    generator, batch = seeded(), x.repeat(8, 1)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch, generator=generator).backward()
        optimizer.step()
    assert exact_log_prob(model, x) > before + 1


@torch.no_grad()
def exact_log_prob(model, x):
    """Mean ln p(x): over all z, or by quadrature over the plane."""
    if model.prior.event.discrete:
        return float(enumeration(model, x).value.mean())
    axis = torch.arange(-6, 6.1, 0.25, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    return float(torch.stack([scored(model, row[None], z)[0].logsumexp(0) for row in x]).mean()) + 2 * math.log(0.25)


@pytest.mark.parametrize("name", ["prior sampling", "importance sampling"])
def test_sampling_trains_prior_and_decoder_alone(name):
    """∇ ln 1/K Σ_k w_k with z_k from where they are drawn now."""
    model, x = of_bits(3, name, 2)
    own, z = of_encoder(model), all_states(3)
    joint, log_q = scored(model, x, z)
    log_q = model.prior.log_prob(z) if name == "prior sampling" else log_q
    expected = flat_gradient(bound(joint, log_q.detach(), 2), model)
    found = estimates(model, x)
    assert not found[:, own].any()
    assert z_scores(found[:, ~own], expected[~own]).abs().max() < 4


def all_states(bits):
    return torch.cartesian_prod(*[torch.arange(2)] * bits)


def test_wake_sleep_has_two_objectives():
    """L_2 for prior and decoder; for the encoder the mean over pairs of Σ_k w_k / Σ_j w_j ∇ ln q(z_k | x)."""
    model, x = of_bits(3, "wake-sleep", 2)
    own = of_encoder(model)
    joint, log_q = scored(model, x, all_states(3))
    pairs = log_q.detach()[:, None] + log_q.detach()
    weights = (joint - log_q).detach()
    first = (weights[:, None] - weights).sigmoid()
    of_q = flat_gradient((pairs.exp() * (first * log_q[:, None] + (1 - first) * log_q)).sum(), model)
    of_others = flat_gradient(bound(joint, log_q.detach(), 2), model)
    assert z_scores(estimates(model, x), torch.where(own, of_q, of_others)).abs().max() < 4


def test_exclusive_wake_sleep_has_two_objectives():
    """L_2 for the decoder with z from the encoder as it is, the evidence lower bound for the encoder."""
    model, x = of_plane("exclusive wake-sleep", 2)
    own = of_encoder(model)
    of_q = flat_gradient(exact(model, x, 1), model)
    sampled = TrainedOn(model.prior, model.decoder, model.encoder, objective="importance sampling", draws=2)
    found, alone = estimates(model, x), estimates(sampled, x, seed=1)
    assert z_scores(found[:, own], of_q[own]).abs().max() < 4
    error = (found.var(0) + alone.var(0)).div(len(found)).sqrt()[~own]
    assert ((found - alone).mean(0)[~own] / error).abs().max() < 4


def test_iwae_is_trained_on_the_bound_of_its_particles():
    x = pictures()
    plain, doubly = (IWAE(PICTURE, **SMALL, particles=4, gradient=f"{kind}reparametrized") for kind in ("", "doubly "))
    log_weights = draw_terms(plain, x, 4, seeded()).log_weight
    torch.testing.assert_close(plain.loss(x, generator=seeded()), -importance_weighted_bound(log_weights).mean() / 4)
    gradients = []
    for model in (plain, doubly):
        model.loss(x, generator=seeded()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        same = torch.allclose(gradient, gradients[1][name], atol=1e-6)
        assert same == name.startswith("decoder"), name


def test_a_fit_of_iwae_is_judged_by_its_bound(tmp_path):
    """The bound of one draw may fall while that of many rises, and would keep the wrong weights."""
    x, held_out = pictures(60), pictures(90)[60:]
    model = IWAE(PICTURE, **SMALL, particles=8)
    likely.fit(model, x, valid=held_out, budget="20 steps", batch_size=16, out=tmp_path / "run")
    lines = (tmp_path / "run" / store.METRICS).read_text().splitlines()
    best = min(json.loads(line)["valid_bits_per_dim"] for line in lines)
    found = likely.evaluate(model, held_out, importance_samples=8, batch_size=64, terms=False)
    assert found.bits_per_dim == pytest.approx(best, rel=1e-6)


def test_beta_counts_the_kl():
    x, vae = pictures(), VAE(PICTURE, **SMALL)
    terms = draw_terms(vae, x, 1, seeded())
    for beta in (0.0, 1.0, 4.0):
        model = BetaVAE(PICTURE, **SMALL, beta=beta)
        expected = (beta * terms.kl - terms.reconstruction).mean() / 4
        torch.testing.assert_close(model.loss(x, generator=seeded()), expected)
        assert torch.equal(model.log_prob(x, generator=seeded()), vae.log_prob(x, generator=seeded()))
    torch.testing.assert_close(
        BetaVAE(PICTURE, **SMALL, beta=1.0).loss(x, generator=seeded()), vae.loss(x, generator=seeded())
    )


@pytest.mark.parametrize("gradient", ["leave one out", "VIMCO", "straight through"])
def test_discrete_latents_find_two_clusters(gradient):
    """Two pictures of eight pixels, each flipped with probability 0.1: independent pixels know neither."""
    flips = torch.rand(256, 8, generator=seeded()) < 0.1
    x = (torch.tensor([[0] * 8, [0, 1] * 4])[torch.arange(256) % 2] + flips) % 2
    event = Event((8,), 2)
    model = DiscreteVAE(event, latent=3, hidden=(16,), gradient=gradient)
    model.initialize(x)
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=0.02), seeded()
    for _ in range(150):
        optimizer.zero_grad()
        model.loss(x, generator=generator).backward()
        optimizer.step()
    alone = IndependentPixels(event)
    alone.estimate(x)
    log_prob = enumeration(model, x).value.mean()
    assert log_prob > alone.log_prob(x).mean() + 0.5
    assert draw_terms(model, x, 20, seeded()).log_weight.mean() < log_prob


@pytest.mark.parametrize("event", [Event((3,), (2, 3, 4)), Event((2,)), Event((1, 4, 4), 4)], ids=str)
def test_discrete_vae_of_any_event(event):
    channels = 4 if len(event.shape) == 3 else 0
    model = DiscreteVAE(event, latent=3, categories=5, hidden=(8,), channels=channels)
    x = torch.randn(7, 2) if event.levels is None else torch.zeros(7, *event.shape, dtype=torch.int64)
    model.initialize(x)
    assert model.loss(x, generator=seeded()).isfinite()
    assert model.sample(3, generator=seeded()).shape == (3, *event.shape)
    estimate = importance_sampling(model, x, 4000, generator=seeded())
    assert ((estimate.value - enumeration(model, x).value) / estimate.standard_error).abs().max() < 4


def test_an_encoder_that_runs_once_scores_its_draws():
    model, x = DiscreteVAE(PICTURE, latent=3, categories=4, hidden=(8,)), pictures()
    z, log_q = model.encoder._draw_each(5, x, seeded())
    torch.testing.assert_close(log_q, model.encoder.log_prob(z, x.repeat(5, 1, 1, 1)))
    counts = torch.nn.functional.one_hot(model.encoder._draw_each(4000, x, seeded())[0].view(4000, 6, 3), 4)
    p = model.encoder.conditionals(z[:6], x).table()
    assert ((counts.double().mean(0) - p) / (p * (1 - p) / 4000).sqrt()).abs().max() < 4.5


def test_indicators():
    layer = Indicators(3)
    z = torch.tensor([[0, 2]])
    assert layer(z).tolist() == [[[1, 0, 0], [0, 0, 1]]]
    soft = torch.rand(1, 2, 3)
    assert layer(soft) is soft
    with pytest.raises(InputError, match="one alphabet"):
        OnIndicators(Perceptron((), "relu")).of_event(Event((2,), (2, 3)), (), 1)


def test_an_objective_is_part_of_the_configuration():
    model, x = of_bits(2, "VIMCO", 3)
    again = store.build(store.configuration(model)).double()
    again.load_state_dict(model.state_dict())
    assert (again.objective, again.draws) == ("VIMCO", 3)
    assert torch.equal(model.loss(x, generator=seeded()), again.loss(x, generator=seeded()))


def test_what_does_not_fit_is_refused():
    bits, plane = of_bits(2)[0], of_plane()[0]
    parts = bits.prior, bits.decoder, bits.encoder
    with pytest.raises(InputError, match='unknown objective "VIMC"; did you mean "VIMCO"'):
        refuse_unknown("objective", "VIMC", OBJECTIVES)
    with pytest.raises(InputError, match="draws must be at least 2"):
        TrainedOn(*parts, objective="VIMCO", draws=1)
    with pytest.raises(InputError, match="draws must be at least 1"):
        TrainedOn(*parts, objective="score function", draws=0)
    for name in OF_REAL_LATENTS:
        with pytest.raises(InputError, match="no such gradient"):
            TrainedOn(*parts, objective=name)
    with pytest.raises(InputError, match="no such gradient"):
        TrainedOn(plane.prior, plane.decoder, plane.encoder, objective="straight through")
    with pytest.raises(InputError, match="an encoder"):
        TrainedOn(bits.prior, bits.decoder, objective="wake-sleep")
    assert TrainedOn(bits.prior, bits.decoder, objective="prior sampling").encoder is None
    with pytest.raises(InputError, match="categories must be at least 2"):
        DiscreteVAE(PICTURE, categories=1)
    with pytest.raises(InputError, match="beta: a finite number of at least 0"):
        BetaVAE(PICTURE, beta=-1.0)


def test_prior_sampling_is_fitted_without_an_encoder():
    """It is judged by what it is trained on: the same bound, of draws from the prior."""
    model, x = of_bits(3, "prior sampling", 64)
    model = TrainedOn(model.prior, model.decoder, objective="prior sampling", draws=64)
    before = enumeration(model, x).value
    seen = []
    likely.fit(model, x.expand(60, -1), budget="60 steps", learning_rate=0.02, watch=lambda p: seen.append(p))
    after = enumeration(model, x).value
    assert after > before + 1
    assert -seen[-1].best * 12 * math.log(2) == pytest.approx(after.item(), abs=0.5)


def test_what_borrows_from_the_encoder_cannot_be_held():
    encoder = ConditionalNormal(Event((2,)), PICTURE, network=LINEAR)
    decoder = ConditionalSymbols(PICTURE, Event((2,)), network=LINEAR)
    model = TrainedOn(VampPrior(encoder, components=2), decoder, encoder, objective="exclusive wake-sleep")
    with pytest.raises(InputError, match="exclusive wake-sleep: a prior with weights of its own"):
        model.loss(pictures())


def test_straight_through_takes_one_ordering():
    """Of several, a mixture, the table of one is not the prior."""
    model, x = of_bits(3, "straight through", prior=lambda z: MADE(z, hidden=(4,), orderings=2))
    with pytest.raises(InputError, match="of one ordering"):
        model.loss(x)


def test_discrete_latents_are_coded(tmp_path):
    model, x = DiscreteVAE(PICTURE, latent=3, categories=4, hidden=(8,)), pictures(30)
    frozen = freeze(model, x)
    compress(frozen, x.numpy(), tmp_path / "pictures.lk")
    assert (decompress(tmp_path / "pictures.lk", frozen) == x.numpy()).all()
