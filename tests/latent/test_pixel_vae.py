"""PixelVAE: a decoder of neighbouring pixels and z, summed over all images; its bounds; what it sees."""

import itertools
import math

import pytest
import torch

from likely.errors import InputError
from likely.event import Event
from likely.latent import PixelVAE
from likely.latent.latent import draw_terms

EVENT = Event((1, 2, 2), 2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(event=EVENT, **settings):
    """In float64, every weight drawn anew, so that nothing is independent of anything."""
    model = PixelVAE(event, latent=2, hidden=8, channels=4, features=4, **settings).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=seeded(3 + parameter.numel())))
    return model.requires_grad_(False)


def every_image():
    return torch.tensor(list(itertools.product(range(2), repeat=4))).view(-1, 1, 2, 2)


def test_the_decoder_sums_to_one_for_every_z():
    model, x = small(), every_image()
    for z in 2 * torch.randn(3, 2, generator=seeded(), dtype=torch.float64):
        p = model.decoder.log_prob(x, z.expand(len(x), 2)).exp()
        assert float(p.sum()) == pytest.approx(1, abs=1e-10)


def test_bounds_in_order_over_all_images():
    model, x = small(), every_image()
    u = torch.arange(-7, 7.1, 0.2, dtype=torch.float64)
    z = torch.cartesian_prod(u, u)
    prior = model.prior.log_prob(z) + 2 * math.log(0.2)
    exact = torch.stack([(model.decoder.log_prob(row.expand(len(z), 1, 2, 2), z) + prior).logsumexp(0) for row in x])
    assert float(exact.exp().sum()) == pytest.approx(1, abs=1e-6)
    log_weights = draw_terms(model, x, 1000, seeded()).log_weight
    bounds = [log_weights.view(k, -1, len(x)).logsumexp(0) - math.log(k) for k in (1, 5, 50)]
    means = [bound.mean(0) for bound in bounds]
    errors = [bound.std(0) / len(bound) ** 0.5 for bound in bounds]
    for lower, upper, error in zip(means, [*means[1:], exact], errors, strict=True):
        assert (lower < upper + 4 * error).all()


def test_z_says_something_else_at_every_pixel():
    model = small(Event((1, 4, 6), 2))
    features = model.decoder._features(torch.randn(1, 2, generator=seeded(), dtype=torch.float64))
    assert features.shape == (1, 4, 6, 4)
    assert len(features.flatten(0, 2).unique(dim=0)) > 12


def test_a_pixel_sees_few_others():
    model = small(Event((1, 8, 8), 2))
    assert int(model.decoder.receptive_field().view(8, 8, 64)[7, 4].sum()) == 3 * 5 + 3  # rows above, beside and itself
    wider = small(Event((1, 8, 8), 2), layers=3, kernel=5)
    assert wider.decoder.receptive_field().sum() > 2 * model.decoder.receptive_field().sum()


def test_other_events_are_refused():
    for event in (Event((3,), 4), Event((1, 4, 4)), Event((1, 4, 4), 1)):
        with pytest.raises(InputError, match=r"^PixelVAE models images"):
            PixelVAE(event)
    with pytest.raises(InputError, match="latent must be at least 1"):
        PixelVAE(EVENT, latent=0)
