"""Data of every form become rows: what was given is what is read, by position; what is missing is refused by name."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import likely
from likely import Rows
from likely.errors import InputError

X = np.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize(
    "given",
    [
        X[::-1][::-1],
        X[:, ::-1][:, ::-1],
        np.asfortranarray(X),
        X.astype(">f8"),
        X.astype(">i4"),
        X.astype(np.longdouble),
        X.astype(np.float16),
        np.broadcast_to(X, X.shape),
        np.ma.masked_array(X, mask=False),
        X.tolist(),
        list(X),
        list(X.astype(">i4")),
        [row[::-1] for row in X[:, ::-1]],
        [torch.tensor(row) for row in X],
        scipy.sparse.csr_array(X),
        scipy.sparse.coo_matrix(X),
        scipy.sparse.csc_array(X.astype(np.int32)),
        memoryview(X),
        (row for row in X),
        map(list, X),
        iter(torch.tensor(X)),
    ],
    ids=lambda given: type(given).__name__,
)
def test_rows_are_what_was_given(given):
    rows = Rows.of(given)
    assert np.array_equal(rows.x, X)
    assert np.array_equal(rows[torch.tensor([4, 1])].x, X[[4, 1]])
    assert np.array_equal(rows[2:4].x, X[2:4])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.ma.masked_array(X, mask=X == 5), ["1 missing values (masked)", "[2, 1]"]),
        (np.array([["a", "b"]]), ["array of numbers", "<U1"]),
        (np.array([[1, None]], object), ["array of numbers", "object"]),
        (np.array([1j]), ["complex128"]),
        (np.array(["2024-01-01"], "M8[D]"), ["array of numbers", "datetime64"]),
        (scipy.sparse.csr_array(X * 1j), ["complex128"]),
        ([Fraction(1, 3)], ["data"]),
        (iter([]), ["empty"]),
        ("digits", ["str", "likely.data.load"]),
        ({"a": 1}, ["dict"]),
        (3, ["int"]),
        (None, ["NoneType"]),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_rows_of_numbers_is_one_line(given, words):
    with pytest.raises(InputError) as caught:
        Rows.of(given)
    said = str(caught.value)
    assert "\n" not in said
    assert all(word in said for word in words), said


def test_masks_are_never_dropped():
    masked, event = np.ma.masked_array(X, mask=X == 5), likely.Event((2,))
    with pytest.raises(InputError, match=r"1 missing values \(masked\), the first at \[2, 1\]"):
        event.check(masked)
    with pytest.raises(InputError, match="missing values"):
        Rows([masked[0], masked[2]])
    assert np.array_equal(event.check(np.ma.masked_array(X)), X)


def frames(**columns):
    """The same table as a frame of each library that is installed."""
    found = {}
    for name in ("pandas", "polars"):
        library = pytest.importorskip(name, reason="pip install 'likely[test]'")
        found[name] = library.DataFrame(columns)
    arrow = pytest.importorskip("pyarrow", reason="pip install 'likely[data]'")
    return found | {"pyarrow": arrow.table(columns)}


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_frames_keep_their_names(library):
    frame = frames(a=[1, 2, 3], b=[0.5, 1.5, -2.5], c=[True, False, True])[library]
    rows = Rows(frame)
    assert rows.x.tolist() == [[1, 0.5, 1], [2, 1.5, 0], [3, -2.5, 1]]
    assert rows.names == ("a", "b", "c")
    assert likely.data.Preparation.infer(rows, real=True).names == ("a", "b", "c")


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_what_is_missing_in_a_frame_is_named(library):
    with pytest.raises(InputError, match=r'column "b": 1 missing values, the first in row 1; '):
        Rows(frames(a=[1, 2, 3], b=[1, None, 3])[library])
    with pytest.raises(InputError, match=r'column "b": numbers are expected, found'):
        Rows(frames(a=[1, 2, 3], b=["x", "y", "z"])[library])


def test_frames_are_taken_by_position_whatever_their_index():
    pandas = pytest.importorskip("pandas", reason="pip install 'likely[test]'")
    frame = pandas.DataFrame({"x": range(10), "y": range(10, 20), "label": [0, 1] * 5}).sort_index(ascending=False)
    chosen = frame[frame.label == 1]
    rows = Rows(chosen[["x", "y"]], chosen.label)
    assert rows.x[:, 0].tolist() == [9, 7, 5, 3, 1]
    assert rows.context.tolist() == [1] * 5
    nullable = pandas.DataFrame({"a": pandas.array([1, 2], "Int64"), "b": pandas.array([True, False], "boolean")})
    assert Rows(nullable).x.tolist() == [[1, 1], [2, 0]]
    twice = pandas.DataFrame([[1, 2], [3, 4]], columns=["a", "a"])
    assert Rows(twice).x.tolist() == [[1, 2], [3, 4]]


def test_arrays_with_fields_are_tables():
    array = np.array([(1, 0.5), (2, 1.5)], [("a", ">i4"), ("b", "<f8")])
    rows = Rows(array)
    assert rows.x.tolist() == [[1, 0.5], [2, 1.5]]
    assert rows.names == ("a", "b")


class Pairs(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, number):
        if number >= len(X):
            raise IndexError(number)
        return torch.tensor(X[number]), number % 3


class Stream(IterableDataset):
    def __iter__(self):
        return ((torch.tensor(row), number % 3) for number, row in enumerate(X))


@pytest.mark.parametrize("given", [Pairs(), DataLoader(Pairs(), 4), Stream(), DataLoader(Stream(), 4), iter(Pairs())])
def test_data_sets_and_loaders_of_pairs(given):
    rows = Rows.of(given)
    assert np.array_equal(rows.x, X)
    assert rows.context.tolist() == [0, 1, 2, 0, 1, 2]


def test_a_data_set_is_fitted_as_its_tensor_is():
    x = torch.tensor(X)
    models = [likely.densities.bases.Normal(likely.Event((2,))) for _ in range(2)]
    event = likely.Event((2,))
    models = [likely.flows.AffineFlow(event) for _ in range(2)]
    noise = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    for model, data in zip(models, (x + noise, TensorDataset(x + noise)), strict=True):
        likely.fit(model, data)
    assert torch.equal(models[0].log_prob(x), models[1].log_prob(x))


def test_sparse_rows_are_filled_when_they_are_read():
    matrix = scipy.sparse.random_array((1000, 50), density=0.01, rng=np.random.default_rng(0), format="csr")
    rows = Rows(matrix)
    assert not rows.in_memory
    assert np.array_equal(rows[10:30].x, matrix.toarray()[10:30])
