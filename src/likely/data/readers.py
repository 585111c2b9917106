"""Files to numpy arrays: .npy, .npz, IDX and IDX.gz, CSV, folders of images.

Nothing is ever unpickled. The sizes that a file declares are held against the bytes it has before anything is
allocated, and whatever is wrong with a file comes out as one `InputError` that starts with its path.
"""

import csv
import gzip
import io
import math
import os
import struct
import zipfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
import torch

from likely.errors import InputError
from likely.rows import Source
from likely.rows.sources import Arrays, Picked, stacked

FORMATS = ".npy, .npz, IDX (.idx*, *-ubyte, either with .gz), .csv or a folder of images"
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
Stream = BufferedIOBase | IO[bytes]
LARGE = 1 << 28  # bytes of an array that is left on disk, and read as it is needed

DEFLATE = 1032  # deflate makes nothing smaller than this fraction of its size


def array_names(path: Path) -> tuple[str, ...]:
    """List the arrays of an .npz, or the subfolders of a folder; () for a file that is one array without a name.

    Raises:
        InputError: an .npz that is damaged or has no arrays.
    """
    if path.is_dir():
        images, others = images_in(path)
        if images:
            return ()
        return tuple(part.name for part in others if part.is_dir())
    if path.suffix.lower() == ".npz":
        return _npz_names(path)
    return ()


def read_array(path: Path, key: str | None = None) -> np.ndarray:
    """Read one array (n, …) of numbers in the dtype it is stored in.

    Images come as uint8, (n, h, w) in grey or (n, h, w, 3) in colour; CSV as uint8 or int64 where every number is
    whole, else float64. A large .npy file comes as a memory map.

    Args:
        path: a file, or a folder of images.
        key: one of `array_names(path)` where there are any.

    Raises:
        InputError: missing, of an unknown format, truncated, damaged, pickled, or not numbers; starts with the path.
    """
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file or folder")
    names = array_names(path)
    if key not in (names or (None,)):
        holds = "a single array without a name"
        if names:
            holds = f"arrays {', '.join(names)}"
        given = f"the key {key!r}" if key else "no key"
        raise InputError(f"{path}: holds {holds}; found {given}")
    if key is None:
        array, where = _reader(path)(path), str(path)
    else:
        array, where = _read_named(path, key), f"{path}:{key}"
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where}: an array of numbers is expected, found dtype {array.dtype}")
    return array


def images_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the images of a folder, sorted by name, and everything else in it (hidden files apart)."""
    with _reading(folder, "a folder"):
        visible = sorted(part for part in folder.iterdir() if not part.name.startswith("."))
    images = [part for part in visible if part.suffix.lower() in IMAGES and part.is_file()]
    return images, [part for part in visible if part not in set(images)]


def _reader(path: Path) -> Callable[[Path], np.ndarray]:
    name = path.name.lower()
    if path.is_dir():
        return _read_images
    if name.endswith(".npy"):
        return _read_npy
    if name.endswith(".csv"):
        return _read_csv
    if name.endswith((".gz", "-ubyte")) or path.suffix.lower().startswith(".idx"):
        return _read_idx
    raise InputError(f"{path}: unknown format; expected {FORMATS}")


def _read_named(path: Path, key: str) -> np.ndarray:
    if path.is_dir():
        return _read_images(path / key)
    return _read_npz(path, key)


@contextmanager
def _reading(path: Path, expected: str) -> Iterator[None]:
    """Turn any error inside into one `InputError` that names the file."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read, permission denied") from error
    except Exception as error:
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: truncated or damaged: expected {expected}, found: {found}") from error


# numpy's formats


def _read_npy(path: Path) -> np.ndarray:
    with _reading(path, "an array in numpy's format"), open(path, "rb") as stream:
        _refuse_pickle(path, stream)
        size = os.path.getsize(path)
        if size < LARGE:
            return _npy(stream, size, str(path))
        return _mapped(path, stream, size)


def _mapped(path: Path, stream: Stream, size: int) -> np.ndarray:
    """Map a large array into memory; one in Fortran order is read, because its rows are scattered."""
    shape, fortran, dtype = _npy_header(stream, str(path))
    wanted, room = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if fortran or wanted != room:
        stream.seek(0)
        return _npy(stream, size, str(path))
    return np.memmap(path, dtype, "r", stream.tell(), shape)


def parse_npy(content: bytes, name: str) -> np.ndarray:
    """Return the array in the bytes of an .npy file; raises as `read_array`."""
    with _reading(Path(name), "an array in numpy's format"):
        stream = io.BytesIO(content)
        _refuse_pickle(Path(name), stream)
        return _npy(stream, len(content), name)


def _npz_names(path: Path) -> tuple[str, ...]:
    with _reading(path, "a zip archive of numpy arrays"):
        with open(path, "rb") as stream:
            _refuse_pickle(path, stream)
        with zipfile.ZipFile(path) as archive:
            names = tuple(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))
    if not names:
        raise InputError(f"{path}: expected a zip archive of numpy arrays, found no array in it")
    return names


def _read_npz(path: Path, key: str) -> np.ndarray:
    with _reading(path, "a zip archive of numpy arrays"), zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{key}.npy")
        size = min(info.file_size, DEFLATE * min(info.compress_size, os.path.getsize(path)))
        with archive.open(info) as stream:
            return _npy(stream, size, f"{path}:{key}")


def _npy(stream: Stream, size: int, name: str) -> np.ndarray:
    """Read one array in numpy's format from a stream of `size` bytes."""
    shape, fortran, dtype = _npy_header(stream, name)
    room = size - stream.tell()
    if fortran:
        return _body(stream, room, shape[::-1], dtype, name).T
    return _body(stream, room, shape, dtype, name)


def _npy_header(stream: Stream, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, whether in Fortran order, and dtype."""
    shape, fortran, dtype = parse_header(stream)
    if dtype.hasobject:
        _pickled(name)
    return shape, fortran, dtype


def parse_header(stream: Stream) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, whether in Fortran order, and dtype as numpy does; errors are those of numpy."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _body(stream: Stream, room: int, shape: tuple[int, ...], dtype: np.dtype, name: str) -> np.ndarray:
    """Read the rest of a stream, at most `room` bytes: exactly one array, in the machine's byte order."""
    wanted = math.prod(shape) * dtype.itemsize
    expected = f"{name}: truncated or damaged: expected {wanted:,} bytes for shape {shape} of {dtype.name}"
    if not 0 <= wanted <= room:
        raise InputError(f"{expected}, found room for {max(room, 0):,}")
    raw = np.empty(wanted, np.uint8)
    filled = 0
    while filled < wanted and (chunk := stream.read(min(wanted - filled, 1 << 20))):
        raw[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    if filled < wanted:
        raise InputError(f"{expected}, found {filled:,}")
    if stream.read(1):
        raise InputError(f"{expected}, found more")
    return raw.view(dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _refuse_pickle(path: Path, stream: Stream) -> None:
    if stream.read(1) == b"\x80":
        _pickled(str(path))
    stream.seek(0)


def _pickled(name: str) -> NoReturn:
    raise InputError(
        f"{name}: expected numbers, found pickled Python objects, which are never read because they can run code; "
        "save a plain array of numbers instead"
    )


# IDX


def _read_idx(path: Path) -> np.ndarray:
    zipped = path.suffix.lower() == ".gz"
    opener = gzip.open if zipped else open
    with _reading(path, "an IDX file"), opener(path, "rb") as stream:
        shape, dtype = _idx_header(stream, path)
        room = os.path.getsize(path)
        if zipped:
            room *= DEFLATE
        else:
            room -= stream.tell()
        return _body(stream, room, shape, dtype, str(path))


def _idx_header(stream: Stream, path: Path) -> tuple[tuple[int, ...], np.dtype]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or magic[3] == 0:
        raise InputError(f"{path}: expected an IDX file (00 00 type dimensions …), found {magic.hex(' ')}")
    dimensions = magic[3]
    shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
    return shape, np.dtype(IDX_TYPES[magic[2]])


# CSV


def _read_csv(path: Path) -> np.ndarray:
    with _reading(path, "a table of numbers, comma-separated"), open(path, newline="", encoding="utf-8-sig") as stream:
        table = list(_csv_rows(path, csv.reader(stream, strict=True)))
    if not table:
        raise InputError(f"{path}: expected a table of numbers, found no rows")
    return _narrow(np.array(table))


def _csv_rows(path: Path, reader: Iterator[list[str]]) -> Iterator[array]:
    """Yield rows of finite numbers, all of one length; a first row without any number is a header."""
    header: list[str] | None = None
    width, blank = 0, 0
    for row, cells in enumerate(reader, 1):
        if not cells:
            blank = blank or row
        elif blank:
            raise InputError(f"{path}: row {blank}: expected {width} numbers, found an empty row")
        elif not width and not any(map(_is_number, cells)) and "".join(cells).strip():
            header, width = cells, len(cells)
        else:
            width = width or len(cells)
            yield _csv_row(path, row, cells, width, header)


def _csv_row(path: Path, row: int, cells: list[str], width: int, header: list[str] | None) -> array:
    if len(cells) != width:
        raise InputError(f"{path}: row {row}: expected {width} columns, found {len(cells)}")
    try:
        numbers = array("d", map(float, cells))
        if all(map(math.isfinite, numbers)):
            return numbers
    except ValueError:
        pass
    column = next(i for i, cell in enumerate(cells) if not _is_number(cell))
    name = f' ("{header[column]}")' if header else ""
    cell = cells[column]
    found = f'"{cell[:60]}"' if cell.strip() else "a hole"
    raise InputError(f"{path}: row {row}, column {column + 1}{name}: expected a finite number, found {found}")


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _narrow(table: np.ndarray) -> np.ndarray:
    """Return whole numbers as integers, in one byte each where they fit."""
    if (table != np.rint(table)).any() or np.abs(table).max() >= 2**53:
        return table
    if table.min() >= 0 and table.max() <= 255:
        return table.astype(np.uint8)
    return table.astype(np.int64)


# Images


class Pictures(Source):
    """The images of a folder, read when they are asked for.

    Raises:
        InputError: none, or images of several modes.
    """

    dtype = torch.uint8

    def __init__(self, folder: Path) -> None:
        self.files = images_in(folder)[0]
        if not self.files:
            raise InputError(f"{folder}: expected a folder of images ({', '.join(IMAGES)}), found none in it")
        shapes = [_image_shape(file) for file in self.files]
        for file, shape in zip(self.files, shapes, strict=True):
            if len(shape) != len(shapes[0]):
                raise InputError(
                    f"{file}: expected images of one mode, found {_described(shape)}; "
                    f"{self.files[0].name} is {_described(shapes[0])}"
                )
        self.values, self.shapes = sum(map(math.prod, shapes)), shapes
        self.of_sizes(torch.tensor(shapes))

    def __getitem__(self, rows: Picked) -> torch.Tensor:
        return stacked([self._image(number) for number in self.numbers(rows)])

    def _image(self, number: int) -> torch.Tensor:
        image = _read_image(self.files[number])
        if image.shape != self.shapes[number]:
            raise InputError(
                f"{self.files[number]}: expected {_described(self.shapes[number])}, as it was before, found "
                f"{_described(image.shape)}"
            )
        return torch.from_numpy(image)

    def loaded(self) -> torch.Tensor | Source:
        """Return them in memory, where they are few enough."""
        if self.values >= LARGE:
            return self
        if self.sizes is None:
            return self[:]
        return Arrays([self._image(number) for number in range(len(self))])


def _read_images(folder: Path) -> np.ndarray:
    pictures = Pictures(folder)
    if pictures.sizes is not None:
        other = int((pictures.sizes != pictures.sizes[0]).any(1).long().argmax())
        raise InputError(
            f"{pictures.files[other]}: images of one size go into an array, found {_described(pictures.sizes[other])}; "
            f"{pictures.files[0].name} is {_described(pictures.sizes[0])}"
        )
    return pictures[:].numpy()


def _image_shape(file: Path) -> tuple[int, ...]:
    """Read the size of an image from its header, (h, w) or (h, w, 3)."""
    from PIL import Image

    with _reading(file, "an image"), Image.open(file) as image:
        if image.mode not in ("L", "RGB"):
            raise InputError(f"{file}: expected mode L (grey) or RGB, found {image.mode}; convert it")
        if image.mode == "RGB":
            return (image.height, image.width, 3)
        return (image.height, image.width)


def _read_image(file: Path) -> np.ndarray:
    """Read one image, (h, w) or (h, w, 3)."""
    from PIL import Image

    with _reading(file, "an image"):
        with Image.open(file) as image:
            image.verify()  # checksums, which decoding ignores
        with Image.open(file) as image:
            return np.array(image)


def _described(shape: Sequence[int] | torch.Tensor) -> str:
    mode = "L" if len(shape) == 2 else "RGB"
    return f"{int(shape[1])}×{int(shape[0])} {mode}"
