"""The commands of lossless compression."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from likely.cli import several
from likely.cli.common import Context, Json, Seed, Threads, own_context, use
from likely.cli.output import Console
from likely.errors import InputError

Stream = Annotated[str, Parameter(allow_leading_hyphen=True)]  # a path, or -
OutFile = Annotated[
    str, Parameter(name=["--out", "-o"], allow_leading_hyphen=True, help="File to write; - is standard output.")
]
Force = Annotated[bool, Parameter(negative="", help="Replace the file if it exists.")]
MOST_INPUT = 1 << 36  # bytes of standard input
Workers = Annotated[int, Parameter(help="Processes that chunks are spread over.", validator=Number(gte=1, lte=1024))]
MaxOutput = Annotated[int, Parameter(help="Refuse files that declare an array of more bytes.")]
ModelOf = Annotated[
    Path | None, Parameter(help="Run or frozen.safetensors that the file was written with; unset: the one inside it.")
]


def compress(
    run: Path,
    *data: Stream,
    out: OutFile,
    context: Context = None,
    side_information: Annotated[
        bool, Parameter(negative="", help="Leave the context out; decompress then wants the same --context.")
    ] = False,
    prepared: Annotated[
        bool, Parameter(negative="", help="Binarise as the fit did, and code the result in place of the data.")
    ] = False,
    with_model: Annotated[bool, Parameter(negative="", help="Put the model into the file.")] = False,
    chunk_items: Annotated[
        int | None, Parameter(help="Items per chunk, which is read and lost as a whole; unset: about 2 MiB.")
    ] = None,
    batch_size: Annotated[
        int | None,
        Parameter(help="Items of a chunk that are decoded in lock-step; unset: 256, fewer of wide alphabets."),
    ] = None,
    workers: Workers = 1,
    seed: Seed = 0,
    force: Force = False,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Compress data without loss into −log2 p(x) bits by a fitted model.

    Args:
        run: run with a frozen model (a fit ends with one; else likely freeze), or frozen.safetensors.
        data: name or path of the data; - is an .npy array on standard input. Several, or -o FOLDER/: each file, or
            each of a folder's, becomes FOLDER/NAME.lk.
    """
    from likely.coding.frozen import Frozen

    console = Console(json, data_on_stdout=out == "-")
    use("cpu", threads)
    settings: dict[str, Any] = {
        "side_information": side_information,
        "prepared": prepared,
        "with_model": with_model,
        "chunk_items": chunk_items,
        "batch": batch_size,
        "workers": workers,
    }
    pairs = files_and_outputs(data, out, several.packed_name)
    for _, to in pairs:
        _refuse_existing(to, force)
    frozen = Frozen.load(run)
    results = []
    for one, to in pairs:
        given = context
        if context is None and frozen.model.context is not None and run.is_dir():
            given = own_context(run, one)
        results.append(_compressed(console, frozen, one, to, given, seed, settings))
    console.result(several.summed(results, out))


def _compressed(
    console: Console, frozen: Any, data: str, out: str, context: str | None, seed: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """Compress one file; say it, and return its sizes."""
    from likely.cli.arrays import read_array
    from likely.coding.codec import compress as encode
    from likely.coding.stored import Prepared, stored

    how = None if frozen.preparation is None else frozen.preparation.how
    source = read_array(data, context, how)
    array, meta = stored(source.array), source.meta
    if settings["prepared"] and frozen.preparation is not None:
        array, meta = Prepared(array, frozen.preparation, seed), {}
    to = sys.stdout.buffer if out == "-" else out
    with console.counting(len(array)) as watch:
        found = encode(frozen, array, to, context=source.context, meta=meta, watch=watch, **settings)
    console.say(f"{source.note}: {_said(found, settings['with_model'])}")
    return {"out": out, **found.to_json()}


def _said(found: Any, with_model: bool) -> str:
    """Return the sizes of what was compressed, for people."""
    model = f"model apart: {found.frozen_bytes:,}"
    if with_model:
        model = f"its model inside: {found.model_bytes:,}"
    said = (
        f"{found.items:,} items in {found.file_bytes:,} bytes ({model}), "
        f"{found.bits_per_dim:.4f} bits/dim, {found.ratio:.2f} times smaller than the array"
    )
    if found.stored_chunks:
        said += f"; {found.stored_chunks:,} of {found.chunks:,} chunks are smaller without the model"
    if found.outside:
        said += f"; {found.outside:,} values outside the model's alphabet are stored apart"
    return said


def decompress(
    *file: Stream,
    out: OutFile,
    model: ModelOf = None,
    items: Annotated[str | None, Parameter(help="FIRST:STOP, to read only the chunks that hold these items.")] = None,
    context: Annotated[str | None, Parameter(help="The side information: PATH:key or NAME:labels.")] = None,
    recover: Annotated[
        bool, Parameter(negative="", help="Write what is intact in a damaged file, and name the items that are lost.")
    ] = False,
    max_output: MaxOutput = 1 << 30,
    workers: Workers = 1,
    force: Force = False,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Give back the array that was compressed, in the format of --out: .npy, .npz, .csv, .png, a folder of pictures, …

    Args:
        file: a .lk file; - is standard input. Several, or -o FOLDER/: each file, or each of a folder's, gets its old
            name in FOLDER.
    """
    console = Console(json, data_on_stdout=out == "-")
    use("cpu", threads)
    settings: dict[str, Any] = {"model": model, "items": items, "context": context, "recover": recover}
    settings |= {"max_output": max_output, "workers": workers}
    results = []
    for one, to in files_and_outputs(file, out, several.unpacked_name):
        _refuse_existing(to, force)
        results.append(_decompressed(console, one, to, **settings))
    console.result(several.summed(results, out))


def _decompressed(
    console: Console,
    file: str,
    out: str,
    *,
    model: Path | None,
    items: str | None,
    context: str | None,
    recover: bool,
    max_output: int,
    workers: int,
) -> dict[str, Any]:
    """Give back one file; say it, and return its size."""
    import numpy as np

    from likely.cli.arrays import side_information
    from likely.coding import codec
    from likely.coding.layout import sizes_of

    if recover and (items is not None or file == "-"):
        raise InputError(
            "--recover looks through a whole file that can be searched; it goes neither with --items nor -"
        )
    lost: list[range] = []
    parts: Any = None
    with _opened(file) as stream:
        reader = codec.Reader(stream, max_output=max_output)
        header = reader.header
        many = sizes_of(header).several
        start, stop = (0, header.items) if items is None else _span(items)
        given = side_information(context)
        with console.counting(stop - start) as watch:
            if recover:
                array, lost = codec.recover_from(reader, model, context=given)
                stop, parts = len(array), iter([array])
            writer, rows = writer_and_rows(out, header, stop - start)
            writer.check(out, rows)
            if not recover:
                span = None if items is None else (start, stop)
                parts = codec.decompress_parts(reader, model, items=span, context=given, workers=workers, watch=watch)
            shape, dtype = (stop - start, *header.shape[1:]), np.dtype(header.dtype)
            writer.write(out, rows, parts)
    for span in lost:
        print(f"likely: lost: items {span.start} to {span.stop - 1}", file=sys.stderr)
    described = "of several sizes," if many else str(shape)
    console.say(f"{len(range(start, stop)):,} items {described} {dtype} in {out}")
    result: dict[str, Any] = {"out": out, "shape": list(shape), "dtype": str(dtype)}
    if recover:
        result["lost"] = [[span.start, span.stop] for span in lost]
    return result


def inspect(
    file: Stream,
    *,
    verify: Annotated[bool, Parameter(negative="", help="Decode everything, and check it.")] = False,
    model: ModelOf = None,
    context: Annotated[str | None, Parameter(help="The side information, to verify with.")] = None,
    max_output: MaxOutput = 1 << 30,
    workers: Workers = 1,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Show the contents of a .lk file.

    Args:
        file: a .lk file; - is standard input.
    """
    import io

    from likely.cli.arrays import side_information
    from likely.coding import codec

    console = Console(json)
    use("cpu", threads)
    with _opened(file) as stream:
        whole = stream if stream.seekable() else io.BytesIO(stream.read())
        reader = codec.Reader(whole, max_output=max_output)
        chunks = [_described(chunk) for chunk in reader.chunks()]
        if verify:
            with console.counting(reader.header.items) as watch:
                given = side_information(context)
                for _ in codec.decompress_parts(reader, model, context=given, workers=workers, watch=watch):
                    pass  # each is checked as it comes
        result = _properties(reader, whole.seek(0, 2)) | {"verified": verify}
    shown = result | {"bits_per_dim": f"{result['bits_per_dim']:.4f}"}
    console.say("\n".join(f"{name.replace('_', ' '):<16} {value}" for name, value in shown.items()))
    if not json:
        console.table(chunks, "chunks")
    console.result(result | {"chunks": chunks})


def _described(chunk: Any) -> dict[str, Any]:
    method = ("stored", "model", "lzma", "model, values apart")[chunk.method]
    return {"chunk": chunk.index, "items": chunk.items, "method": method, "bytes": len(chunk.payload)}


def _properties(reader: Any, file_bytes: int) -> dict[str, Any]:
    """Return the properties of a .lk file, without its chunks."""
    from likely.coding.layout import sizes_of

    header, model_bytes = reader.header, reader.model_bytes
    values = sizes_of(header).values_in(header)
    return {
        "model": header.model_id.hex(),
        "model_inside": reader.has_model,
        "dtype": header.dtype,
        "shape": list(header.shape),
        "items_per_chunk": header.items_per_chunk,
        "batch": header.batch,
        "meta": header.meta,
        "file_bytes": file_bytes,
        "model_bytes": model_bytes,
        "bits_per_dim": 8 * (file_bytes - model_bytes) / max(1, values),
    }


def freeze(run: Path, data: str, *, context: Context = None, force: Force = False, json: Json = False) -> None:
    """Bring the model of a run into exact arithmetic, for compression; a fit does it at its end.

    Args:
        run: folder of the run.
        data: examples like those to be compressed; they fix the ranges of the network's layers.
    """
    from likely.cli.common import opened
    from likely.coding.frozen import FROZEN
    from likely.coding.frozen import freeze as frozen_from

    console = Console(json)
    _refuse_existing(str(run / FROZEN), force)
    model, preparation, _, x = opened(run, data, context, 0, "cpu")
    frozen = frozen_from(model, x, preparation=preparation)
    frozen.save(run)
    console.say(f"{run / FROZEN}: {len(frozen.content):,} bytes, {frozen.id.hex()}")
    console.result({"out": str(run / FROZEN), "bytes": len(frozen.content), "id": frozen.id.hex()})


def _span(items: str) -> tuple[int, int]:
    first, colon, stop = items.partition(":")
    if not (colon and items.isascii() and first.isdigit() and stop.isdigit() and len(items) < 40):
        raise InputError(f"--items: FIRST:STOP is expected, as 100:200, found {items}")
    return int(first), int(stop)


def writer_and_rows(out: str, header: Any, n: int) -> tuple[Any, Any]:
    """Return what writes n items of a .lk file, and their description."""
    import numpy as np

    from likely.cli.arrays import HEADER, NAMES
    from likely.cli.writers import Output, writer_of
    from likely.coding.layout import sizes_of

    writer, sizes, names, stored = writer_of(out), header.shape[1:], header.meta.get(NAMES), header.meta.get(HEADER)
    if sizes_of(header).several:
        sizes = tuple(sizes_of(header).shape)
    if not (isinstance(names, list) and len(sizes) == 1 and len(names) == sizes[0] and all(map(_is_text, names))):
        names = None
    stored = stored if _is_text(stored) else None
    return writer, Output((n, *sizes), np.dtype(header.dtype), names, None, stored, exact=True)


def files_and_outputs(data: tuple[str, ...], out: str, name: Callable[[str], str]) -> list[tuple[str, str]]:
    """Return pairs of an input and its output; of several, or where the output is a folder, each by its name there."""
    if not data:
        raise InputError("the name of a file, or -, is expected")
    if len(data) == 1 and not several.is_folder(out):
        return [(data[0], out)]
    return several.pairs(data, out, name)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _refuse_existing(out: str, force: bool) -> None:
    if not out:
        raise InputError("--out: the name of a file, or -, is expected")
    if out != "-" and not force and Path(out).exists():
        raise InputError(f"{out} exists; choose another file, or --force to replace it")


def _opened(file: str) -> Any:
    from likely.coding.codec import reading

    if file == "-":
        return _from_standard_input()
    return reading(file)


def _from_standard_input() -> Any:
    """Return standard input as a file that can be searched, on disk where it is large: damage is found first.

    Of what is no .lk file, only the beginning is read.
    """
    import tempfile

    from likely.coding.records import MAGIC

    file, stream = tempfile.SpooledTemporaryFile(1 << 26), sys.stdin.buffer  # noqa: SIM115  (the caller closes it)
    file.write(stream.read(1 << 16))
    file.seek(0)
    if file.read(len(MAGIC)) == MAGIC:
        file.seek(0, 2)
        while file.tell() < MOST_INPUT and (block := stream.read(1 << 20)):
            file.write(block)
    file.seek(0)
    return file
