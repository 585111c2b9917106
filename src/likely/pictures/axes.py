"""Axes with ticks and numbers on a picture, and what is drawn between them; Pillow is all it takes."""

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
        size = (LEFT + count * (SIDE + GAP) + (count - 1) * LEFT, TOP + SIDE + BOTTOM)
        self.image = Image.new("RGB", (size[0] * FINE, size[1] * FINE), "white")

    def panel(self, place: int, x: Range, y: Range) -> "Axes":
        """The axes of one panel, over these ranges."""
        return Axes(self.image, LEFT + place * (SIDE + GAP + LEFT), TOP, x, y)

    def finished(self) -> Image.Image:
        """The picture in its proper size."""
        return self.image.resize((self.image.width // FINE, self.image.height // FINE), Image.Resampling.LANCZOS)


class Axes:
    """A square with a scale on either side; what is drawn beyond its ranges is cut off."""

    def __init__(self, image: Image.Image, left: int, top: int, x: Range, y: Range) -> None:
        self.image, self.left, self.top, self.x, self.y = image, left * FINE, top * FINE, x, y
        self.side = SIDE * FINE
        self.inside = Image.new("RGB", (self.side, self.side), "white")
        self.draw = ImageDraw.Draw(self.inside, "RGBA")

    def _across(self, x: Tensor) -> Tensor:
        return (x - self.x[0]) / (self.x[1] - self.x[0]) * self.side

    def _down(self, y: Tensor) -> Tensor:
        return (self.y[1] - y) / (self.y[1] - self.y[0]) * self.side

    def _places(self, points: Tensor) -> list[tuple[float, float]]:
        """Points (n, 2) in pixels."""
        points = points.double().cpu()
        return list(zip(self._across(points[:, 0]).tolist(), self._down(points[:, 1]).tolist(), strict=True))

    def surface(self, values: Tensor) -> None:
        """Colour the panel by values from 0 to 1 (rows from the bottom, columns)."""
        picture = Image.fromarray(colours(values.flip(0)))
        self.inside.paste(picture.resize((self.side, self.side), Image.Resampling.BICUBIC))

    def points(self, points: Tensor, colour: Colour, opacity: float = 0.5, radius: float = 1.6) -> None:
        """Draw points (n, 2)."""
        r = radius * FINE
        for x, y in self._places(points):
            if -r < x < self.side + r and -r < y < self.side + r:
                self.draw.ellipse((x - r, y - r, x + r, y + r), fill=(*colour, round(255 * opacity)))

    def line(self, points: Tensor, colour: Colour, width: float = 2.0) -> None:
        """Draw a line through points (n, 2), cut at holes (NaN)."""
        pieces: list[list[tuple[float, float]]] = [[]]
        for x, y in self._places(points):
            if math.isfinite(x) and math.isfinite(y):
                pieces[-1].append((x, min(max(y, -self.side), 2 * self.side)))
            elif pieces[-1]:
                pieces.append([])
        for piece in filter(None, pieces):
            self.draw.line(piece, fill=colour, width=round(width * FINE), joint="curve")

    def bars(self, edges: Tensor, heights: Tensor, colour: Colour, opacity: float = 0.45) -> None:
        """Draw bars from zero between edges (n + 1,)."""
        across, foot = self._across(edges).tolist(), float(self._down(torch.zeros(())))
        for left, right, top in zip(across, across[1:], self._down(heights).tolist(), strict=False):
            if top < foot:
                self.draw.rectangle((left, top, right - 1, foot), fill=(*colour, round(255 * opacity)))

    def frame(self, title: str, legend: tuple[tuple[str, Colour], ...] = ()) -> None:
        """Put the panel into the picture, with its frame, ticks, numbers, title and legend."""
        self.image.paste(self.inside, (self.left, self.top))
        draw, right, bottom = ImageDraw.Draw(self.image), self.left + self.side, self.top + self.side
        draw.rectangle((self.left, self.top, right, bottom), outline=PALE, width=FINE)
        for value in ticks(*self.x):
            x = self.left + float(self._across(torch.tensor(value)))
            draw.line((x, bottom, x, bottom + 5 * FINE), fill=PALE, width=FINE)
            draw.text((x, bottom + 8 * FINE), f"{value:.4g}", fill=INK, font=_font(12), anchor="mt")
        for value in ticks(*self.y):
            y = self.top + float(self._down(torch.tensor(value)))
            draw.line((self.left - 5 * FINE, y, self.left, y), fill=PALE, width=FINE)
            draw.text((self.left - 8 * FINE, y), f"{value:.4g}", fill=INK, font=_font(12), anchor="rm")
        draw.text((self.left, self.top - 10 * FINE), title, fill=INK, font=_font(14), anchor="ls")
        place = right
        for text, colour in reversed(legend):
            draw.text((place, self.top - 10 * FINE), text, fill=colour, font=_font(13), anchor="rs")
            place -= round(draw.textlength(text, font=_font(13))) + 10 * FINE


def ticks(low: float, high: float) -> list[float]:
    """At most seven round numbers inside a range: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / 7))
    step = next(factor * power for factor in (1, 2, 5, 10) if 7 * factor * power >= high - low)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def colours(t: Tensor) -> np.ndarray:
    """Numbers from 0 to 1 as colours from white to dark violet (…, 3), equal steps looking equal.

    Lightness falls evenly in OKLab (Ottosson, 2020), https://bottosson.github.io/posts/oklab/, while the hue turns.
    """
    t = t.double().clamp(0, 1)
    lightness, hue = 1 - 0.72 * t, torch.deg2rad(215 + 80 * t)
    chroma = 0.18 * t.pow(0.7) * (1 - 0.4 * t)
    a, b = chroma * hue.cos(), chroma * hue.sin()
    cone = torch.stack([lightness + f * a + g * b for f, g in TO_CONES], -1) ** 3
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
