"""The standard lossless codecs, on a set of grey images: bits/dim per image and on one mosaic of all of them."""

import lzma
import math
from collections.abc import Callable

import imagecodecs
import numpy as np

Encode = Callable[[np.ndarray], bytes]

CODECS: dict[str, tuple[Encode, Callable[[bytes], np.ndarray]]] = {
    "xz -9e": (
        lambda x: lzma.compress(x.tobytes(), preset=9 | lzma.PRESET_EXTREME),
        lambda b: np.frombuffer(lzma.decompress(b), np.uint8),
    ),
    "zstd -22": (
        lambda x: imagecodecs.zstd_encode(x.tobytes(), level=22),
        lambda b: np.frombuffer(imagecodecs.zstd_decode(b), np.uint8),
    ),
    "PNG": (lambda x: imagecodecs.png_encode(x, level=9), imagecodecs.png_decode),
    "WebP": (
        lambda x: imagecodecs.webp_encode(np.stack([x] * 3, -1), lossless=True, method=6),  # it has no grey images
        lambda b: imagecodecs.webp_decode(b)[..., 0],
    ),
    "JPEG XL": (lambda x: imagecodecs.jpegxl_encode(x, lossless=True, effort=9), imagecodecs.jpegxl_decode),
}


def bits_per_dim(images: np.ndarray) -> dict[str, tuple[float, float]]:
    """For each codec, bits/dim with a file per image, and with one file of the mosaic.

    Args:
        images: (n, h, w) uint8.

    Raises:
        ValueError: a codec does not give the images back.
    """
    mosaic = tiled(images)
    return {
        name: (
            sum(size(name, image, *codec) for image in images) * 8 / images.size,
            size(name, mosaic, *codec) * 8 / images.size,
        )
        for name, codec in CODECS.items()
    }


def size(name: str, image: np.ndarray, encode: Encode, decode: Callable[[bytes], np.ndarray]) -> int:
    """Bytes of one file, once it has been seen to decode to the image."""
    content = encode(np.ascontiguousarray(image))
    decoded = decode(content)
    if not np.array_equal(decoded.reshape(image.shape), image):
        raise ValueError(f"{name} did not give the image back")
    return len(content)


def tiled(images: np.ndarray) -> np.ndarray:
    """All images in one, as nearly square as their number divides; an exact tiling wastes no pixel."""
    n, height, width = images.shape
    rows = next(rows for rows in range(math.isqrt(n), 0, -1) if n % rows == 0)
    return images.reshape(rows, n // rows, height, width).swapaxes(1, 2).reshape(rows * height, -1)
