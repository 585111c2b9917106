"""The records of a .lk file, version 1: chunks of coded items between a header and an index.

    HEADER · [MODEL] · CHUNK 0 · CHUNK 1 · … · INDEX · FOOTER        byte by byte in docs/format.md

Writing never seeks. Reading jumps by the index where the file can seek, else goes chunk by chunk. All integers are
little endian, all checksums CRC-32; that of a chunk's header goes on from that of the file's header, so that no chunk
of another file passes for one of this. Sizes are declared before their contents, and held against limits before
anything is read.
"""

import json
import lzma
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable
from zlib import crc32

import numpy as np

from likely.errors import FormatError

MAGIC, END = b"\x89LKY\r\n\x1a\n", b"LKYEND\r\n"
VERSION = (1, 0)
ESCAPING = 1  # minor version of a file with chunks of the method ESCAPED
METHODS = STORED, MODEL, LZMA, ESCAPED = 0, 1, 2, 3  # how a payload is coded
MAX_HEADER, MAX_META, MAX_DIMS = 8192, 4096, 8

HEADER = struct.Struct("<8sHHI32sBBB5sIIH")  # then the shape, the meta data, crc32
MODEL_BLOCK = struct.Struct("<4sIQQI")  # then crc32 of it, then the payload
CHUNK = struct.Struct("<4sIIIIII")  # then crc32 of the file's header (without its own) and it, then the payload
INDEX = struct.Struct("<4sI")  # then the entries, crc32
ENTRY = np.dtype([("offset", "<u8"), ("length", "<u4"), ("items", "<u4")])
FOOTER = struct.Struct("<QQ")  # then crc32, END
CRC = struct.Struct("<I")
BLOCK = 1 << 16


@runtime_checkable
class Sink(Protocol):
    """A file to write to."""

    def write(self, data: bytes, /) -> object:
        """Take all of the data."""

    def flush(self) -> object:
        """Write everything that is held in memory."""


@runtime_checkable
class Source(Protocol):
    """A file to read from; a pipe is never asked to seek."""

    def read(self, n: int, /) -> bytes:
        """The next n bytes, or fewer, or none at the end."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move; the new position."""
        ...

    def seekable(self) -> bool:
        """Whether `seek` works."""
        ...


@dataclass(frozen=True)
class Header:
    """The header of a file.

    Args:
        model_id: the SHA-256 of the frozen model, 32 bytes.
        dtype: the array's, as numpy writes it: "|u1", "<i8", ">f4".
        shape: the array's; the first number counts the items.
        items_per_chunk: of every chunk but the last; that one has the rest.
        batch: items of a chunk that are coded in lock-step.
        meta: JSON, for the codec.
        profile: the arithmetic; 0 is exact.
        minor: version of the format.

    Raises:
        ValueError: a field is out of its range.
    """

    model_id: bytes
    dtype: str
    shape: tuple[int, ...]
    items_per_chunk: int
    batch: int = 1
    meta: dict = field(default_factory=dict)
    profile: int = 0
    minor: int = field(default=VERSION[1], compare=False)

    def __post_init__(self) -> None:
        if len(self.model_id) != 32:
            raise ValueError(f"a model's SHA-256 has 32 bytes, not {len(self.model_id)}")
        if not re.fullmatch(r"\|[biu]1|[<>][iuf][248]", self.dtype):
            raise ValueError(f'dtype {self.dtype!r} is none of "|b1", "|u1", "<i2", … "<f8", ">i2", …')
        if not 1 <= len(self.shape) <= MAX_DIMS or any(not 0 <= size < 1 << 63 for size in self.shape):
            raise ValueError(f"shape {self.shape}: 1 to {MAX_DIMS} sizes from 0 to 2^63 - 1 are expected")
        for name, least, bits in ("items_per_chunk", 1, 32), ("batch", 1, 32), ("profile", 0, 8):
            if not least <= getattr(self, name) < 1 << bits:
                raise ValueError(f"{name} is {getattr(self, name)}; {least} to 2^{bits} - 1 is expected")
        if self.chunks >= 1 << 32:
            raise ValueError(f"{self.chunks} chunks, and at most 2^32 - 1 are possible: put more items into each")
        if len(self._meta) > MAX_META:
            raise ValueError(f"{len(self._meta)} bytes of meta data, and at most {MAX_META} are possible")

    @property
    def items(self) -> int:
        """The number of items."""
        return self.shape[0]

    @property
    def chunks(self) -> int:
        """The number of chunks."""
        return -(-self.items // self.items_per_chunk)

    @property
    def size(self) -> int:
        """Bytes of the array; an axis of size 0 is counted as 1, so that an empty array may not be endless either."""
        return int(self.dtype[-1]) * math.prod(max(size, 1) for size in self.shape)

    def span(self, chunk: int) -> range:
        """The items of a chunk."""
        start = chunk * self.items_per_chunk
        return range(start, min(start + self.items_per_chunk, self.items))

    @property
    def _meta(self) -> bytes:
        return as_json(self.meta)

    def _bytes(self, model: bool) -> bytes:
        shape = struct.pack(f"<{len(self.shape)}Q", *self.shape)
        length = HEADER.size + len(shape) + len(self._meta) + CRC.size
        fixed = (self.model_id, self.profile, model, len(self.shape), self.dtype.encode())
        sizes = (self.items_per_chunk, self.batch, len(self._meta))
        return sealed(HEADER.pack(MAGIC, VERSION[0], self.minor, length, *fixed, *sizes) + shape + self._meta)


@dataclass(frozen=True)
class Chunk:
    """Some consecutive items, coded.

    Args:
        index: the chunk's number, from 0.
        items: how many items it holds.
        method: STORED, MODEL, LZMA or ESCAPED, which is MODEL with values stored apart.
        payload: the coded items.
        raw_crc: CRC-32 of the decoded payload, going on from the chunk's `key`.
    """

    index: int
    items: int
    method: int
    payload: bytes
    raw_crc: int


def as_json(meta: dict) -> bytes:
    """Meta data as a header has them.

    Raises:
        TypeError, ValueError, RecursionError: they are no JSON.
    """
    return json.dumps(meta, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def pack(raw: bytes, candidate: bytes | None = None) -> tuple[int, bytes]:
    """The smallest of `raw` as it is, compressed by LZMA, and `candidate`, coded by the model: (method, payload)."""
    ways = [(STORED, raw), (LZMA, lzma.compress(raw, lzma.FORMAT_RAW, filters=filters(len(raw))))]
    if candidate is not None:
        ways.append((MODEL, candidate))
    return min(ways, key=lambda way: len(way[1]))


def unpack(method: int, payload: bytes, raw_length: int) -> bytes:
    """The inverse of `pack` for STORED and LZMA; nothing beyond `raw_length` bytes is decompressed.

    Raises:
        FormatError: the payload is damaged, or not of `raw_length` bytes.
        ValueError: another method.
    """
    if method == STORED:
        raw = payload
    elif method == LZMA:
        try:
            decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters(raw_length))
            raw = decompressor.decompress(payload, raw_length + 1)
        except lzma.LZMAError as error:
            raise FormatError(f"damaged LZMA payload: {error}") from error
        if len(raw) == raw_length and (not decompressor.eof or decompressor.unused_data):
            raise FormatError("damaged LZMA payload: it does not end where its data end")
    else:
        raise ValueError(f"method {method} is neither {STORED} (stored) nor {LZMA} (LZMA)")
    if len(raw) != raw_length:
        raise FormatError(f"a payload of {len(raw)}{'+' * (len(raw) > raw_length)} bytes; {raw_length} are expected")
    return raw


def filters(raw_length: int) -> list[dict]:
    """Return the filters of LZMA for so many bytes."""
    dictionary = min(max(raw_length, 1 << 12), 1 << 23)  # a decoder allocates it
    return [{"id": lzma.FILTER_LZMA2, "preset": 6 | lzma.PRESET_EXTREME, "dict_size": dictionary}]


def sealed(data: bytes, before: int = 0) -> bytes:
    """Return data with a checksum behind them, going on from the one `before`."""
    return data + CRC.pack(crc32(data, before))


def unsealed(data: bytes, name: str) -> bytes:
    """Return bytes without their checksum.

    Raises:
        FormatError: it is not theirs; calls them by `name`.
    """
    if sealed(data[:-4]) != data:
        raise FormatError(f"{name} is damaged: its {len(data)} bytes do not have their checksum")
    return data[:-4]


def key_of(index: int, checksum: int) -> int:
    """Return the checksum that those of a chunk go on from."""
    return crc32(index.to_bytes(4, "little"), checksum)


def parse(head: bytes) -> tuple[Header, bool]:
    """A header, and whether a model follows it."""
    _, _, minor, _, model_id, profile, model, dims, dtype, per_chunk, batch, meta_length = HEADER.unpack_from(head)
    end = HEADER.size + 8 * dims
    try:
        if model > 1 or dims > MAX_DIMS or meta_length > MAX_META or end + meta_length > len(head) - CRC.size:
            raise ValueError(f"{dims} dimensions, {meta_length} bytes of meta data, model {model}")
        shape = struct.unpack_from(f"<{dims}Q", head, HEADER.size)
        meta = json.loads(head[end : end + meta_length])
        if not isinstance(meta, dict):
            raise ValueError(f"the meta data are no JSON object but {meta!r}")
        return Header(
            model_id, dtype.rstrip(b"\0").decode("ascii"), shape, per_chunk, batch, meta, profile, minor
        ), bool(model)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the file's header is wrong: {error}") from error


def tail_of(header: Header, start: int, lengths: Sequence[int]) -> bytes:
    """Return index and footer for chunks with payloads of these lengths, from byte `start` on."""
    entries = np.zeros(len(lengths), ENTRY)
    entries["length"] = lengths
    ends = start + (np.array(lengths, np.int64) + CHUNK.size + CRC.size).cumsum()
    entries["offset"] = [start, *ends[:-1]] if len(lengths) else []
    entries["items"] = header.items_per_chunk
    if len(lengths):
        entries["items"][-1] = len(header.span(len(lengths) - 1))
    offset = int(ends[-1]) if len(lengths) else start
    index = sealed(INDEX.pack(b"INDX", len(lengths)) + entries.tobytes())
    return index + sealed(FOOTER.pack(offset, offset + tail_size(len(lengths)))) + END


def tail_size(chunks: int) -> int:
    """Return the bytes of index and footer."""
    return INDEX.size + chunks * ENTRY.itemsize + CRC.size + FOOTER.size + CRC.size + len(END)
