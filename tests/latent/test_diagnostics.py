"""What a model makes of its latent: measures against closed forms, and what `evaluate` reports of them."""

import math

import pytest
import torch

import likely
from likely.classical import IndependentPixels
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.density import Density
from likely.errors import InputError
from likely.event import Event
from likely.jobs.evaluate import negative_log_likelihood
from likely.latent import LatentVariable
from likely.latent.bounds import UnreliableEstimate, enumeration
from likely.latent.diagnostics import (
    active_units,
    codes_in_use,
    mutual_information,
    posterior_means,
    rate_and_distortion,
    scorer,
    spread,
)
from likely.nn.network import Perceptron

LATENTS, SYMBOLS, TABLE = Event((3,)), Event((3,), 4), Event((4,), 3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(event, context, slopes, sigma):
    """N(slope_i c_i, sigma²), value by value."""
    density = ConditionalNormal(event, context, network=Perceptron((), "relu")).double().requires_grad_(False)
    (layer,) = (part for part in density.modules() if isinstance(part, torch.nn.Linear))
    layer.weight[0::2], layer.weight[1::2] = torch.diag(torch.tensor(slopes)), 0.0
    layer.bias[0::2], layer.bias[1::2] = 0.0, math.log(sigma)
    return density


def gaussian(slopes=(0.8, 0.3, 0.0), sigma=0.6, event=LATENTS):
    """q(z | x) = N(slope_i x_i, sigma²), p(x | z) = N(z, 0.5²)."""
    encoder = linear(event, event, slopes, sigma)
    return LatentVariable(Normal(event).double(), linear(event, event, (1.0,) * event.dims, 0.5), encoder)


def normal(n=2000, event=LATENTS):
    return torch.randn(n, *event.shape, generator=seeded(1), dtype=torch.float64)


def redrawn(model, scale=1.0):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.double().requires_grad_(False)


def of_symbols():
    network = Perceptron((8,), "relu")
    decoder, encoder = (ConditionalSymbols(a, b, network=network) for a, b in ((TABLE, SYMBOLS), (SYMBOLS, TABLE)))
    return redrawn(LatentVariable(IndependentPixels(SYMBOLS), decoder, encoder))


def tables(n=300):
    return torch.randint(3, (n, 4), generator=seeded(2))


class Plain(Density):
    """The same density, of which nothing is known."""

    def __init__(self, density):
        super().__init__(density.event, density.context)
        self.density = density

    def _log_prob(self, x, context, generator):
        return self.density._log_prob(x, context, generator)

    def _sample(self, n, context, generator):
        return self.density._sample(n, context, generator)


class Code(Density):
    """A deterministic encoder: ln q = 0 for the first three symbols, −∞ for others."""

    def _log_prob(self, x, context, generator):
        return torch.where((x == context[:, :3]).all(1), 0.0, -math.inf).double()

    def _sample(self, n, context, generator):
        return context[:, :3]


def coded():
    model = of_symbols()
    return LatentVariable(model.prior, model.decoder, Code(SYMBOLS, TABLE))


def plain(model):
    return LatentVariable(model.prior, model.decoder, Plain(model.encoder))


def test_rate_and_distortion_are_those_of_gaussians():
    model, x = gaussian(), normal()
    rate, distortion = rate_and_distortion(model, x, 50, generator=seeded())
    mu, variance = torch.tensor([0.8, 0.3, 0.0]) * x, 0.6**2
    kl = 0.5 * (mu.square() + variance - 1 - math.log(variance)).sum(1)
    error = 0.5 * ((mu - x).square() + variance) / 0.25 + 0.5 * math.log(2 * math.pi * 0.25)
    assert rate == pytest.approx(float(kl.mean()), abs=0.02)
    assert distortion == pytest.approx(float(error.sum(1).mean()), abs=0.05)


def test_mutual_information_of_a_gaussian_channel():
    """I(x; z) = Σ ½ ln(1 + a² / σ²) for standard normal x."""
    expected = sum(0.5 * math.log(1 + (a / 0.6) ** 2) for a in (0.8, 0.3, 0.0))
    found = [mutual_information(gaussian(), normal(n), generator=seeded()) for n in (8, 1500)]
    assert found[1] == pytest.approx(expected, abs=0.08)
    assert found[0] < math.log(8)
    rate, _ = rate_and_distortion(gaussian(), normal(), 50, generator=seeded())
    assert found[1] < rate


def test_mutual_information_ends_at_the_logarithm_of_the_number_of_examples():
    assert mutual_information(gaussian((1.0, 1.0, 1.0), 1e-3), normal(50)) == pytest.approx(math.log(50), abs=1e-6)
    assert mutual_information(gaussian((0.0, 0.0, 0.0)), normal(50)) == pytest.approx(0, abs=1e-9)


def test_mutual_information_of_a_code_is_its_entropy():
    x = tables()
    counts = x[:, :3].unique(dim=0, return_counts=True)[1] / len(x)
    assert mutual_information(coded(), x) == pytest.approx(float(-(counts * counts.log()).sum()), abs=1e-6)


@pytest.mark.parametrize(
    "of", [gaussian, of_symbols, lambda: likely.HierarchicalVAE(TABLE, latents=(2, 1), hidden=(4,))]
)
def test_scores_of_all_pairs_are_those_of_each(of):
    model = of()
    x = model.sample(5, generator=seeded())
    z, _ = model.encoder.draw(7, x[0], generator=seeded())
    expected = torch.stack([model.encoder.log_prob(z[k].expand(5, -1), x) for k in range(7)])
    assert torch.allclose(scorer(model.encoder, x)(z), expected, atol=1e-5)
    assert torch.allclose(scorer(Plain(model.encoder), x)(z), expected, atol=1e-5)


def test_active_units():
    x = normal()
    model = gaussian((0.8, 0.2, 0.02))
    expected = torch.tensor([0.8, 0.2, 0.02]).double().square() * x.var(0)
    assert torch.allclose(spread(model, x), expected, rtol=1e-6)
    assert torch.allclose(spread(plain(model), x, generator=seeded()), expected, atol=0.006)
    assert active_units(model, x) == active_units(plain(model), x, generator=seeded()) == 2


def test_active_symbols():
    model, x = of_symbols(), tables()
    table = model.encoder.conditionals(torch.zeros(300, 3, dtype=torch.int64), x).table()
    assert torch.allclose(spread(model, x), table.var(0).sum(1), atol=1e-9)
    assert torch.allclose(spread(plain(model), x, generator=seeded()), spread(model, x), atol=0.02)
    code = torch.nn.functional.one_hot(x[:, :3], 4).double().var(0).sum(1)
    assert torch.allclose(spread(coded(), x), code)


def test_the_likeliest_symbol_is_what_most_draws_say():
    """Two draws that agree by chance say nothing."""
    z = Event((1,), 2)
    encoder = likely.MADE(z, TABLE, hidden=()).double().requires_grad_(False)
    for parameter in encoder.parameters():
        parameter.zero_()
    encoder.output.bias.fill_(math.log(4))  # q(1 | x) = 0.8
    model = LatentVariable(IndependentPixels(z), ConditionalSymbols(TABLE, z), encoder)
    assert all(posterior_means(model, tables()[:1], generator=seeded(k)) == 1 for k in range(100))


def test_codes_in_use():
    """Of four codes, by an encoder that copies symbols, of which there are three."""
    x = tables()
    assert codes_in_use(coded(), x) == 3
    assert codes_in_use(coded(), x[:1].expand(5, -1)) == len(x[0, :3].unique())
    terms = likely.evaluate(coded(), x).terms
    assert (terms["codes in use"], terms["codes"]) == (3, 4)
    assert "codes" not in likely.evaluate(gaussian(), normal(10)).terms
    with pytest.raises(InputError, match="of one alphabet"):
        codes_in_use(gaussian(), normal(10))


def test_posterior_means():
    model, x = gaussian(), normal(50)
    expected = torch.tensor([0.8, 0.3, 0.0]) * x
    assert torch.allclose(posterior_means(model, x), expected, atol=1e-6)
    drawn = posterior_means(plain(model), x, draws=900, generator=seeded())
    assert torch.allclose(drawn, expected, atol=5 * 0.6 / 30)
    assert torch.equal(posterior_means(coded(), tables()), tables()[:, :3])
    symbols = of_symbols()
    table = symbols.encoder.conditionals(torch.zeros(300, 3, dtype=torch.int64), tables()).table()
    assert torch.equal(posterior_means(symbols, tables()), table.argmax(2))
    often = posterior_means(plain(symbols), tables(), draws=100, generator=seeded()) == table.argmax(2)
    assert often[table.amax(2) > 0.75].all()


def test_latents_of_any_shape():
    for shape in ((), (2, 2)):
        event = Event(shape)
        model = LatentVariable(
            Normal(event), ConditionalNormal(TABLE_OF_REALS, event), ConditionalNormal(event, TABLE_OF_REALS)
        )
        x = torch.randn(40, 2, generator=seeded())
        assert posterior_means(model, x).shape == (40, *shape)
        assert spread(model, x).shape == spread(plain(model), x).shape == shape
        assert mutual_information(model, x) < math.log(40)


TABLE_OF_REALS = Event((2,))


def test_one_draw_is_reported_with_its_terms():
    model, x = gaussian(), normal(200)
    report = likely.evaluate(model, x, generator=seeded(), batch_size=77)
    drawn = torch.cat([model.log_prob(part, generator=g) for g in [seeded()] for part in x.split(77)])
    assert report.nats == pytest.approx(-float(drawn.mean()), abs=1e-12)
    terms = report.terms
    assert terms["elbo"] == pytest.approx(-report.nats, abs=1e-9)
    assert terms["elbo"] == pytest.approx(terms["reconstruction"] - terms["kl"], abs=1e-12)
    assert (terms["rate"], terms["distortion"]) == (terms["kl"], -terms["reconstruction"])
    assert (terms["active units"], terms["latent values"]) == (2, 3)
    assert 0 < terms["mutual information"] < terms["mutual information limit"] == pytest.approx(math.log(200))
    assert "importance weighted" not in terms
    assert likely.evaluate(model, x, generator=seeded(), batch_size=77, terms=False).terms == {}
    assert report.to_json()["terms"] == terms


def test_many_draws_are_reported_with_what_they_are_worth():
    model, x = gaussian(), normal(60)
    with pytest.warns(UnreliableEstimate, match=r"k-hat is above 0\.7 for \d+\.\d% of the examples"):
        report = likely.evaluate(model, x, importance_samples=100)
    nats = negative_log_likelihood(model, x, importance_samples=2000)
    terms = report.terms
    assert report.nats == pytest.approx(-terms["importance weighted"], abs=1e-12)
    assert report.standard_error == pytest.approx(terms["importance weighted standard error"], abs=1e-12)
    exact = torch.distributions.Normal(0, 1.25**0.5).log_prob(x).sum(1)
    assert float((exact + nats).mean()) == pytest.approx(0, abs=0.03)
    assert terms["elbo"] < terms["importance weighted"] < float(exact.mean()) + 0.1
    assert 1 < terms["effective sample size"] < 100
    assert 0 <= terms["k-hat above 0.7"] <= 1
    assert (report.kind, report.importance_samples) == ("lower bound", 100)


def test_a_generator_goes_on():
    model, x, generator = gaussian(), normal(20), seeded()
    for draws in (1, 5):
        first, second = (likely.evaluate(model, x, importance_samples=draws, generator=generator) for _ in range(2))
        assert first.nats != second.nats


def test_a_code_costs_the_bits_of_the_prior_and_of_the_decoder():
    model, x = coded(), tables()
    z = x[:, :3]
    terms = likely.evaluate(model, x).terms
    assert terms["rate"] == pytest.approx(3 * math.log(4), abs=1e-9)
    assert terms["distortion"] == pytest.approx(-float(model.decoder.log_prob(x, z).mean()), abs=1e-9)
    assert terms["active units"] == 3
    assert -terms["elbo"] > -float(enumeration(model, x).value.mean())


def test_layers_are_reported_by_name():
    model = likely.HierarchicalVAE(TABLE, latents=(3, 2), hidden=(8,))
    terms = likely.evaluate(model, tables()).terms
    assert terms["kl of layer 1"] + terms["kl of layer 2"] == pytest.approx(terms["kl"], abs=1e-5)


def test_training_changes_no_report():
    x = tables()
    plainly, freely = (likely.VAE(TABLE, latent=2, hidden=(8,), kl_warmup=0.0, free_bits=b) for b in (0.0, 50.0))
    freely.advance(0.0)
    losses = [model.loss(x, generator=seeded()).detach() for model in (plainly, freely)]
    assert losses[0] < losses[1]
    assert likely.evaluate(plainly, x) == likely.evaluate(freely, x)


def test_warm_up_changes_no_report():
    x, model = tables(), likely.VAE(TABLE, latent=2, hidden=(8,), kl_warmup=0.5)
    losses, reports = [], []
    for fraction in (0.0, 0.25, 0.5):
        model.advance(fraction)
        losses.append(model.loss(x, generator=seeded()).detach())
        reports.append(likely.evaluate(model, x))
    assert losses[0] < losses[1] < losses[2]
    assert reports[0] == reports[1] == reports[2]


def test_the_prior_as_proposal():
    model, x = gaussian(), normal(40)
    with pytest.warns(UnreliableEstimate, match="prior sampling"):
        report = likely.evaluate(model, 4 * x, importance_samples=50, proposal="prior")
    assert "elbo" not in report.terms
    silent = LatentVariable(model.prior, model.decoder)
    exact = -float(torch.distributions.Normal(0, 1.25**0.5).log_prob(x).sum(1).mean())
    report = likely.evaluate(silent, x, importance_samples=20_000, proposal="prior")
    assert exact - 0.01 < report.nats < exact + 0.1
    assert set(report.terms) == {
        "importance weighted",
        "importance weighted standard error",
        "effective sample size",
        "k-hat above 0.7",
    }


def test_refusals():
    model, x = gaussian(), normal(4)
    with pytest.raises(InputError, match="at least 1 are expected, found 128 and 0"):
        likely.evaluate(model, x, importance_samples=0)
    for draws in (1, 10):
        with pytest.raises(InputError, match="this LatentVariable has no encoder"):
            likely.evaluate(LatentVariable(model.prior, model.decoder), x, importance_samples=draws)
    with pytest.raises(InputError, match="prior"):
        likely.evaluate(likely.MADE(TABLE, hidden=(4,)), tables(), proposal="prior")
    with pytest.raises(InputError, match="without context"):
        likely.evaluate(model, (x, torch.zeros(4)), importance_samples=5)
    with pytest.raises(InputError, match="found nan"):
        likely.evaluate(model, x * math.nan, importance_samples=5)
    with pytest.raises(InputError, match="two of them"):
        active_units(model, x[:1])
