"""Estimated gradients against those of sums over all z and of integrals, coordinate by coordinate."""

import math

import pytest
import torch
from latent_problems import (
    bound,
    estimates,
    exact,
    flat_gradient,
    grid,
    of_bits,
    of_encoder,
    of_plane,
    scored,
    z_scores,
)

from likely.classical import IndependentPixels
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.errors import InputError
from likely.event import Event
from likely.latent.bounds import importance_weighted_bound
from likely.latent.gradients import (
    ThroughDensity,
    held,
    leave_one_out,
    mean_of_others,
    score_function,
    straight_through,
    vimco,
    with_posterior_held,
)
from likely.latent.hierarchical_vae import HierarchicalVAE
from likely.latent.latent import draw_terms, evidence_lower_bound
from likely.latent.objectives import OBJECTIVES, OF_REAL_LATENTS, TrainedOn
from likely.nn.network import Perceptron

LIMIT = 4  # standard errors
OF_ELBO = {"evidence lower bound", "sticking the landing", "score function", "leave one out", "straight through"}


def scoring(estimator, **options):
    """An objective from an estimator of scored draws."""
    return lambda model, x, draws, generator: estimator(
        draw_terms(model, x, draws, generator, ThroughDensity(model.encoder)), **options
    )


@torch.no_grad()
def test_the_sum_over_tuples_is_the_mean_of_the_bound():
    model, x = of_bits(2)
    joint, log_q = scored(model, x, torch.cartesian_prod(*[torch.arange(2)] * 2))
    direct = sum(
        float(
            (log_q[i] + log_q[j]).exp() * (torch.stack([joint[i] - log_q[i], joint[j] - log_q[j]]).exp().mean()).log()
        )
        for i in range(4)
        for j in range(4)
    )
    assert abs(float(bound(joint, log_q, 2)) - direct) < 1e-12
    elbo, two, limit = (float(bound(joint, log_q, 1)), direct, float(joint.logsumexp(0)))
    assert elbo < two < limit


def test_the_quadrature_has_converged():
    model, x = of_plane(draws=2)
    found = []
    for step in (0.5, 0.4):
        z, area = grid(model, x, step=step)
        found.append(flat_gradient(bound(*scored(model, x, z), 2, area), model))
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "objective",
    [OBJECTIVES["score function"], scoring(score_function, baseline=-11.0), OBJECTIVES["leave one out"]],
    ids=["score function", "baseline", "leave one out"],
)
def test_score_function_of_eight_bits(objective):
    model, x = of_bits(8, draws=4)
    found = estimates(model, x, objective)
    assert z_scores(found, flat_gradient(exact(model, x, 1), model)).abs().max() < LIMIT


@pytest.mark.parametrize(("bits", "draws"), [(3, 3), (4, 2)])
def test_vimco_of_all_tuples(bits, draws):
    model, x = of_bits(bits, "VIMCO", draws)
    expected = flat_gradient(exact(model, x, draws), model)
    assert z_scores(estimates(model, x), expected).abs().max() < LIMIT


def test_a_wrong_estimator_is_found_out():
    """VIMCO without the gradient of the weights' own ln q."""
    model, x = of_bits(3, draws=3)
    wrong = scoring(lambda terms: vimco(terms) - flat_part(terms))
    assert z_scores(estimates(model, x, wrong), flat_gradient(exact(model, x, 3), model)).abs().max() > 2 * LIMIT


def flat_part(terms):
    whole, part = (importance_weighted_bound(t.log_weight) for t in (terms, with_posterior_held(terms)))
    return whole - part


@pytest.mark.parametrize(
    ("name", "draws", "of_bound"),
    [
        ("evidence lower bound", 1, 1),
        ("sticking the landing", 2, 1),
        ("score function", 1, 1),
        ("leave one out", 2, 1),
        ("importance-weighted bound", 2, 2),
        ("doubly reparametrized", 2, 2),
        ("VIMCO", 2, 2),
    ],
)
def test_gradients_of_two_real_latents(name, draws, of_bound):
    model, x = of_plane(name, draws)
    expected = flat_gradient(exact(model, x, of_bound), model)
    assert z_scores(estimates(model, x), expected).abs().max() < LIMIT


def test_comparing_draws_takes_the_noise_away():
    model, x = of_bits(8, draws=4)
    noise = {
        name: estimates(model, x, OBJECTIVES[name], copies=20)[:, of_encoder(model)].var(0).sum()
        for name in ("score function", "leave one out", "VIMCO")
    }
    assert noise["score function"] > 10 * noise["leave one out"]
    assert noise["score function"] > 10 * noise["VIMCO"]


def test_straight_through_is_biased():
    model, x = of_bits(8, "straight through", 1)
    z = z_scores(estimates(model, x, copies=50), flat_gradient(exact(model, x, 1), model))
    assert z.abs().max() > 20


def test_straight_through_has_the_gradient_of_the_kl():
    """Where the decoder does not look at z, there is nothing to take for linear: a single draw has no error."""

    def unequal(z):
        prior = IndependentPixels(z)
        prior.table[0, :, 0] = torch.arange(1, 7)
        return prior

    model, x = of_bits(6, "straight through", 2, levels=3, prior=unequal)
    model.decoder.body[-1].weight.data.zero_()
    own, expected = of_encoder(model), flat_gradient(exact(model, x, 1), model)
    assert expected[own].abs().max() > 0.1
    found = estimates(model, x, batches=1, copies=3)[0]
    torch.testing.assert_close(found[own], expected[own], atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_value_is_the_bound(name):
    model, x = of_plane(name, 3) if name in OF_REAL_LATENTS else of_bits(4, name, 3)
    x = x.repeat(5, 1)
    proposal = model.prior if name == "prior sampling" else None
    weights = draw_terms(model, x, 3, torch.Generator().manual_seed(0), proposal).log_weight
    expected = (evidence_lower_bound if name in OF_ELBO else importance_weighted_bound)(weights)
    found = OBJECTIVES[name](model, x, 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


def of_line():
    """z ~ N(0, 1), x | z ~ N(a z, s²), and an encoder that is the posterior, N(a x / (a² + s²), s² / (a² + s²))."""
    a, s, line = 1.3, 0.7, Event((1,))
    linear = Perceptron((), "relu")
    model = TrainedOn(
        Normal(line), ConditionalNormal(line, line, network=linear), ConditionalNormal(line, line, network=linear)
    ).double()
    total = a**2 + s**2
    for part, slope, scale in ((model.decoder, a, s), (model.encoder, a / total, s / math.sqrt(total))):
        part.body[-1].weight.data = torch.tensor([[slope], [0.0]], dtype=torch.float64)
        part.body[-1].bias.data = torch.tensor([0.0, math.log(scale)], dtype=torch.float64)
    return model, torch.linspace(-2, 2, 5).double()[:, None]


@pytest.mark.parametrize("name", ["sticking the landing", "doubly reparametrized"])
def test_no_noise_where_the_encoder_is_the_posterior(name):
    model, x = of_line()
    own = of_encoder(model)
    for part, limit in ((OBJECTIVES[name], True), (OBJECTIVES["importance-weighted bound"], False)):
        found = flat_gradient(part(model, x, 4, torch.Generator().manual_seed(0)).sum(), model)[own]
        assert (found.abs().max() < 1e-12) == limit


def test_what_is_held_gets_no_gradient_and_is_free_afterwards():
    model, x = of_plane()
    z = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    with held(model.encoder):
        log_q = model.encoder.log_prob(z, x)
    assert all(parameter.requires_grad for parameter in model.parameters())
    log_q.sum().backward()
    assert z.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in model.parameters())
    model.prior.requires_grad_(False)
    model.decoder.body[-1].bias.requires_grad_(False)
    with pytest.raises(InputError), held(model.decoder):
        model.decoder.log_prob(x, z + math.nan)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["decoder.body.2.bias"]


def test_borrowed_weights_are_held_too():
    model = HierarchicalVAE(Event((4,), 2), latents=(2, 2), hidden=(4,))
    x, z = torch.zeros(3, 4, dtype=torch.int64), torch.randn(3, 4, requires_grad=True)
    with held(model.encoder):
        model.encoder.log_prob(z, x).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_mean_of_others():
    values = torch.tensor([[1.0], [2.0], [6.0]])
    assert mean_of_others(values).tolist() == [[4.0], [3.5], [1.5]]
    with pytest.raises(InputError, match="at least 2 draws"):
        mean_of_others(values[:1])


def test_estimators_without_what_they_need_are_refused():
    model, x = of_bits(2, draws=1)
    for estimator in (leave_one_out, vimco):
        with pytest.raises(InputError, match="at least 2 draws"):
            scoring(estimator)(model, x, 1, None)
    plain = ConditionalSymbols(model.event, model.prior.event)
    model.decoder = plain
    with pytest.raises(InputError, match=r"OnIndicators; found MADE, ConditionalSymbols, ConditionalSymbols"):
        straight_through(model, x, 1)
    model.encoder = None
    with pytest.raises(InputError, match="has no encoder"):
        straight_through(model, x, 1)
