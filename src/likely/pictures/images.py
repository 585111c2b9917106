"""Images of symbols as PNG files."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from likely.errors import InputError
from likely.runs.files import write_file

LINE = 128  # grey of hidden pixels
Images = Tensor | Sequence[Tensor]


def grid(images: Tensor, levels: int, columns: int | None = None, side: int = 800) -> Image.Image:
    """Draw images (n, c, h, w) of symbols in a grid, enlarged by a whole factor to about `side` pixels; c is 1 or 3."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(f"a picture needs images (n, 1 or 3, h, w), found {tuple(images.shape)}; write .npy instead")
    columns = columns or math.ceil(math.sqrt(len(images)))
    return _tiled(_bytes(images, levels), columns, side)


def rows(images: Tensor, levels: int, side: int = 1200) -> Image.Image:
    """Draw images (rows, columns, c, h, w) of symbols, or of means of symbols, in their places; c is 1 or 3."""
    return grid(images.flatten(0, 1), levels, images.shape[1], side)


def infilling(original: Images, observed: Images, completed: Images, levels: int) -> Image.Image:
    """Draw three rows per sixteen examples: the originals, their observed pixels (the rest grey), and the completions.

    Args:
        original, completed: images (c, h, w) of symbols, of one size or several.
        observed: True where a pixel was given.
        levels: size of the alphabet.
    """
    original = [_bytes(image, levels) for image in original]
    completed = [_bytes(image, levels) for image in completed]
    shown = [image.where(seen.cpu(), LINE) for image, seen in zip(original, observed, strict=True)]
    columns = min(16, len(original))
    pictures = [_framed(images) for images in (original, shown, completed)]
    rows = []
    for i in range(0, len(original), columns):
        for images in pictures:
            part = images[i : i + columns]
            blank = part.new_full((columns - len(part), *part.shape[1:]), 255)
            rows += [part, blank]
    return _tiled(torch.cat(rows), columns, 1200)


def write(path: str | Path, picture: Image.Image) -> None:
    """Write a picture in the format of the file's ending, in one step."""
    path = Path(path)
    write_file(path, lambda file: picture.save(file, format=_format(path)))


def _format(path: Path) -> str:
    Image.init()
    if Image.EXTENSION.get(path.suffix.lower()) not in Image.SAVE:
        raise InputError(f"{path}: a picture's name must end in .png or another format of pictures")
    return Image.EXTENSION[path.suffix.lower()]


def _bytes(images: Tensor, levels: int) -> Tensor:
    scaled = images.float() * (255 / max(levels - 1, 1))
    return scaled.round().clamp(0, 255).to(torch.uint8).cpu()


def _framed(images: Sequence[Tensor]) -> Tensor:
    """Return images (c, h, w) of bytes as one tensor (n, c, h, w); smaller ones lie in white, above and to the left."""
    height = max(image.shape[1] for image in images)
    width = max(image.shape[2] for image in images)
    frames = images[0].new_full((len(images), len(images[0]), height, width), 255)
    for frame, image in zip(frames, images, strict=True):
        frame[:, : image.shape[1], : image.shape[2]] = image
    return frames


def _tiled(images: Tensor, columns: int, side: int) -> Image.Image:
    n, channels, height, width = images.shape
    rows = math.ceil(n / columns)
    factor = max(1, side // max(columns * (width + 1), rows * (height + 1)))
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    height, width, gap = height * factor, width * factor, max(1, factor // 2)
    down, across = height + gap, width + gap  # from one image to the next
    canvas = torch.full((channels, rows * down + gap, columns * across + gap), 255, dtype=torch.uint8)
    for k, image in enumerate(images):
        top = gap + k // columns * down
        left = gap + k % columns * across
        canvas[:, top : top + height, left : left + width] = image
    array = canvas.movedim(0, -1).numpy()
    if channels == 1:
        array = array[..., 0]
    return Image.fromarray(np.ascontiguousarray(array))
