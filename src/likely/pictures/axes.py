"""Axes with ticks and numbers on a picture, and points, lines and bars between them; Pillow is all it takes."""

import math
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SIDE, GAP, LEFT, TOP, BOTTOM = 360, 26, 52, 34, 34  # of a panel, between panels, and around it, in pixels
FINE = 3  # drawn so much larger, then averaged
INK, PALE = (40, 44, 52), (150, 156, 166)
GREY, ORANGE, BLUE = (120, 126, 138), (226, 106, 28), (44, 92, 160)

Colour = tuple[int, ...]
Range = tuple[float, float]


class Panels:
    """A row of square panels.

    Args:
        count: of panels.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        width = LEFT + count * (SIDE + GAP) + (count - 1) * LEFT
        height = TOP + SIDE + BOTTOM
        self.image = Image.new("RGB", (width * FINE, height * FINE), "white")

    def panel(self, place: int, x: Range, y: Range) -> "Axes":
        """Return the axes of one panel, over these ranges."""
        return Axes(self.image, LEFT + place * (SIDE + GAP + LEFT), TOP, x, y)

    def finished(self) -> Image.Image:
        """Return the picture in its proper size."""
        size = (self.image.width // FINE, self.image.height // FINE)
        return self.image.resize(size, Image.Resampling.LANCZOS)


class Axes:
    """A square with a scale on either side; drawings are cut off at its ranges."""

    def __init__(self, image: Image.Image, left: int, top: int, x: Range, y: Range) -> None:
        self.image = image
        self.left, self.top = left * FINE, top * FINE
        self.x, self.y = x, y
        self.side = SIDE * FINE
        self.inside = Image.new("RGB", (self.side, self.side), "white")
        self.draw = ImageDraw.Draw(self.inside, "RGBA")

    def _across(self, x: Tensor) -> Tensor:
        low, high = self.x
        return (x - low) / (high - low) * self.side

    def _down(self, y: Tensor) -> Tensor:
        low, high = self.y
        return (high - y) / (high - low) * self.side

    def _places(self, points: Tensor) -> list[tuple[float, float]]:
        """Points (n, 2) in pixels."""
        points = points.double().cpu()
        across = self._across(points[:, 0])
        down = self._down(points[:, 1])
        return list(zip(across.tolist(), down.tolist(), strict=True))

    def surface(self, values: Tensor) -> None:
        """Colour the panel by values from 0 to 1 (rows from the bottom, columns)."""
        picture = Image.fromarray(colours(values.flip(0)))
        self.inside.paste(picture.resize((self.side, self.side), Image.Resampling.BICUBIC))

    def points(self, points: Tensor, colour: Colour, opacity: float = 0.5, radius: float = 1.6) -> None:
        """Draw points (n, 2)."""
        r = radius * FINE
        end = self.side + r
        fill = (*colour, round(255 * opacity))
        for x, y in self._places(points):
            if -r < x < end and -r < y < end:
                self.draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def line(self, points: Tensor, colour: Colour, width: float = 2.0) -> None:
        """Draw a line through points (n, 2), cut at holes (NaN)."""
        pieces: list[list[tuple[float, float]]] = [[]]
        for x, y in self._places(points):
            if math.isfinite(x) and math.isfinite(y):
                cut = min(max(y, -self.side), 2 * self.side)
                pieces[-1].append((x, cut))
            elif pieces[-1]:
                pieces.append([])
        for piece in filter(None, pieces):
            self.draw.line(piece, fill=colour, width=round(width * FINE), joint="curve")

    def bars(self, edges: Tensor, heights: Tensor, colour: Colour, opacity: float = 0.45) -> None:
        """Draw bars from zero between edges (n + 1,)."""
        across = self._across(edges).tolist()
        tops = self._down(heights).tolist()
        foot = float(self._down(torch.zeros(())))
        fill = (*colour, round(255 * opacity))
        for left, right, top in zip(across, across[1:], tops, strict=False):
            if top < foot:
                self.draw.rectangle((left, top, right - 1, foot), fill=fill)

    def frame(self, title: str, legend: tuple[tuple[str, Colour], ...] = ()) -> None:
        """Put the panel into the picture, with its frame, ticks, numbers, title and legend."""
        self.image.paste(self.inside, (self.left, self.top))
        draw = ImageDraw.Draw(self.image)
        self._ticks_below(draw)
        self._ticks_beside(draw)
        right, above = self.left + self.side, self.top - 10 * FINE
        draw.text((self.left, above), title, fill=INK, font=_font(14), anchor="ls")
        place, font = right, _font(13)
        for text, colour in reversed(legend):
            draw.text((place, above), text, fill=colour, font=font, anchor="rs")
            place -= round(draw.textlength(text, font=font)) + 10 * FINE

    def _ticks_below(self, draw: ImageDraw.ImageDraw) -> None:
        """Draw the frame, and ticks with numbers along x."""
        right, bottom = self.left + self.side, self.top + self.side
        draw.rectangle((self.left, self.top, right, bottom), outline=PALE, width=FINE)
        for value in ticks(*self.x):
            x = self.left + float(self._across(torch.tensor(value)))
            draw.line((x, bottom, x, bottom + 5 * FINE), fill=PALE, width=FINE)
            place = (x, bottom + 8 * FINE)
            draw.text(place, f"{value:.4g}", fill=INK, font=_font(12), anchor="mt")

    def _ticks_beside(self, draw: ImageDraw.ImageDraw) -> None:
        for value in ticks(*self.y):
            y = self.top + float(self._down(torch.tensor(value)))
            draw.line((self.left - 5 * FINE, y, self.left, y), fill=PALE, width=FINE)
            place = (self.left - 8 * FINE, y)
            draw.text(place, f"{value:.4g}", fill=INK, font=_font(12), anchor="rm")


def ticks(low: float, high: float) -> list[float]:
    """Return at most seven round numbers inside a range: multiples of 1, 2 or 5 times a power of ten."""
    length = high - low
    power = 10.0 ** math.floor(math.log10(length / 7))
    step = next(factor * power for factor in (1, 2, 5, 10) if 7 * factor * power >= length)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [k * step for k in range(first, last + 1)]


def colours(t: Tensor) -> np.ndarray:
    """Return numbers from 0 to 1 as colours from white to dark violet (…, 3), in steps that look equal.

    Lightness falls evenly in OKLab (Ottosson, 2020), https://bottosson.github.io/posts/oklab/, while the hue turns.
    """
    t = t.double().clamp(0, 1)
    lightness, hue = 1 - 0.72 * t, torch.deg2rad(215 + 80 * t)
    chroma = 0.18 * t.pow(0.7) * (1 - 0.4 * t)
    a, b = chroma * hue.cos(), chroma * hue.sin()
    roots = [lightness + f * a + g * b for f, g in TO_CONES]
    cone = torch.stack(roots, -1) ** 3
    linear = (cone @ torch.tensor(TO_RGB, dtype=cone.dtype).T).clamp(0, 1)
    srgb = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.pow(1 / 2.4) - 0.055)
    return (255 * srgb).round().to(torch.uint8).cpu().numpy()


TO_CONES = (0.3963377774, 0.2158037573), (-0.1055613458, -0.0638541728), (-0.0894841775, -1.2914855480)
TO_RGB = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * FINE)
