"""Estimates of ln p(x), against sums over all latents, closed forms, and another fit of the Pareto distribution."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

from likely.autoregressive import MADE
from likely.classical import IndependentPixels
from likely.densities.bases import Normal, Uniform
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.density import Density
from likely.errors import InputError
from likely.event import Event
from likely.flows import Elementwise, Flow, RealNVP
from likely.flows.maps.activation import Logit
from likely.latent import LatentVariable, bounds, enumeration, importance_sampling, prior_sampling
from likely.latent.bounds import Estimate, UnreliableEstimate, importance_weighted_bound, pareto_shape
from likely.latent.latent import Terms, draw_terms
from likely.nn.network import Perceptron

LINE, CODE, TABLE = Event((1,)), Event((2,), 3), Event((3,), (2, 3, 4))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def redrawn(model, scale=1.0):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.double().requires_grad_(False)


def of_symbols(encoder=True, scale=1.0):
    """Two latent symbols of three, examples of a mixed table."""
    network = Perceptron((8,), "relu")
    q = ConditionalSymbols(CODE, TABLE, network=network) if encoder else None
    return redrawn(LatentVariable(MADE(CODE, hidden=(4,)), ConditionalSymbols(TABLE, CODE, network=network), q), scale)


def linear(event, context, slope, sigma):
    """N(slope · c, sigma²), value by value."""
    density = ConditionalNormal(event, context, network=Perceptron((), "relu")).double().requires_grad_(False)
    (layer,) = (part for part in density.modules() if isinstance(part, torch.nn.Linear))
    layer.weight[0::2], layer.weight[1::2] = slope * torch.eye(event.dims), 0.0
    layer.bias[0::2], layer.bias[1::2] = 0.0, math.log(sigma)
    return density


def gaussian(width=0.5, slope=None, sigma=None):
    """z ~ N(0, 1), x ~ N(z, width²): the posterior is N(x / v, width² / v), v = 1 + width², as is the encoder."""
    v = 1 + width**2
    encoder = linear(LINE, LINE, slope or 1 / v, sigma or width / v**0.5)
    return LatentVariable(Normal(LINE).double(), linear(LINE, LINE, 1.0, width), encoder)


def every(event):
    return torch.tensor(list(itertools.product(*map(range, event.alphabets))))


def test_enumeration_is_the_sum_over_all_states(monkeypatch):
    model, x = of_symbols(encoder=False), every(TABLE)
    expected = [
        math.log(
            sum(
                math.exp(model.decoder.log_prob(row[None], z[None]) + model.prior.log_prob(z[None]))
                for z in every(CODE)
            )
        )
        for row in x
    ]
    found = enumeration(model, x)
    assert found.value.numpy() == pytest.approx(np.array(expected), abs=1e-10)
    assert float(found.value.exp().sum()) == pytest.approx(1, abs=1e-10)
    assert found.kind == "exact"
    assert (found.standard_error == 0).all()
    monkeypatch.setattr(bounds, "CHUNK", 7)
    assert torch.allclose(enumeration(model, x).value, found.value, rtol=0, atol=1e-12)


def test_importance_sampling_is_the_logarithm_of_a_mean_of_weights():
    model, x = of_symbols(), every(TABLE)[:5]
    weights = draw_terms(model, x, 40, seeded()).log_weight.exp()
    found = importance_sampling(model, x, 40, generator=seeded())
    assert torch.allclose(found.value, weights.mean(0).log(), rtol=0, atol=1e-10)
    assert torch.allclose(found.effective_sample_size, weights.sum(0) ** 2 / weights.square().sum(0), atol=1e-9)
    error = weights.std(0) / 40**0.5 / weights.mean(0)
    assert torch.allclose(found.standard_error, error, atol=1e-10)
    assert torch.allclose(found.value, importance_weighted_bound(weights.log()), atol=1e-12)
    assert (found.draws, found.kind) == (40, "lower bound")


def test_terms_are_means_over_the_draws():
    model, x = of_symbols(), every(TABLE)[:5]
    terms = draw_terms(model, x, 30, seeded())
    found = importance_sampling(model, x, 30, generator=seeded()).terms
    assert torch.allclose(found["reconstruction"], terms.reconstruction.mean(0), atol=1e-12)
    assert torch.allclose(found["reconstruction"] - found["KL"], terms.log_weight.mean(0), atol=1e-12)


def test_chunks_change_nothing(monkeypatch):
    """Draws come in the same order (of 16 numbers together), and sums over pieces are those over the whole."""
    model, x = gaussian(0.5, 0.6, 0.7), torch.tensor([[0.4]]).double()
    whole = importance_sampling(model, x, 96, generator=seeded())
    monkeypatch.setattr(bounds, "CHUNK", 32)
    parts = importance_sampling(model, x, 96, generator=seeded())
    for name in ("value", "standard_error", "effective_sample_size", "k_hat"):
        assert torch.allclose(getattr(parts, name), getattr(whole, name), rtol=0, atol=1e-10)
    assert torch.allclose(parts.terms["KL"], whole.terms["KL"], atol=1e-12)


@pytest.mark.parametrize(("draws", "encoded"), [(1, 6), (100, 6), (4096, 6), (9000, 18)])
def test_the_encoder_runs_once_and_memory_does_not_grow(monkeypatch, draws, encoded):
    model, seen, decoded = gaussian(), [], []
    run, score = model.encoder.parameters_of, model.decoder._log_prob
    monkeypatch.setattr(model.encoder, "parameters_of", lambda x: seen.append(len(x)) or run(x))
    monkeypatch.setattr(model.decoder, "_log_prob", lambda x, *rest: decoded.append(len(x)) or score(x, *rest))
    importance_sampling(model, torch.zeros(6, 1).double(), draws)
    assert sum(seen) == encoded
    assert sum(decoded) == 6 * draws
    assert max(decoded) <= bounds.CHUNK


def test_weights_are_summed_in_pieces_and_without_overflow():
    reconstruction, prior, posterior = (10 * torch.randn(60, 4, generator=seeded(k)).double() for k in range(3))
    reconstruction -= 5000
    found = []
    for size in (60, 7):
        running = bounds._Weights(60, 4)
        for part in zip(*(t.split(size) for t in (reconstruction, prior, posterior)), strict=True):
            running.add(Terms(*part))
        found.append(running.estimate())
    weights = np.exp((reconstruction + 5000 + prior - posterior).numpy().astype(np.longdouble))
    assert found[1].value.numpy() + 5000 == pytest.approx(np.log(weights.mean(0)).astype(float), abs=1e-9)
    for name in ("value", "standard_error", "effective_sample_size", "k_hat"):
        assert torch.allclose(getattr(found[0], name), getattr(found[1], name), rtol=1e-9, atol=1e-9)


def test_estimates_tend_to_the_exact_value_from_below():
    model, x = of_symbols(scale=0.5), every(TABLE)
    exact = enumeration(model, x).value
    for estimate in (importance_sampling, prior_sampling):
        found = [estimate(model, x, draws, generator=seeded()) for draws in (2000, 40)]
        assert ((found[0].value - exact).abs() < 5 * found[0].standard_error + 1e-9).all()
        assert float((found[1].value - exact).mean()) < 0.02


def test_the_standard_error_is_the_spread_of_repeated_estimates():
    model = gaussian(0.5, 0.7, 0.6)
    x = torch.tensor([[0.5]]).double().repeat(800, 1)
    found = importance_sampling(model, x, 100, generator=seeded())
    assert float(found.standard_error.square().mean().sqrt() / found.value.std()) == pytest.approx(1, abs=0.1)


def test_a_posterior_for_an_encoder_leaves_nothing_to_estimate():
    model, x = gaussian(), torch.tensor([[-1.0], [0.3], [4.0]]).double()
    expected = torch.distributions.Normal(0, 1.25**0.5).log_prob(x)[:, 0]
    found = importance_sampling(model, x, 50, generator=seeded())
    assert torch.allclose(found.value, expected, atol=1e-10)
    assert torch.allclose(found.effective_sample_size, torch.tensor(50.0).double())
    assert (found.standard_error < 1e-6).all()


class Code(Density):
    """A deterministic encoder: each symbol modulo three, ln q = 0."""

    def _log_prob(self, x, context, generator):
        return torch.where((x == context[:, :2] % 3).all(1), 0.0, -math.inf).double()

    def _sample(self, n, context, generator):
        return context[:, :2] % 3


def test_a_deterministic_code_costs_the_bits_of_prior_and_decoder():
    plain, x = of_symbols(), every(TABLE)
    model = LatentVariable(plain.prior, plain.decoder, Code(CODE, TABLE))
    z = x[:, :2] % 3
    found = importance_sampling(model, x, 1)
    assert torch.allclose(found.value, model.prior.log_prob(z) + model.decoder.log_prob(x, z), atol=1e-12)
    assert torch.allclose(found.terms["KL"], -model.prior.log_prob(z), atol=1e-12)
    assert (found.value < enumeration(model, x).value).all()


def zhang_stephens(excess):
    """The fit of Zhang and Stephens (2009) to ascending values, drawn to one half as Vehtari et al. (2024) do."""
    n, grid = len(excess), 30 + int(len(excess) ** 0.5)
    quartile = excess[math.floor(n / 4 + 0.5) - 1]
    thetas = [1 / excess[-1] + (1 - math.sqrt(grid / (j - 0.5))) / (3 * quartile) for j in range(1, grid + 1)]

    def shape(theta):
        return sum(math.log1p(-theta * value) for value in excess) / n

    likelihood = [n * (math.log(-theta / shape(theta)) - shape(theta) - 1) for theta in thetas]
    weights = [1 / sum(math.exp(other - own) for other in likelihood) for own in likelihood]
    k = shape(sum(weight * theta for weight, theta in zip(weights, thetas, strict=True)))
    return (n * k + 5) / (n + 10)


def generalized_pareto(k, m, n):
    """Log-weights, descending with the threshold 1 as the last: excesses ((1 − u)^−k − 1) / k."""
    u = torch.rand(m, n, generator=seeded(), dtype=torch.float64)
    excess = ((1 - u) ** -k - 1) / k
    return torch.cat([(1 + excess).log().sort(0, descending=True)[0], torch.zeros(1, n).double()])


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.7, 1.5])
def test_k_hat_is_the_fit_of_zhang_and_stephens(k):
    few = generalized_pareto(k, 60, 3)
    weights = (few - few[0]).exp()
    expected = [zhang_stephens(sorted((column[:-1] - column[-1]).tolist())) for column in weights.T]
    assert pareto_shape(few).numpy() == pytest.approx(np.array(expected), abs=1e-10)
    many = pareto_shape(generalized_pareto(k, 3000, 100))
    assert float(many.mean()) == pytest.approx(k, abs=0.01 + 4 * float(many.std()) / 10)


def test_k_hat_tells_a_narrow_proposal_from_a_wide_one():
    """The weights of N(0, 1) under N(0, σ²) have tails of shape 1 − σ²: without a variance for σ² < ½."""
    x = torch.zeros(50, 1).double()
    narrow, wide = (
        importance_sampling(gaussian(1.0, 1e-9, s * 0.5**0.5), x, 2000, generator=seeded()) for s in (0.4, 1.2)
    )
    assert float(narrow.k_hat.mean()) > 0.7 > 0.4 > float(wide.k_hat.mean())
    few = importance_sampling(gaussian(1.0, 1e-9, 0.5), x, 10, generator=seeded())
    assert few.k_hat.isnan().all()


def test_prior_sampling_says_when_it_says_nothing():
    x = torch.tensor([[-1.0], [0.0], [2.0]]).double()
    with pytest.warns(UnreliableEstimate, match=r"prior sampling: in the median, \d\.\d of 100 draws count"):
        found = prior_sampling(gaussian(1e-2), x, 100, generator=seeded())
    assert float(found.effective_sample_size.median()) < 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prior_sampling(gaussian(1.0), x, 100, generator=seeded())
        prior_sampling(gaussian(10.0), x, 3, generator=seeded())
        importance_sampling(gaussian(1e-2), x, 100, generator=seeded())


def test_refusals():
    model, x = gaussian(), torch.zeros(3, 1).double()
    for draws in (0, -1):
        with pytest.raises(InputError, match=f"number of draws of z, at least 1, is expected, found {draws}"):
            importance_sampling(model, x, draws)
    with pytest.raises(InputError, match="no encoder"):
        importance_sampling(of_symbols(encoder=False), every(TABLE), 3)
    for score in (model.log_prob, lambda x: importance_sampling(model, x, 3)):
        with pytest.raises(InputError, match="further out than this precision"):
            score(x + 1e200)
    with pytest.raises(InputError, match=r"the encoder draws values inside .*, the prior .* inside \(0, 1\) only"):
        LatentVariable(Uniform(LINE), model.decoder, model.encoder)
    with pytest.raises(InputError, match="at most 8 states"):
        enumeration(of_symbols(), every(TABLE), limit=8)
    with pytest.raises(InputError, match="states of z"):
        enumeration(model, x)


def test_what_is_no_density_of_z_is_refused():
    model, x = of_symbols(), every(TABLE)
    prior, decoder = model.prior, model.decoder
    dequantised = RealNVP(CODE, TABLE)  # of whose ln q there is a bound only
    with pytest.raises(InputError, match=r"encoder: a density with an exact log_prob .* RealNVP"):
        LatentVariable(prior, decoder, dequantised)
    with pytest.raises(InputError, match=r"proposal: a density with an exact log_prob .* RealNVP"):
        importance_sampling(model, x, 2, proposal=dequantised.double())
    for other in (MADE(TABLE, hidden=()), MADE(CODE, LINE, hidden=())):
        with pytest.raises(InputError, match=r"a proposal over .* is expected"):
            importance_sampling(model, x, 2, proposal=other)


def test_a_sum_over_bounds_is_a_bound():
    """z of one symbol: the sum is the decoder's own bound, and says so."""
    code, event = Event((1,), 1), Event((2,), 3)
    decoder, x = RealNVP(event, code, layers=2, width=4), every(event)
    model = LatentVariable(IndependentPixels(code), decoder)
    found, again = (enumeration(model, x, generator=seeded()) for _ in range(2))
    assert found.kind == "lower bound"
    assert torch.equal(found.value, again.value)
    z = torch.zeros(len(x), 1, dtype=torch.int64)
    assert torch.allclose(found.value, decoder.log_prob(x, z, generator=seeded()).double())


def test_values_lie_where_the_decoders_do():
    unit = Flow(Normal(LINE), [Elementwise(Logit(), (1,))], LINE)
    assert LatentVariable(Normal(LINE), unit).support == unit.support != Normal(LINE).support


def test_estimates_are_joined():
    parts = [importance_sampling(gaussian(), torch.full((n, 1), 0.5).double(), 20, generator=seeded()) for n in (1, 2)]
    joined = Estimate.joined(parts)
    assert torch.equal(joined.value, torch.cat([parts[0].value, parts[1].value]))
    assert {name: len(term) for name, term in joined.terms.items()} == {"reconstruction": 3, "KL": 3}
