"""The container: what was written comes back, damage is named, and nothing that a file claims is believed."""

import contextlib
import dataclasses
import hashlib
import io
import lzma
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from work import Counted, calls_below

from likely.coding import container, records
from likely.coding.container import Reader, Writer
from likely.coding.records import LZMA, MODEL, STORED, Chunk, Header, pack, unpack
from likely.errors import FormatError

LIMIT = 1 << 16
MODEL_BYTES = b"weights and tables " * 40
MODEL_ID = hashlib.sha256(MODEL_BYTES).digest()


class Pipe(io.RawIOBase):
    """A stream that cannot seek, and gives and takes a few bytes at a time."""

    def __init__(self, data: bytes = b"") -> None:
        self.data, self.position = data, 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def read(self, n: int = -1) -> bytes:
        part = self.data[self.position : self.position + min(n, 61)]
        self.position += len(part)
        return part

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def header(items: int = 10, per_chunk: int = 4, **changes: object) -> Header:
    return dataclasses.replace(Header(MODEL_ID, "|u1", (items, 3, 4), per_chunk, 2, {"codec": "steps"}), **changes)


def raws(head: Header, seed: int = 0) -> list[bytes]:
    """The bytes of every chunk: noise, text and sameness in turn."""
    random, width = np.random.default_rng(seed), 12
    kinds = [random.bytes, lambda n: (b"lorem ipsum " * n)[:n], bytes]
    return [kinds[i % 3](width * len(head.span(i))) for i in range(head.chunks)]


def chunks(head: Header, seed: int = 0) -> list[Chunk]:
    found = []
    for i, raw in enumerate(raws(head, seed)):
        method, payload = (MODEL, b"coded by a model") if i % 4 == 3 else pack(raw)
        found.append(Chunk(i, len(head.span(i)), method, payload, crc32(raw)))
    return found


def written(head: Header, parts: list[Chunk], model: bytes | None = None, file: object = None) -> bytes:
    file = io.BytesIO() if file is None else file
    writer = Writer(file, head, model)
    for part in parts:
        writer.add(part)
    writer.close()
    return file.getvalue() if isinstance(file, io.BytesIO) else file.data


def read_all(file: object) -> tuple:
    """Everything that a reader gives, decoded where that needs no model."""
    reader = Reader(file, max_output=LIMIT, max_model=LIMIT)
    found = list(reader.chunks())
    for chunk in found:
        if chunk.method != MODEL:
            unpack(chunk.method, chunk.payload, 12 * chunk.items)
    return reader.header, reader.model, found


OPENERS = {"file": io.BytesIO, "pipe": Pipe}


@pytest.fixture(params=OPENERS)
def opened(request: pytest.FixtureRequest) -> object:
    return OPENERS[request.param]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 50), st.booleans(), st.sampled_from(list(OPENERS)), st.integers(0, 99))
def test_round_trip(items: int, per_chunk: int, with_model: bool, way: str, seed: int) -> None:
    head = header(items, per_chunk)
    parts, model = chunks(head, seed), MODEL_BYTES if with_model else None
    data = written(head, parts, model)
    assert written(head, parts, model, Pipe()) == data
    assert read_all(OPENERS[way](data)) == (head, model, parts)


@pytest.mark.parametrize("dtype", ["|b1", "|u1", "|i1", "<u2", "<i8", "<f2", "<f4", ">f8", ">i4"])
@pytest.mark.parametrize("shape", [(5,), (5, 1, 2), (0, 7), (5, 0), (1,) * 8])
def test_header_round_trip(dtype: str, shape: tuple[int, ...], opened: type) -> None:
    meta = {"levels": 256, "names": ["ä", "\U0001f600", '"'], "nested": {"x": [1.5, None, True]}}
    head = Header(bytes(range(32)), dtype, shape, 3, 2, meta, profile=255)
    parts = [Chunk(i, len(head.span(i)), STORED, b"", 0) for i in range(head.chunks)]
    reader = Reader(opened(written(head, parts)))
    assert reader.header == head
    assert np.dtype(reader.header.dtype).str == dtype
    assert reader.header.size >= np.empty(shape, dtype).nbytes
    assert list(reader.chunks()) == parts


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20), st.integers(1, 7), st.data(), st.sampled_from(list(OPENERS)))
def test_a_range_of_items(items: int, per_chunk: int, data: st.DataObject, way: str) -> None:
    head = header(items, per_chunk)
    start = data.draw(st.integers(0, items))
    stop = data.draw(st.integers(start, items))
    parts = chunks(head)
    found = list(Reader(OPENERS[way](written(head, parts))).chunks(start, stop))
    assert found == [part for part in parts if set(head.span(part.index)) & set(range(start, stop))]


def test_a_real_pipe(tmp_path: Path) -> None:
    head = header(1000, 7)
    (tmp_path / "file.lk").write_bytes(written(head, chunks(head), MODEL_BYTES))
    code = (
        "import sys; from likely.coding.container import Reader\n"
        "reader = Reader(sys.stdin.buffer); assert not reader.file.seekable()\n"
        "print(sum(chunk.items for chunk in reader.chunks()), len(reader.model))"
    )
    with subprocess.Popen(["cat", tmp_path / "file.lk"], stdout=subprocess.PIPE) as cat:
        found = subprocess.run([sys.executable, "-c", code], stdin=cat.stdout, capture_output=True, check=True)
    assert found.stdout.split() == [b"1000", str(len(MODEL_BYTES)).encode()]


def test_random_access_reads_little() -> None:
    head = header(1000, 10)
    file = io.BytesIO(written(head, chunks(head)))
    read: list[int] = []

    class Counting(io.BytesIO):
        def read(self, n: int | None = -1) -> bytes:
            part = super().read(n)
            read.append(len(part))
            return part

    found = list(Reader(Counting(file.getvalue())).chunks(500, 501))
    assert [chunk.index for chunk in found] == [50]
    assert sum(read) < 16 * head.chunks + 500


def test_48_bytes_a_chunk() -> None:
    def size(per_chunk: int) -> int:
        head = header(60, per_chunk)
        return len(written(head, [Chunk(i, len(head.span(i)), STORED, b"", 0) for i in range(head.chunks)]))

    assert size(1) - size(60) == 59 * 48


def test_bytes_by_hand() -> None:
    """A file put together from docs/format.md and nothing else."""
    head = b"\x89LKY\r\n\x1a\n" + struct.pack("<HHI", 1, 0, 66 + 16 + 2 + 4)
    head += bytes(32) + bytes([0, 0, 2]) + b"<i2\0\0" + struct.pack("<IIH", 2, 1, 2) + struct.pack("<QQ", 3, 1) + b"{}"
    seal = crc32(head)
    head += struct.pack("<I", seal)
    body, entries = b"", b""
    for index, items in (0, 2), (1, 1):
        payload, raw = b"\1\2" * items, 77
        entries += struct.pack("<QII", len(head + body), len(payload), items)
        fields = b"CHNK" + struct.pack("<IIIIII", index, items, 0, len(payload), crc32(payload), raw)
        body += fields + struct.pack("<I", crc32(fields, seal)) + payload
    index = b"INDX" + struct.pack("<I", 2) + entries
    index += struct.pack("<I", crc32(index))
    footer = struct.pack("<QQ", len(head + body), len(head + body + index) + 28)
    data = head + body + index + footer + struct.pack("<I", crc32(footer)) + b"LKYEND\r\n"
    expected = Header(bytes(32), "<i2", (3, 1), 2)
    parts = [Chunk(0, 2, STORED, b"\1\2\1\2", 77), Chunk(1, 1, STORED, b"\1\2", 77)]
    assert written(expected, parts) == data
    assert list(Reader(io.BytesIO(data)).chunks()) == parts


# pack and unpack


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.builds(lambda b, n: b * n, st.binary(max_size=5), st.integers(0, 5000))))
def test_pack_is_undone_and_never_larger(raw: bytes) -> None:
    method, payload = pack(raw)
    assert len(payload) <= len(raw)
    assert unpack(method, payload, len(raw)) == raw
    assert pack(raw, payload + b"!") == (method, payload)
    if payload:
        assert pack(raw, payload[1:]) == (MODEL, payload[1:])


def test_pack_takes_the_smallest() -> None:
    assert pack(b"abc")[0] == STORED
    assert pack(bytes(1000))[0] == LZMA
    assert pack(bytes(1000), b"1") == (MODEL, b"1")


def test_unpack_refuses() -> None:
    _, payload = pack(bytes(1000))
    for wrong in (payload[:-1], payload[:3], b"", payload + b"!", b"\xff" * 20):
        with pytest.raises(FormatError):
            unpack(LZMA, wrong, 1000)
    for wrong in (0, 999, 1001):
        with pytest.raises(FormatError):
            unpack(LZMA, payload, wrong)
        with pytest.raises(FormatError):
            unpack(STORED, bytes(1000), wrong)
    with pytest.raises(ValueError, match="method 1"):
        unpack(MODEL, payload, 1000)


def test_bomb_is_not_unpacked() -> None:
    bomb = lzma.compress(bytes(10**7), lzma.FORMAT_RAW, filters=records.filters(10**7))
    assert len(bomb) < LIMIT
    with peak_below(4 * LIMIT), pytest.raises(FormatError):
        unpack(LZMA, bomb, 1000)


# what a writer refuses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_id": b"short"}, "32 bytes, not 5"),
        ({"dtype": "object"}, "dtype 'object'"),
        ({"dtype": "<c16"}, "dtype '<c16'"),
        ({"dtype": "<f1"}, "dtype '<f1'"),
        ({"shape": ()}, "1 to 8 sizes"),
        ({"shape": (1,) * 9}, "1 to 8 sizes"),
        ({"shape": (-1,)}, "1 to 8 sizes"),
        ({"shape": (2**63,)}, "1 to 8 sizes"),
        ({"items_per_chunk": 0}, "items_per_chunk is 0"),
        ({"items_per_chunk": 2**32}, "items_per_chunk is 4294967296"),
        ({"batch": 0}, "batch is 0"),
        ({"profile": 256}, "profile is 256"),
        ({"shape": (2**40,), "items_per_chunk": 1}, "more items into each"),
        ({"meta": {"text": "x" * 5000}}, "bytes of meta data"),
        ({"meta": {"x": float("nan")}}, "not JSON compliant"),
    ],
)
def test_wrong_header_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        header(**changes)


def test_writer_refuses() -> None:
    head = header()
    parts = chunks(head)
    with pytest.raises(ValueError, match="SHA-256"):
        Writer(io.BytesIO(), head, b"another model")
    writer = Writer(io.BytesIO(), head)
    for wrong in (parts[1], dataclasses.replace(parts[0], items=3), dataclasses.replace(parts[0], method=4)):
        with pytest.raises(ValueError, match=r"does not follow 0 chunks|method 4"):
            writer.add(wrong)
    with pytest.raises(ValueError, match="0 of 3 chunks"):
        writer.close()
    for part in parts:
        writer.add(part)
    with pytest.raises(ValueError, match="does not follow 3 chunks"):
        writer.add(dataclasses.replace(parts[0], index=3))


def test_reader_refuses_items_that_are_not_there() -> None:
    data = written(header(), chunks(header()))
    for start, stop in ((-1, 3), (5, 3), (0, 11)):
        with pytest.raises(ValueError, match="there are 10"):
            Reader(io.BytesIO(data)).chunks(start, stop)


def test_pipe_is_read_once() -> None:
    reader = Reader(Pipe(written(header(), chunks(header()))))
    assert len(list(reader.chunks(0, 1))) == 1
    with pytest.raises(ValueError, match="once only"):
        list(reader.chunks())


# what a reader refuses


def resealed(head: bytes) -> bytes:
    return head[:-4] + struct.pack("<I", crc32(head[:-4]))


def test_messages() -> None:
    data = written(header(), chunks(header()))
    length = struct.unpack_from("<I", data, 12)[0]
    newer = data[:8] + struct.pack("<H", 2) + data[10:]
    for wrong, message in (
        (b"PK\3\4" + data[4:], "no .lk file"),
        (data.replace(b"\r\n", b"\n"), "no .lk file"),
        (b"", "too early"),
        (newer, "format 2.0; this version of likely reads 1.x"),
        (data[:40] + b"!" + data[41:], "checksum"),
        (data[:-1], "the end is missing"),
        (data + b"\0", "something was appended"),
        (data[: length + 20], "too few"),
    ):
        with pytest.raises(FormatError, match=message):
            list(Reader(io.BytesIO(wrong)).chunks())
    with pytest.raises(FormatError, match=r"array of 120 bytes, shape \(10, 3, 4\); the limit is 119"):
        Reader(io.BytesIO(data), max_output=119)


def test_nothing_may_follow(opened: type) -> None:
    with pytest.raises(FormatError, match=r"something was appended|is not their index"):
        list(Reader(opened(written(header(), chunks(header())) + b"\0")).chunks())


def test_newer_minor_version_is_read() -> None:
    data = written(header(0), [])
    length = struct.unpack_from("<I", data, 12)[0]
    head = data[:10] + struct.pack("<HI", 7, length + 3) + data[16 : length - 4] + b"new" + bytes(4)
    assert Reader(io.BytesIO(resealed(head))).header == header(0)


def test_model_is_limited_and_identified(opened: type) -> None:
    data = written(header(), chunks(header()), MODEL_BYTES)
    with pytest.raises(FormatError, match=f"model of {len(MODEL_BYTES)} bytes"):
        Reader(opened(data), max_model=len(MODEL_BYTES) - 1).model  # noqa: B018
    other = b"x" * 50
    length = struct.unpack_from("<I", data, 12)[0]
    block = struct.pack("<4sIQQI", b"MODL", STORED, len(other), len(other), crc32(other))
    with pytest.raises(FormatError, match="not the one that its header names"):
        Reader(opened(data[:length] + block + struct.pack("<I", crc32(block)) + other)).model  # noqa: B018


def test_payload_is_limited(opened: type) -> None:
    head = header(1)
    data = written(head, [Chunk(0, 1, STORED, bytes(head.size + 1), 0)])
    with pytest.raises(FormatError, match="chunk 0 declares 13 bytes; the limit is 12"):
        list(Reader(opened(data), max_output=head.size).chunks())


def test_index_that_fits_other_payloads_is_refused() -> None:
    head = header(8)
    parts = [Chunk(0, 4, STORED, bytes(48), 0), Chunk(1, 4, STORED, bytes(48), 0)]
    data = bytearray(written(head, parts))
    at = data.index(b"INDX")
    data[at + 16 : at + 20], data[at + 24 : at + 32] = struct.pack("<I", 49), struct.pack("<Q", at - 79)
    data[at + 32 : at + 36] = struct.pack("<I", 47)
    with pytest.raises(FormatError, match="chunk 0 has 48 bytes, and 49 in the index"):
        list(Reader(io.BytesIO(repaired(bytes(data)))).chunks(0, 1))


def test_chunk_of_another_file_is_refused(opened: type) -> None:
    one, two = header(8), header(8, meta={"codec": "other"}, model_id=hashlib.sha256(b"").digest())
    first, second = written(one, chunks(one)), written(two, chunks(two))
    at, there = first.index(b"CHNK"), second.index(b"CHNK")
    mixed = first[:at] + second[there : there + len(first) - at]
    with pytest.raises(FormatError):
        read_all(opened(mixed))
    assert list(Reader(io.BytesIO(mixed)).recover()) == [range(8)]


def test_chunks_in_another_order_are_refused(opened: type) -> None:
    head = header(8)
    parts = [Chunk(i, 4, STORED, bytes([i]) * 48, 0) for i in range(2)]
    data = written(head, parts)
    at, size = data.index(b"CHNK"), 32 + 48
    swapped = data[:at] + data[at + size : at + 2 * size] + data[at : at + size] + data[at + 2 * size :]
    with pytest.raises(FormatError, match="chunk 0 is damaged"):
        list(Reader(opened(swapped)).chunks())


# recovery


def recovered(data: bytes) -> list[int | range]:
    parts = list(Reader(io.BytesIO(data), max_output=LIMIT).recover())
    return [part if isinstance(part, range) else part.index for part in parts]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 30), st.integers(1, 9), st.integers(0, 2**32), st.booleans())
def test_recovery_after_damage(items: int, per_chunk: int, seed: int, with_model: bool) -> None:
    """Chunks of which every byte is left come back, the others are reported; cut, overwritten or spliced."""
    head, random = header(items, per_chunk), np.random.default_rng(seed)
    parts = chunks(head)
    data = written(head, parts, MODEL_BYTES if with_model else None)
    places = [(data.index(b"CHNK" + struct.pack("<I", part.index)), len(part.payload) + 32) for part in parts]
    begin = struct.unpack_from("<I", data, 12)[0]
    start = int(random.integers(begin, len(data)))
    stop = int(random.integers(start, min(start + 60, len(data)))) + 1
    overwritten = bytes(255 - byte for byte in data[start:stop])
    damaged = data[:start] + [b"", overwritten, overwritten * 2, b"CHNK" * 9][seed % 4] + data[stop:]
    intact = {i for i, (place, size) in enumerate(places) if data[place : place + size] in damaged}
    found = list(Reader(io.BytesIO(damaged)).recover())
    assert [part for part in found if isinstance(part, Chunk)] == [parts[i] for i in sorted(intact)]
    lost = [item for part in found if isinstance(part, range) for item in part]
    assert lost == [item for i in range(head.chunks) if i not in intact for item in head.span(i)]


def test_recovery_of_a_truncated_file() -> None:
    head = header(40, 10)
    data = written(head, chunks(head))
    cut = data.index(b"CHNK" + struct.pack("<I", 2)) + 40
    assert recovered(data[:cut]) == [0, 1, range(20, 40)]
    assert recovered(data) == [0, 1, 2, 3]


def test_recovery_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    head = header(40, 10)
    data = written(head, chunks(head))
    for block in range(4, 60):
        monkeypatch.setattr(container, "BLOCK", block)
        assert recovered(data) == [0, 1, 2, 3]


def test_chunk_that_is_there_twice_is_recovered_once() -> None:
    head = header(8)
    data = written(head, chunks(head))
    first, second, end = data.index(b"CHNK"), data.rindex(b"CHNK"), data.index(b"INDX")
    assert recovered(data[:end] + data[first:]) == [0, 1]
    assert recovered(data[:first] + data[second:end] + data[first:]) == [range(4), 1]


def test_file_inside_a_damaged_file_is_not_recovered() -> None:
    inner = header(8, meta={"codec": "inner"})
    data = written(inner, chunks(inner))
    outer = header(8)
    parts = [Chunk(0, 4, STORED, data, 0), Chunk(1, 4, STORED, b"", 0)]
    found = bytearray(written(outer, parts))
    found[found.index(data) + 2] ^= 1
    assert recovered(bytes(found)) == [range(4), 1]


def test_recovery_of_overlapping_chunks_ends() -> None:
    """Headers one after the other, each of which declares all that follows: quadratic time if it were tried."""
    head = Header(MODEL_ID, "|u1", (60_000,), 1)
    start = head._bytes(False)
    fields = (struct.pack("<4sIIIIII", b"CHNK", i, 1, STORED, LIMIT, 0, 0) for i in range(60_000))
    data = start + b"".join(field + struct.pack("<I", crc32(field, crc32(start[:-4]))) for field in fields)
    file = Counted(data)
    with pytest.raises(FormatError, match="overlap"):
        list(Reader(file, max_output=LIMIT).recover())
    assert file.taken < 4 * len(data)


# fuzz


class peak_below:  # noqa: N801
    """Nothing inside allocates more at a time, and nothing makes 250,000 calls."""

    def __init__(self, limit: int) -> None:
        self.limit, self.work = limit, calls_below(250_000)

    def __enter__(self) -> None:
        tracemalloc.start()
        self.work.__enter__()

    def __exit__(self, kind: type | None, *_: object) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.work.__exit__()
        if kind is None or issubclass(kind, FormatError):
            assert peak <= self.limit, f"{peak} bytes"


def sample_files() -> list[bytes]:
    """A file with chunks of every method and a model, one without, an empty one."""
    many = header(30, 4)
    return [written(many, chunks(many), MODEL_BYTES), written(header(), chunks(header())), written(header(0), [])]


def attempts(data: bytes) -> Iterator[tuple]:
    """What the readers make of bytes; anything but success or FormatError is a failure of the test."""
    for opener in OPENERS.values():
        try:
            yield read_all(opener(data))
        except FormatError:
            yield ()


def attack(data: bytes, traced: bool = True) -> list[tuple]:
    """What is read of the data; tracing the memory takes most of the time."""
    with peak_below(8 * LIMIT) if traced else contextlib.nullcontext():
        found = [result for result in attempts(data) if result]
        with contextlib.suppress(FormatError):
            list(Reader(io.BytesIO(data), max_output=LIMIT, max_model=LIMIT).recover())
    for head, _, parts in found:
        assert head.size <= LIMIT
        assert [item for part in parts for item in head.span(part.index)] == list(range(head.items))
    return found


@pytest.mark.parametrize("data", sample_files(), ids=["model", "plain", "empty"])
def test_every_truncation(data: bytes) -> None:
    for n in range(len(data)):
        assert attack(data[:n], traced=n % 16 == 0) == []


@pytest.mark.parametrize("data", sample_files(), ids=["model", "plain", "empty"])
def test_flips_in_every_byte_and_some_pairs(data: bytes) -> None:
    random = np.random.default_rng(0)
    single = [[8 * byte + int(random.integers(8))] for byte in range(len(data))]
    several = [random.choice(8 * len(data), 2 + i % 2, replace=False).tolist() for i in range(300)]
    for i, bits in enumerate(single + several):
        damaged = bytearray(data)
        for bit in bits:
            damaged[bit // 8] ^= 1 << bit % 8
        assert attack(bytes(damaged), traced=i % 16 == 0) == []


def repaired(data: bytes) -> bytes:
    """With every checksum made right, as far as the structure can be followed."""
    data = bytearray(data)

    def seal(start: int, stop: int, before: int = 0) -> int:
        found = crc32(data[start:stop], before)
        if stop + 4 <= len(data):
            data[stop : stop + 4] = struct.pack("<I", found)
        return found

    length = min(struct.unpack_from("<I", data, 12)[0], len(data))
    head = seal(0, max(length - 4, 0))
    at = data.find(b"MODL")
    if at >= 0 and at + 32 <= len(data):
        data[at + 24 : at + 28] = struct.pack(
            "<I", crc32(data[at + 32 :][: struct.unpack_from("<Q", data, at + 16)[0]])
        )
        seal(at, at + 28)
    at = data.find(b"CHNK")
    while 0 <= at <= len(data) - 32:
        payload = data[at + 32 :][: struct.unpack_from("<I", data, at + 16)[0]]
        data[at + 20 : at + 24] = struct.pack("<I", crc32(payload))
        seal(at, at + 28, head)
        at = data.find(b"CHNK", at + 4)
    at = data.rfind(b"INDX")
    if 0 <= at < len(data) - 40:
        seal(at, len(data) - 32)
        seal(len(data) - 28, len(data) - 12)
    return bytes(data)


@pytest.mark.parametrize("data", sample_files(), ids=["model", "plain", "empty"])
def test_flips_with_repaired_checksums(data: bytes) -> None:
    assert repaired(data) == data
    random = np.random.default_rng(1)
    for i in range(600):
        forged = bytearray(data)
        for _ in range(random.integers(1, 4)):
            forged[random.integers(len(data))] ^= 1 << int(random.integers(8))
        attack(repaired(bytes(forged)), traced=i % 8 == 0)


EXTREMES = [0, 1, 2, 3, 7, 255, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("data", sample_files(), ids=["model", "plain", "empty"])
def test_forged_lengths_with_repaired_checksums(data: bytes) -> None:
    """Every place of the structure holds an extreme number of 1, 2, 4 or 8 bytes."""
    random = np.random.default_rng(2)
    length = struct.unpack_from("<I", data, 12)[0]
    places = [*range(8, length), *range(length, length + 64), *range(len(data) - 90, len(data))]
    for i in range(600):
        forged = bytearray(data)
        for _ in range(random.integers(1, 3)):
            place, size = min(int(random.choice(places)), len(data) - 8), int(random.choice([1, 2, 4, 8]))
            number = EXTREMES[random.integers(len(EXTREMES))] % 256**size
            forged[place : place + size] = number.to_bytes(size, "little")
        attack(repaired(bytes(forged)), traced=i % 8 == 0)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(EXTREMES), max_size=9),
    st.integers(0, 255),
    st.sampled_from([b"|u1", b"<f8", b"|O8", b"\xff\xff", b"", b">i4"]),
    st.sampled_from(EXTREMES),
    st.sampled_from(EXTREMES),
    st.one_of(st.binary(max_size=60), st.sampled_from([b"{}", b"[]", b"[" * 4000, b'{"a":1e999}', b"9" * 4090, b""])),
    st.sampled_from([b"", b"CHNK" * 8, b"INDX" + b"\xff" * 60]),
)
def test_forged_headers(
    shape: list[int], dims: int, dtype: bytes, per_chunk: int, batch: int, meta: bytes, rest: bytes
) -> None:
    dims = len(shape) if dims < 200 else dims
    body = struct.pack("<32sBBB5sIIH", b"", 0, dims % 2, dims, dtype, per_chunk % 2**32, batch % 2**32, len(meta))
    body += struct.pack(f"<{len(shape)}Q", *shape) + meta
    head = b"\x89LKY\r\n\x1a\n" + struct.pack("<HHI", 1, 0, 16 + len(body) + 4) + body + bytes(4)
    attack(resealed(head) + rest + data_end())


def data_end() -> bytes:
    return sample_files()[2][-40:]


def test_empty_array_of_endless_items_is_refused(opened: type) -> None:
    data = Header(MODEL_ID, "|u1", (1 << 40, 0), 1 << 20)._bytes(False)
    with pytest.raises(FormatError, match=f"array of {1 << 40} bytes"):
        Reader(opened(data))


def test_declared_sizes_allocate_nothing(tmp_path: Path) -> None:
    """A model, an index and a chunk that declare gigabytes within generous limits, of which there is nothing."""
    most = 1 << 40
    head = Header(MODEL_ID, "|u1", (1 << 35,), 1 << 10)
    for model in (False, True):
        start = head._bytes(model)
        block = struct.pack("<4sIQQI", b"MODL", STORED, 1 << 38, 1 << 38, 0)
        chunk = struct.pack("<4sIIIIII", b"CHNK", 0, 1 << 10, STORED, 2**32 - 1, 0, 0)
        data = start + block + struct.pack("<I", crc32(block)) if model else start
        data += chunk + struct.pack("<I", crc32(chunk, crc32(start[:-4]))) + bytes(1000)
        (tmp_path / "file.lk").write_bytes(data)
        with (tmp_path / "file.lk").open("rb") as real:  # it allocates all that it is asked for
            unseekable = Pipe()
            unseekable.read = real.read
            for file in (real, io.BytesIO(data), Pipe(data), unseekable):
                real.seek(0)
                with peak_below(4 * LIMIT), pytest.raises(FormatError):
                    list(Reader(file, max_output=most, max_model=most).chunks())
