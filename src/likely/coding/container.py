"""The .lk file, version 1.0: chunks of coded items between a header and an index. It knows bytes, not models.

    HEADER · [MODEL] · CHUNK 0 · CHUNK 1 · … · INDEX · FOOTER        byte by byte in docs/format.md

Writing never seeks. Reading jumps by the index where the file can seek, else goes chunk by chunk. All integers are
little endian, all checksums CRC-32; that of a chunk's header goes on from that of the file's header, so that no chunk
of another file passes for one of this. Sizes are declared before what they measure, and held against limits before
anything is read.
"""

import hashlib
import json
import lzma
import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable
from zlib import crc32

import numpy as np

from likely.errors import FormatError

MAGIC, END = b"\x89LKY\r\n\x1a\n", b"LKYEND\r\n"
VERSION = (1, 0)
METHODS = STORED, MODEL, LZMA = 0, 1, 2  # how a payload is coded
MAX_HEADER, MAX_META, MAX_DIMS = 8192, 4096, 8

_HEADER = struct.Struct("<8sHHI32sBBB5sIIH")  # then the shape, the meta data, crc32
_MODEL = struct.Struct("<4sIQQI")  # then crc32 of it, then the payload
_CHUNK = struct.Struct("<4sIIIIII")  # then crc32 of the file's header (without its own) and it, then the payload
_INDEX = struct.Struct("<4sI")  # then the entries, crc32
_ENTRY = np.dtype([("offset", "<u8"), ("length", "<u4"), ("items", "<u4")])
_FOOTER = struct.Struct("<QQ")  # then crc32, END
_CRC = struct.Struct("<I")
_BLOCK = 1 << 16


@runtime_checkable
class Sink(Protocol):
    """What is asked of a file to be written."""

    def write(self, data: bytes, /) -> object:
        """Take all of the data."""

    def flush(self) -> object:
        """Hand on what is kept back."""


@runtime_checkable
class Source(Protocol):
    """What is asked of a file to be read; a pipe is never asked to seek."""

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
    """What a file says of itself.

    Args:
        model_id: the SHA-256 of the frozen model, 32 bytes.
        dtype: the array's, as numpy writes it: "|u1", "<i8", ">f4".
        shape: the array's; the first number counts the items.
        items_per_chunk: of every chunk but the last, which has what is left.
        batch: items of a chunk that are coded in lock-step.
        meta: JSON, for the codec.
        profile: the arithmetic; 0 is exact.

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
        length = _HEADER.size + len(shape) + len(self._meta) + _CRC.size
        fixed = (self.model_id, self.profile, model, len(self.shape), self.dtype.encode())
        sizes = (self.items_per_chunk, self.batch, len(self._meta))
        return _sealed(_HEADER.pack(MAGIC, *VERSION, length, *fixed, *sizes) + shape + self._meta)


@dataclass(frozen=True)
class Chunk:
    """Some consecutive items, coded.

    Args:
        index: the chunk's number, from 0.
        items: how many items it holds.
        method: STORED, MODEL or LZMA.
        payload: the coded items.
        raw_crc: CRC-32 of what the payload decodes to, going on from the chunk's `key`.
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
    ways = [(STORED, raw), (LZMA, lzma.compress(raw, lzma.FORMAT_RAW, filters=_filters(len(raw))))]
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
            decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(raw_length))
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


class Writer:
    """Writes a file from the first byte to the last; the file may be a pipe.

    Args:
        file: open for writing, buffered, at its beginning. The caller closes it.
        header: what the file says of itself.
        model: the frozen model, to make the file self-contained.

    Raises:
        ValueError: the model is not the one that the header names.
    """

    def __init__(self, file: Sink, header: Header, model: bytes | None = None) -> None:
        if model is not None and hashlib.sha256(model).digest() != header.model_id:
            raise ValueError("the model's SHA-256 is not the header's model_id")
        self.file, self.header = file, header
        start = header._bytes(model is not None)
        self._checksum = crc32(start[:-4])
        if model is not None:
            method, payload = pack(model)
            start += _sealed(_MODEL.pack(b"MODL", method, len(model), len(payload), crc32(payload))) + payload
        self._start, self._lengths = len(start), []
        file.write(start)

    def key(self, index: int) -> int:
        """What the raw checksum of a chunk goes on from: it ties contents to their place in this file."""
        return _key(index, self._checksum)

    def add(self, chunk: Chunk) -> None:
        """Write the next chunk.

        Raises:
            ValueError: it is not the next one, or has other items than the header gives it, or an unknown method.
        """
        expected, index = len(self._lengths), chunk.index
        if index != expected or index >= self.header.chunks or chunk.items != len(self.header.span(index)):
            raise ValueError(f"chunk {index} of {chunk.items} items does not follow {expected} chunks of {self.header}")
        if chunk.method not in METHODS:
            raise ValueError(f"method {chunk.method} is none of {METHODS}")
        fields = (index, chunk.items, chunk.method, len(chunk.payload), crc32(chunk.payload), chunk.raw_crc)
        self.file.write(_sealed(_CHUNK.pack(b"CHNK", *fields), self._checksum))
        self.file.write(chunk.payload)
        self._lengths.append(len(chunk.payload))

    def close(self) -> None:
        """Write what ends a file; it stays open.

        Raises:
            ValueError: chunks are missing.
        """
        if len(self._lengths) != self.header.chunks:
            raise ValueError(f"{len(self._lengths)} of {self.header.chunks} chunks were added")
        self.file.write(_tail(self.header, self._start, self._lengths))
        self.file.flush()


class Reader:
    """Reads a file, by its index where it can seek.

    Args:
        file: open for reading, at its beginning.
        max_output: the most bytes that the array may have, and that a payload may have.
        max_model: the most bytes that the model in the file may have.

    Raises:
        FormatError: the header is damaged, foreign, of a newer major version, or beyond the limits. The other parts are
            looked at when they are asked for.
    """

    def __init__(self, file: Source, *, max_output: int = 1 << 30, max_model: int = 1 << 28) -> None:
        self.file, self.max_output, self.max_model = file, max_output, max_model
        self._head = _read_head(file)
        self.header, self.has_model = _parse(self._head)
        if self.header.size > max_output:
            raise FormatError(
                f"the file declares an array of {self.header.size} bytes, shape {self.header.shape}; "
                f"the limit is {max_output} bytes (max_output)"
            )
        self._checksum = crc32(self._head[:-4])
        self._begun = False

    @cached_property
    def model(self) -> bytes | None:
        """The frozen model, if it is in the file.

        Raises:
            FormatError: it is damaged, or beyond the limit.
        """
        if self._model_block is None:
            return None
        model = unpack(*self._model_block)
        if hashlib.sha256(model).digest() != self.header.model_id:
            raise FormatError("the model in the file is not the one that its header names")
        return model

    def key(self, index: int) -> int:
        """What the raw checksum of a chunk goes on from."""
        return _key(index, self._checksum)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """The chunks with any of the items from `start` to before `stop`; from a pipe once only.

        Raises:
            FormatError: the index or a chunk is damaged, or does not fit the header.
            ValueError: there are no such items, or a pipe was read already.
        """
        stop = self.header.items if stop is None else stop
        if not 0 <= start <= stop <= self.header.items:
            raise ValueError(f"items {start} to {stop} are asked for, and there are {self.header.items}")
        first, last = start // self.header.items_per_chunk, -(-stop // self.header.items_per_chunk)
        wanted = range(first, last if start < stop else first)
        return self._jump(wanted) if self.file.seekable() else self._stream(wanted)

    def recover(self) -> Iterator[Chunk | range]:
        """What is left of a damaged file that can seek: its intact chunks, and in their order the ranges of lost items.

        Raises:
            FormatError: chunks that contradict one another were put in on purpose.
        """
        size = self.file.seek(0, 2)
        after, following, failed = len(self._head), 0, 0
        for position in self._tags(after, size):
            found = self._fields_at(position) if position >= after else None
            if found is None or found[0] < following:
                continue
            index, _, _, length, *_ = found
            try:
                chunk = self._payload(*found)
            except FormatError:
                failed += min(length, size)
                if failed > size:  # the chunks of a file do not overlap; without this, reading could take for ever
                    raise FormatError("the chunks overlap: this file was made to mislead") from None
                continue
            yield from self._lost(following, index)
            yield chunk
            after, following = position + _CHUNK.size + _CRC.size + length, index + 1
        yield from self._lost(following, self.header.chunks)

    @cached_property
    def _model_block(self) -> tuple[int, bytes, int] | None:
        """What `unpack` takes."""
        if not self.has_model:
            return None
        if self.file.seekable():
            self.file.seek(len(self._head))
        tag, method, raw_length, length, crc = _MODEL.unpack(
            _unsealed(_read(self.file, _MODEL.size + _CRC.size), "the model in the file")
        )
        if tag != b"MODL" or method not in (STORED, LZMA):
            raise FormatError(f"a model is expected after the header; found {tag!r} with method {method}")
        if not length <= raw_length <= self.max_model:
            raise FormatError(f"a model of {raw_length} bytes ({length} of payload); the limit is {self.max_model}")
        payload = _read(self.file, length)
        if crc32(payload) != crc:
            raise FormatError("the model in the file is damaged")
        return method, payload, raw_length

    @property
    def model_bytes(self) -> int:
        """What the model takes of the file; 0 if it is not inside."""
        block = self._model_block
        return 0 if block is None else _MODEL.size + _CRC.size + len(block[1])

    @property
    def _start(self) -> int:
        return len(self._head) + self.model_bytes

    @cached_property
    def _index(self) -> np.ndarray:
        """The entries of the index: (chunks,)."""
        size, n = self.file.seek(0, 2), self.header.chunks
        begin = size - _tail_size(n)
        if begin < self._start + n * (_CHUNK.size + _CRC.size):
            raise FormatError(f"{size} bytes are too few for {n} chunks and their index; the end is missing")
        self.file.seek(begin)
        tail = _read(self.file, _tail_size(n))
        if not tail.endswith(END):
            raise FormatError(f"the file does not end with {END!r}: the end is missing, or something was appended")
        entries = np.frombuffer(tail, _ENTRY, n, _INDEX.size)
        lengths = entries["length"].tolist()
        if tail != _tail(self.header, self._start, lengths):
            raise FormatError("the index is damaged, or does not fit the header")
        if begin != self._start + sum(lengths) + n * (_CHUNK.size + _CRC.size):
            raise FormatError("the index does not follow the last chunk: something was put in or taken out")
        return entries

    def _jump(self, wanted: range) -> Iterator[Chunk]:
        entries = self._index[wanted.start : wanted.stop]
        for index, entry in zip(wanted, entries, strict=True):
            self.file.seek(int(entry["offset"]))
            chunk = self._next(index)
            if len(chunk.payload) != entry["length"]:
                raise FormatError(f"chunk {index} has {len(chunk.payload)} bytes, and {entry['length']} in the index")
            yield chunk

    def _stream(self, wanted: range) -> Iterator[Chunk]:
        if self._begun:
            raise ValueError("a pipe can be read once only")
        self._begun = True
        start, lengths = self._start, []
        for index in range(wanted.stop):
            chunk = self._next(index)
            lengths.append(len(chunk.payload))
            if index in wanted:
                yield chunk
        if wanted.stop == self.header.chunks:
            tail = _tail(self.header, start, lengths)
            if _read(self.file, len(tail)) != tail or self.file.read(1):
                raise FormatError("what follows the chunks is damaged, or is not their index")

    def _next(self, index: int) -> Chunk:
        """The chunk at the file's position, which must be number `index`."""
        found = self._fields(_read(self.file, _CHUNK.size + _CRC.size))
        if found is None or found[0] != index:
            raise FormatError(f"chunk {index} is damaged: its header is wrong, or another chunk's")
        return self._payload(*found)

    def _fields(self, data: bytes) -> tuple[int, int, int, int, int, int] | None:
        """A chunk's header without its tag, if it is one and fits the file's."""
        if len(data) < _CHUNK.size + _CRC.size or _sealed(data[:-4], self._checksum) != data:
            return None
        tag, *fields = _CHUNK.unpack(data[:-4])
        index, items, method, length, crc, raw_crc = fields
        fits = index < self.header.chunks and items == len(self.header.span(index)) and method in METHODS
        return (index, items, method, length, crc, raw_crc) if tag == b"CHNK" and fits else None

    def _payload(self, index: int, items: int, method: int, length: int, crc: int, raw_crc: int) -> Chunk:
        if length > self.max_output:
            raise FormatError(f"chunk {index} declares {length} bytes; the limit is {self.max_output}")
        payload = _read(self.file, length)
        if crc32(payload) != crc:
            raise FormatError(f"chunk {index} is damaged: its {length} bytes do not have their checksum")
        return Chunk(index, items, method, payload, raw_crc)

    def _fields_at(self, position: int) -> tuple[int, int, int, int, int, int] | None:
        self.file.seek(position)
        return self._fields(self.file.read(_CHUNK.size + _CRC.size))

    def _tags(self, position: int, size: int) -> Iterator[int]:
        """Where "CHNK" stands."""
        while position < size:
            self.file.seek(position)
            block = self.file.read(_BLOCK)
            yield from (position + found.start() for found in re.finditer(b"CHNK", block))
            position += max(len(block) - 3, 1)  # a tag may lie across the end of a block

    def _lost(self, first: int, last: int) -> Iterator[range]:
        if first < last:
            yield range(self.header.span(first).start, self.header.span(last - 1).stop)


def _filters(raw_length: int) -> list[dict]:
    dictionary = min(max(raw_length, 1 << 12), 1 << 23)  # a decoder allocates it
    return [{"id": lzma.FILTER_LZMA2, "preset": 6 | lzma.PRESET_EXTREME, "dict_size": dictionary}]


def _sealed(data: bytes, before: int = 0) -> bytes:
    """With its checksum behind it, which goes on from one `before`."""
    return data + _CRC.pack(crc32(data, before))


def _unsealed(data: bytes, what: str) -> bytes:
    if _sealed(data[:-4]) != data:
        raise FormatError(f"{what} is damaged: its {len(data)} bytes do not have their checksum")
    return data[:-4]


def _key(index: int, checksum: int) -> int:
    return crc32(index.to_bytes(4, "little"), checksum)


def _read(file: Source, n: int) -> bytes:
    """The next n bytes, in blocks: what a file declares is not what it has."""
    parts = []
    while n:
        parts.append(file.read(min(n, _BLOCK)))
        if not parts[-1]:
            raise FormatError(f"the file ends {n} bytes too early")
        n -= len(parts[-1])
    return b"".join(parts)


def _read_head(file: Source) -> bytes:
    """The file's header, of which magic, version, length and checksum are right."""
    begin = _read(file, 16)
    magic, major, minor, length = struct.unpack("<8sHHI", begin)
    if magic != MAGIC:
        raise FormatError(f"no .lk file: it begins with {magic!r}; {MAGIC!r} is expected")
    if major != VERSION[0]:
        raise FormatError(f"the file has format {major}.{minor}; this version of likely reads {VERSION[0]}.x")
    if not _HEADER.size + _CRC.size <= length <= MAX_HEADER:
        raise FormatError(f"a header of {length} bytes; {_HEADER.size + _CRC.size} to {MAX_HEADER} are expected")
    head = begin + _read(file, length - len(begin))
    _unsealed(head, "the file's header")
    return head


def _parse(head: bytes) -> tuple[Header, bool]:
    """A header, and whether a model follows it."""
    *_, model_id, profile, model, dims, dtype, per_chunk, batch, meta_length = _HEADER.unpack_from(head)
    end = _HEADER.size + 8 * dims
    try:
        if model > 1 or dims > MAX_DIMS or meta_length > MAX_META or end + meta_length > len(head) - _CRC.size:
            raise ValueError(f"{dims} dimensions, {meta_length} bytes of meta data, model {model}")
        shape = struct.unpack_from(f"<{dims}Q", head, _HEADER.size)
        meta = json.loads(head[end : end + meta_length])
        if not isinstance(meta, dict):
            raise ValueError(f"the meta data are no JSON object but {meta!r}")
        return Header(model_id, dtype.rstrip(b"\0").decode("ascii"), shape, per_chunk, batch, meta, profile), bool(
            model
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the file's header is wrong: {error}") from error


def _tail(header: Header, start: int, lengths: Sequence[int]) -> bytes:
    """Index and footer for chunks whose payloads have these lengths, the first of which begins at byte `start`."""
    entries = np.zeros(len(lengths), _ENTRY)
    entries["length"] = lengths
    ends = start + (np.array(lengths, np.int64) + _CHUNK.size + _CRC.size).cumsum()
    entries["offset"] = [start, *ends[:-1]] if len(lengths) else []
    entries["items"] = header.items_per_chunk
    if len(lengths):
        entries["items"][-1] = len(header.span(len(lengths) - 1))
    offset = int(ends[-1]) if len(lengths) else start
    index = _sealed(_INDEX.pack(b"INDX", len(lengths)) + entries.tobytes())
    return index + _sealed(_FOOTER.pack(offset, offset + _tail_size(len(lengths)))) + END


def _tail_size(chunks: int) -> int:
    return _INDEX.size + chunks * _ENTRY.itemsize + _CRC.size + _FOOTER.size + _CRC.size + len(END)
