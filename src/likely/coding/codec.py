"""`compress` and `decompress`: arrays to .lk files by a frozen model, and back to the same bytes."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from likely.coding.chunks import OWN_META, ChunkCoder, most_in_lockstep, spread, usual_items
from likely.coding.container import Reader, Writer
from likely.coding.frozen import Frozen
from likely.coding.layout import Items, sizes_of
from likely.coding.rans import compile_coder
from likely.coding.records import ESCAPED, ESCAPING, MAX_META, MODEL, VERSION, Chunk, Header, Sink, Source, as_json
from likely.coding.stored import Stored, stored
from likely.density import Density
from likely.errors import FormatError, InputError, require_path, require_sizes
from likely.rows import Rows
from likely.runs.files import write_file

BATCH = 256
Model = Frozen | str | Path


@dataclass(frozen=True)
class Compressed:
    """The sizes of a file.

    Attributes:
        items: examples.
        dims: dimensions of one example; their mean, where sizes vary.
        raw_bytes: of the array.
        file_bytes: of the whole file, the model included where it is inside.
        model_bytes: of the model inside the file, 0 where it is not.
        frozen_bytes: of the frozen model, needed to decompress.
        chunks: how many chunks.
        stored_chunks: how many of them were smaller by other means than the model.
        outside: values that are no symbols of the model, and were stored apart.
    """

    items: int
    dims: int | float
    raw_bytes: int
    file_bytes: int
    model_bytes: int
    frozen_bytes: int
    chunks: int
    stored_chunks: int
    outside: int = 0

    @property
    def bits_per_dim(self) -> float:
        """Bits of the file, the model apart, for each dimension."""
        return 8 * (self.file_bytes - self.model_bytes) / max(1, self.items * self.dims)

    @property
    def ratio(self) -> float:
        """Bytes of the array for each byte of the file."""
        return self.raw_bytes / self.file_bytes

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return dataclasses.asdict(self) | {"bits_per_dim": self.bits_per_dim, "ratio": self.ratio}


def compress(
    model: Model,
    data: np.ndarray | list[np.ndarray] | Rows | Stored,
    file: str | Path | Sink,
    *,
    context: np.ndarray | Tensor | None = None,
    side_information: bool = False,
    prepared: bool = False,
    with_model: bool = False,
    chunk_items: int | None = None,
    batch: int | None = None,
    workers: int = 1,
    meta: dict[str, Any] | None = None,
    watch: Callable[[int], None] | None = None,
) -> Compressed:
    """Write an array as a .lk file: −log2 p(x) bits by the frozen model, and at most 56 bytes more for each chunk.

    Decompression gives back every byte, on any machine. A chunk that the model would enlarge is stored as it is or
    by LZMA, whichever is smaller.

    Args:
        model: a `Frozen`, its file, or a run that holds one.
        data: the array as it is stored, (n, …), of any dtype that holds the model's symbols exactly; values that are
            none of its symbols are stored apart. A memory map is read chunk by chunk. Items of several sizes are a list
            of arrays, or `Rows`.
        file: path or binary file (a pipe will do). A path is replaced in one step at the end.
        context: of each example, if the model is conditional; it is coded in the file.
        side_information: leave the context out of the file; `decompress` then wants the same one.
        prepared: the data are the model's symbols already (in the layout of the raw data).
        with_model: put the frozen model into the file: nothing else is needed to read it.
        chunk_items: examples per chunk, the unit of random access, of damage and of parallel work; None: about 2 MiB.
        batch: examples of a chunk that are decoded in lock-step; None: 256, fewer of wide alphabets, as memory allows.
        workers: processes that chunks are spread over.
        meta: to keep in the file, JSON; not the codec's own `side_information`, `prepared` and `context`.
        watch: called with the number of examples done.

    Raises:
        InputError: the data are not of the model's shape, the preparation cannot be undone, the model is not frozen, or
            another argument is wrong; names it.
        WriteError: the file could not be written; the one before is untouched.
    """
    frozen, data = opened(model), stored(data)
    if batch is None:
        batch = min(BATCH, most_in_lockstep(frozen.model))
    if chunk_items is None:
        chunk_items = usual_items(data)
    require_sizes(chunk_items=chunk_items, workers=workers)
    meta = {} if meta is None else meta
    _check_meta(meta)
    coder = ChunkCoder(frozen, data.dtype.str, data.sizes, context, side_information, prepared, batch)
    outside = coder.check(data)
    described = meta | coder.described()
    try:
        shape = data.shape[:1] if None in data.shape else data.shape
        minor = ESCAPING if outside else VERSION[1]
        header = Header(frozen.id, data.dtype.str, shape, chunk_items, batch, described, minor=minor)
    except ValueError as error:
        raise InputError(f"data: {error}") from error

    content = frozen.content if with_model else None
    if not isinstance(file, str | Path):
        return _write(file, header, content, coder, data, workers, watch, outside)
    if workers == 1:
        compile_coder()  # not while the file is open: numba, interrupted in its import, swallows a Ctrl-C
    found: list[Compressed] = []
    write_file(Path(file), lambda out: found.append(_write(out, header, content, coder, data, workers, watch, outside)))
    return found[0]


def _check_meta(meta: dict[str, Any]) -> None:
    if not isinstance(meta, dict):
        raise InputError(f"meta: a dictionary is expected, found {type(meta).__name__}")
    if own := sorted(OWN_META & meta.keys()):
        raise InputError(f"meta: {', '.join(own)} is for the codec to say, by arguments of their own")
    try:
        size = len(as_json(meta))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"meta: JSON is expected: {error}") from None
    if size > MAX_META:
        raise InputError(f"meta: {size} bytes of JSON, and at most {MAX_META} are possible")


def _write(
    out: Sink,
    header: Header,
    content: bytes | None,
    coder: ChunkCoder,
    data: Stored,
    workers: int,
    watch: Callable[[int], None] | None,
    outside: int,
) -> Compressed:
    file = _Counted(out)
    writer = Writer(file, header, content)
    model_bytes = file.size - len(header._bytes(content is not None))
    done, without_model = 0, 0
    parts = (
        (writer.key(index), data.read(span.start, span.stop), coder.context_of(span))
        for index, span in enumerate(map(header.span, range(header.chunks)))
    )
    for index, (method, payload, crc) in enumerate(spread(ChunkCoder.encode, coder, parts, workers)):
        items = len(header.span(index))
        writer.add(Chunk(index, items, method, payload, crc))
        done, without_model = done + items, without_model + (method not in (MODEL, ESCAPED))
        if watch is not None:
            watch(done)
    writer.close()
    return Compressed(
        items=len(data),
        dims=data.dims,
        raw_bytes=data.nbytes,
        file_bytes=file.size,
        model_bytes=model_bytes,
        frozen_bytes=len(coder.frozen.content),
        chunks=header.chunks,
        stored_chunks=without_model,
        outside=outside,
    )


def decompress(
    file: str | Path | Source,
    model: Model | None = None,
    *,
    items: tuple[int, int] | None = None,
    context: np.ndarray | Tensor | None = None,
    max_output: int = 1 << 30,
    workers: int = 1,
    watch: Callable[[int], None] | None = None,
) -> Items:
    """Read a .lk file: the array that was compressed, the same dtype, shape and bytes; or the list of arrays.

    Args:
        file: path or binary file, also a pipe.
        model: a `Frozen`, its file, or a run that holds one; None: the model in the file.
        items: the first example wanted and the one after the last; None: all.
        context: the side information, where the file was written with it: of all examples in the file.
        max_output: the most bytes that the array may have.
        workers: processes that chunks are spread over.
        watch: called with the number of examples done.

    Raises:
        FormatError: the file is damaged, foreign, of a newer format or beyond a limit. Nothing wrong is returned.
        InputError: another model than the file's, items it does not have, or side information missing or not wanted.
    """
    with reading(file) as stream:
        reader = Reader(stream, max_output=max_output)
        parts = decompress_parts(reader, model, items=items, context=context, workers=workers, watch=watch)
        return _joined(parts, reader.header)


def model_of(reader: Reader, model: Model | None) -> Frozen:
    """The frozen model that a file was written with.

    Raises:
        InputError: none is given and none is inside, or it is another one.
    """
    wanted = reader.header.model_id
    if model is None:
        if reader.model is None:
            raise InputError(
                f"the file does not hold its model {wanted.hex()[:16]}…; give the run or its frozen.safetensors"
            )
        return Frozen(reader.model)
    frozen = opened(model)
    if frozen.id != wanted:
        raise InputError(f"the file was written with the model {wanted.hex()[:16]}…, found {frozen.id.hex()[:16]}…")
    return frozen


@singledispatch
def opened(model: Any) -> Frozen:
    """Return a frozen model, from wherever it is."""
    return Frozen.load(model)


@opened.register
def _(model: Frozen) -> Frozen:
    return model


@opened.register
def _(model: Density) -> Frozen:
    raise InputError(f"{type(model).__name__} is not frozen; make it so with likely.freeze(model, examples)")


def recover(
    file: str | Path | Source,
    model: Model | None = None,
    *,
    context: np.ndarray | Tensor | None = None,
    max_output: int = 1 << 30,
) -> tuple[Items, list[range]]:
    """The intact examples of a damaged file, and the ranges of those that are lost.

    Args:
        file: path or binary file that can seek.
        model, context, max_output: as `decompress` takes them.

    Raises:
        FormatError: the header is lost too, or a limit exceeded.
        InputError: as `decompress`.
    """
    with reading(file) as stream:
        return recover_from(Reader(stream, max_output=max_output), model, context=context)


def recover_from(
    reader: Reader, model: Model | None, *, context: np.ndarray | Tensor | None = None
) -> tuple[Items, list[range]]:
    """As `recover`, from the rest of a file after its header."""
    coder = ChunkCoder.of(reader.header, model_of(reader, model), context, reader.max_output)
    lost: list[range] = []

    def intact() -> Iterator[Items]:
        for found in reader.recover():
            if isinstance(found, range):
                lost.append(found)
                continue
            span = reader.header.span(found.index)
            try:
                yield coder.decode((reader.key(found.index), found, coder.context_of(span)))
            except FormatError:
                lost.append(span)

    return _joined(coder.within(intact()), reader.header), lost


def decompress_parts(
    reader: Reader,
    model: Model | None,
    *,
    items: tuple[int, int] | None = None,
    context: np.ndarray | Tensor | None = None,
    workers: int = 1,
    watch: Callable[[int], None] | None = None,
) -> Iterator[Items]:
    """Return the rows that `decompress` returns, in their order and chunk by chunk: no more is in memory.

    Every part was held against its checksum. Arguments and errors are those of `decompress`; the file must stay open.
    """
    header, frozen = reader.header, model_of(reader, model)
    start, stop = (0, header.items) if items is None else items
    if not 0 <= start <= stop <= header.items:
        raise InputError(f"items {start}:{stop} are asked for; the file has {header.items}")
    coder = ChunkCoder.of(header, frozen, context, reader.max_output)
    if reader.file.seekable():
        for _ in reader.chunks(start, stop):
            pass  # what is damaged is found before anything is computed
    if workers == 1:
        compile_coder()  # before a file is opened to write the parts to, as in `compress`
    parts = (
        (reader.key(chunk.index), chunk, coder.context_of(header.span(chunk.index)))
        for chunk in reader.chunks(start, stop)
    )
    decoded = coder.within(spread(ChunkCoder.decode, coder, parts, workers))
    return _wanted(decoded, header, range(start, stop), watch)


def _wanted(
    chunks: Iterable[Items], header: Header, wanted: range, watch: Callable[[int], None] | None
) -> Iterator[Items]:
    """Yield the wanted items of consecutive chunks; the first chunk holds the first wanted item."""
    first = place = wanted.start // header.items_per_chunk * header.items_per_chunk
    for chunk in chunks:
        part = chunk[max(wanted.start - place, 0) : wanted.stop - place]
        place += len(chunk)
        if watch is not None:
            watch(place - first)
        yield part


def _joined(parts: Iterable[Items], header: Header) -> Items:
    """Return the parts as one array or list. It grows with them: a file may declare more than it holds."""
    if sizes_of(header).several:
        return [item for part in parts for item in part]
    raw, rows = bytearray(), 0
    for part in parts:
        raw += part.reshape(-1).view(np.uint8).data
        rows += len(part)
    return np.frombuffer(raw, header.dtype).reshape(rows, *header.shape[1:])


@contextmanager
def reading(file: str | Path | Source) -> Iterator[Source]:
    """A binary file, opened here if it is a path."""
    if not isinstance(file, str | Path) and hasattr(file, "read"):
        yield file
        return
    file = require_path(file=file)
    try:
        stream = Path(file).open("rb")  # noqa: SIM115  (an error of opening is told apart from one of reading)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    with stream:
        try:
            yield stream
        except FormatError as error:
            raise FormatError(f"{file}: {error}") from error


class _Counted:
    """A file that knows how many bytes went into it."""

    def __init__(self, file: Sink) -> None:
        self.file, self.size = file, 0

    def write(self, data: bytes, /) -> object:
        self.size += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()
