"""A drawing board in metres that yields a skin and a height map at once.

Used by facades.py, landmarks.py, printed.py, pots.py and painting.py.
Technique: every shape is drawn with Pillow into parallel colour, height, sheen and glow layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from .textures import BUMP_U, GLOW, SPEC, Array, Rgb, Skin, noise

Point = tuple[float, float]


def rgb8(colour: Rgb) -> tuple[int, int, int]:
    r, g, b = (int(np.clip(c, 0, 1) * 255) for c in colour)
    return r, g, b


class Painter:
    """y runs up from the lower left corner; a `None` leaves that layer as it is."""

    def __init__(self, width: float, height: float, dots: float, base: Skin | Rgb, level: float = 0.0) -> None:
        self.width, self.height, self.dots = width, height, dots
        size = (round(width * dots), round(height * dots))
        self.base = base if isinstance(base, Skin) else None
        self.rgb = Image.new("RGB", size, rgb8(base) if not isinstance(base, Skin) else 0)
        self.levels = Image.new("F", size, level)
        self.sheen = Image.new("F", size, 0.02)
        self.glow = Image.new("F", size, 0.0)
        self.drawn = Image.new("L", size, 0 if isinstance(base, Skin) else 255)

    def dot(self, point: Point) -> Point:
        return point[0] * self.dots, (self.height - point[1]) * self.dots

    def polygon(
        self,
        points: Sequence[Point],
        rgb: Rgb | None = None,
        level: float | None = None,
        sheen: float | None = None,
        glow: float | None = None,
    ) -> None:
        spots = [self.dot(p) for p in points]
        if rgb is not None:
            ImageDraw.Draw(self.rgb).polygon(spots, fill=rgb8(rgb))
            ImageDraw.Draw(self.drawn).polygon(spots, fill=255)
            ImageDraw.Draw(self.sheen).polygon(spots, fill=0.02 if sheen is None else sheen)
            ImageDraw.Draw(self.glow).polygon(spots, fill=0.0 if glow is None else glow)
        if level is not None:
            ImageDraw.Draw(self.levels).polygon(spots, fill=level)

    def rect(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        rgb: Rgb | None = None,
        level: float | None = None,
        sheen: float | None = None,
        glow: float | None = None,
    ) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], rgb, level, sheen, glow)

    def disc(
        self,
        x: float,
        y: float,
        radius: float,
        rgb: Rgb | None = None,
        level: float | None = None,
        sheen: float | None = None,
        glow: float | None = None,
        squash: float = 1.0,
    ) -> None:
        turn = np.linspace(0, 2 * np.pi, 40)
        points = [(x + radius * float(np.cos(a)), y + radius * squash * float(np.sin(a))) for a in turn]
        self.polygon(points, rgb, level, sheen, glow)

    def line(self, points: Sequence[Point], width: float, rgb: Rgb, level: float | None = None) -> None:
        spots, thick = [self.dot(p) for p in points], max(1, round(width * self.dots))
        ImageDraw.Draw(self.rgb).line(spots, fill=rgb8(rgb), width=thick, joint="curve")
        ImageDraw.Draw(self.drawn).line(spots, fill=255, width=thick)
        if level is not None:
            ImageDraw.Draw(self.levels).line(spots, fill=level, width=thick)

    def text(self, x: float, y: float, words: str, size: float, rgb: Rgb, level: float | None = None) -> None:
        """Words centred at a point."""
        font = ImageFont.load_default(max(6.0, size * self.dots))
        spot = self.dot((x, y))
        ImageDraw.Draw(self.rgb).text(spot, words, fill=rgb8(rgb), font=font, anchor="mm", align="center")
        if level is not None:
            ImageDraw.Draw(self.levels).text(spot, words, fill=level, font=font, anchor="mm", align="center")

    def heights(self) -> Array:
        return np.asarray(self.levels, np.float32).copy()

    def skin(self, wear: float = 0.06, seed: int = 0, gloss: float = 60.0, cavity: float = 0.5) -> Skin:
        """The finished surface: wear is grime and streaks, cavity darkens what lies deep."""
        rows, cols = self.height_dots()
        rgb = np.asarray(self.rgb, np.float32) / 255
        size = (self.width, self.height)
        spec, glow = np.asarray(self.sheen, np.float32), np.asarray(self.glow, np.float32)
        heights = self.heights()
        streaks = _stretch(noise(seed, 256, 1.5, 0.12), rows, cols) * 0.7 + _stretch(
            noise(seed + 7, 256, 1.8), rows, cols
        )
        fine = _stretch(noise(seed + 3, 256, 0.7), rows, cols) * 0.4
        tone = 1 + wear * (streaks + fine)
        if float(np.ptp(heights)) > 0 and cavity > 0:
            span = float(np.ptp(heights))
            flat = Image.fromarray(((heights - heights.min()) * (255 / span)).astype(np.uint8))
            soft = np.asarray(flat.filter(ImageFilter.GaussianBlur(self.dots * 0.14)), np.float32) * (span / 255)
            deep = np.clip((soft - (heights - heights.min())) / 0.12, -0.3, 1)
            tone = tone * (1 - cavity * deep)
        out = Skin(rgb * tone[..., None], size, heights, spec, glow, gloss, fit=True)
        if self.base is not None:
            bare = np.asarray(self.drawn) == 0
            y, x = np.nonzero(bare)
            u, v = (x + 0.5) / self.dots, (rows - y - 0.5) / self.dots
            foot = np.full(len(u), 1 / self.dots, np.float32)
            look = self.base.look(u.astype(np.float32), v.astype(np.float32), foot)
            level = out.levels[0]
            bumps = level[bare][:, BUMP_U:] + look[:, BUMP_U:]
            shade = tone[bare][:, None] ** 2.2
            look[:, :3] *= shade
            look[:, BUMP_U:] = bumps
            level[bare] = look
            out = _rebuilt(out)
        return out

    def height_dots(self) -> tuple[int, int]:
        return self.rgb.size[1], self.rgb.size[0]


def _rebuilt(skin: Skin) -> Skin:
    data = skin.levels[0]
    fresh = Skin(data[..., :3] ** (1 / 2.2), skin.size, None, data[..., SPEC], data[..., GLOW], skin.gloss, skin.fit)
    fresh.levels[0][..., BUMP_U:] = data[..., BUMP_U:]
    return fresh


def _stretch(tile: Array, rows: int, cols: int) -> Array:
    """The tile drawn over the whole board once."""
    image = Image.fromarray(tile).resize((cols, rows), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32)
