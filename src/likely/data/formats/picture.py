"""Pictures: single ones, and what brings many into one mode and one size."""

import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from likely.data.formats.format import Format, Found, Reading
from likely.data.formats.streams import reading
from likely.errors import InputError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
MOST = 89_000_000  # pixels of one picture
GREY16 = ("I;16", "I;16B", "I;16L", "I")
LOSSLESS = (  # sets of modes that go into one mode without loss
    ({"1"}, "1"),
    ({"1", "L"}, "L"),
    ({"1", "L", "P", "RGB"}, "RGB"),
    (set(GREY16), "I;16"),
)
SAID = {  # what is lost when a mode becomes an 8-bit one
    "RGBA": "its transparency",
    "LA": "its transparency",
    "PA": "its transparency",
    "La": "its transparency",
    "RGBa": "its transparency",
    "RGB;16": "half of its bits",
    **dict.fromkeys(GREY16, "half of its bits"),
}
PNG = {(1, 0): "1", (8, 0): "L", (16, 0): "I;16", (8, 2): "RGB", (16, 2): "RGB;16", (8, 4): "LA", (8, 6): "RGBA"}
SIGNATURE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


class Picture(Format):
    """One picture, an array of one row."""

    endings = IMAGES
    described = "a picture (.png, .jpg, …)"
    rank = 8

    def read(self, path: Path, key: str | None, how: Reading) -> Found:
        """Read it."""
        header = header_of(str(path))
        mode = common_mode([str(path)], [header], how)
        said = said_of([header], mode, how)
        return Found(pixels(str(path), mode, how)[None], said=said)


class Header(NamedTuple):
    """What a picture's file says of it."""

    width: int
    height: int
    mode: str


def header_of(file: str) -> Header:
    """Read size and mode of a picture from its header.

    Raises:
        InputError: it is damaged, too large, or several pictures in one file.
    """
    with reading(file, "an image"):
        with open(file, "rb") as stream:
            beginning = stream.read(26)
        if beginning.startswith(SIGNATURE) and len(beginning) == 26 and beginning[24:] in _KNOWN:
            found = Header(*_sides(beginning), _KNOWN[beginning[24:]])
        else:
            found = _header_by_pillow(file)
    if found.width * found.height > MOST:
        raise _too_large(file, f"{found.width}×{found.height}")
    return found


def _sides(beginning: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", beginning[16:24])
    return width, height


_KNOWN = {bytes(depth_and_kind): mode for depth_and_kind, mode in PNG.items()}


def _header_by_pillow(file: str) -> Header:
    from PIL import Image

    with _without_limit(file), Image.open(file) as image:
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
            raise InputError(f"{file}: expected one picture, found {getattr(image, 'n_frames', 1)} in one file")
        mode = image.mode
        if mode == "RGB" and image.format == "PNG" and getattr(image, "tile", [])[-1:] and _is_deep(file):
            mode = "RGB;16"
        return Header(image.width, image.height, mode)


def _is_deep(file: str) -> bool:
    with open(file, "rb") as stream:
        return stream.read(26)[24:25] == b"\x10"


@contextmanager
def _without_limit(file: str) -> Iterator[None]:
    """Leave out Pillow's own warning about large pictures; ours comes first."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            yield
        except Image.DecompressionBombError as error:
            raise _too_large(file, "more than 170 million pixels") from error


def _too_large(file: str, found: str) -> InputError:
    return InputError(
        f"{file}: a picture of {found} is larger than the {MOST // 10**6} million pixels that are taken; make it "
        "smaller, or cut it into several"
    )


def common_mode(files: Sequence[str], headers: Sequence[Header], how: Reading) -> str:
    """Return the mode that all pictures are brought into.

    Raises:
        InputError: something would be lost, and nobody has said so; names the first such picture.
    """
    if how.convert is not None:
        return how.convert
    modes = {header.mode for header in headers}
    for known, mode in LOSSLESS:
        if modes <= known:
            return mode
    first = next(k for k, header in enumerate(headers) if header.mode not in ("1", "L", "P", "RGB"))
    mode = headers[first].mode
    target = "L" if mode in (*GREY16, "LA", "La") else "RGB"
    raise InputError(
        f"{files[first]}: a picture of mode {mode}: as {target} it would lose {SAID.get(mode, 'its colour space')}; "
        f"--convert {target} says that it may"
    )


def said_of(headers: Sequence[Header], mode: str, how: Reading) -> str:
    """Return words for what becomes of pictures."""
    kinds = Counter(header.mode for header in headers if header.mode != mode and mode != "I;16")
    said = [f"{count:,} of mode {kind} became {mode}" for kind, count in kinds.items()]
    if how.resize is not None:
        said.append(f"all scaled to {how.resize[0]}×{how.resize[1]}")
    if how.crop is not None:
        said.append(f"their middle, {how.crop[0]}×{how.crop[1]}")
    return ", ".join(said)


def shape_of(header: Header, mode: str, how: Reading) -> tuple[int, ...]:
    """Return the shape of the array of a picture, (h, w) or (h, w, 3)."""
    size = how.crop or how.resize or (header.height, header.width)
    return (*size, 3) if mode == "RGB" else tuple(size)


def pixels(file: str, mode: str, how: Reading) -> np.ndarray:
    """Read a picture as an array, (h, w) or (h, w, 3): uint8, of 16 bits uint16; of one bit 0 and 1.

    Raises:
        InputError: it is damaged, or smaller than what is cut out of it.
    """
    from PIL import Image

    with reading(file, "an image"), _without_limit(file):
        with Image.open(file) as image:
            image.verify()  # checksums, which decoding ignores
        with Image.open(file) as image:
            image = _converted(image, mode)
            if how.resize is not None:
                image = _resized(image, how.resize)
            if how.crop is not None:
                image = _cropped(image, how.crop, file)
            if mode == "1":
                return np.asarray(image).astype(np.uint8)
            return np.array(image, np.uint16 if mode == "I;16" else np.uint8)


def _converted(image: Any, mode: str) -> Any:
    from PIL import Image

    if image.mode in GREY16 and mode != "I;16":  # Pillow would cut off what is above 255
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == mode or (image.mode in GREY16 and mode == "I;16"):
        return image
    if image.mode == "P" and mode != "RGB":
        image = image.convert("RGB")
    return image.convert(mode)


def _resized(image: Any, size: tuple[int, ...]) -> Any:
    from PIL import Image, ImageOps

    height, width = size
    if image.mode in GREY16:
        return ImageOps.fit(image.convert("I"), (width, height), Image.Resampling.NEAREST)
    how = Image.Resampling.NEAREST if image.mode == "1" else Image.Resampling.BICUBIC
    return ImageOps.fit(image, (width, height), how)


def _cropped(image: Any, size: tuple[int, ...], file: str) -> Any:
    height, width = size
    if image.height < height or image.width < width:
        raise InputError(
            f"{file}: at least {width}×{height} pixels are expected for --crop, found {image.width}×{image.height}; "
            "--resize scales pictures up, too"
        )
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
