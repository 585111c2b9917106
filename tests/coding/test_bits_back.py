"""Bits back: what is decoded is what was encoded, at the price of the bound; on any machine, as the matrix holds."""

import copy
import io
import json
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.special import ndtr, ndtri

import likely
from likely.coding.autoregressive import InOrder
from likely.coding.bits_back import PART_BITS, middles, over_parts, push_plain
from likely.coding.chunks import most_in_lockstep
from likely.coding.codecs import codec
from likely.coding.container import Reader, Writer
from likely.coding.frozen import Frozen
from likely.coding.rans import Stack
from likely.coding.records import MODEL, Chunk
from likely.data import load
from likely.densities.bases import Normal
from likely.densities.conditional import ConditionalNormal, ConditionalSymbols
from likely.distributions import integers
from likely.distributions.normals import Normals
from likely.errors import FormatError
from likely.event import Event
from likely.latent import VAE, VQVAE, DiscreteVAE, HierarchicalVAE, LatentVariable, Mixture, enumeration
from likely.nn.codebook import Codebook, ExactCodebook
from likely.nn.network import Perceptron
from likely.nn.normals import ExactProduct, normal_frequencies, scale, standardized

DIGITS = Event((1, 8, 8), levels=17)


@pytest.fixture(scope="module")
def digits():
    return load("digits", "train").x[:, None]


@pytest.fixture(scope="module")
def models(digits):
    """Fitted shortly."""
    built = {
        "VAE": VAE(DIGITS, latent=4, hidden=(32,)),
        "HierarchicalVAE": HierarchicalVAE(DIGITS, latents=(4, 3, 2), hidden=(32,)),
        "VQVAE": VQVAE(DIGITS, codes=8, size=3, channels=8, prior_channels=8, prior_layers=2),
    }
    return {
        name: likely.fit(model, digits, budget="150 steps", learning_rate=5e-3).eval() for name, model in built.items()
    }


@pytest.fixture(scope="module")
def all_frozen(models, digits):
    return {name: likely.freeze(model, digits) for name, model in models.items()}


@pytest.fixture(params=["VAE", "HierarchicalVAE", "VQVAE"])
def name(request):
    return request.param


@pytest.fixture
def model(name, models):
    return models[name]


@pytest.fixture
def frozen(name, all_frozen):
    return all_frozen[name]


def coded(frozen, array, **settings):
    """The size of a file, after it was decompressed and compared."""
    file = io.BytesIO()
    found = likely.compress(frozen, array, file, **settings)
    file.seek(0)
    back = likely.decompress(file, frozen)
    assert back.tobytes() == array.tobytes()
    return found


def test_the_normal_distribution_in_integers():
    table = integers.normal()
    exact = ndtr(torch.arange(len(table), dtype=torch.float64) / integers.STEPS - integers.TAILS) * 2**integers.UNIT
    assert (table - exact).abs().max() <= 1
    assert torch.equal(table, (1 << integers.UNIT) - table.flip(0))
    quantiles = integers.normal_quantiles(1 << 8)
    exact = ndtri(torch.arange(1, 256, dtype=torch.float64) / 256) * 2**16
    assert (quantiles[1:-1] - exact).abs().max() <= 2


def test_frequencies_of_a_normal_variable():
    edges = integers.normal_quantiles(1 << PART_BITS)
    mu = torch.tensor([0.0, 0.5, -3.25, 40.0], dtype=torch.float64)
    log_sigma = torch.tensor([0.0, -2.0, -5.0, 1.0], dtype=torch.float64)
    below = normal_frequencies(mu, log_sigma, edges).below(torch.arange(len(edges)).expand(4, -1))
    assert (below[:, 0] == 0).all()
    assert (below[:, -1] == 1 << 24).all()
    assert (below.diff() >= 1).all()
    exact = ndtr((edges / 2**16 - mu[:, None]) / log_sigma.exp()[:, None])
    assert (below / 2**24 - exact)[:, 1:-1].abs().max() < 1e-5 + 2.0 ** (PART_BITS - 24)


def test_the_middle_of_a_part_is_its_median():
    z = codec(Normal(Event((3,))), 1).values(torch.tensor([[0, 1 << (PART_BITS - 1), (1 << PART_BITS) - 1]]))
    expected = ndtri((torch.tensor([0.5, 2.0 ** (PART_BITS - 1) + 0.5, 2.0**PART_BITS - 0.5])) / 2**PART_BITS)
    torch.testing.assert_close(z[0], expected.double(), atol=2e-4, rtol=0)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_digits_come_back(frozen, digits, batch):
    coded(frozen, digits[:60].numpy().astype(np.uint8), batch=batch)


def test_the_price_is_the_bound(model, frozen, digits):
    """Within half a percent, all counted but what the stack begins with: 48 bits and the items coded plainly."""
    n, file = 1500, io.BytesIO()
    likely.compress(frozen, digits[:n].numpy().astype(np.uint8), file, chunk_items=n)
    (chunk,) = Reader(io.BytesIO(file.getvalue())).chunks()
    plain, _ = codec(model, 256).groups(n)
    net = 8 * len(chunk.payload) - 48 - plain * 64 * math.log2(17)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        bound = sum(-model.log_prob(digits[: n - plain], generator=generator).sum() for _ in range(20)) / 20
    assert chunk.method == MODEL
    assert abs(net / (float(bound) / math.log(2)) - 1) < 0.005


def test_what_latents_are_popped_from_is_even(frozen):
    """Black images, coded plainly, leave bytes that look like noise: no z is far out for want of random bits."""
    stack, plain = Stack(), 400
    push_plain(frozen.model.event, stack, torch.zeros(plain, 1, 8, 8, dtype=torch.int64))
    counts = np.bincount(np.frombuffer(stack.to_bytes()[8:], np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 5 * math.sqrt(2 * 255)  # χ² of 255 degrees of freedom


def test_noise_and_constants_are_stored_at_worst(frozen):
    noise = np.random.default_rng(0).integers(0, 17, (50, 1, 8, 8)).astype(np.uint8)
    for array in (noise, np.zeros_like(noise)):
        found = coded(frozen, array)
        assert found.file_bytes <= array.nbytes + 48 * found.chunks + 400


@pytest.mark.parametrize("n", [0, 1, 2, 3, 40])
def test_few_items(frozen, digits, n):
    coded(frozen, digits[:n].numpy(), with_model=n == 2)


COLOURS, TABLE = Event((3, 4, 4), levels=256), Event((4,), levels=(2, 17, 3, 300))
KINDS = {
    "layers, colours": lambda: HierarchicalVAE(COLOURS, latents=(3, 2), hidden=(8,), channels=4, head="logistics"),
    "layers, table": lambda: HierarchicalVAE(TABLE, latents=(2, 1, 1), hidden=(8,)),
    "codes, colours": lambda: VQVAE(COLOURS, codes=20, size=2, channels=4, prior_channels=4, head="logistics"),
    "codes, table": lambda: VQVAE(TABLE, codes=5, size=2, latent=3, hidden=(8,), prior_hidden=(8,)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_symbols_come_back_through_a_stack(kind):
    """And the stack is what it was, without the container that would store what costs too much."""
    model = KINDS[kind]().eval()
    x = model.sample(40, generator=torch.Generator().manual_seed(0))
    frozen = likely.freeze(model, x).model
    for n, batch in ((1, 8), (13, 1), (40, 8)):
        stack = Stack(12345, range(500))
        state, words = stack.state, stack.words[:]
        with torch.no_grad():
            codec(frozen, batch).push(stack, x[:n], None)
            assert torch.equal(codec(frozen, batch).pop(stack, n, None), x[:n])
        assert (stack.state, stack.words) == (state, words)


def test_groups_cover_all_items_once(model):
    for n in (0, 1, 5, 100, 1000):
        plain, groups = codec(model, 64).groups(n)
        assert [i for rows in groups for i in range(n)[rows]] == list(range(n - plain))
        assert all(rows.stop - rows.start <= 64 for rows in groups)


def test_damage_is_said(frozen, digits):
    """Whether the container's checksums notice or, once they are repaired, only the stack's end does."""
    array, out, random = digits[:30].numpy().astype(np.uint8), io.BytesIO(), np.random.default_rng(0)
    likely.compress(frozen, array, out, batch=16)
    file = out.getvalue()
    reader = Reader(io.BytesIO(file))
    (chunk,) = reader.chunks()
    assert chunk.method == MODEL

    def flipped(content, position):
        return content[:position] + bytes([content[position] ^ 1 << random.integers(8)]) + content[position + 1 :]

    payloads = [chunk.payload[:length] for length in (0, 8, 9, len(chunk.payload) // 2)] + [chunk.payload + bytes(2)]
    payloads += [flipped(chunk.payload, at) for at in random.integers(0, len(chunk.payload), 8)]
    for payload in payloads:
        out = io.BytesIO()
        writer = Writer(out, reader.header)
        writer.add(Chunk(0, chunk.items, MODEL, payload, chunk.raw_crc))
        writer.close()
        with pytest.raises(FormatError, match=r"damaged|ends|a stack"):
            likely.decompress(io.BytesIO(out.getvalue()), frozen)
    for at in random.integers(0, len(file), 8):
        with pytest.raises(FormatError):
            likely.decompress(io.BytesIO(flipped(file, at)), frozen)


def test_latents_are_popped_and_pushed_back(name, frozen, digits):
    stack = Stack(12345, range(4000))
    state, words = stack.state, stack.words[:]
    x = digits[:50].long()
    parts = codec(frozen.model.encoder, 8).pop(stack, 50, x)
    assert ((stack.state, stack.words) == (state, words)) == (name == "VQVAE")  # which pops nothing
    codec(frozen.model.encoder, 8).push(stack, parts, x)
    assert (stack.state, stack.words) == (state, words)


# Layers of latents.

LOW, HIGH = -7 * integers.STEPS, 7 * integers.STEPS


def normals(generator, n):
    """Gaussians on the grids of exact heads, of every scale that there is."""
    mu = (torch.randn(n, generator=generator, dtype=torch.float64) * 2**16).round() / 2**14
    return Normals(mu, torch.randint(LOW, HIGH + 1, (n,), generator=generator).double() / integers.STEPS, None)


def test_the_exact_product_of_gaussians():
    """1 / σ² = 1 / σ_a² + 1 / σ_b², μ / σ² = μ_a / σ_a² + μ_b / σ_b², with forty digits."""
    generator = torch.Generator().manual_seed(0)
    a, b = normals(generator, 500), normals(generator, 500)
    a.log_sigma[:3], b.log_sigma[:3] = torch.tensor([-7.0, 7.0, 0.5]), torch.tensor([7.0, -7.0, 0.5])
    mu, log_sigma, _ = ExactProduct()(a, b)
    assert torch.equal(log_sigma, (log_sigma * integers.STEPS).round() / integers.STEPS)
    for i in range(500):
        with localcontext(prec=40):
            precisions = [(-2 * Decimal(p.log_sigma[i].item())).exp() for p in (a, b)]
            mean = sum(w * Decimal(p.mu[i].item()) for w, p in zip(precisions, (a, b), strict=True)) / sum(precisions)
            expected = -sum(precisions).ln() / 2
        apart = abs(float(a.mu[i] - b.mu[i]))
        assert abs(mu[i].item() - float(mean)) <= 1e-15 * (1 + abs(float(mean))) + 2.0**-30 * apart
        assert abs(log_sigma[i].item() - float(expected)) <= 0.502 / integers.STEPS


def test_scales_have_nine_digits():
    steps = torch.arange(LOW, HIGH + 1)
    found = scale(steps.double() / integers.STEPS)
    for i in range(0, len(steps), 97):
        assert float(found[i]) == pytest.approx(math.exp(steps[i].item() / integers.STEPS), rel=2e-6)


def test_a_gaussian_over_the_parts_of_another():
    """What q says of parts that are equally probable under p: their edges lie at p's quantiles, wherever p lies."""
    one = torch.ones((), dtype=torch.float64)
    q, p = Normals(301.5 * one, -1.0 * one, None), Normals(300.0 * one, 0.5 * one, None)
    below = over_parts(*standardized(q, p)).below(torch.arange((1 << PART_BITS) + 1))
    assert (below.diff() >= 1).all()
    parts = torch.arange(1, 1 << PART_BITS, dtype=torch.float64) / (1 << PART_BITS)
    exact = ndtr((300 + math.exp(0.5) * ndtri(parts) - 301.5) * math.e)
    assert (below[1:-1] / 2**24 - exact).abs().max() < 2e-4 + 2.0 ** (PART_BITS - 24)


def test_where_a_layer_lies_does_not_matter(models, digits):
    """z_1 → 300 + 20 z_1 in every part of a model leaves p(x), the bound, and the size of files as they are.

    Files are of other draws of z, so that their sizes differ as two draws of the bound do: by five standard deviations
    at most.
    """
    model = copy.deepcopy(models["HierarchicalVAE"])
    x = digits[:200]
    array = x.numpy().astype(np.uint8)
    before = coded(likely.freeze(model, digits), array).file_bytes
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        draws = torch.stack([model.log_prob(x, generator=generator).sum() for _ in range(20)]) / math.log(2)
        for linear in (model.prior.given_above[0].body[-1], model.encoder.out[0][-1]):
            linear.weight[0::2] *= 20
            linear.bias[0::2] = linear.bias[0::2] * 20 + 300
            linear.bias[1::2] += math.log(20)
        values = model.decoder.decoder.body[0]
        values.mean.copy_(values.mean * 20 + 300)
        values.deviation.mul_(20)
        bounds = [
            float(copy.deepcopy(one).double().log_prob(x, generator=torch.Generator().manual_seed(0)).sum())
            for one in (models["HierarchicalVAE"], model)
        ]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-5)
    after = coded(likely.freeze(model, digits), array).file_bytes
    assert 8 * abs(after - before) < 5 * math.sqrt(2) * float(draws.std())


def test_layers_are_read_from_the_top(models, all_frozen):
    """z_l = μ_l + σ_l times the middle of its part, as the fitted prior says it."""
    parts = torch.randint(0, 1 << PART_BITS, (20, 9), generator=torch.Generator().manual_seed(0))
    found = codec(all_frozen["HierarchicalVAE"].model.prior, 1).values(parts)
    prior, above, expected = models["HierarchicalVAE"].prior, None, []
    with torch.no_grad():
        factor = prior._conditionals(20, None)
        for level, part in ((2, parts[:, 7:]), (1, parts[:, 4:7]), (0, parts[:, :4])):
            above = factor(level, above).at(middles(part).float())
            expected.insert(0, above)
    torch.testing.assert_close(found, torch.cat(expected, 1).double(), rtol=0, atol=5e-3)


# Codes that x determines.


def test_codes_cost_no_initial_bits(models, all_frozen, digits):
    """−log2 p(x | z) − log2 p(z) is the whole price, whatever the number of items."""
    model, frozen = models["VQVAE"], all_frozen["VQVAE"]
    header = likely.compress(frozen, digits[:0].numpy(), io.BytesIO()).file_bytes
    for n in (20, 400):
        with torch.no_grad():
            bits = -float(frozen.model.log_prob(digits[:n]).sum()) / math.log(2)
            fitted = -float(model.log_prob(digits[:n]).sum()) / math.log(2)
        assert bits == pytest.approx(fitted, rel=1e-3)
        size = coded(frozen, digits[:n].numpy().astype(np.uint8)).file_bytes - header
        assert bits - 8 <= 8 * size <= 1.0001 * bits + 8 * 58


def test_a_frozen_codebook_keeps_its_entries_only(all_frozen):
    frozen = all_frozen["VQVAE"].model
    assert isinstance(frozen.codebook, ExactCodebook)
    assert [name for name, _ in frozen.codebook.named_buffers()] == ["entries"]


def test_the_exact_codebook_finds_the_nearest_and_of_several_the_first():
    codebook = Codebook(6, 3).double()
    codebook.entries.copy_(torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    codebook.entries[4] = codebook.entries[1]
    vectors = torch.randn(50, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = codebook.exact({"entries": codebook.entries}).nearest(vectors)
    distances = (vectors[:, :, None] - codebook.entries).square().sum(-1)
    assert torch.equal(found, distances.argmin(-1))
    assert 1 in found
    assert 4 not in found


def test_wide_codebooks_are_decoded_a_few_items_at_a_time():
    model = VQVAE(Event((4,), 2), codes=5000, size=1, latent=1, hidden=(2,), prior_hidden=(2,))
    frozen = likely.freeze(model, torch.eye(4, dtype=torch.int64))
    assert most_in_lockstep(frozen.model) == (1 << 24) // 5000
    coded(frozen, np.eye(4, dtype=np.uint8))


def test_a_scale_of_nothing_is_refused(all_frozen):
    content = all_frozen["HierarchicalVAE"].content
    header = 8 + int.from_bytes(content[:8], "little")
    tensors = safetensors.torch.load(content)
    tensors["decoder.decoder.body.0.deviation"][1] = 0
    metadata = json.loads(content[8:header])["__metadata__"]
    with pytest.raises(FormatError, match="deviation is not positive everywhere"):
        Frozen(safetensors.torch.save(tensors, metadata))


# Stacks without bits.


@pytest.mark.parametrize(
    "build", [lambda e: Mixture(e, components=4), lambda e: DiscreteVAE(e, latent=5, categories=3)]
)
@pytest.mark.parametrize("batch", [1, 5, 256])
def test_alphabets_of_one_symbol_hold_nothing(build, batch):
    frozen = likely.freeze(build(Event((4,), levels=1)), torch.zeros(60, 4, dtype=torch.int64))
    for n in (2, 23):
        assert coded(frozen, np.zeros((n, 4), np.uint16), batch=batch).stored_chunks == 0


def test_what_is_coded_on_an_empty_stack_comes_back():
    """The encoder asks for a bit of each item, of which nothing comes back where z is what the prior is sure of."""
    model = DiscreteVAE(Event((4,), levels=2), latent=1, categories=2, hidden=(8,))
    with torch.no_grad():
        for density in (model.prior, model.decoder):
            for parameter in density.parameters():
                parameter.zero_()
        [bias for name, bias in model.prior.named_parameters() if "bias" in name][-1].fill_(-30)
        model.decoder.body[-1].bias.fill_(-30)
    x = torch.zeros(43, 4, dtype=torch.int64)
    frozen = likely.freeze(model, x)
    for n in (17, 27, 43):
        coded(frozen, x[:n].numpy())
    for state in (0, 1, 1 << 23, (1 << 48) - 1):
        stack = Stack(state)
        codec(frozen.model, 256).push(stack, x, None)
        assert torch.equal(codec(frozen.model, 256).pop(stack, len(x), None), x)
        assert stack == Stack(state)


@pytest.mark.parametrize("build", [VAE, VQVAE])
def test_a_payload_without_end_ends_when_it_owes_too_much(build, monkeypatch):
    frozen, calls = likely.freeze(build(Event((4,), 2), latent=1, hidden=(8,)), torch.eye(4, dtype=torch.int64)), []
    pop = InOrder.pop
    monkeypatch.setattr(InOrder, "pop", lambda *a: calls.append(a[2]) or pop(*a))
    with pytest.raises(FormatError, match="the payload ends"):
        codec(frozen.model, 256).pop(Stack(), 10_000_000, None)
    assert sum(calls) < 50_000


def test_groups_of_many_items_are_found_at_once():
    model = VAE(Event((4,), 2), latent=1, hidden=(8,))
    plain, groups = codec(model, 1).groups(10**12)
    assert next(groups) == slice(0, 1)
    assert sum(rows.stop - rows.start for rows in codec(model, 1).groups(100_000)[1]) == 100_000 - plain


# Latents that are symbols.


X, Z, IMAGE = Event((5,), levels=3), Event((3,), levels=2), Event((1, 2, 2), levels=3)
ONE = Event((), levels=4)
AUTOREGRESSIVE = {
    "MADE": lambda: (likely.MADE(Z, hidden=(8,)), ConditionalSymbols(X, Z), likely.MADE(Z, X, hidden=(8,))),
    "MADE of 3 orderings": lambda: (
        likely.MADE(Z, hidden=(8,), orderings=3),
        ConditionalSymbols(X, Z),
        likely.MADE(Z, X, hidden=(8,), orderings=3),
    ),
    "GatedPixelCNN": lambda: (
        likely.GatedPixelCNN(IMAGE, channels=4, layers=1),
        ConditionalSymbols(X, IMAGE),
        likely.GatedPixelCNN(IMAGE, X, channels=4, layers=1),
    ),
    "no encoder": lambda: (likely.MADE(ONE, hidden=()), likely.MADE(X, ONE, hidden=(8,), orderings=3)),
}


@pytest.mark.parametrize("kind", AUTOREGRESSIVE)
@pytest.mark.parametrize("batch", [1, 16])
def test_what_is_inferred_symbol_by_symbol_comes_back(kind, batch):
    x = torch.randint(0, 3, (20, 5), generator=torch.Generator().manual_seed(0))
    frozen = likely.freeze(LatentVariable(*AUTOREGRESSIVE[kind]()), x)
    coded(frozen, x.numpy().astype(np.uint8), batch=batch)
    stack = Stack(12345, range(500))  # so that all is coded by the model
    before = stack.state, stack.words[:]
    codec(frozen.model, batch).push(stack, x, None)
    assert torch.equal(codec(frozen.model, batch).pop(stack, len(x), None), x)
    assert (stack.state, stack.words) == before


def test_a_discrete_latent_with_a_prior_that_is_learnt():
    """Symbols of z are popped by q(z | x); the price is the bound, which the sum over z is not far above."""
    event, z = Event((1, 2, 3), levels=3), Event((), levels=4)
    network = Perceptron((8,), "relu")
    model = LatentVariable(
        likely.IndependentPixels(z),
        ConditionalSymbols(event, z, network=network),
        ConditionalSymbols(z, event, network=network, seed=1),
    )
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(400, 6, generator=generator) < 0.3
    x = torch.randint(0, 3, (400, 1), generator=generator)
    x = torch.where(noise, torch.randint(0, 3, (400, 6), generator=generator), x).view(400, 1, 2, 3)
    likely.fit(model, x, budget="200 steps", learning_rate=1e-2)
    found = coded(likely.freeze(model, x), x.numpy().astype(np.uint8))
    assert found.stored_chunks == 0
    bits = -float(enumeration(model, x).value.sum()) / math.log(2)
    assert 8 * found.file_bytes > bits


def test_a_mixture_costs_what_it_says():
    """The component is got back by its exact posterior: ln p(x) is paid, and not a bound of it."""
    event = Event((12,), levels=(2, 3, 5) * 4)
    generator = torch.Generator().manual_seed(0)
    centres = torch.stack([torch.randint(k, (4,), generator=generator) for k in event.alphabets], 1)
    noise = torch.stack([torch.randint(k, (600,), generator=generator) for k in event.alphabets], 1)
    kept = torch.rand(600, 12, generator=generator) < 0.7
    x = torch.where(kept, centres[torch.randint(4, (600,), generator=generator)], noise)
    model = Mixture(event, components=4)
    likely.fit(model, x)
    found = coded(likely.freeze(model, x), x.numpy().astype(np.uint8))
    with torch.no_grad():
        bits = -float(model.log_prob(x).sum()) / math.log(2)
    assert found.stored_chunks == 0
    assert bits < 8 * found.file_bytes < 1.01 * bits + 8 * (220 + 2 * 4)


def test_what_cannot_be_frozen_says_why():
    normal = ConditionalNormal(Event((2,)), DIGITS, covariance="full", network=Perceptron((4,), "relu"))
    decoder = ConditionalSymbols(DIGITS, Event((2,)), network=Perceptron((4,), "relu"))
    x = torch.zeros(4, 1, 8, 8, dtype=torch.int64)
    with pytest.raises(NotImplementedError, match="full covariance"):
        likely.freeze(LatentVariable(Normal(Event((2,))), decoder, normal), x)
    with pytest.raises(NotImplementedError, match="over real values"):
        likely.freeze(VAE(Event((2,))), torch.randn(4, 2))
    with pytest.raises(NotImplementedError, match="an encoder is needed"):
        likely.freeze(LatentVariable(Normal(Event((2,))), decoder), x)
