"""One chunk of a .lk file: raw bytes ↔ payload, and many of them spread over processes."""

import dataclasses
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from numbers import Integral
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from likely.coding import escapes
from likely.coding.codecs import Codec, codec
from likely.coding.family import of
from likely.coding.frozen import Frozen
from likely.coding.groups import OverdrawnError
from likely.coding.layout import Items, Layout, Shape, Sizes, sizes_of
from likely.coding.rans import Stack
from likely.coding.records import ESCAPED, MODEL, Chunk, Header, pack, unpack
from likely.coding.stored import Stored
from likely.coding.symbols import pop_context, push_context
from likely.density import Density
from likely.errors import EntryError, Error, FormatError, InputError
from likely.latent.latent import LatentVariable

RAW_CHUNK = 1 << 21  # bytes of the array that a chunk holds, unless told otherwise
OWN_META = {"side_information", "prepared", "context", "sizes"}  # the codec's own entries in a file's meta data
SEED = 1 << 48  # a stack begins with it and the checksum of its contents


class ChunkCoder:
    """The codec of chunks; it travels to other processes without the model and the contexts."""

    def __init__(
        self,
        frozen: Frozen,
        dtype: str,
        sizes: Sizes,
        context: np.ndarray | Tensor | None,
        side_information: bool,
        prepared: bool,
        batch: int,
    ) -> None:
        self.frozen, self.dtype, self.sizes = frozen, np.dtype(dtype), sizes
        self.side_information, self.prepared, self.batch = side_information, prepared, batch
        preparation = frozen.preparation
        if preparation is not None and not preparation.reversible:
            if not prepared:
                raise InputError(
                    f"the model's preparation (binarize {preparation.binarize}) cannot be undone; prepare the data "
                    "first and say so (--prepared, prepared=True): the prepared array is what is then coded"
                )
            preparation = dataclasses.replace(preparation, binarize=None)
        self.preparation = preparation
        event = frozen.model.context
        if event is None and (context is not None or side_information):
            given = "side information was declared" if context is None else "a context was given"
            raise InputError(f"{type(frozen.model).__name__} was built without context, but {given}")
        most = most_in_lockstep(frozen.model)
        if not isinstance(batch, Integral) or not 1 <= batch <= most:
            raise InputError(f"batch: 1 to {most} items in lock-step are expected of this model, found {batch}")
        self.codecs: dict[Shape, Codec] = {}
        self.most = 0  # bytes that the items of a file may have
        self.context, self.context_dtype = None, torch.int64
        if context is not None and event is not None:
            self.context = event.check(torch.as_tensor(context), "context")
            self.context_dtype = self.context.dtype

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "frozen": None, "codecs": None, "context": None}

    @classmethod
    def of(cls, header: Header, frozen: Frozen, context: np.ndarray | Tensor | None, max_output: int) -> "ChunkCoder":
        """As the file's header says it was written.

        Raises:
            InputError: side information is missing or not wanted.
            FormatError: the header does not fit the model, or with its contexts the array is beyond the limit.
        """
        side = bool(header.meta.get("side_information"))
        if header.profile != 0:
            raise FormatError(f"the file's arithmetic has the number {header.profile}; only 0, exact, is known")
        if side and (context is None or len(context) != header.items):
            found = "none was given" if context is None else f"found {len(context)}"
            raise InputError(f"the file was written with side information: {header.items} contexts, {found}")
        if not side and context is not None:
            raise InputError("the file holds its context, or needs none, but one was given")
        prepared = bool(header.meta.get("prepared"))
        sizes = sizes_of(header)
        job = cls(frozen, header.dtype, sizes, context, side, prepared, header.batch)
        dtype = header.meta.get("context")
        if dtype in ("float16", "bfloat16", "float32", "float64"):
            job.context_dtype = getattr(torch, dtype)
        for *_, shape in sizes.of([]).groups():
            job._restored(torch.zeros(0, *job._sized(shape).event.shape, dtype=torch.int64), shape)
        job.most = job.dtype.itemsize * sizes.values_in(header)
        size = max(header.size, job.most) + header.items * job._context_bytes
        if size > max_output:
            raise FormatError(f"with its contexts the array has {size} bytes; the limit is {max_output} (max_output)")
        return job

    def described(self) -> dict[str, Any]:
        """Return its entries in the file's meta data."""
        found: dict[str, Any] = {}
        if self.side_information:
            found["side_information"] = True
        if self.prepared:
            found["prepared"] = True
        if self.context is not None and not self.side_information:
            found["context"] = str(self.context.dtype).removeprefix("torch.")
        return found | self.sizes.described()

    def check(self, data: Stored) -> int:
        """Refuse data that are not of the model's shape, before anything is written.

        Returns:
            How many values are no symbols of the model; they are stored apart.
        """
        event = self.frozen.model.context
        if data.dtype.kind not in "biuf" or data.dtype.itemsize > 8:
            raise InputError(f"data: numbers of at most 64 bits are expected, found dtype {data.dtype}")
        if event is not None and (self.context is None or len(self.context) != len(data)):
            found = "none was given" if self.context is None else f"found {len(self.context)}"
            raise InputError(
                f"{type(self.frozen.model).__name__} is conditional: {len(data)} contexts of {event} are expected, "
                f"{found}"
            )
        step, found = usual_items(data), 0
        for start in range(0, len(data), step):
            items = data.read(start, min(start + step, len(data)))
            layout = self.sizes.of(items)
            for rows, *_ in layout.groups():
                group = layout.taken(items, rows)
                x = self._arranged(group)
                self.frozen.model.event.check_shape(tuple(x.shape))
                if self.prepared:  # then they are symbols, or something went wrong before
                    self.frozen.model.event.check(x)
                found += int(escapes.outside(group, self.levels).sum())
        return found

    def context_of(self, span: range) -> Tensor | None:
        """The contexts of some examples."""
        return of(self.context, slice(span.start, span.stop))

    @property
    def levels(self) -> int | tuple[int, ...]:
        """The model's alphabet, or that of each column."""
        levels = self.frozen.model.event.levels
        assert levels is not None  # what is frozen has symbols
        return levels

    def encode(self, part: tuple[int, Items, Tensor | None]) -> tuple[int, bytes, int]:
        """A chunk's method, payload and raw checksum, from its key, its items and their contexts.

        Values that are no symbols of the model are taken out, and stored before what is made of the others. The raw
        checksum, going on from the key, is of the items' sizes where they vary, their bytes, and the contexts'.
        """
        key, items, context = part
        layout = self.sizes.of(items)
        raw = layout.written(items)
        sound, apart = escapes.taken_out(raw, self.dtype, self.levels)
        if len(apart.places):
            items = layout.read(sound, self.dtype)
        if context is not None and not self.side_information:
            raw += _bytes(context)
        crc = crc32(layout.prefix + raw, key)
        stack = Stack(SEED | crc)
        try:
            coded = 2 * len(apart.places) <= layout.values and self._push(stack, layout, items, context)
        except (OverdrawnError, EntryError):  # what comes after the end of a string is no symbol's fault
            coded = False
        event = self.frozen.model.context
        if coded and context is not None and event is not None and not self.side_information:
            push_context(event, stack, context)
        before = escapes.written(apart) if coded and len(apart.places) else b""
        method, payload = pack(raw, before + stack.to_bytes() if coded else None)
        if method == MODEL and before:
            method = ESCAPED
        return method, layout.prefix + payload, crc

    def _push(self, stack: Stack, layout: Layout, items: Items, context: Tensor | None) -> bool:
        """Push items, size by size, the last first; whether they come back as they were written.

        A number that equals a symbol may be written otherwise: −0.0.
        """
        pushed = []
        for rows, _, shape in layout.groups():
            group = layout.taken(items, rows)
            x = self.frozen.model.check(self._arranged(group))
            if self._restored(x, shape).tobytes() != group.tobytes():
                return False
            pushed.append((rows, shape, x))
        with _exactly():
            for rows, shape, x in reversed(pushed):
                self._codec(shape).push(stack, x, of(context, rows))
        return True

    def decode(self, part: tuple[int, Chunk, Tensor | None]) -> Items:
        """Return a chunk's items in the array's dtype, from its key, itself and its context.

        Raises:
            FormatError: the payload is damaged.
        """
        key, chunk, context = part
        layout, payload = self.sizes.before(chunk.payload, chunk.items)
        event = None if self.side_information else self.frozen.model.context
        size = self.dtype.itemsize * layout.values
        apart = None
        if chunk.method == ESCAPED:
            apart, payload = escapes.split(payload, self.dtype, layout.values)
        elif chunk.method != MODEL:
            raw = unpack(chunk.method, payload, size + self._context_bytes * chunk.items)
            if crc32(layout.prefix + raw, key) != chunk.raw_crc:
                raise FormatError(f"chunk {chunk.index} is damaged: its contents do not have their checksum")
            return layout.read(raw[:size], self.dtype)
        stack = Stack.from_bytes(payload)
        if event is not None:
            context = pop_context(event, stack, chunk.items, self.context_dtype)
        items = layout.joined(self._popped(stack, layout, context))
        raw = layout.written(items)
        if apart is not None:
            raw = escapes.put_back(raw, self.dtype, apart)
            items = layout.read(raw, self.dtype)
        whole = raw
        if event is not None and context is not None:
            whole += _bytes(context)
        if stack != Stack(SEED | chunk.raw_crc) or crc32(layout.prefix + whole, key) != chunk.raw_crc:
            raise FormatError(f"chunk {chunk.index} is damaged: it does not decode to what was coded")
        return items

    def within(self, chunks: Iterable[Items]) -> Iterator[Items]:
        """Hand chunks on, as long as their items have no more bytes than the file's header says.

        Raises:
            FormatError: they have more.
        """
        left = self.most
        for items in chunks:
            left -= self.sizes.bytes_of(items)
            if left < 0:
                raise FormatError(f"the items have more bytes than the file's header says, which is {self.most}")
            yield items

    def _popped(self, stack: Stack, layout: Layout, context: Tensor | None) -> list[np.ndarray]:
        """Pop items, size by size, the first first: the inverse of `_push`."""
        groups = []
        with _exactly():
            for rows, n, shape in layout.groups():
                x = self._codec(shape).pop(stack, n, of(context, rows))
                groups.append(self._restored(x, shape))
        return groups

    def _codec(self, shape: Shape) -> Codec:
        """The codec of items of one shape."""
        if shape not in self.codecs:
            self.codecs[shape] = codec(self._sized(shape), self.batch)
        return self.codecs[shape]

    def _sized(self, shape: Shape) -> Density:
        """The model of items of one shape, in the layout of the data."""
        model = self.frozen.model
        if not model.event.varies:
            return model
        if self.preparation is not None:
            shape = self.preparation.event_of(torch.empty(1, *shape, device="meta")).sizes
        return model.of_size(shape)

    @property
    def _context_bytes(self) -> int:
        """Of one example, as they are coded."""
        event = None if self.side_information else self.frozen.model.context
        if event is None:
            return 0
        return event.dims * self.context_dtype.itemsize

    def _arranged(self, data: np.ndarray) -> Tensor:
        native = torch.as_tensor(np.array(data, data.dtype.newbyteorder("="), order="C"))
        if self.preparation is None:
            return native
        return self.preparation.apply(native)

    def _restored(self, x: Tensor, shape: Shape) -> np.ndarray:
        """Return examples of this shape in the layout and dtype of the data."""
        raw = x if self.preparation is None else self.preparation.restore(x)
        array = raw.numpy().astype(self.dtype)
        if array.shape[1:] != shape:
            raise FormatError(f"the file declares items of shape {shape}; the model makes {array.shape[1:]}")
        return array


def most_in_lockstep(model: Density) -> int:
    """How many items may be decoded in lock-step: a table of all their next symbols stays within 128 MiB."""
    alphabets = [model.event.most_levels]
    if isinstance(model, LatentVariable) and model.prior.event.discrete:
        alphabets.append(model.prior.event.most_levels)
    return max(1, min(4096, (1 << 24) // max(alphabets)))


def usual_items(data: np.ndarray | Stored) -> int:
    """How many items of an array make a chunk."""
    return max(1, RAW_CHUNK // max(1, data.nbytes // max(1, len(data))))


def _bytes(context: Tensor) -> bytes:
    return context.contiguous().view(-1).view(torch.uint8).numpy().tobytes()  # numpy has no bfloat16


@contextmanager
def _exactly() -> Iterator[None]:
    """No autograd, and no autocast: nothing is rounded."""
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield


class WorkerError(Error, RuntimeError):
    """A process that chunks were spread over has died."""

    exit_code = 1


_worker: list[tuple[Frozen, dict[Shape, Codec]]] = []


def _start_worker(content: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it cannot be held back
    torch.set_num_threads(1)
    _worker.append((Frozen(content), {}))


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back; processes that start meanwhile never get it: it is for the one that waits for them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _in_worker(task: Callable[[ChunkCoder, Any], Any], coder: ChunkCoder, part: Any) -> Any:
    coder.frozen, coder.codecs = _worker[0]
    return task(coder, part)


def spread(
    task: Callable[[ChunkCoder, Any], Any], coder: ChunkCoder, parts: Iterable[Any], workers: int
) -> Iterator[Any]:
    """task(coder, part) for each part, in order, by so many processes; 1: by this one."""
    if workers == 1:
        yield from (task(coder, part) for part in parts)
        return
    # Not forked: a fork of a process with threads may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (coder.frozen.content,))
    waiting: deque[Future] = deque()
    try:
        for part in parts:
            with _uninterrupted():
                waiting.append(pool.submit(_in_worker, task, coder, part))
            if len(waiting) > 2 * workers:  # no more in memory than keeps everybody busy
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise WorkerError(
            "one of the processes that chunks are spread over was killed, or ran out of memory"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
