"""Many pictures as rows, read when they are asked for."""

import hashlib
import math
import os
from collections.abc import Sequence
from zlib import crc32

import numpy as np
import torch

from likely.data.formats import picture
from likely.data.formats.format import Reading
from likely.data.formats.gathered import LARGE
from likely.errors import InputError
from likely.rows import Source
from likely.rows.picked import Picked
from likely.rows.sources import Arrays, stacked

FEW = 2000  # files that are read at once, and held in memory
ENDS = 1 << 15  # bytes at either end of a file that tell it from others


class Pictures(Source):
    """Pictures, read when they are asked for; those of one size are kept when they were read, while there is room.

    Args:
        files: paths.
        how: modes and sizes that are wanted.

    Raises:
        InputError: a file that is damaged, or modes that do not go into one without loss.
    """

    def __init__(self, files: Sequence[str], how: Reading | None = None) -> None:
        self.files, self.how = files, how or Reading()
        headers = [picture.header_of(file) for file in files]
        self.mode = picture.common_mode(files, headers, self.how)
        self.said = picture.said_of(headers, self.mode, self.how)
        self.shapes = [picture.shape_of(header, self.mode, self.how) for header in headers]
        self.values = sum(map(math.prod, self.shapes))
        self.of_sizes(torch.tensor(self.shapes))
        self.stored = np.dtype(np.uint16 if self.mode == "I;16" else np.uint8)
        self.dtype = torch.int32 if self.mode == "I;16" else torch.uint8
        self.bounds = (0, {"1": 1, "I;16": 65535}.get(self.mode, 255))
        self.kept: dict[int, np.ndarray] = {}

    def __getitem__(self, rows: Picked) -> torch.Tensor:
        return stacked([self._tensor(number) for number in self.numbers(rows)])

    def as_stored(self, start: int, stop: int) -> list[np.ndarray]:
        """Read some pictures as the arrays that they are."""
        return [self._image(number) for number in range(start, stop)]

    def identity(self) -> str | None:
        """Return a checksum over names, lengths and the ends of all files; None: they are few, and are read."""
        if self.few:
            return None
        digest = hashlib.sha256(repr(self.how.of_pictures()).encode())
        for file in self.files:
            digest.update(f"{os.path.basename(file)} {_ends(file)} ".encode())
        return digest.hexdigest()

    @property
    def few(self) -> bool:
        """Whether they are few enough to be held in memory."""
        return len(self.files) <= FEW and self.values < LARGE

    def loaded(self) -> torch.Tensor | Source:
        """Return them in memory, where they are few enough."""
        if not self.few:
            return self
        if self.sizes is None:
            return self[:]
        return Arrays([self._tensor(number) for number in range(len(self))])

    def _tensor(self, number: int) -> torch.Tensor:
        image = self._image(number)
        return torch.from_numpy(image.astype(np.int32) if self.dtype == torch.int32 else image)

    def _image(self, number: int) -> np.ndarray:
        if number in self.kept:
            return self.kept[number]
        image = picture.pixels(self.files[number], self.mode, self.how)
        if image.shape != self.shapes[number]:
            raise InputError(
                f"{self.files[number]}: expected {described(self.shapes[number])}, as it was before, found "
                f"{described(image.shape)}"
            )
        if self.values * self.stored.itemsize < LARGE:
            self.kept[number] = image
        return image


def _ends(file: str) -> str:
    """Return the length of a file, and a checksum of what is at its ends."""
    with open(file, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        found = crc32(stream.read(ENDS))
        if size > 2 * ENDS:
            stream.seek(-ENDS, os.SEEK_END)
        return f"{size} {crc32(stream.read(ENDS), found)}"


def described(shape: Sequence[int] | torch.Tensor) -> str:
    """Return a picture's shape in words."""
    mode = "L" if len(shape) == 2 else "RGB"
    return f"{int(shape[1])}×{int(shape[0])} {mode}"
