"""Arrays are compressed and come back a part at a time: from files that may shrink, and in bounded memory."""

import io
import tracemalloc

import numpy as np
import pytest
import torch
from frozen_models import drawn, frozen

from likely.classical import SymbolHistogram
from likely.coding import chunks
from likely.coding.chunks import ChunkCoder
from likely.coding.codec import compress, decompress_parts
from likely.coding.container import Reader
from likely.coding.frozen import freeze
from likely.coding.stored import InFile, InMemory, Prepared, stored
from likely.data import Preparation
from likely.errors import InputError
from likely.event import Event
from likely.rows import Rows

MODEL = "histogram 2x3 binary"


def on_disk(path, n: int = 40) -> np.ndarray:
    """A memory map of examples."""
    x, _ = drawn(frozen(MODEL).model, n, seed=11)
    np.save(path, x.numpy().astype(np.uint8))
    return np.load(path, mmap_mode="r")


def written(data, **options) -> bytes:
    file = io.BytesIO()
    compress(frozen(MODEL), data, file, **options)
    return file.getvalue()


def test_a_memory_map_is_read_from_its_file_to_the_same_bytes(tmp_path):
    data = on_disk(tmp_path / "x.npy")
    assert isinstance(stored(data), InFile)
    assert isinstance(stored(data.copy()), InMemory)
    assert written(data, chunk_items=7) == written(np.array(data), chunk_items=7)


@pytest.mark.parametrize("dtype", ["|b1", "<u2", ">u2", "<i8", ">f4", "<f2"])
def test_files_keep_their_dtype_and_byte_order(tmp_path, dtype):
    expected = on_disk(tmp_path / "bytes.npy").astype(dtype)
    expected.tofile(tmp_path / "raw")
    mapped = np.memmap(tmp_path / "raw", dtype, "r", shape=expected.shape)
    found = stored(mapped)
    assert (found.dtype.str, found.shape, len(found)) == (dtype, expected.shape, len(expected))
    assert found.read(3, 9).tobytes() == expected[3:9].tobytes()


@pytest.mark.parametrize("when", ["before", "while it is written"])
def test_a_file_that_shrinks_is_an_error_and_leaves_the_old_file(tmp_path, monkeypatch, when):
    """Through a memory map it would end the process."""
    path, out = tmp_path / "x.npy", tmp_path / "x.lk"
    data, check = on_disk(path), ChunkCoder.check
    out.write_bytes(b"before")

    def shrink() -> None:
        with open(path, "r+b") as file:
            file.truncate(200)

    def check_and_shrink(coder: ChunkCoder, rows: InFile) -> None:
        check(coder, rows)
        shrink()

    if when == "before":
        shrink()
    else:
        monkeypatch.setattr(ChunkCoder, "check", check_and_shrink)
    with pytest.raises(InputError, match="the file is shorter than it was") as caught:
        compress(frozen(MODEL), data, out, chunk_items=5)
    assert "\n" not in str(caught.value)
    assert out.read_bytes() == b"before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.lk", "x.npy"]


def test_a_chunk_is_decoded_when_it_is_asked_for(tmp_path, monkeypatch):
    file, decode, done = written(on_disk(tmp_path / "x.npy"), chunk_items=10), ChunkCoder.decode, []

    def counted(coder: ChunkCoder, part) -> np.ndarray:
        done.append(part[1].index)
        return decode(coder, part)

    monkeypatch.setattr(ChunkCoder, "decode", counted)
    parts = decompress_parts(Reader(io.BytesIO(file)), frozen(MODEL), items=(13, 40))
    assert done == []
    assert [(len(part), list(done)) for part in parts] == [(7, [1]), (10, [1, 2]), (10, [1, 2, 3])]


def test_memory_does_not_grow_with_the_array(tmp_path, monkeypatch):
    """Eight times as many chunks take hardly more memory, in either direction."""
    monkeypatch.setattr(chunks, "RAW_CHUNK", 1 << 13)
    model = freeze(SymbolHistogram(Event((64,), 16)), torch.zeros(1, 64, dtype=torch.int64))
    peaks = {}
    for n in (512, 512, 4096):  # the first one fills caches
        np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 16, (n, 64), np.uint8))
        tracemalloc.start()
        compress(model, np.load(tmp_path / "x.npy", mmap_mode="r"), tmp_path / "x.lk")
        writing = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        with open(tmp_path / "x.lk", "rb") as file:
            for _ in decompress_parts(Reader(file), model):
                pass
        peaks[n] = (writing, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    for small, large in zip(peaks[512], peaks[4096], strict=True):
        assert large < small + 50_000  # the array has grown by 229,376 bytes


COINS = Preparation("hw", 2, "stochastic", 16.0)


def test_rows_prepared_by_parts_are_those_prepared_at_once():
    """What is drawn depends on the seed and the row, in whatever parts and order they are read."""
    raw = np.random.default_rng(0).integers(0, 17, (2500, 4, 4), np.uint8)
    generator = torch.Generator().manual_seed(3)
    expected = COINS.restore(COINS.rows(Rows(raw), generator).x).numpy()
    rows = Prepared(InMemory(raw), COINS, 3)
    assert (rows.shape, rows.dtype) == (raw.shape, expected.dtype)
    for start, stop in ((0, 1), (1, 1000), (1000, 2500), (7, 9), (2400, 2500), (0, 2500)):
        np.testing.assert_array_equal(rows.read(start, stop), expected[start:stop], strict=True)


def test_a_value_that_cannot_be_prepared_is_named_by_its_row():
    raw = np.zeros((30, 4, 4), np.uint8)
    raw[21, 1, 2] = 17
    with pytest.raises(InputError, match=r"found 17 at index \(21, 1, 2\)"):
        Prepared(InMemory(raw), COINS, 0).read(20, 30)


def test_no_rows_are_prepared_to_none():
    assert Prepared(InMemory(np.zeros((0, 4, 4), np.uint8)), COINS, 0).shape == (0, 4, 4)
