"""Writing and reading .lk files: they know bytes, not models.

Writing never seeks. Reading jumps by the index where the file can seek, else goes chunk by chunk.
"""

import hashlib
import re
import struct
from collections.abc import Iterator
from functools import cached_property
from zlib import crc32

import numpy as np

from likely.coding.records import (
    BLOCK,
    CHUNK,
    CRC,
    END,
    ENTRY,
    HEADER,
    INDEX,
    LZMA,
    MAGIC,
    MAX_HEADER,
    METHODS,
    MODEL_BLOCK,
    STORED,
    VERSION,
    Chunk,
    Header,
    Sink,
    Source,
    key_of,
    pack,
    parse,
    sealed,
    tail_of,
    tail_size,
    unpack,
    unsealed,
)
from likely.errors import FormatError


class Writer:
    """Writes a file from the first byte to the last; the file may be a pipe.

    Args:
        file: open for writing, buffered, at its beginning. The caller closes it.
        header: of the file.
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
            start += sealed(MODEL_BLOCK.pack(b"MODL", method, len(model), len(payload), crc32(payload))) + payload
        self._start, self._lengths = len(start), []
        file.write(start)

    def key(self, index: int) -> int:
        """The number that the raw checksum of a chunk goes on from: it ties contents to their place in this file."""
        return key_of(index, self._checksum)

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
        self.file.write(sealed(CHUNK.pack(b"CHNK", *fields), self._checksum))
        self.file.write(chunk.payload)
        self._lengths.append(len(chunk.payload))

    def close(self) -> None:
        """Write the index and the footer; the file stays open.

        Raises:
            ValueError: chunks are missing.
        """
        if len(self._lengths) != self.header.chunks:
            raise ValueError(f"{len(self._lengths)} of {self.header.chunks} chunks were added")
        self.file.write(tail_of(self.header, self._start, self._lengths))
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
        self._head = read_head(file)
        self.header, self.has_model = parse(self._head)
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
        """The number that the raw checksum of a chunk goes on from."""
        return key_of(index, self._checksum)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """The chunks with any of the items from `start` to before `stop`; from a pipe once only.

        Raises:
            FormatError: the index or a chunk is damaged, or does not fit the header.
            ValueError: there are no such items, or a pipe was read already.
        """
        if stop is None:
            stop = self.header.items
        if not 0 <= start <= stop <= self.header.items:
            raise ValueError(f"items {start} to {stop} are asked for, and there are {self.header.items}")
        first, last = start // self.header.items_per_chunk, -(-stop // self.header.items_per_chunk)
        wanted = range(first, last if start < stop else first)
        if self.file.seekable():
            return self._jump(wanted)
        return self._stream(wanted)

    def recover(self) -> Iterator[Chunk | range]:
        """Yield the intact chunks of a damaged file that can seek, and in their order the ranges of lost items.

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
            after, following = position + CHUNK.size + CRC.size + length, index + 1
        yield from self._lost(following, self.header.chunks)

    @cached_property
    def _model_block(self) -> tuple[int, bytes, int] | None:
        """The arguments of `unpack`."""
        if not self.has_model:
            return None
        if self.file.seekable():
            self.file.seek(len(self._head))
        tag, method, raw_length, length, crc = MODEL_BLOCK.unpack(
            unsealed(read_exactly(self.file, MODEL_BLOCK.size + CRC.size), "the model in the file")
        )
        if tag != b"MODL" or method not in (STORED, LZMA):
            raise FormatError(f"a model is expected after the header; found {tag!r} with method {method}")
        if not length <= raw_length <= self.max_model:
            raise FormatError(f"a model of {raw_length} bytes ({length} of payload); the limit is {self.max_model}")
        payload = read_exactly(self.file, length)
        if crc32(payload) != crc:
            raise FormatError("the model in the file is damaged")
        return method, payload, raw_length

    @property
    def model_bytes(self) -> int:
        """Bytes of the model in the file; 0 if it is not inside."""
        block = self._model_block
        if block is None:
            return 0
        return MODEL_BLOCK.size + CRC.size + len(block[1])

    @property
    def _start(self) -> int:
        return len(self._head) + self.model_bytes

    @cached_property
    def _index(self) -> np.ndarray:
        """The entries of the index: (chunks,)."""
        size, n = self.file.seek(0, 2), self.header.chunks
        begin = size - tail_size(n)
        if begin < self._start + n * (CHUNK.size + CRC.size):
            raise FormatError(f"{size} bytes are too few for {n} chunks and their index; the end is missing")
        self.file.seek(begin)
        tail = read_exactly(self.file, tail_size(n))
        if not tail.endswith(END):
            raise FormatError(f"the file does not end with {END!r}: the end is missing, or something was appended")
        entries = np.frombuffer(tail, ENTRY, n, INDEX.size)
        lengths = entries["length"].tolist()
        if tail != tail_of(self.header, self._start, lengths):
            raise FormatError("the index is damaged, or does not fit the header")
        if begin != self._start + sum(lengths) + n * (CHUNK.size + CRC.size):
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
            tail = tail_of(self.header, start, lengths)
            if read_exactly(self.file, len(tail)) != tail or self.file.read(1):
                raise FormatError("what follows the chunks is damaged, or is not their index")

    def _next(self, index: int) -> Chunk:
        """Read the chunk at the file's position; it must be number `index`."""
        found = self._fields(read_exactly(self.file, CHUNK.size + CRC.size))
        if found is None or found[0] != index:
            raise FormatError(f"chunk {index} is damaged: its header is wrong, or another chunk's")
        return self._payload(*found)

    def _fields(self, data: bytes) -> tuple[int, int, int, int, int, int] | None:
        """A chunk's header without its tag, if it is one and fits the file's."""
        if len(data) < CHUNK.size + CRC.size or sealed(data[:-4], self._checksum) != data:
            return None
        tag, *fields = CHUNK.unpack(data[:-4])
        index, items, method, length, crc, raw_crc = fields
        fits = index < self.header.chunks and items == len(self.header.span(index)) and method in METHODS
        if tag != b"CHNK" or not fits:
            return None
        return index, items, method, length, crc, raw_crc

    def _payload(self, index: int, items: int, method: int, length: int, crc: int, raw_crc: int) -> Chunk:
        if length > self.max_output:
            raise FormatError(f"chunk {index} declares {length} bytes; the limit is {self.max_output}")
        payload = read_exactly(self.file, length)
        if crc32(payload) != crc:
            raise FormatError(f"chunk {index} is damaged: its {length} bytes do not have their checksum")
        return Chunk(index, items, method, payload, raw_crc)

    def _fields_at(self, position: int) -> tuple[int, int, int, int, int, int] | None:
        self.file.seek(position)
        return self._fields(self.file.read(CHUNK.size + CRC.size))

    def _tags(self, position: int, size: int) -> Iterator[int]:
        """Where "CHNK" stands."""
        while position < size:
            self.file.seek(position)
            block = self.file.read(BLOCK)
            yield from (position + found.start() for found in re.finditer(b"CHNK", block))
            position += max(len(block) - 3, 1)  # a tag may lie across the end of a block

    def _lost(self, first: int, last: int) -> Iterator[range]:
        if first < last:
            yield range(self.header.span(first).start, self.header.span(last - 1).stop)


def read_exactly(file: Source, n: int) -> bytes:
    """Read the next n bytes, in blocks: a file may declare more than it has."""
    parts = []
    while n:
        parts.append(file.read(min(n, BLOCK)))
        if not parts[-1]:
            raise FormatError(f"the file ends {n} bytes too early")
        n -= len(parts[-1])
    return b"".join(parts)


def read_head(file: Source) -> bytes:
    """Read the file's header, and check magic, version, length and checksum."""
    begin = read_exactly(file, 16)
    magic, major, minor, length = struct.unpack("<8sHHI", begin)
    if magic != MAGIC:
        raise FormatError(f"no .lk file: it begins with {magic!r}; {MAGIC!r} is expected")
    if major != VERSION[0]:
        raise FormatError(f"the file has format {major}.{minor}; this version of likely reads {VERSION[0]}.x")
    if not HEADER.size + CRC.size <= length <= MAX_HEADER:
        raise FormatError(f"a header of {length} bytes; {HEADER.size + CRC.size} to {MAX_HEADER} are expected")
    head = begin + read_exactly(file, length - len(begin))
    unsealed(head, "the file's header")
    return head
