"""Plain mistakes in the settings of latent-variable models: one error, which says what was expected."""

import jaxtyping
import pytest

import likely
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.latent import IAFVAE, VAE, VQVAE, BetaVAE, DiscreteVAE, HierarchicalVAE, Mixture, MixtureOf, PixelVAE
from likely.latent.priors import VampPrior

TABLE, REAL, PLANE = likely.Event((5,), 3), likely.Event((5,)), likely.Event((2,))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VAE((1, 8, 8)), "event: an Event is expected, found tuple"),
        (lambda: VAE(5), "event: an Event is expected, found int"),
        (lambda: HierarchicalVAE(5), "event: an Event is expected"),
        (lambda: IAFVAE(5), "event: an Event is expected"),
        (lambda: DiscreteVAE(5), "event: an Event is expected"),
        (lambda: VQVAE(5), "event: an Event is expected"),
        (lambda: PixelVAE(5), "event: an Event is expected"),
        (lambda: Mixture(5), "event: an Event is expected"),
        (lambda: VAE(TABLE, hidden=8), "hidden: a tuple of sizes is expected, found 8"),
        (lambda: VAE(TABLE, hidden=(8.5,)), r"hidden: a tuple of sizes is expected, found \(8\.5,\)"),
        (lambda: VAE(TABLE, hidden=()), "hidden: one layer at least"),
        (lambda: VAE(TABLE, latent="2"), "latent: a whole number is expected, found '2'"),
        (lambda: VAE(TABLE, channels=-1), "channels must be at least 0"),
        (lambda: VAE(TABLE, kl_warmup="0.3"), "kl_warmup: a number is expected, found '0.3'"),
        (lambda: VAE(TABLE, kl_warmup=1.5), "kl_warmup: a number from 0 to 1"),
        (lambda: VAE(TABLE, free_bits=float("inf")), "free_bits: a finite number of at least 0"),
        (lambda: BetaVAE(TABLE, beta="4"), "beta: a number is expected, found '4'"),
        (lambda: HierarchicalVAE(TABLE, latents=4), "latents: a tuple of sizes is expected, found 4"),
        (lambda: PixelVAE(likely.Event((1, 8, 8), 4), hidden=(8,)), r"hidden: a whole number .* found \(8,\)"),
        (lambda: VQVAE(TABLE, codes=4.5), "codes: a whole number"),
        (lambda: VQVAE(TABLE, hidden=8), "hidden: a tuple of sizes"),
        (lambda: Mixture(TABLE, components=2.5), "components: a whole number"),
        (lambda: VampPrior(ConditionalNormal(PLANE, TABLE), components=2.5), "components: a whole number"),
        (lambda: MixtureOf([3]), "component 0: a Density is expected, found int"),
        (lambda: MixtureOf(Mixture(TABLE)), "components: an Iterable is expected, found Mixture"),
    ],
)
def test_wrong_types_and_numbers(build, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for a user, whose types are not checked
    with pytest.raises(likely.InputError, match=message):
        build()


HEADS = 'head: "categorical" or "logistics" is expected, found'


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VAE(TABLE, head="logistic"), f"{HEADS} 'logistic'"),
        (lambda: VAE(TABLE, head="bernoulli"), f"{HEADS} 'bernoulli'"),
        (lambda: VAE(TABLE, head=None), f"{HEADS} None"),
        (lambda: DiscreteVAE(TABLE, head="categorial"), f"{HEADS} 'categorial'"),
        (lambda: VQVAE(TABLE, head="categorial"), f"{HEADS} 'categorial'"),
        (lambda: ConditionalSymbols(TABLE, PLANE, head="categorial"), f"{HEADS} 'categorial'"),
        (lambda: VAE(REAL, head="logistics"), "real values are Gaussian; leave out head='logistics'"),
        (lambda: ConditionalNormal(PLANE, TABLE, covariance="diag"), 'covariance: "diagonal" or "full" is expected'),
        (lambda: VAE(TABLE, prior_kind="gmm"), 'prior_kind: "normal", "mixture", "flow" or "vamp" is expected'),
        (lambda: IAFVAE(TABLE, prior_kind="vamp"), 'prior_kind: "normal", "mixture" or "flow" is expected'),
    ],
)
def test_wrong_names(build, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(likely.InputError, match=message):
        build()
