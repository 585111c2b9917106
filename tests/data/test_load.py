"""Which rows a name or a path means, and what is said about them."""

import numpy as np
import pytest
import torch
from PIL import Image

from likely.data import Data, fingerprint, load, load_validation, source_of, validation
from likely.errors import InputError
from likely.rows import Source


def rows(start, n, *shape):
    return (np.arange(start, start + n).reshape(n, *[1] * len(shape)) + np.zeros(shape, int)).astype(np.uint8)


@pytest.fixture
def splits(tmp_path):
    """A file with three splits of images and labels; row i holds i in its image and i + 100 in its label."""
    path = tmp_path / "all.npz"
    parts = {"train": (0, 10), "valid": (10, 4), "test": (14, 3)}
    arrays = {f"{name}_images": rows(*part, 2, 2) for name, part in parts.items()}
    labels = {f"{name}_labels": rows(start + 100, n) for name, (start, n) in parts.items()}
    np.savez(path, **arrays, **labels)
    return str(path)


def first(data):
    return int(data.x.flatten()[0]), len(data.x)


def test_digits_splits():
    train, test, every = load("digits", "train"), load("digits", "test"), load("digits:all", "test")
    assert (train.source, test.source, every.source) == ("digits:train", "digits:test", "digits:all")
    assert train.note == "digits:train, the first 1,500 of 1,797"
    assert test.note == "digits:test, the last 297 of 1,797"
    assert torch.equal(torch.cat([train.x, test.x]), every.x)
    assert (train.x.shape, train.x.dtype, train.context) == ((1500, 8, 8), torch.uint8, None)
    assert torch.equal(load("digits:test", "train").x, test.x)
    assert int(every.x.max()) == 16


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    expected = load_digits()
    every = load("digits:all", "train", context="digits:labels")
    assert np.array_equal(every.x, expected.images)
    assert np.array_equal(every.context, expected.target)


def test_labels_follow_the_split_of_the_data():
    every = load("digits:all", "train", context="digits:labels")
    train, test = (load("digits", role, context="digits:labels") for role in ("train", "test"))
    again = load("digits:test", "train", context="digits:labels")
    assert torch.equal(torch.cat([train.context, test.context]), every.context)
    assert torch.equal(again.context, test.context)


@pytest.mark.parametrize(
    ("key", "role", "expected", "said"),
    [
        ("", "train", (0, 10), "the file's train split"),
        ("", "test", (14, 3), "the file's test split"),
        (":test", "train", (14, 3), "the only data of its test split"),
        (":valid", "test", (10, 4), "the only data of its valid split"),
        (":train_images", "test", (0, 10), "all.npz:train_images, 10 rows"),
        (":test_labels", "train", (114, 3), "all.npz:test_labels, 3 rows"),
    ],
)
def test_splits_by_name(splits, key, role, expected, said):
    data = load(splits + key, role)
    assert first(data) == expected
    assert said in data.note
    assert data.source.startswith(f"{splits}:")


@pytest.mark.parametrize(
    ("data", "context", "label"),
    [
        ("", ":labels", 100),
        (":test", ":labels", 114),
        (":train_images", ":train_labels", 100),
        (":test", ":test_labels", 114),
        ("", "", 0),
    ],
)
def test_context_is_aligned(splits, data, context, label):
    found = load(splits + data, "train", context=splits + context)
    assert len(found.context) == len(found.x)
    assert int(found.context.flatten()[0]) == label


def test_sources_load_the_same_again(splits):
    for data, role, context in [
        (splits, "train", ":labels"),
        ("digits", "test", "digits:labels"),
        (":valid", "train", ""),
    ]:
        data = splits + data if data.startswith(":") else data
        context = splits + context if not context.startswith("digits") else context
        found = load(data, role, context=None if context == splits else context)
        for other in ("train", "test"):
            again = load(found.source, other, context=found.context_source)
            assert fingerprint(again) == fingerprint(found)
            assert (again.source, again.context_source) == (found.source, found.context_source)


def test_context_of_other_rows_is_refused(splits, tmp_path):
    with pytest.raises(InputError, match="context of the test split is expected, found train_labels"):
        load(splits, "test", context=f"{splits}:train_labels")
    np.save(tmp_path / "nine.npy", np.arange(9))
    with pytest.raises(InputError, match=r"one value per row is expected, found 9 in nine\.npy for 10 rows of"):
        load(splits, "train", context=str(tmp_path / "nine.npy"))
    with pytest.raises(InputError, match="no such context"):
        load("digits", "train", context="digits:test")


@pytest.mark.parametrize("names", [["x_train", "x_test", "y_train", "y_test"], ["training", "testing", "training_y"]])
def test_other_ways_to_name_splits(tmp_path, names):
    np.savez(tmp_path / "a.npz", **{name: rows(i, 5, 2) for i, name in enumerate(names)})
    assert first(load(f"{tmp_path}/a.npz", "train"))[0] == 0
    assert first(load(f"{tmp_path}/a.npz", "test"))[0] == 1


def test_a_single_array_is_used_whole_and_said_so(tmp_path):
    np.save(tmp_path / "a.npy", rows(0, 5, 3))
    np.savez(tmp_path / "b.npz", X=rows(0, 5, 3), y=rows(7, 5))
    (tmp_path / "c.csv").write_text("1,2\n3,4\n")
    for role in ("train", "test"):
        assert load(f"{tmp_path}/a.npy", role).note == "a.npy, 5 rows, all of it: it has no splits by name"
        assert load(f"{tmp_path}/b.npz", role).note == f"b.npz:X, 5 rows, all of it: it has no {role} split by name"
        assert load(f"{tmp_path}/c.csv", role).x.tolist() == [[1, 2], [3, 4]]
    assert load(f"{tmp_path}/b.npz", "test", context=f"{tmp_path}/b.npz:y").context.tolist() == [7, 8, 9, 10, 11]


def test_folders_of_images(tmp_path):
    for split, n in [("train", 3), ("valid", 2), ("test", 1)]:
        (tmp_path / split).mkdir()
        for i in range(n):
            Image.fromarray(rows(i, 4, 5)).save(tmp_path / split / f"{i}.png")
    (tmp_path / "train" / "notes.txt").write_text("")
    assert load(str(tmp_path), "train").x.shape == (3, 4, 5)
    assert load(f"{tmp_path}:test", "train").x.shape == (1, 4, 5)
    assert load_validation(str(tmp_path)).x.shape == (2, 4, 5)
    assert (
        load(f"{tmp_path}/train", "test").note
        == "train, 3 rows, all of it: it has no splits by name; other files left out: 1"
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("digit", ["no such file, folder or name", 'did you mean "digits"?']),
        ("digit:train", ["digit: no such file", 'did you mean "digits"?']),
        ("digits:tset", ["no array 'tset'", 'did you mean "test"?', "all, test, train"]),
        ("nothing/here.npy", ["nothing/here.npy", "no such file, folder or name"]),
        ("{splits}:test_image", ['did you mean "test_images"?', "valid_labels"]),
        ("{folder}/al.npz", ['did you mean "{folder}/all.npz"?']),
        ("{folder}/one.npy:x", ["a single array without a name", "leave out 'x'"]),
        ("{folder}/loose.npz", ["no array is named as the train data", "there are a, b"]),
        ("{folder}/two.npz", ["2 arrays could be the train data", "train_a, train_b"]),
        ("{folder}/two.npz:train", ["no array 'train'", "train_a, train_b"]),
        ("{folder}/empty.npy", ["at least one row", "(0, 4)"]),
        ("{folder}/scalar.npy", ["at least one row", "()"]),
        ("{folder}/large.npy", ["below 2^63"]),
    ],
)
def test_what_is_not_there_or_not_clear(splits, tmp_path, data, words):
    np.save(tmp_path / "one.npy", rows(0, 4))
    np.save(tmp_path / "empty.npy", np.zeros((0, 4)))
    np.save(tmp_path / "scalar.npy", np.zeros(()))
    np.save(tmp_path / "large.npy", np.array([2**63], np.uint64))
    np.savez(tmp_path / "loose.npz", a=rows(0, 4), b=rows(0, 4))
    np.savez(tmp_path / "two.npz", train_a=rows(0, 4), train_b=rows(0, 4))
    with pytest.raises(InputError) as caught:
        load(data.format(splits=splits, folder=tmp_path), "train")
    said = str(caught.value)
    assert "\n" not in said
    assert all(word.format(folder=tmp_path) in said for word in words), said


@pytest.mark.parametrize("dtype", ["bool", "uint16", "uint32", "uint64", ">i4", ">f4", "float16", "longdouble"])
def test_every_dtype_becomes_one_that_torch_computes_with(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.asfortranarray(np.array([[0, 1], [1, 0], [1, 1]], dtype)))
    x = load(f"{tmp_path}/a.npy", "train").x
    assert x.max() == 1
    assert x.tolist() == [[0, 1], [1, 0], [1, 1]]


def test_validation_of_the_file(splits):
    found = load_validation(splits)
    assert first(found) == (10, 4)
    assert found.context is None
    assert first(load_validation(f"{splits}:train")) == (10, 4)
    for context in (":labels", ":train_labels"):
        assert int(load_validation(splits, context=splits + context).context[0]) == 110
    assert load_validation(f"{splits}:test") is None
    assert load_validation("digits") is None
    assert load_validation("ising") is None


def test_no_validation_where_the_context_has_none(splits, tmp_path):
    np.save(tmp_path / "ten.npy", np.arange(10))
    assert load_validation(splits, context=f"{tmp_path}/ten.npy") is None


def test_seeded_validation():
    data = load("digits", "train", context="digits:labels")
    state = torch.get_rng_state()
    train, valid = validation(data, 0.1, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert (len(train.x), len(valid.x), len(train.context), len(valid.context)) == (1350, 150, 1350, 150)
    assert "150 rows: a seeded 10 % (seed 3) held out" in valid.note
    pairs = [
        [(tuple(x.flatten().tolist()), int(c)) for x, c in zip(d.x, d.context, strict=True)] for d in (train, valid)
    ]
    whole = [(tuple(x.flatten().tolist()), int(c)) for x, c in zip(data.x, data.context, strict=True)]
    assert sorted(pairs[0] + pairs[1]) == sorted(whole)
    assert torch.equal(validation(data, 0.1, seed=3)[1].x, valid.x)
    assert not torch.equal(validation(data, 0.1, seed=4)[1].x, valid.x)


def test_a_fraction_that_leaves_nothing_is_refused():
    data = Data(torch.arange(3), None, "", "")
    assert [len(part.x) for part in validation(data, 0.01, 0)] == [2, 1]
    assert [len(part.x) for part in validation(data, 0.99, 0)] == [1, 2]
    for n, fraction in [(3, 0.0), (3, 1.0), (1, 0.5)]:
        with pytest.raises(InputError, match="fraction between 0 and 1"):
            validation(Data(torch.arange(n), None, "", ""), fraction, 0)


def test_fingerprint_sees_values_shape_dtype_and_context():
    x = torch.arange(6, dtype=torch.uint8)
    variants = [
        (x, None),
        (x.view(2, 3), None),
        (x.view(3, 2), None),
        (x.to(torch.int16), None),
        (x.flip(0), None),
        (x, x),
        (x, x.flip(0)),
        (torch.cat([x, x]), None),
    ]
    prints = [fingerprint(Data(x, context, "", "")) for x, context in variants]
    assert len(set(prints)) == len(variants)
    assert fingerprint(Data(x.clone(), None, "elsewhere", "said otherwise")) == prints[0]
    assert fingerprint(Data(x.view(2, 3).t().contiguous().t(), None, "", "")) == prints[1]
    assert all(len(one) == 64 for one in prints)


def test_generated_data_are_draws_of_their_source():
    train, test = load("ising", "train"), load("ising:test", "train")
    assert (train.x.shape, test.x.shape, train.x.dtype) == ((20_000, 1, 4, 4), (5_000, 1, 4, 4), torch.uint8)
    assert train.note == "ising:train, 20,000 draws of the source, seed 70001"
    assert torch.equal(load("ising", "train").x, train.x)
    assert not torch.equal(train.x[:5000], test.x)
    source = source_of(test.source)
    nats = -source.log_prob(test.x)
    assert abs(nats.mean() - source.entropy()) < 4 * nats.std() / len(nats) ** 0.5
    assert source_of("digits") is None
    assert source_of("colour-chain").event.shape == load("colour-chain", "test").x.shape[1:]


def test_repr_says_what_it_is():
    said = repr(load("digits", "test", context="digits:labels"))
    assert said == "Data(digits:test, the last 297 of 1,797; x (297, 8, 8) uint8, context (297,))"


class Unread(Source):
    """Rows that nobody may read."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, rows):
        raise AssertionError("read")


def test_repr_reads_nothing():
    data = Data(Unread((10**9, 28, 28), torch.uint8), Unread((10**9, 3), torch.float32))
    assert repr(data[:5]) == "Data(given in Python; x (5, 28, 28) uint8, context (5, 3))"
