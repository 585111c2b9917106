"""VQVAE: its codebook against a naive one, gradients, its bound against a sum over all codes, exact resumption."""

import json
import math

import pytest
import torch
from torch import nn

import likely
from likely.errors import InputError
from likely.latent import VQVAE, codebook_use, enumeration
from likely.latent.diagnostics import mutual_information
from likely.latent.latent import draw_terms
from likely.latent.vq_vae import NearestCodes, start_at_clusters, straight_through
from likely.nn.codebook import EPSILON, Codebook
from likely.runs import store
from likely.training.averaging import Average

IMAGE = likely.Event((1, 4, 4), levels=3)
TINY = {"codes": 3, "size": 2, "channels": 4, "prior_channels": 4, "prior_layers": 2}
ROW = likely.Event((3,), levels=(2, 3, 4))
SHORT = {"codes": 4, "size": 2, "latent": 2, "hidden": (8,), "prior_hidden": (8,)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=64, event=IMAGE, seed=0):
    g = seeded(seed)
    bright = torch.randint(0, 2, (n, 1, 1, 1), generator=g) * (event.levels - 1)
    noise = torch.randint(0, event.levels, (n, *event.shape), generator=g)
    return torch.where(torch.rand(n, *event.shape, generator=g) < 0.8, bright, noise)


def started(event=IMAGE, x=None, **settings):
    model = VQVAE(event, **settings)
    model.initialize(pictures() if x is None else x, generator=seeded())
    return model


def rows(n=64, seed=0):
    g = seeded(seed)
    return torch.stack([torch.randint(levels, (n,), generator=g) for levels in ROW.levels], 1)


# The codebook


def test_nearest_is_the_nearest():
    book = Codebook(7, 3)
    vectors = torch.randn(2, 5, 3, generator=seeded())
    distances = (vectors[..., None, :] - book.entries).square().sum(-1)
    assert torch.equal(book.nearest(vectors), distances.argmin(-1))
    assert torch.equal(book(book.nearest(book.entries)), book.entries)


def test_entries_are_moving_averages_of_the_vectors_nearest_to_them():
    """Against the update written entry by entry, over many batches."""
    torch.manual_seed(0)
    codes, decay = 5, 0.9
    book = Codebook(codes, 2).double()
    counts, sums = [1.0] * codes, [entry.clone() for entry in book.entries]
    entries = [entry.clone() for entry in book.entries]
    for step in range(30):
        vectors = torch.randn(8, 2, generator=seeded(step), dtype=torch.float64)
        z = [min(range(codes), key=lambda k, v=v: float((v - entries[k]).square().sum())) for v in vectors]
        assert z == book.nearest(vectors).tolist()
        book.update(vectors, torch.tensor(z), decay, 10**6, None)
        for k in range(codes):
            mine = [v for v, code in zip(vectors, z, strict=True) if code == k]
            counts[k] = decay * counts[k] + (1 - decay) * len(mine)
            sums[k] = decay * sums[k] + (1 - decay) * sum(mine, torch.zeros(2, dtype=torch.float64))
        for k in range(codes):
            smoothed = sum(counts) * (counts[k] + EPSILON) / (sum(counts) + codes * EPSILON)
            entries[k] = sums[k] / smoothed
        assert (torch.stack(entries) - book.entries).abs().max() < 1e-12
        assert (torch.tensor(counts, dtype=torch.float64) - book.counts).abs().max() < 1e-12


def test_smoothing_keeps_the_number_of_vectors():
    """Σ_k N̂_k = Σ_k N_k, and no N̂_k is zero."""
    book = Codebook(4, 1).double()
    for _ in range(3000):  # three entries that nothing is nearest to
        book.update(torch.ones(6, 1).double(), torch.zeros(6, dtype=torch.int64), 0.9, 10**6, None)
    used = book.sums / book.entries
    assert abs(float(used[0]) / float(book.counts.sum()) - 1) < 1e-4
    assert abs(float(book.entries[0]) - 1) < 1e-4
    assert book.entries.isfinite().all()


def test_entries_that_nothing_is_nearest_to_start_again_where_vectors_are():
    book = Codebook(4, 2)
    book.entries.copy_(torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 60.0], [70.0, 70.0]]))
    book.sums.copy_(book.entries)
    generator = seeded()
    for step in range(1, 6):
        before = book.entries.clone()
        vectors = torch.randn(9, 2, generator=seeded(step))
        book.update(vectors, book.nearest(vectors), 0.9, 5, generator)
        if step < 5:
            assert torch.equal(before[1:].sign(), book.entries[1:].sign())
            assert book.idle.tolist() == [0, step, step, step]
    assert book.idle.tolist() == [0] * 4
    places = [(vectors == entry).all(1).nonzero().flatten().tolist() for entry in book.entries[1:]]
    assert sorted(map(len, places)) == [1, 1, 1]  # each at a vector of the last batch
    assert len({place[0] for place in places}) == 3  # and no two at the same
    assert book.counts[1:].tolist() == [1.0] * 3
    assert len(book.nearest(vectors).unique()) == 4


def test_more_dead_entries_than_vectors_wait():
    book = Codebook(6, 2)
    book.update(torch.full((2, 2), 9.0), book.nearest(torch.full((2, 2), 9.0)), 0.9, 1, seeded())
    assert int((book.idle == 0).sum()) == 3  # the nearest and as many as there are vectors
    assert int((book.idle == 1).sum()) == 3


def test_starts_at_the_centres_of_clusters():
    centres = 10 * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    vectors = centres.repeat(50, 1) + 0.1 * torch.randn(200, 2, generator=seeded())
    book = Codebook(4, 2)
    start_at_clusters(book, vectors, seeded())
    means = vectors.view(50, 4, 2).mean(0)
    nearest = torch.cdist(means, book.entries).min(1)
    assert nearest.values.max() < 1e-5
    assert sorted(nearest.indices.tolist()) == [0, 1, 2, 3]
    assert torch.equal(book.sums, book.entries)


# Gradients


def test_the_gradient_of_the_entries_is_handed_on():
    vectors = torch.randn(4, 3, requires_grad=True)
    entries, weights = torch.randn(4, 3), torch.randn(4, 3)
    out = straight_through(vectors, entries)
    assert torch.allclose(out, entries)
    (out.square() * weights).sum().backward()
    assert torch.allclose(vectors.grad, 2 * entries * weights, atol=1e-6)


def test_encoder_gets_the_gradient_at_the_entries_and_the_commitment():
    """d loss / d h = d(−ln p(x | e)) / d e + 2 β (h − e), by a decoder that is given the entries alone."""
    model = started(**TINY, commitment=0.5).double().eval()
    x, seen = pictures(8), []
    vectors = model.encoder.vectors

    def kept(rows):
        seen.append(vectors(rows))
        seen[-1].retain_grad()
        return seen[-1]

    model.encoder.vectors = kept
    model.loss(x).backward()
    h = seen[0].detach()
    entries = model.codebook(model.codebook.nearest(h)).requires_grad_()
    (-model.decoder._log_prob(x, entries, None).sum()).backward()
    expected = (entries.grad + 2 * 0.5 * (h - entries.detach())) / (8 * IMAGE.dims)
    assert (seen[0].grad - expected).abs().max() < 1e-12
    assert not any(name.startswith("codebook") for name, _ in model.named_parameters())


def test_loss_is_the_bound_and_the_commitment():
    model = started(**TINY).double().eval()
    x = pictures(8)
    h = model.encoder.vectors(x)
    distance = (h - model.codebook(model.codebook.nearest(h))).square().sum() / 8
    expected = (-model.log_prob(x).mean() + 0.25 * distance) / IMAGE.dims
    assert abs(model.loss(x) - expected) < 1e-12


def test_nothing_but_training_moves_the_codebook():
    model = started(**TINY)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.eval()
    model.loss(pictures())
    model.log_prob(pictures())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model.train()
    model.loss(pictures())
    assert not torch.equal(before["decoder.body.0.entries"], model.codebook.entries)


def test_the_last_part_of_a_fit_trains_the_prior_alone():
    model = started(**TINY, prior_from=0.5).train()
    model.advance(0.49)
    model.loss(pictures()).backward()
    assert all(p.grad is not None for part in (model.encoder, model.decoder) for p in part.body.parameters())
    model.zero_grad(set_to_none=True)
    model.advance(0.5)
    before = model.codebook.entries.clone()
    loss = model.loss(pictures())
    loss.backward()
    assert all(p.grad is None for part in (model.encoder, model.decoder) for p in part.parameters())
    assert any(p.grad is not None for p in model.prior.parameters())
    assert torch.equal(before, model.codebook.entries)
    z = model.encoder.sample(64, pictures())
    assert torch.equal(loss, -model.prior.log_prob(z).mean() / IMAGE.dims)


# The bound


@pytest.mark.parametrize("kind", ["image", "table", "values"])
def test_is_below_the_sum_over_all_codes(kind):
    if kind == "image":
        model, x = started(**TINY, prior_from=1.0), pictures()
    elif kind == "table":
        model, x = started(ROW, rows(), **SHORT), rows()
    else:
        x = torch.randn(64, 2, generator=seeded())
        model = started(likely.Event((2,)), x, **SHORT)
    model = model.double().eval()
    bound, exact = model.log_prob(x), enumeration(model, x).value
    assert (bound <= exact + 1e-12).all()
    z = model.encoder.sample(len(x), x)
    assert (bound - model.decoder.log_prob(x, z) - model.prior.log_prob(z)).abs().max() < 1e-12
    assert not draw_terms(model, x, 3).log_posterior.any()
    assert model.kind == "lower bound"


def test_bound_sums_to_less_than_one():
    model = started(ROW, rows(), **SHORT).double()
    states = torch.cartesian_prod(*(torch.arange(levels) for levels in ROW.levels))
    assert 0 < model.log_prob(states).exp().sum() < 1
    assert abs(enumeration(model, states).value.exp().sum() - 1) < 1e-12


def test_posterior_is_all_at_one_code():
    model, x = started(ROW, rows(), **SHORT), rows(8)
    codes = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    log_q = torch.stack([model.encoder.log_prob(z.expand(8, 2), x) for z in codes], 1)
    assert torch.equal(log_q.exp().sum(1), torch.ones(8))
    assert torch.equal(codes[log_q.argmax(1)], model.encoder.sample(8, x))
    z, log_q = model.encoder._draw_each(3, x, None)
    assert torch.equal(z, model.encoder.sample(8, x).repeat(3, 1))
    assert not log_q.any()


def test_information_is_the_entropy_of_the_codes():
    """Of n examples: z says which group of the same code an example is in."""
    model, x = started(ROW, rows(), **SHORT), rows()
    z = model.encoder.sample(len(x), x)
    sizes = (z[:, None] == z).all(2).sum(1).double()
    assert abs(mutual_information(model, x) - float((len(x) / sizes).log().mean())) < 1e-6


# As a model


@pytest.mark.parametrize(
    ("event", "halvings", "codes"),
    [
        (likely.Event((1, 28, 28), 2), 2, (1, 7, 7)),
        (likely.Event((3, 8, 8), 5), 1, (1, 4, 4)),
        (likely.Event((1, 6, 8), 5), 3, (1, 3, 4)),  # as far as sides are even
        (likely.Event((1, 8, 8)), 5, (1, 2, 2)),  # and two pixels are left
        (likely.Event((1, 1, 8), 4), 1, (5,)),
        (likely.Event((4,)), 1, (5,)),
        (likely.Event((), 7), 1, (5,)),
    ],
)
def test_maps_of_codes(event, halvings, codes):
    model = VQVAE(event, halvings=halvings, latent=5, codes=9, size=3, channels=4, prior_channels=4)
    assert model.prior.event == likely.Event(codes, levels=9)
    x = torch.zeros(2, *event.shape, dtype=torch.int64 if event.discrete else torch.float32)
    assert model.log_prob(x).shape == (2,)
    sample = model.sample(2, generator=seeded())
    assert sample.shape == x.shape
    assert model.event.check(sample).dtype == x.dtype


def test_samples_come_through_the_prior():
    model = started(ROW, rows(), **SHORT)
    for parameter in model.parameters():  # peaked, so that codes matter
        parameter.data += torch.randn(parameter.shape, generator=seeded(3))
    states = torch.cartesian_prod(*(torch.arange(levels) for levels in ROW.levels))
    p = enumeration(model, states).value.exp()
    x = model.sample(8000, generator=seeded())
    found = ((x[:, 0] * 3 + x[:, 1]) * 4 + x[:, 2]).bincount(minlength=24) / 8000
    assert ((found - p).abs() <= 4 * (p * (1 - p) / 8000).sqrt() + 1e-3).all()


def test_codebook_use_counts_codes():
    model, x = started(**TINY), pictures()
    z = model.encoder.sample(len(x), x).flatten().tolist()
    use = codebook_use(model, x)
    assert use.counts.tolist() == [z.count(k) for k in range(3)]
    assert use.used == len(set(z)) / 3
    frequencies = [z.count(k) / len(z) for k in set(z)]
    assert abs(math.log(use.perplexity) + sum(p * math.log(p) for p in frequencies)) < 1e-9


def test_the_codebook_is_averaged_with_the_weights():
    """As it is at one step it would not fit averaged networks; what does not move stays the same to the bit."""
    x = torch.randn(64, 2, generator=seeded())
    model = started(likely.Event((2,)), x, **SHORT).train()
    average = Average(model, 0.9)
    expected, mean = model.codebook.entries.clone(), model.decoder.mean.clone()
    for step in range(20):
        model.loss(x[step : step + 20], generator=seeded(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.codebook.entries
    own = model.codebook.entries.clone()
    with average.applied():
        torch.testing.assert_close(model.codebook.entries, expected)
        assert torch.equal(model.decoder.mean, mean)
    assert torch.equal(model.codebook.entries, own)
    assert not torch.equal(own, expected)


def test_what_is_kept_is_what_was_validated(tmp_path):
    x, held_out = pictures(120), pictures(40, seed=1)
    likely.fit(VQVAE(IMAGE, **TINY), x, valid=held_out, budget="40 steps", batch_size=16, out=tmp_path / "run")
    lines = (tmp_path / "run" / store.METRICS).read_text().splitlines()
    best = min(json.loads(line)["valid_bits_per_dim"] for line in lines)
    assert likely.evaluate(store.load(tmp_path / "run"), held_out).bits_per_dim == pytest.approx(best, rel=1e-6)


def test_a_crash_and_a_resumption_give_the_weights_of_an_uninterrupted_fit(tmp_path):
    """Through both parts of a fit, with entries that start again on the way."""
    torch.set_num_threads(1)
    x = pictures(120)
    settings = {"budget": "40 steps", "batch_size": 16, "patience": 100, "checkpoint_every": 7}

    def model():
        return VQVAE(IMAGE, **TINY | {"codes": 12}, revival=3, prior_from=0.7)

    def crash(progress):
        if progress.step in (18, 33):
            raise RuntimeError("power cut")

    whole = likely.fit(model(), x, out=tmp_path / "whole", **settings)
    with pytest.raises(RuntimeError, match="power cut"):
        likely.fit(model(), x, out=tmp_path / "cut", watch=crash, **settings)
    with pytest.raises(RuntimeError, match="power cut"):
        likely.resume(tmp_path / "cut", x, watch=lambda p: crash(p) if p.step == 33 else None)
    again = likely.resume(tmp_path / "cut", x)
    states = [store.read_weights(tmp_path / name / store.CHECKPOINT)[0] for name in ("whole", "cut")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.equal(whole.log_prob(x), again.log_prob(x))
    assert torch.equal(store.load(tmp_path / "cut").log_prob(x), again.log_prob(x))
    assert torch.equal(store.load(tmp_path / "cut").sample(4, generator=seeded()), again.sample(4, generator=seeded()))


def test_entries_start_again_during_that_fit(tmp_path):
    model = started(**TINY | {"codes": 12}, revival=3).train()
    counted = []
    begin = Codebook.place
    model.codebook.place = lambda codes, entries: counted.append(len(codes)) or begin(model.codebook, codes, entries)
    for step in range(20):
        model.loss(pictures(16, seed=step), generator=seeded(step))
    assert sum(counted) > 0


def test_a_codebook_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"64 entries.*found 32: 16 examples of 2 codes; choose fewer"):
        likely.fit(VQVAE(ROW, **SHORT | {"codes": 64}), rows(16), budget="1 steps", holdout=0.0, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"codes": 1},
        {"size": 0},
        {"hidden": (0,)},
        {"commitment": -1.0},
        {"commitment": math.nan},
        {"commitment": math.inf},
        {"decay": 1.0},
        {"prior_from": 0.0},
    ],
)
def test_refuses(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        VQVAE(IMAGE, **settings)


def test_an_encoder_needs_a_decoder_with_a_codebook():
    model = VQVAE(IMAGE, **TINY)
    assert isinstance(model.encoder, NearestCodes)
    assert model.encoder.codebook is model.codebook is model.decoder.body[0]
    assert sum(isinstance(module, Codebook) for module in model.modules()) == 1
    assert not any("encoder" in name for name, _ in model.named_buffers() if "entries" in name)
    assert isinstance(model.decoder.body, nn.Sequential)
