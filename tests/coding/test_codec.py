"""Files of arrays: every byte comes back, at the size that log p promises, and damage or a wrong model is said."""

import dataclasses
import io
import math
import os
import struct
import threading
from zlib import crc32

import jaxtyping
import numpy as np
import pytest
import torch
from frozen_models import NAMES, contexts, drawn, frozen, redrawn

import likely
from likely.autoregressive import MADE
from likely.classical import Histogram, SymbolHistogram
from likely.coding import groups, records
from likely.coding.autoregressive import InOrder
from likely.coding.codec import compress, decompress
from likely.coding.codecs import codec
from likely.coding.container import Reader, Writer
from likely.coding.frozen import Frozen, freeze
from likely.coding.rans import Stack
from likely.coding.records import MODEL, Chunk
from likely.coding.symbols import push_context
from likely.data import Preparation
from likely.density import Density
from likely.errors import FormatError, InputError
from likely.event import Event
from likely.laws.case import examples

TRAILER = 12 + 28  # of a file without chunks: index and footer
PER_CHUNK = 56  # a chunk's header, its entry in the index, and a stack of 8 bytes
STORED = 48  # the first two of them


def given(name: str, n: int) -> tuple[Frozen, np.ndarray, np.ndarray | None]:
    """A frozen model and draws of it, in the smallest dtype that holds them."""
    model = frozen(name)
    x, context = drawn(model.model, n, seed=11)
    dtype = np.min_scalar_type(max(model.model.event.alphabets) - 1)
    return model, x.numpy().astype(dtype), None if context is None else context.numpy()


def size(name: str, usual: int = 41) -> int:
    return 4 if redrawn(name).event.dims > 16 else usual


def written(model: Frozen, data: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    found = compress(model, data, file, **options)
    assert found.file_bytes == len(file.getvalue())
    return file.getvalue()


def read(file: bytes, model: Frozen | None = None, **options: object) -> np.ndarray:
    return decompress(io.BytesIO(file), model, **options)


def assert_same(found: np.ndarray, data: np.ndarray) -> None:
    assert found.dtype == data.dtype
    assert found.dtype.byteorder == data.dtype.byteorder
    assert found.shape == data.shape
    assert found.tobytes() == data.tobytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("chunk_items", "batch"), [(None, 1), (16, 7), (3, 64)], ids=lambda value: f"{value}")
def test_what_was_compressed_comes_back(name, chunk_items, batch):
    model, data, context = given(name, size(name, 24 if chunk_items == 16 else 10))
    file = written(model, data, context=context, chunk_items=chunk_items, batch=batch)
    assert_same(read(file, model), data)


@pytest.mark.parametrize("name", [name for name in NAMES if redrawn(name).context is not None])
def test_contexts_may_stay_outside(name):
    model, data, context = given(name, 23)
    inside = written(model, data, context=context, chunk_items=9)
    outside = written(model, data, context=context, chunk_items=9, side_information=True)
    assert len(outside) < len(inside) + len('"side_information":true')
    assert_same(read(outside, model, context=context), data)
    assert_same(read(outside, model, context=torch.from_numpy(context), items=(7, 12)), data[7:12])
    for wrong in (None, context[:-1]):
        with pytest.raises(InputError, match="23 contexts"):
            read(outside, model, context=wrong)
    with pytest.raises(InputError, match="one was given"):
        read(inside, model, context=context)
    with pytest.raises(FormatError, match="damaged"):
        read(outside, model, context=np.roll(context, 1, 0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_real_contexts_are_coded_in_their_own_precision(dtype):
    model = frozen("made 3x8, vector, 3 orderings")
    context = contexts(model.model, 12).to(dtype)
    data = model.model.sample(12, context, generator=torch.Generator().manual_seed(0)).numpy()
    file = written(model, data, context=context)
    assert_same(read(file, model), data)


ARRAYS = {
    "uint8": lambda x: x.astype(np.uint8),
    "int8": lambda x: x.astype(np.int8),
    "uint16": lambda x: x.astype("<u2"),
    "big-endian int32": lambda x: x.astype(">i4"),
    "big-endian uint16": lambda x: x.astype(">u2"),
    "uint64": lambda x: x.astype(np.uint64),
    "int64": lambda x: x.astype(np.int64),
    "float16": lambda x: x.astype(np.float16),
    "float32": lambda x: x.astype(np.float32),
    "big-endian float64": lambda x: x.astype(">f8"),
    "−0.0": lambda x: np.where(x == 0, np.float32(-0.0), x).astype(np.float32),
    "one −0.0": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 0, -0.0, x).astype(np.float32),
    "bool": lambda x: x.astype(bool),
    "F-ordered": lambda x: np.asfortranarray(x),
    "strided": lambda x: np.repeat(x, 2, 0)[::2],
    "backwards": lambda x: x[::-1],
    "read-only": lambda x: np.frombuffer(x.astype(np.uint8).tobytes(), np.uint8).reshape(x.shape),
    "none": lambda x: x[:0],
    "none, of floats": lambda x: x[:0].astype(np.float64),
    "one": lambda x: x[:1],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_any_kind_come_back(name):
    made, x, _ = given("histogram 2x3 binary", 20)
    data = ARRAYS[name](x)
    for chunk_items in (None, 7):
        found = read(written(made, data, chunk_items=chunk_items), made)
        assert_same(found, np.ascontiguousarray(data))


@pytest.mark.parametrize("layout", ["hw", "hwc", "flat"])
def test_layouts_come_back(layout):
    event = Event((6,), 4) if layout == "flat" else Event((1 if layout == "hw" else 3, 2, 3), 4)
    preparation = Preparation(layout, 4, None, 3.0)
    shape = {"hw": (2, 3), "hwc": (2, 3, 3), "flat": (6,)}[layout]
    data = np.random.default_rng(0).integers(0, 4, (50, *shape), np.uint8)
    model = SymbolHistogram(event)
    made = freeze(model, torch.zeros(2, *event.shape, dtype=torch.int64), preparation=preparation)
    assert_same(read(written(made, data), made), data)


def test_binarised_data_must_be_prepared():
    event = Event((1, 2, 3), 2)
    made = freeze(
        SymbolHistogram(event),
        torch.zeros(2, *event.shape, dtype=torch.int64),
        preparation=Preparation("hw", 2, 0.5, 255.0),
    )
    data = np.random.default_rng(0).integers(0, 256, (50, 2, 3), np.uint8)
    with pytest.raises(InputError, match="prepared=True"):
        written(made, data)
    prepared = (data > 127).astype(np.uint8)
    file = written(made, prepared, prepared=True)
    assert_same(read(file, made), prepared)
    with pytest.raises(InputError, match="symbols 0 to 1"):
        written(made, data, prepared=True)


STRANGE = {  # dtype, and values that are no symbols 0 to 2
    "u1": [3, 255],
    "<i2": [-1, 300],
    ">i8": [-(2**63), 2**62],
    "<u8": [2**64 - 1, 3],
    "<f4": [0.5, -2.0, np.nan, np.inf, 1e30],
    ">f8": [-np.inf, 2.5, 1e300],
}


@pytest.mark.parametrize("dtype", STRANGE)
@pytest.mark.parametrize("event", [Event((6, 4), 3), Event((4,), (3, 2, 3, 1))], ids=["one alphabet", "columns"])
@pytest.mark.parametrize("chunk_items", [7, 1000])
def test_values_outside_the_alphabet_come_back(dtype, event, chunk_items):
    random = np.random.default_rng(0)
    data = random.integers(0, np.array(event.levels), (200, *event.shape)).astype(dtype)
    sound = data.copy()
    for value in STRANGE[dtype]:
        data[tuple(random.integers(0, size) for size in data.shape)] = value
    made = freeze(likely.MADE(event, hidden=(8,)), torch.zeros(2, *event.shape, dtype=torch.int64))
    file, plain = (written(made, array, chunk_items=chunk_items) for array in (data, sound))
    assert read(file, made).tobytes() == data.tobytes()
    assert read(file, made, items=(5, 20)).tobytes() == data[5:20].tobytes()
    assert (file[10], plain[10]) == (1, 0)  # the minor version
    methods = {chunk.method for chunk in Reader(io.BytesIO(file)).chunks()}
    if chunk_items == 1000:
        assert methods == {records.ESCAPED}
        n = len(STRANGE[dtype])
        assert len(file) - len(plain) <= 8 + n * (4 + np.dtype(dtype).itemsize) + 2 * n


def test_the_number_of_values_outside_the_alphabet_is_reported():
    made = freeze(likely.MADE(Event((4,), 3), hidden=(8,)), torch.zeros(2, 4, dtype=torch.int64))
    data = np.zeros((50, 4), np.uint8)
    data[3, 1] = data[49, 3] = 9
    assert likely.compress(made, data, io.BytesIO()).outside == 2


def test_data_of_another_alphabet_are_stored_by_other_means():
    made = freeze(likely.MADE(Event((40,), 2), hidden=(8,)), torch.zeros(2, 40, dtype=torch.int64))
    data = np.random.default_rng(0).integers(100, 200, (50, 40), np.uint8)
    file = written(made, data)
    assert_same(read(file, made), data)
    assert len(file) < data.nbytes + 400


def test_damaged_values_apart_are_refused():
    made = freeze(likely.MADE(Event((4,), 3), hidden=(8,)), torch.zeros(2, 4, dtype=torch.int64))
    data = np.random.default_rng(0).integers(0, 3, (50, 4), np.uint8)
    data[3, 1] = data[49, 3] = 9
    file = written(made, data)
    chunk = next(Reader(io.BytesIO(file)).chunks())
    assert chunk.payload[:8] == struct.pack("<II", 2, 10)  # two gaps of four bytes, two values of one
    forged = [
        chunk.payload[:7],
        struct.pack("<II", 0, 10) + chunk.payload[8:],
        struct.pack("<II", 2**31, 10) + chunk.payload[8:],
        struct.pack("<II", 2, 2**31) + chunk.payload[8:],
        struct.pack("<II", 2, 10) + struct.pack("<II", 13, 0) + chunk.payload[16:],
        struct.pack("<II", 2, 10) + struct.pack("<II", 13, 187) + chunk.payload[16:],
        struct.pack("<II", 2, 10) + struct.pack("<II", 12, 187) + chunk.payload[16:],
    ]
    for payload in forged:
        with pytest.raises(FormatError):
            read(repaired(file, lambda c, p=payload: Chunk(c.index, c.items, c.method, p, c.raw_crc)), made)


@pytest.mark.parametrize("name", ["made 4x4 binary, 2 orderings", "pixelcnn 3x8, label"])
@pytest.mark.parametrize("seekable", [True, False])
def test_some_items(name, seekable, tmp_path):
    model, data, context = given(name, 30)
    file = written(model, data, context=context, chunk_items=8, batch=3)
    for start, stop in ((0, 30), (0, 1), (7, 9), (8, 16), (15, 15), (0, 0), (30, 30), (29, 30)):
        stream = io.BytesIO(file)
        stream.seekable = lambda: seekable
        assert_same(decompress(stream, model, items=(start, stop)), data[start:stop])
    for wrong in ((-1, 3), (0, 31), (5, 4)):
        with pytest.raises(InputError, match="the file has 30"):
            read(file, model, items=wrong)


def test_pipes():
    """From one thread's pipe into another's, neither of which seeks; with the model inside."""
    model, data, context = given("pixelcnn 3x8, label", 300)
    ends = os.pipe()

    def send() -> None:
        with open(ends[1], "wb") as out:
            compress(model, data, out, context=context, chunk_items=50, with_model=True)

    sender = threading.Thread(target=send)
    sender.start()
    with open(ends[0], "rb") as stream:
        found = decompress(stream)
    sender.join()
    assert_same(found, data)


def test_paths_and_models_of_every_kind(tmp_path):
    model, data, _ = given("histogram 2x3 binary", 20)
    model.save(tmp_path)
    model.save(tmp_path / "model")
    for one in (model, tmp_path, str(tmp_path / "model")):
        compress(one, data, tmp_path / "file.lk")
        for other in (model, tmp_path, tmp_path / "model"):
            assert_same(decompress(str(tmp_path / "file.lk"), other), data)
    with pytest.raises(InputError, match="cannot be read"):
        decompress(tmp_path / "nothing.lk", model)


def test_the_model_inside_makes_a_file_complete():
    model, data, context = given("made mixed table, label", 20)
    file = io.BytesIO()
    found = compress(model, data, file, context=context, with_model=True)
    assert 0 < found.model_bytes < found.file_bytes
    assert found.frozen_bytes == len(model.content)
    assert_same(read(file.getvalue()), data)
    assert_same(read(file.getvalue(), model), data)
    without = written(model, data, context=context)
    assert len(file.getvalue()) == len(without) + found.model_bytes
    with pytest.raises(InputError, match=f"does not hold its model.*{model.id.hex()[:16]}"):
        read(without)


def test_two_workers_write_the_same_file():
    model, data, context = given("pixelcnn 3x8, label", 30)
    one = written(model, data, context=context, chunk_items=10)
    assert written(model, data, context=context, chunk_items=10, workers=2) == one
    assert_same(read(one, model, workers=2), data)


def test_progress_is_told():
    model, data, _ = given("histogram 2x3 binary", 20)
    told: list[int] = []
    file = written(model, data, chunk_items=8, watch=told.append)
    assert told == [8, 16, 20]
    read(file, model, watch=told.append)
    assert told[3:] == [8, 16, 20]


# Sizes.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk_items", [None, 7])
def test_a_file_has_the_size_that_its_model_promises(name, chunk_items):
    """Bytes ≤ ⌈−log2 p / 8⌉ + 56 for each chunk, + the file's header; the context as if drawn evenly.

    A symbol of p = f / 2²⁴ costs −log2 p bits and at most 2⁻²⁴ more; of several orderings each is popped, not chosen,
    so that their mixture's −log2 p is paid, but for posteriors that are rounded to 2⁻¹⁰ nats.
    """
    model, data, context = given(name, 2 * size(name))
    file = written(model, data, context=context, chunk_items=chunk_items)
    if chunk_items is None:
        assert_same(read(file, model), data)
    bits = -model.model.log_prob(data, context) / math.log(2)
    event = model.model.context
    if event is not None:
        bits += sum(map(math.log2, event.alphabets)) if event.discrete else 8 * context[0].nbytes
    chunks = [part.sum().item() for part in bits.split(chunk_items or len(data))]
    header = int.from_bytes(file[12:16], "little")
    extra = 1e-3 * len(data) if model.model.orders > 1 else 1e-4 * len(data)
    assert len(file) <= header + TRAILER + sum(math.ceil((bits + extra) / 8) + PER_CHUNK for bits in chunks)
    if chunk_items is None:  # and it is no wonder: what is coded by the model cannot be smaller than log p either
        methods = [chunk.method for chunk in Reader(io.BytesIO(file)).chunks()]
        assert methods != [MODEL] or len(file) >= header + TRAILER + sum(chunks) / 8 + PER_CHUNK - 2 - extra


@pytest.mark.parametrize(
    "name", ["made 4x4 binary, 2 orderings", "pixelcnn RGB 1x2x4, picture", "independent pixels 3x8"]
)
@pytest.mark.parametrize("kind", ["noise", "the first symbol", "the last symbol", "alternating"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_foreign_data_are_stored_at_worst(name, kind, dtype):
    """48 bytes for each chunk above the array (and its context) as it is, + the file's header."""
    model = frozen(name)
    event = model.model.event
    x = examples(event, 14, torch.Generator().manual_seed(1)).numpy()
    last = np.broadcast_to(np.array(event.alphabets).reshape(event.shape) - 1, x.shape)
    alternate = np.arange(x.size).reshape(x.shape) % 2 * last
    data = {"noise": x, "the first symbol": 0 * x, "the last symbol": last, "alternating": alternate}[kind].astype(
        dtype
    )
    context = contexts(model.model, 14)
    for chunk_items in (None, 5, 1):
        file = written(model, data, context=context, chunk_items=chunk_items)
        assert_same(read(file, model), data)
        chunks = math.ceil(14 / (chunk_items or 14))
        raw = data.nbytes + (0 if context is None else 14 * model.model.context.dims * 8)
        assert len(file) <= raw + STORED * chunks + int.from_bytes(file[12:16], "little") + TRAILER


# Errors.


def repaired(file: bytes, change) -> bytes:
    """The file with every payload changed, and every checksum of the container right again."""
    reader = Reader(io.BytesIO(file))
    out = io.BytesIO()
    writer = Writer(out, reader.header)
    for chunk in reader.chunks():
        writer.add(change(chunk))
    writer.close()
    return out.getvalue()


@pytest.mark.parametrize(
    "name", ["made 3x8, vector, 3 orderings", "pixelcnn 3x8, label", "histogram mixed table, label"]
)
def test_damaged_payloads_never_give_wrong_data(name):
    """The container's checksums are repaired, so that only the codec is left to notice."""
    model, data, context = given(name, 16)
    file = written(model, data, context=context)
    (chunk,) = Reader(io.BytesIO(file)).chunks()
    payload = chunk.payload
    if chunk.method != MODEL:
        stack = Stack(1 << 48 | chunk.raw_crc)
        codec(model.model, 256).push(stack, torch.from_numpy(data).long(), torch.from_numpy(context))
        push_context(model.model.context, stack, torch.from_numpy(context))
        payload = stack.to_bytes()
    random = np.random.default_rng(0)

    def with_payload(payload: bytes, crc: int = chunk.raw_crc) -> bytes:
        return repaired(file, lambda c: Chunk(c.index, c.items, MODEL, payload, crc))

    assert_same(read(with_payload(payload), model), data)
    changed = [payload[:length] for length in random.integers(0, len(payload), 12)]
    changed += [payload + bytes(2), payload + payload, b"", bytes(8), random.bytes(len(payload)), payload[::-1]]
    for _ in range(25):
        flipped = bytearray(payload)
        flipped[random.integers(len(payload))] ^= 1 << random.integers(8)
        changed.append(bytes(flipped))
    for one in changed:
        with pytest.raises(FormatError):
            read(with_payload(one), model)
    for crc in (0, chunk.raw_crc ^ 1, crc32(data.tobytes())):
        with pytest.raises(FormatError):
            read(with_payload(payload, crc), model)
    for method in (records.STORED, records.LZMA):
        with pytest.raises(FormatError):
            read(repaired(file, lambda c, m=method: Chunk(c.index, c.items, m, payload, c.raw_crc)), model)


def test_flipped_bits_of_whole_files_never_give_wrong_data():
    model, data, context = given("pixelcnn 3x8, label", 60)
    file = written(model, data, context=context, chunk_items=25)
    random = np.random.default_rng(0)
    for position in random.integers(0, len(file), 100):
        changed = bytearray(file)
        changed[position] ^= 1 << random.integers(8)
        try:
            found = read(bytes(changed), model)
        except FormatError:
            continue
        assert_same(found, data)
    for length in range(0, len(file), 9):
        with pytest.raises(FormatError):
            read(file[:length], model)


def test_another_model_is_refused():
    model, data, _ = given("histogram 2x3 binary", 20)
    other = freeze(Histogram(Event((1, 2, 3), 2)), data[:3])
    file = written(model, data)
    with pytest.raises(InputError, match=f"written with the model {model.id.hex()[:16]}.*{other.id.hex()[:16]}"):
        read(file, other)
    with pytest.raises(InputError, match=model.id.hex()[:16]):
        read(file)


class Nothing(Density):
    def _log_prob(self, x, context, generator):
        return x.flatten(1).sum(1)

    def _sample(self, n, context, generator):
        return torch.zeros(n, *self.event.shape)


def test_models_that_are_not_frozen_are_refused():
    _, data, _ = given("histogram 2x3 binary", 3)
    for model in (redrawn("histogram 2x3 binary"), Nothing(Event((1, 2, 3), 2))):
        with pytest.raises((InputError, TypeError), match=type(model).__name__):
            compress(model, data, io.BytesIO())
    with pytest.raises(NotImplementedError, match="Nothing"):
        codec(Nothing(Event((1, 2, 3), 2)), 1)


BAD = {
    "another shape": (lambda x: x[:, 0], r"expected shape \(n, 1, 2, 3\), found \(20, 2, 3\)"),
    "a number": (lambda x: np.array(3), "dimension"),
    "complex": (lambda x: x.astype(complex), "."),
    "text": (lambda x: x.astype(str), "."),
    "objects": (lambda x: x.astype(object), "."),
    "long floats": (lambda x: x.astype(np.longdouble), "."),
    "dates": (lambda x: x.astype("M8[s]"), "."),
}


@pytest.mark.parametrize("name", BAD)
def test_data_that_are_not_the_models_are_refused_before_anything_is_written(name, tmp_path):
    model, x, _ = given("histogram 2x3 binary", 20)
    change, message = BAD[name]
    (tmp_path / "file.lk").write_bytes(b"before")
    with pytest.raises(InputError, match=message):
        compress(model, change(x), tmp_path / "file.lk")
    assert (tmp_path / "file.lk").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


def test_contexts_missing_or_not_wanted():
    model, data, context = given("pixelcnn 3x8, label", 20)
    for wrong in (None, context[:-1]):
        with pytest.raises(InputError, match="20 contexts"):
            written(model, data, context=wrong)
    with pytest.raises(InputError, match="context: found 3"):
        written(model, data, context=np.full_like(context, 3))
    plain, data, _ = given("histogram 2x3 binary", 20)
    with pytest.raises(InputError, match="without context"):
        written(plain, data, context=context)
    with pytest.raises(InputError, match="one was given"):
        read(written(plain, data), plain, context=context)


@pytest.mark.parametrize(
    "options",
    [{"chunk_items": 0}, {"batch": 0}, {"workers": 0}, {"batch": 1 << 32}, {"chunk_items": 2.5}, {"batch": 2.5}],
    ids=str,
)
def test_sizes_out_of_range_are_refused(options, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for a user, whose types are not checked
    model, data, _ = given("histogram 2x3 binary", 3)
    with pytest.raises(InputError, match=next(iter(options))):
        written(model, data, **options)


@pytest.mark.parametrize(
    "meta",
    [
        *({"side_information": True}, {"prepared": True}, {"context": "float32"}, [1], "x", 0),
        *({"a": math.nan}, {"b": object()}, {"c": "\ud800"}, {"d": "x" * 5000}, {1: 0, "e": 0}),
    ],
    ids=lambda meta: str(meta)[:20].encode("ascii", "replace").decode(),
)
def test_meta_data_that_cannot_be_kept_are_refused(meta, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model, data, _ = given("histogram 2x3 binary", 3)
    with pytest.raises(InputError, match="meta"):
        written(model, data, meta=meta)


def test_meta_data_are_kept():
    model, data, _ = given("histogram 2x3 binary", 3)
    meta = {"näme": [1, None, {"a": 0.5}]}
    assert Reader(io.BytesIO(written(model, data, meta=meta))).header.meta == meta


@pytest.mark.parametrize("convert", [torch.from_numpy, np.ndarray.tolist])
def test_other_things_than_arrays_are_refused(convert, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model, data, _ = given("histogram 2x3 binary", 3)
    with pytest.raises(InputError, match="a numpy array is expected"):
        compress(model, convert(data), io.BytesIO())


def test_more_output_than_allowed_is_refused():
    model, data, _ = given("histogram 2x3 binary", 20)
    file = written(model, data)
    assert_same(read(file, model, max_output=data.nbytes), data)
    with pytest.raises(FormatError, match="limit"):
        read(file, model, max_output=data.nbytes - 1)


# Files that were made to mislead, every checksum of the container right.


def test_chunks_that_changed_places_are_refused():
    model, data, _ = given("histogram 2x3 binary", 2000)
    file = written(model, data, chunk_items=1000)
    first, second = Reader(io.BytesIO(file)).chunks()
    assert {first.method, second.method} == {MODEL}
    swapped = {0: second, 1: first}
    forged = repaired(file, lambda c: dataclasses.replace(swapped[c.index], index=c.index))
    with pytest.raises(FormatError, match="does not decode to what was coded"):
        read(forged, model)


@pytest.mark.parametrize("change", [{"dtype": "|i1"}, {"meta": {"note": "another"}}], ids=str)
def test_chunks_belong_to_their_header(change):
    model, data, _ = given("histogram 2x3 binary", 2000)
    reader = Reader(io.BytesIO(written(model, data)))
    out = io.BytesIO()
    writer = Writer(out, dataclasses.replace(reader.header, **change))
    for chunk in reader.chunks():
        writer.add(chunk)
    writer.close()
    with pytest.raises(FormatError, match="does not decode to what was coded"):
        read(out.getvalue(), model)


def forged(model: Frozen, items: int, payload: bytes, **change: object) -> bytes:
    """A file of one chunk with such a payload, whatever it means."""
    header = Reader(io.BytesIO(written(model, np.zeros((items, *model.model.event.shape), np.uint8)))).header
    out = io.BytesIO()
    header = dataclasses.replace(header, items_per_chunk=1 << 31, **change)
    writer = Writer(out, header)
    writer.add(Chunk(0, header.items, MODEL, payload, 0))
    writer.close()
    return out.getvalue()


def test_a_payload_without_end_ends_with_its_stack(monkeypatch):
    model, calls = frozen("pixelcnn 3x4 binary"), []
    steps = type(model.model)._steps
    monkeypatch.setattr(type(model.model), "_steps", lambda *a: calls.append(0) or steps(*a))
    with pytest.raises(FormatError, match="the payload ends"):
        read(forged(model, 10_000, (1 << 48).to_bytes(8, "little"), batch=1), model)
    assert len(calls) < 10_000 / 16


@pytest.mark.parametrize("batch", [1, 256])
def test_a_payload_without_end_ends_when_it_owes_too_much(batch, monkeypatch):
    """With several orderings a stack is not spent between items: orderings that were pushed again are on it."""
    model, calls = frozen("made 4x4 binary, 2 orderings"), []
    steps = type(model.model)._steps
    monkeypatch.setattr(type(model.model), "_steps", lambda *a: calls.append(a[1]) or steps(*a))
    monkeypatch.setattr(groups, "LENT", 200)
    with pytest.raises(FormatError, match="the payload ends"):
        codec(model.model, batch).pop(Stack(), 10_000_000, None)
    assert sum(calls) < 1_000


def test_items_that_an_empty_stack_takes_for_nothing_are_stored(monkeypatch):
    """What was popped for the orderings has left nothing, and symbols that own 0 are pushed on 0: still they count."""
    event = Event((2,), levels=2)
    made = MADE(event, hidden=(), orderings=2)
    with torch.no_grad():
        made.output.weight.zero_()
        made.output.bias.fill_(math.log(1 / 9))  # 0.15 bits for a 0
    model, data = freeze(made, torch.zeros(2, 2, dtype=torch.int64)), np.zeros((1500, 2), np.uint8)
    monkeypatch.setattr(groups, "LENT", 200)
    for n, method in ((500, MODEL), (1500, records.LZMA)):
        file = written(model, data[:n])
        assert [chunk.method for chunk in Reader(io.BytesIO(file)).chunks()] == [method]
        assert_same(read(file, model), data[:n])


def test_groups_double_and_cover_all_items_once():
    found = [rows.stop - rows.start for rows in groups.groups(1000, 64, growing=True)]
    assert found == [41, *[64] * 14, 32, 16, 8, 4, 2, 1]
    assert [rows.stop - rows.start for rows in groups.groups(130, 64, growing=False)] == [2, 64, 64]
    assert next(groups.groups(10**12, 1, growing=False)) == slice(0, 1)


def test_items_of_another_shape_are_refused_before_they_are_decoded(monkeypatch):
    model = frozen("pixelcnn 3x4 binary")
    monkeypatch.setattr(InOrder, "pop", None)
    with pytest.raises(FormatError, match=r"items of shape \(4,\)"):
        read(forged(model, 3, bytes(8), shape=(1 << 20, 4)), model)


def test_contexts_count_as_output():
    model, data, context = given("made 3x8, vector, 3 orderings", 20)
    file = written(model, data, context=context)
    size = data.nbytes + context.nbytes
    assert_same(read(file, model, max_output=size), data)
    with pytest.raises(FormatError, match="limit"):
        read(file, model, max_output=size - 1)


def test_lock_steps_beyond_memory_are_refused():
    model = frozen("histogram 2x3 binary")
    with pytest.raises(InputError, match="1 to 4096"):
        read(forged(model, 10_000, bytes(8), batch=4097), model)


def test_bytes_between_the_chunks_and_the_index_are_refused():
    model, data, _ = given("histogram 2x3 binary", 50)
    file = written(model, data)
    at = file.rindex(b"INDX")
    for between in (bytes(4), file[at - 40 : at]):
        with pytest.raises(FormatError, match="index"):
            read(file[:at] + between + file[at:], model)
