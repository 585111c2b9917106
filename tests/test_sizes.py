"""Sizes that vary: one density for every size, strings that end, rows and batches of several sizes."""

import io
import json
import math
import pickle
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import likely
from likely import Event, InputError
from likely.catalogue import models
from likely.cli.app import main
from likely.coding import codec
from likely.coding.container import Reader, Writer
from likely.coding.layout import ManySizes
from likely.coding.stored import Prepared, stored
from likely.data import Preparation, fingerprint
from likely.data.readers import Pictures
from likely.density import Autoregressive, Steps, run, seeded
from likely.distributions import Discrete
from likely.distributions.frequencies import TOTAL, Cumulative
from likely.jobs.evaluate import score
from likely.nn import GRU, CategoricalHead, Linear, Symbols, Walk
from likely.rows import Rows
from likely.training.batches import Batches, of_any_size
from likely.training.chance import Chance

LETTERS, END = 3, 3
STRINGS = Event((None,), LETTERS + 1, end=END)
PICTURES = Event((1, None, None), 4)


class Strings(Autoregressive):
    """p(x_i | x_<i) by a GRU, which serves strings of every length."""

    varies = True

    def __init__(self, event: Event, *, hidden: int = 8, seed: int = 0) -> None:
        super().__init__(event)
        self.hidden, self.seed = hidden, seed
        with seeded(seed):
            self.symbols = Symbols(event.most_levels)
            self.recurrent, self.output = GRU(self.symbols.width, hidden, "A"), Linear(hidden, event.most_levels)
        self.head = CategoricalHead((event.most_levels,))

    def network(self, x, features=None, cache=None):
        letters = self.symbols(x[..., None])
        return self.output(self.recurrent(letters, letters.new_zeros(len(x), self.hidden), cache))

    def _conditionals(self, x: Tensor, context: Tensor | None, order: int) -> Discrete:
        return self.head(self.network(x))[:, 0]

    def _steps(self, n: int, context: Tensor | None, order: int) -> Steps:
        (length,) = self.event.sizes
        x = torch.zeros(n, length, dtype=torch.int64)
        walk = Walk(self.network, length, x[:, :0])
        for places, parameters in walk:
            for k, place in enumerate(range(places.start, places.stop)):
                x[:, place] = yield (slice(None), place), self.head(parameters[:, k])[:, 0]
            walk.newest = x[:, places]
        return x


@pytest.fixture(scope="module")
def strings() -> Strings:
    return Strings(STRINGS).double()


def pictures(n: int = 24, seed: int = 0) -> list[Tensor]:
    """Grey pictures of 4 levels and five sizes, as they are stored: bright diagonals on noise."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(5, 6), (9, 6), (7, 8), (12, 5), (6, 6)]
    found = []
    for k in range(n):
        height, width = sizes[k % len(sizes)]
        noise = torch.randint(0, 2, (height, width), generator=generator)
        stripes = (torch.arange(height)[:, None] + torch.arange(width)) % 3 == 0
        found.append((noise + 2 * stripes).byte())
    return found


def pixelcnn(**arguments) -> likely.GatedPixelCNN:
    return likely.GatedPixelCNN(PICTURES, channels=8, layers=2, first_kernel=5, kernel=3, **arguments)


PREPARATION = Preparation.infer(Rows(pictures()))


# Strings


@pytest.mark.parametrize("length", [1, 4])
def test_the_probabilities_of_all_strings_up_to_a_length_add_up_to_one(strings, length):
    rows = [
        [*letters, *[END] * (length - k)] for k in range(length + 1) for letters in product(range(LETTERS), repeat=k)
    ]
    assert len(rows) == sum(LETTERS**k for k in range(length + 1))
    assert abs(float(strings.log_prob(torch.tensor(rows)).exp().sum().detach()) - 1) < 1e-12


def test_a_strings_probability_does_not_depend_on_what_fills_it_up(strings):
    short = torch.tensor([[0, 2, END]])
    long = torch.tensor([[0, 2, END, END, END, END]])
    assert torch.equal(strings.log_prob(short), strings.log_prob(long))
    assert STRINGS.count(short).tolist() == STRINGS.count(long).tolist() == [3]


def test_the_laws_hold_of_strings_of_one_length():
    model = Strings(Event((4,), 4, end=END))
    table = likely.check_model(model)
    assert {row.name for row in table.rows if row.verdict == "kept"} >= {
        "proper, float64", "proper tables, float64", "no leak", "one conditional, float64", "same samples, float64",
        "true samples", "repeatable", "saved = loaded",
    }  # fmt: skip


def test_what_is_hidden_after_an_end_is_filled_up(strings):
    x = torch.tensor([[1, END, 0, 2], [1, 2, 0, 0]])
    observed = torch.tensor([True, True, False, False])
    completed = likely.infill(strings, x, observed)
    assert completed.exact
    assert completed.x[0].tolist() == [1, END, END, END]
    assert completed.x[1, :2].tolist() == [1, 2]


@pytest.mark.parametrize("end", [0, END])
def test_a_string_does_not_end_before_an_observed_letter(end):
    model = Strings(Event((None,), 4, end=end))
    x, observed = torch.full((200, 5), 2), torch.tensor([False, False, False, True, False])
    completed = likely.infill(model, x, observed).x
    assert torch.isfinite(model.log_prob(completed)).all()
    assert (completed[:, 3] == 2).all()
    assert set(completed[:, 4].tolist()) == {0, 1, 2, 3}


def test_a_fit_on_windows_and_strings_of_several_lengths_reaches_the_source():
    """Letters are 0 and 1 in turn, and end after each with probability 1/4; without the turns it is 2 nats more."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(400):
        length = 1
        while float(torch.rand((), generator=generator)) > 0.25:
            length += 1
        found.append(torch.cat([torch.arange(length) % 2, torch.tensor([END])]))
    settings = {"learning_rate": 0.05, "warmup": 10, "average": 0.95}
    model = likely.fit(Strings(STRINGS, hidden=16), found, budget="300 steps", batch_size=32, **settings)
    report = likely.evaluate(model, found)
    dims = sum(len(x) for x in found) / len(found)
    ends = 1 / (dims - 1)  # the source's own, of these strings
    entropy = -(math.log(ends) + (dims - 2) * math.log(1 - ends))
    assert report.dims == pytest.approx(dims)
    assert report.bits_per_dim == pytest.approx(report.nats / dims / math.log(2))
    assert report.nats < entropy + 0.2


def test_nothing_but_ends_is_drawn_after_an_end(strings):
    model = strings.of_size((6,))
    x = model.sample(200, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x, STRINGS.check(x))
    assert int(STRINGS.ended(x).any(1).sum()) > 0
    empty = strings.log_prob(torch.tensor([[END]])).exp().item()
    assert (x[:, 0] == END).double().mean().item() == pytest.approx(empty, abs=0.1)


def test_an_end_in_the_middle_of_a_string_is_refused_by_its_place(strings):
    with pytest.raises(InputError, match=r"found 1 at index \(1, 2\); nothing but the end symbol 3 is expected after"):
        strings.log_prob(torch.tensor([[0, 1, END], [0, END, 1]]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (2, 2), "levels": 4, "end": 3}, "strings of one alphabet end with a symbol"),
        ({"shape": (None,), "levels": None, "end": 3}, "strings of one alphabet end with a symbol"),
        ({"shape": (None,), "levels": 4, "end": 4}, "one of the symbols 0 to 3 is expected, found 4"),
    ],
)
def test_ends_that_end_nothing_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Event(**arguments)


def test_certain_symbols_take_all_of_a_frozen_distribution():
    p = Cumulative.of_weights(torch.tensor([[1, 2, 3], [5, 5, 5]])).certain(torch.tensor([True, False]), 1)
    edges = p.below(torch.arange(4).expand(2, 4))
    assert edges[0].tolist() == [0, 0, TOTAL, TOTAL]
    assert torch.equal(p.log_table()[0].exp(), torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    assert torch.equal(p.log_table()[1], Cumulative.of_weights(torch.tensor([5, 5, 5])).log_table())


# A density for every size


def test_a_model_of_any_size_is_a_density_of_each():
    model = pixelcnn()
    for x in pictures(5):
        x = x[None, None]
        sized = model.of_size(x.shape[1:])
        assert sized.event == Event(tuple(x.shape[1:]), 4)
        assert torch.equal(model.log_prob(x), sized.log_prob(x))
        fixed = likely.GatedPixelCNN(sized.event, channels=8, layers=2, first_kernel=5, kernel=3)
        assert torch.equal(fixed.log_prob(x), sized.log_prob(x))
        assert sized.sample(2).shape == (2, *sized.event.shape)


@torch.no_grad()
def test_steps_and_conditionals_agree_at_every_size():
    model = pixelcnn().double()
    for height, width in ((1, 1), (3, 5), (6, 2)):
        sized = model.of_size((height, width))
        x = torch.randint(4, (2, 1, height, width), generator=torch.Generator().manual_seed(0))
        p = sized.conditionals(x)

        def choose(where, q, p=p, x=x):
            assert float((q.table() - p[where].table()).abs().max()) < 1e-12
            return x[where]

        assert torch.equal(run(sized.steps(2), choose), x)


@pytest.mark.parametrize("draw", [lambda m: m.sample(2), lambda m: m.draw(2), lambda m: m.steps(2)])
def test_a_draw_without_a_size_says_how_to_give_one(draw):
    with pytest.raises(InputError, match=r"draws examples of shape \(1, any, any\): choose a size"):
        draw(pixelcnn())


def test_jobs_take_the_size_from_what_they_are_given():
    model = pixelcnn()
    generator = torch.Generator().manual_seed(0)
    assert likely.sample(model, 2, size=(3, 4), temperature=0.5, generator=generator).shape == (2, 1, 3, 4)
    noise = torch.rand(2, 1, 5, 3, generator=generator)
    assert likely.sample_from_noise(model, noise).shape == noise.shape
    x = pictures(1)[0][None, None]
    completed = likely.infill(model, x, "top", generator=generator)
    assert completed.exact
    assert torch.equal(completed.x[:, :, :2], x[:, :, :2].long())


@pytest.mark.parametrize("name", sorted(set(models()) - {"GatedPixelCNN"}))
@pytest.mark.parametrize("event", [PICTURES, STRINGS, Event((None,))], ids=["pictures", "strings", "values"])
def test_models_of_one_size_refuse_sizes_that_vary_in_one_line(name, event):
    with pytest.raises(InputError, match=f"{name} models examples of one size, found shape"):
        models()[name](event)


def test_pictures_of_several_sizes_are_refused_by_a_model_of_one():
    model = likely.MADE(Event((1, 5, 6), 4))
    rows = Rows(pictures()).prepared(lambda x: x[:, None])
    for use in (lambda: likely.fit(model, rows, budget="1 steps"), lambda: likely.evaluate(model, rows)):
        with pytest.raises(
            InputError, match=r"expected shape \(n, 1, 5, 6\), found \(24, 1, any, any\), examples of sev"
        ):
            use()


def test_sizes_are_saved_and_ends_only_where_there_are_any(tmp_path):
    likely.save(pixelcnn(), tmp_path / "run")
    arguments = json.loads((tmp_path / "run" / "config.json").read_text())["model"]["arguments"]["event"]["arguments"]
    assert arguments == {"shape": [1, None, None], "levels": 4}
    x = pictures(1)[0][None, None]
    assert torch.equal(likely.load(tmp_path / "run").log_prob(x), pixelcnn().log_prob(x))


# Rows of several sizes


def test_batches_hold_examples_of_one_size_and_every_example_once():
    rows = Rows(pictures(), context=torch.arange(24))
    assert rows.shape == (24, None, None)
    seen = []
    for places, part in zip(rows.places(3), rows.batches(3), strict=True):
        x, context = part.read()
        assert len(x) <= 3
        assert torch.equal(context, torch.as_tensor(places))
        seen += context.tolist()
        for row, number in zip(x, context.tolist(), strict=True):
            assert torch.equal(row, pictures()[number])
    assert sorted(seen) == list(range(24))


def test_scores_come_in_the_order_of_the_examples_and_count_their_own_dims():
    model = pixelcnn()
    rows = Rows(pictures()).prepared(lambda x: x[:, None])
    found = score(model, rows, batch_size=3)
    for x, nats, dims in zip(pictures(), found.nats, found.dims, strict=True):
        assert float(nats) == pytest.approx(-float(model.log_prob(x[None, None]).detach()), rel=1e-6)
        assert int(dims) == x.numel()
    report = likely.evaluate(model, rows)
    assert report.bits_per_dim == pytest.approx(float(found.nats.sum() / found.dims.sum()) / math.log(2))
    ratio, dims = found.nats.mean() / found.dims.double().mean(), found.dims.double()
    error = float((found.nats - ratio * dims).std() / math.sqrt(24) / dims.mean() / math.log(2))
    assert report.bits_per_dim_standard_error == pytest.approx(error)


def test_windows_lie_inside_their_examples_at_every_place():
    picture = torch.arange(30, dtype=torch.uint8).view(5, 6)
    other = torch.arange(16, dtype=torch.uint8).view(4, 4)
    rows, seen = Rows([picture, other]), set()
    for seed in range(200):
        window = rows.windows((2, 3), torch.Generator().manual_seed(seed))
        assert window.shape == (2, 2, 3)
        x = window.x[0]
        row, column = divmod(int(x[0, 0]), 6)
        assert torch.equal(x, picture[row : row + 2, column : column + 3])
        seen.add((row, column))
    assert len(seen) == 4 * 4


def test_what_is_smaller_than_a_window_is_taken_whole():
    rows = Rows(pictures()).windows((6, 100), torch.Generator().manual_seed(0))
    assert {tuple(size) for size in rows.sizes.tolist()} == {(5, 6), (6, 6), (6, 8), (6, 5)}


def test_every_step_of_an_epoch_is_of_one_size_and_all_examples_come():
    rows = Rows(pictures(), context=torch.arange(24))
    for crop in ((), (4,), (6, 5)):
        batches = Batches(rows, None, 4, Chance(0), crop)
        for epoch in range(2):
            steps = [batches.at(epoch * len(batches) + step) for step in range(len(batches))]
            assert sorted(torch.cat([context for _, context in steps]).tolist()) == list(range(24))
        assert any(
            not torch.equal(a[0], b[0]) for a, b in zip(steps, map(batches.at, range(len(batches))), strict=True)
        )


@pytest.mark.parametrize("crop", [(0,), (-4, 4)])
def test_a_crop_that_is_none_is_refused(crop):
    with pytest.raises(InputError, match="crop: whole numbers of at least 1"):
        likely.fit(pixelcnn(), Rows(pictures()), budget="1 steps", crop=crop)


@pytest.mark.parametrize(("data", "crop"), [(pictures(), (2, 2, 2)), (torch.zeros(9, 6, 6).long(), (3, 3, 3))])
def test_a_crop_that_does_not_fit_the_data_is_refused(data, crop):
    preparation = Preparation.infer(Rows(data), levels=4)
    with pytest.raises(InputError, match="window of 2 sizes"):
        likely.fit(pixelcnn(), Rows(data), preparation=preparation, budget="1 steps", crop=crop)


def test_several_sizes_in_one_array_are_refused_with_what_to_do():
    x = np.empty(2, dtype=object)
    x[:] = [np.zeros((2, 2)), np.zeros((3, 3))]
    with pytest.raises(InputError, match="found dtype object; give examples of several sizes as a list of arrays"):
        Rows(x)
    with pytest.raises(InputError, match=r"several sizes do not go into one array: \(5, 6\) and \(9, 6\)"):
        _ = Rows(pictures()).x


@pytest.mark.parametrize("data", [[[1, 2], [1, 2, 3]], [np.zeros((2, 2)), [1, 2, 3]], tuple(pictures())])
def test_what_is_no_list_of_arrays_is_refused(data):
    with pytest.raises(InputError, match="list"):
        Rows.of(data)


def test_a_crop_makes_every_place_vary():
    """Pictures that are as wide by chance are cropped to the same windows as all others."""
    rows = Rows([x[:, :5] for x in pictures()])
    planned = likely.plan(likely.GatedPixelCNN, rows, any_size=True, channels=4, layers=1)
    assert planned.event == PICTURES
    batches = Batches(of_any_size(rows, planned.event, planned.preparation), planned.preparation, 4, Chance(0), (4,))
    assert {tuple(batches.at(step)[0].shape[1:]) for step in range(len(batches))} == {(1, 4, 4)}


def test_a_crop_is_of_the_places_that_vary_in_the_model():
    event = Event((1, None, 6), 4)
    model = likely.GatedPixelCNN(event, channels=4, layers=1)
    x = torch.zeros(9, 6, 6).byte()
    likely.fit(model, x, preparation=Preparation.infer(x, levels=4), budget="1 steps", crop=3)
    assert model.event == event


def test_fingerprints_tell_sizes_apart():
    flat = torch.arange(12, dtype=torch.uint8)
    found = [[flat.view(3, 4), flat[:6].view(2, 3)], [flat.view(4, 3), flat[:6].view(2, 3)]]
    assert len({fingerprint(Rows(x)) for x in found}) == 2


# From a folder to a fit


def test_a_fit_on_crops_is_resumed_to_the_bit(tmp_path):
    settings = {"budget": "12 steps", "batch_size": 4, "crop": (4,), "checkpoint_every": 5, "evaluations": 2}
    preparation = Preparation.infer(Rows(pictures()))
    assert preparation.event_of(Rows(pictures())) == PICTURES
    whole = likely.fit(pixelcnn(), pictures(), preparation=preparation, **settings)

    def stop(progress):
        if progress.step == 8:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        likely.fit(pixelcnn(), pictures(), preparation=preparation, out=tmp_path / "run", watch=stop, **settings)
    resumed = likely.resume(tmp_path / "run", pictures())
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name])


@torch.no_grad()
@pytest.mark.parametrize("groups", [1, 3])
def test_raster_places_are_those_of_the_steps(groups):
    head = {1: "logistics", 3: "categorical"}[groups]
    model = likely.GatedPixelCNN(Event((3, 2, 3), 4), channels=6, layers=1, head=head)
    assert model._places(0) == Autoregressive._places(model, 0)


# In files


@pytest.fixture(scope="module")
def frozen():
    model = likely.fit(pixelcnn(), pictures(60), preparation=PREPARATION, budget="60 steps", crop=(5,))
    return likely.freeze(model, PREPARATION.rows(Rows(pictures(60))), preparation=PREPARATION)


def as_arrays(items) -> list[np.ndarray]:
    return [np.asarray(item) for item in items]


def same(found, items) -> bool:
    pairs = zip(found, as_arrays(items), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def compressed(frozen, items, **settings) -> tuple[io.BytesIO, Any]:
    file = io.BytesIO()
    found = likely.compress(frozen, items, file, **settings)
    file.seek(0)
    return file, found


@pytest.mark.parametrize("chunk_items", [None, 1, 5, 24])
def test_items_of_several_sizes_come_back(frozen, chunk_items):
    file, found = compressed(frozen, as_arrays(pictures(24, seed=1)), chunk_items=chunk_items)
    assert found.dims == pytest.approx(sum(x.numel() for x in pictures(24)) / 24)
    assert same(likely.decompress(file, frozen), pictures(24, seed=1))
    file.seek(0)
    assert same(likely.decompress(file, frozen, items=(7, 12)), pictures(24, seed=1)[7:12])


def test_processes_share_items_of_several_sizes(frozen, monkeypatch):
    """What a process is sent, is all that it needs."""
    alone, _ = compressed(frozen, as_arrays(pictures(24)), chunk_items=6)

    def sent(task, coder, parts, workers):
        assert workers == 2
        twin = pickle.loads(pickle.dumps(coder))
        twin.frozen, twin.codecs = frozen, {}
        return (task(twin, pickle.loads(pickle.dumps(part))) for part in parts)

    monkeypatch.setattr(codec, "spread", sent)
    file, _ = compressed(frozen, as_arrays(pictures(24)), chunk_items=6, workers=2)
    assert file.getvalue() == alone.getvalue()
    assert same(likely.decompress(file, frozen, workers=2), pictures(24))


def test_a_file_takes_the_models_bits_and_a_few_for_every_size(frozen):
    items = pictures(200, seed=2)
    file, _ = compressed(frozen, as_arrays(items))
    bits = -sum(float(frozen.model.log_prob(x[None, None]).sum()) for x in items) / math.log(2)
    sizes = 200 * (4 + 4)  # of up to 12 × 8
    chunk = next(Reader(file).chunks())
    assert len(chunk.payload) * 8 <= 1.001 * bits + sizes + 96


def test_what_the_model_would_enlarge_is_stored_and_comes_back(frozen):
    items = [torch.zeros(300, 300).byte(), torch.zeros(200, 300).byte()]
    file, found = compressed(frozen, as_arrays(items), with_model=True)
    assert found.stored_chunks == 1
    assert same(likely.decompress(file), items)


def test_an_array_of_one_size_is_coded_by_a_model_of_any(frozen):
    x = np.stack(as_arrays(pictures(24))[::5])
    file, _ = compressed(frozen, x)
    assert np.array_equal(likely.decompress(file, frozen), x)
    assert Reader(io.BytesIO(file.getvalue())).header.shape == x.shape


def test_contexts_go_with_items_of_several_sizes():
    labels = torch.arange(24) % 3
    model = pixelcnn(context=Event((), 3))
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    frozen = likely.freeze(model, PREPARATION.rows(Rows(pictures(), labels)), preparation=PREPARATION)
    for settings in ({}, {"side_information": True}):
        file, _ = compressed(frozen, as_arrays(pictures()), context=labels, chunk_items=10, **settings)
        given = {"context": labels} if settings else {}
        assert same(likely.decompress(file, frozen, **given), pictures())


def test_strings_are_coded_up_to_their_end():
    """What fills a string up costs nothing: the file of strings is no longer than their probability says."""
    model = Strings(Event((12,), 4, end=END), hidden=8)
    x = model.sample(400, generator=torch.Generator().manual_seed(0))
    frozen = likely.freeze(model, x)
    file, _ = compressed(frozen, x.numpy().astype(np.uint8))
    assert np.array_equal(likely.decompress(file, frozen), x.numpy())
    bits = -float(frozen.model.log_prob(x).sum()) / math.log(2)
    file.seek(0)
    assert len(next(Reader(file).chunks()).payload) * 8 <= 1.001 * bits + 96


@pytest.mark.parametrize("shapes", [[(1, 2), (3, 1)], [(7, 7)] * 3, [(2, 3), (1, 1), (7, 1)], [(1, 1)] * 9])
def test_sizes_are_one_number_the_first_in_its_highest_bits(shapes):
    sizes = ManySizes((None, None), (3, 3), 1000)
    layout = sizes.of([np.zeros(shape) for shape in shapes])
    number = 0
    for size in sum(shapes, ()):
        number = number << 3 | size
    assert layout.prefix == number.to_bytes(-(-6 * len(shapes) // 8), "little")
    back, rest = sizes.before(layout.prefix + b"rest", len(shapes))
    assert back.shapes == shapes
    assert rest == b"rest"


def test_binarised_items_of_several_sizes_come_back():
    grey = [x * 60 for x in pictures()]
    preparation = Preparation.infer(Rows(grey), binarize="stochastic")
    model = likely.GatedPixelCNN(Event((1, None, None), 2), channels=4, layers=1)
    generator = torch.Generator().manual_seed(0)
    frozen = likely.freeze(model, preparation.rows(Rows(grey), generator), preparation=preparation)
    rows = Prepared(stored(as_arrays(grey)), preparation, 0)
    file, found = compressed(frozen, rows, prepared=True, chunk_items=7)
    assert found.raw_bytes == sum(x.numel() for x in grey)
    back = likely.decompress(file, frozen)
    assert [x.shape for x in back] == [tuple(x.shape) for x in grey]
    assert same(back, rows.read(0, 24))
    assert {int(x.max()) for x in back} == {1}


def test_prepared_rows_of_several_sizes_are_coded_as_they_are_read():
    frozen = likely.freeze(pixelcnn(), PREPARATION.rows(Rows(pictures())))
    file, _ = compressed(frozen, PREPARATION.rows(Rows(pictures())))
    assert same(likely.decompress(file, frozen), [x[None] for x in pictures()])


@pytest.mark.parametrize("byte", [0, 1, 3, 10, -1])
def test_damaged_sizes_and_payloads_are_refused(frozen, byte):
    file, _ = compressed(frozen, as_arrays(pictures(6)))
    header = Reader(file).header
    chunk = next(Reader(io.BytesIO(file.getvalue())).chunks())
    payload = bytearray(chunk.payload)
    payload[byte] ^= 0x21
    damaged = io.BytesIO()
    writer = Writer(damaged, header)
    writer.add(replace(chunk, payload=bytes(payload)))
    writer.close()
    damaged.seek(0)
    with pytest.raises(likely.FormatError):
        likely.decompress(damaged, frozen)


@pytest.mark.parametrize(
    "sizes",
    [
        7,
        {},
        {"shape": [None, None], "bits": [4], "values": 900},
        {"shape": [5, 6], "bits": [], "values": 900},
        {"shape": [None, None], "bits": [4, 99], "values": 900},
        {"shape": [None, "a"], "bits": [4], "values": 900},
        {"shape": [None, None], "bits": [4, 4], "values": -1},
        {"shape": [None, None], "bits": [4, 4], "values": 10},
        {"shape": [None, None], "bits": [3, 3], "values": 900},
        {"shape": [None, None], "bits": [4, 4], "values": 1 << 40},
    ],
)
def test_a_header_that_says_wrong_sizes_is_refused(frozen, sizes):
    file, _ = compressed(frozen, as_arrays(pictures(6)))
    reader = Reader(file)
    forged = io.BytesIO()
    writer = Writer(forged, replace(reader.header, meta={"sizes": sizes}))
    for chunk in reader.chunks():
        writer.add(chunk)
    writer.close()
    forged.seek(0)
    with pytest.raises(likely.FormatError):
        likely.decompress(forged, frozen)


def test_a_damaged_chunk_of_several_sizes_is_lost_alone(frozen):
    file, _ = compressed(frozen, as_arrays(pictures(24)), chunk_items=6)
    content = bytearray(file.getvalue())
    content[content.index(b"CHNK", content.index(b"CHNK") + 1) + 40] ^= 1
    found, lost = likely.recover(io.BytesIO(content), frozen)
    assert lost == [range(6, 12)]
    assert same(found, pictures(24)[:6] + pictures(24)[12:])


# From the command line


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(pictures(24)):
        Image.fromarray(picture.numpy() * 85).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def fitted(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "any"
    small = ["--channels", "8", "--layers", "2", "--kernel", "3", "--first-kernel", "5"]
    assert cli("fit", "gated-pixelcnn", folder, "--crop", "5", "--budget", "30 steps", "--out", out, *small) == 0
    return out


def cli(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code


def test_a_folder_of_pictures_of_several_sizes_from_fit_to_file_and_back(folder, fitted, tmp_path, capsys):
    assert cli("eval", fitted, folder, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["dims"] == pytest.approx(sum(x.numel() for x in pictures()) / 24)
    assert report["bits_per_dim"] < 8

    assert cli("sample", fitted, "-n", 2, "--size", "6,9", "-o", tmp_path / "samples.npy") == 0
    assert np.load(tmp_path / "samples.npy").shape == (2, 6, 9)

    assert cli("infill", fitted, folder, "--observed", "top", "-n", 6, "-o", tmp_path / "completed.npz") == 0
    with np.load(tmp_path / "completed.npz") as completed:
        for picture, name in zip(pictures(6), completed, strict=True):
            top = len(picture) // 2
            assert np.array_equal(completed[name][:top], picture[:top].numpy() * 85)
    assert cli("infill", fitted, folder, "--observed", "left", "-n", 6, "-o", tmp_path / "completed.png") == 0

    assert cli("compress", fitted, folder, "-o", tmp_path / "pictures.lk") == 0
    assert cli("inspect", tmp_path / "pictures.lk", "--verify", "--model", fitted, "--json") == 0
    for out in (tmp_path / "back", tmp_path / "back.npz"):
        assert cli("decompress", tmp_path / "pictures.lk", "--model", fitted, "-o", out) == 0
    with np.load(tmp_path / "back.npz") as back:
        assert same([back[name] for name in back], [x * 85 for x in pictures()])
    files = sorted((tmp_path / "back").iterdir())
    assert same([np.array(Image.open(file)) for file in files], [x * 85 for x in pictures()])


def test_pictures_that_are_of_one_size_by_chance_are_cropped_too(tmp_path):
    for number in range(9):
        Image.fromarray(np.full((8, 8), number, np.uint8) * 28).save(tmp_path / f"{number}.png")
    small = ["--channels", "4", "--layers", "1", "--out", tmp_path / "run"]
    assert cli("fit", "gated-pixelcnn", tmp_path, "--crop", "4", "--budget", "2 steps", *small) == 0
    assert likely.load(tmp_path / "run").event == Event((1, None, None), 256)


def test_pictures_are_not_written_into_a_folder_that_holds_something(folder, fitted, tmp_path, capsys):
    assert cli("compress", fitted, folder, "-o", tmp_path / "x.lk") == 0
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "mine.txt").write_text("mine")
    capsys.readouterr()
    assert cli("decompress", tmp_path / "x.lk", "--model", fitted, "-o", tmp_path / "back", "--force") == 2
    assert "pictures go into a new folder" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "x.lk"]
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["mine.txt"]


def test_a_picture_that_changes_its_size_is_named(tmp_path):
    for number, size in enumerate([(5, 6), (7, 8)]):
        Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / f"{number}.png")
    rows = Rows(Pictures([str(file) for file in sorted(tmp_path.iterdir())]))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"1.png: expected 8×7 L, as it was before, found 9×9 L"):
        rows[1:].read()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "RUN", "-o", "x.png"], "--size HEIGHT,WIDTH is expected"),
        (["sample", "RUN", "--size", "3", "-o", "x.png"], "examples of shape (1, any, any) are expected, found (3,)"),
        (["sample", "RUN", "--size", "a,b", "-o", "x.png"], "--size: HEIGHT,WIDTH is expected"),
        (["infill", "RUN", "FOLDER", "--observed", "top", "-o", "x.npy"], "go into a .npz file or a picture"),
        (["decompress", "LK", "--model", "RUN", "-o", "x.npy"], "a .npz file or a new folder is expected, found"),
        (["decompress", "LK", "--model", "RUN", "-o", "-"], "a .npz file or a new folder is expected, found -"),
        (
            ["fit", "made", "FOLDER", "--budget", "1 steps"],
            "MADE models examples of one size, found shape (1, any, any)",
        ),
    ],
)
def test_what_sizes_that_vary_cannot_do_is_said_in_one_line(arguments, message, folder, fitted, tmp_path, capsys):
    if "LK" in arguments:
        assert cli("compress", fitted, folder, "-o", tmp_path / "LK", "--chunk-items", "8") == 0
    names = {"RUN": fitted, "FOLDER": folder, "LK": tmp_path / "LK"}
    capsys.readouterr()
    out = [names.get(part, tmp_path / part if part.startswith("x.") else part) for part in arguments]
    assert cli(*out) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_run_is_frozen_again_by_pictures_of_several_sizes(folder, fitted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(fitted, run)
    (run / "frozen.safetensors").unlink()
    assert cli("freeze", run, folder) == 0
    assert likely.Frozen.load(run).model.event == likely.load(run).event


def test_a_header_that_says_wrong_sizes_is_refused_where_it_is_shown(frozen, tmp_path, capsys):
    reader = Reader(compressed(frozen, as_arrays(pictures(6)))[0])
    forged = io.BytesIO()
    writer = Writer(forged, replace(reader.header, meta={"sizes": {"values": 3}}))
    for chunk in reader.chunks():
        writer.add(chunk)
    writer.close()
    (tmp_path / "forged.lk").write_bytes(forged.getvalue())
    assert cli("inspect", tmp_path / "forged.lk") == 2
    error = capsys.readouterr().err
    assert "does not say what sizes its items have" in error
    assert error.count("\n") == 1
