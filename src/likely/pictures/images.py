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
    """Images (n, c, h, w) of symbols in a grid, enlarged by a whole factor to about `side` pixels; c is 1 or 3."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(f"a picture needs images (n, 1 or 3, h, w), found {tuple(images.shape)}; write .npy instead")
    return _tiled(_bytes(images, levels), columns or math.ceil(math.sqrt(len(images))), side)


def rows(images: Tensor, levels: int, side: int = 1200) -> Image.Image:
    """Images (rows, columns, c, h, w) of symbols, or of means of symbols, in their places; c is 1 or 3."""
    return grid(images.flatten(0, 1), levels, images.shape[1], side)


def infilling(original: Images, observed: Images, completed: Images, levels: int) -> Image.Image:
    """Three rows per sixteen examples: the originals, what was shown of them (the rest grey), and the completions.

    Args:
        original, observed, completed: images (c, h, w) of symbols, which may be of several sizes; True where observed.
        levels: size of the alphabet.
    """
    original, completed = ([_bytes(image, levels) for image in images] for images in (original, completed))
    shown = [image.where(seen.cpu(), LINE) for image, seen in zip(original, observed, strict=True)]
    original, shown, completed = (_framed(images) for images in (original, shown, completed))
    rows = []
    for i in range(0, len(original), 16):
        for part in (original[i : i + 16], shown[i : i + 16], completed[i : i + 16]):
            blank = part.new_full((min(16, len(original)) - len(part), *part.shape[1:]), 255)
            rows.append(torch.cat([part, blank]))
    return _tiled(torch.cat(rows), min(16, len(original)), 1200)


def write(path: str | Path, picture: Image.Image) -> None:
    """Write a picture in the format that its name says, in one step."""
    write_file(Path(path), lambda file: picture.save(file, format=_format(Path(path))))


def _format(path: Path) -> str:
    Image.init()
    if Image.EXTENSION.get(path.suffix.lower()) not in Image.SAVE:
        raise InputError(f"{path}: a picture's name must end in .png or another format of pictures")
    return Image.EXTENSION[path.suffix.lower()]


def _bytes(images: Tensor, levels: int) -> Tensor:
    return (images.float() * (255 / max(levels - 1, 1))).round().clamp(0, 255).to(torch.uint8).cpu()


def _framed(images: Sequence[Tensor]) -> Tensor:
    """Images (c, h, w) of bytes as one tensor (n, c, h, w); smaller ones lie in white, above and to the left."""
    height, width = (max(image.shape[side] for image in images) for side in (1, 2))
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
    canvas = torch.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), 255, dtype=torch.uint8)
    for k, image in enumerate(images):
        top, left = gap + k // columns * (height + gap), gap + k % columns * (width + gap)
        canvas[:, top : top + height, left : left + width] = image
    array = canvas.movedim(0, -1).numpy()
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if channels == 1 else array))
