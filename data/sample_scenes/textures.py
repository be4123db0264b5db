"""Skins: what a surface looks like (colour, sheen, glow, bumps), from seeded noise and drawn patterns.

Used by the builders of subjects and surroundings; sampled by solids.py at the points that rays meet.
Technique: tileable 1/f noise by FFT, cells, courses of brick and tile, averaged pyramids against aliasing.
"""

from __future__ import annotations

import colorsys
import functools
import zlib
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Rgb = tuple[float, float, float]
Rng = np.random.Generator
T = TypeVar("T")
SPEC, GLOW, BUMP_U, BUMP_V = 3, 4, 5, 6


def rng_for(*parts: object) -> np.random.Generator:
    """A generator that depends on nothing but the names given."""
    return np.random.default_rng(zlib.crc32("/".join(map(str, parts)).encode()))


def pick(rng: Rng, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def hue(rng: Rng, light: tuple[float, float] = (0.25, 0.75), rich: tuple[float, float] = (0.25, 0.75)) -> Rgb:
    """A colour as printers and potters use them: earths and blues more often than neon green or violet."""
    turn = float(rng.normal(0.07, 0.06)) if rng.random() < 0.6 else float(rng.normal(0.55, 0.12))
    return colorsys.hls_to_rgb(turn % 1, float(rng.uniform(*light)), 0.75 * float(rng.uniform(*rich)))


class Skin:
    """An image of `size` world units, wrapped round (or, if `fit`, clamped), with a pyramid of averages."""

    CHANNELS: ClassVar[int] = 7

    def __init__(
        self,
        rgb: Array,
        size: tuple[float, float],
        heights: Array | None = None,
        spec: float | Array = 0.02,
        glow: float | Array = 0.0,
        gloss: float = 24.0,
        fit: bool = False,
    ) -> None:
        rows, cols = rgb.shape[:2]
        data = np.zeros((rows, cols, self.CHANNELS), np.float32)
        data[..., :3] = np.clip(rgb, 0, 1) ** 2.2  # light adds up linearly, colours are given as seen
        data[..., SPEC], data[..., GLOW] = spec, glow
        if heights is not None:
            rim = np.pad(heights, 1, mode="edge" if fit else "wrap")
            data[..., BUMP_U] = (rim[1:-1, 2:] - rim[1:-1, :-2]) * (cols / size[0] / 2)
            data[..., BUMP_V] = (rim[:-2, 1:-1] - rim[2:, 1:-1]) * (rows / size[1] / 2)
            np.clip(data[..., BUMP_U:], -1.5, 1.5, out=data[..., BUMP_U:])
        self.size, self.fit, self.gloss = size, fit, gloss
        self.levels: list[Array] = [data]
        while min(self.levels[-1].shape[:2]) >= 2:
            a = self.levels[-1]
            a = a[: a.shape[0] // 2 * 2, : a.shape[1] // 2 * 2]
            self.levels.append((a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2]) / 4)

    def look(self, u: Array, v: Array, foot: Array) -> Array:
        """Bilinear samples at world coordinates, from the level whose texel is about `foot` wide."""
        texel = self.size[0] / self.levels[0].shape[1]
        level = np.log2(np.maximum(foot / texel, 1e-6)).astype(np.int32)
        level = np.clip(level, 0, len(self.levels) - 1)
        out = np.empty((len(u), self.CHANNELS), np.float32)
        for i in np.unique(level):
            here = np.flatnonzero(level == i)
            image = self.levels[i]
            rows, cols = image.shape[:2]
            x = u[here] * (cols / self.size[0]) - 0.5
            y = rows - v[here] * (rows / self.size[1]) - 0.5
            x0, y0 = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
            fx, fy = (x - x0)[:, None].astype(np.float32), (y - y0)[:, None].astype(np.float32)
            if self.fit:
                xa, xb = np.clip(x0, 0, cols - 1), np.clip(x0 + 1, 0, cols - 1)
                ya, yb = np.clip(y0, 0, rows - 1), np.clip(y0 + 1, 0, rows - 1)
            else:
                xa, xb, ya, yb = x0 % cols, (x0 + 1) % cols, y0 % rows, (y0 + 1) % rows
            top = image[ya, xa] * (1 - fx) + image[ya, xb] * fx
            bottom = image[yb, xa] * (1 - fx) + image[yb, xb] * fx
            out[here] = top * (1 - fy) + bottom * fy
        return out


@functools.cache
def noise(seed: int, size: int = 256, power: float = 1.6, stretch: float = 1.0) -> Array:
    """Tileable noise of unit variance; `stretch` > 1 draws it out along x, < 1 along y."""
    fy = np.fft.fftfreq(size)[:, None] / np.sqrt(stretch)
    fx = np.fft.rfftfreq(size)[None, :] * np.sqrt(stretch)
    reach = np.hypot(fx, fy)
    reach[0, 0] = 1
    white = np.fft.rfft2(rng_for("noise", seed).standard_normal((size, size)))
    white[0, 0] = 0
    out = np.fft.irfft2(white / reach**power, s=(size, size))
    return np.asarray(out / out.std(), np.float32)


def tint(value: Array, colour: Rgb, contrast: float = 0.1) -> Array:
    return np.clip(np.array(colour, np.float32) * (1 + contrast * value[..., None]), 0, 1).astype(np.float32)


def mix(a: Array | Rgb, b: Array | Rgb, share: Array) -> Array:
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return np.asarray(a + (b - a) * share[..., None], np.float32)


@functools.cache
def plain(colour: Rgb, spec: float = 0.03, gloss: float = 24.0, seed: int = 0, grain: float = 0.05) -> Skin:
    return Skin(tint(noise(seed, 128, 1.2), colour, grain), (2.0, 2.0), spec=spec, gloss=gloss)


@functools.cache
def plaster(seed: int, colour: Rgb) -> Skin:
    coarse, fine = noise(seed, 256, 1.9), noise(seed + 1, 256, 0.6)
    return Skin(tint(coarse + 0.35 * fine, colour, 0.07), (3.0, 3.0), 0.004 * fine)


@functools.cache
def bricks(seed: int, colour: Rgb, mortar: Rgb = (0.72, 0.69, 0.64), size: float = 2.0, rows: int = 24) -> Skin:
    """Running bond; every brick has a tone of its own."""
    n, rng = 384, rng_for("bricks", seed)
    y, x = (np.mgrid[0:n, 0:n] + 0.5) / n
    course = (y * rows).astype(int)
    along = x * rows / 3 + 0.5 * (course % 2)
    tone = rng.normal(0, 1, (rows, rows // 3))[course, along.astype(int) % (rows // 3)]
    edge = np.minimum(np.minimum(along % 1, 1 - along % 1) * 3, np.minimum(y * rows % 1, 1 - y * rows % 1))
    joint = np.clip((0.13 - edge + 0.02 * noise(seed, n, 1.0)) / 0.06, 0, 1).astype(np.float32)
    body = tint((tone + 0.5 * noise(seed + 1, n, 1.0)).astype(np.float32), colour, 0.13)
    rgb = mix(body, mortar, joint) * (1 + 0.05 * noise(seed + 2, n, 2.0)[..., None])
    return Skin(rgb, (size, size), -0.012 * joint + 0.003 * noise(seed + 1, n, 1.0))


@functools.cache
def ashlar(seed: int, colour: Rgb, size: float = 3.2, rows: int = 8) -> Skin:
    """Large dressed stones."""
    return bricks(seed, colour, (colour[0] * 0.6, colour[1] * 0.6, colour[2] * 0.6), size, rows)


@functools.cache
def cells(seed: int, colour: Rgb, joint: Rgb, size: float = 2.0, count: int = 90) -> Skin:
    """Cobbles or crazy paving: the cells of scattered points."""
    n, rng = 224, rng_for("cells", seed)
    y, x = (np.mgrid[0:n, 0:n].astype(np.float32) + 0.5) / n
    near = np.full((n, n), 9, np.float32)
    second, who = near.copy(), np.zeros((n, n), int)
    side = int(np.sqrt(count))
    for i in range(side * side):
        cy, cx = (np.array(divmod(i, side)) + 0.5 + rng.uniform(-0.36, 0.36, 2)) / side
        dy, dx = np.abs(y - cy), np.abs(x - cx)
        far = np.hypot(np.minimum(dx, 1 - dx), np.minimum(dy, 1 - dy))
        closer = far < near
        second = np.where(closer, near, np.minimum(second, far))
        who, near = np.where(closer, i, who), np.where(closer, far, near)
    gap = np.clip((second - near) * side * 3, 0, 1)
    tone = rng.normal(0, 1, side * side)[who].astype(np.float32)
    rgb = mix(joint, tint(tone + 0.5 * noise(seed, n, 1.2), colour, 0.13), np.sqrt(gap))
    return Skin(rgb, (size, size), 0.03 * np.sqrt(gap) * (size / 2), spec=0.03)


@functools.cache
def grass(seed: int, colour: Rgb = (0.36, 0.41, 0.22)) -> Skin:
    blades, patches = noise(seed, 384, 0.5, 0.6), noise(seed + 1, 384, 1.5)
    rgb = tint(blades + 0.7 * patches, colour, 0.16) + 0.05 * patches[..., None] * np.array([1, 0.6, 0], np.float32)
    return Skin(rgb, (8.0, 8.0), 0.02 * blades)


@functools.cache
def gravel(seed: int, colour: Rgb = (0.55, 0.52, 0.48)) -> Skin:
    fine = noise(seed, 256, 0.6)
    return Skin(tint(fine + noise(seed + 1, 256, 1.7) * 0.5, colour, 0.11), (2.5, 2.5), 0.004 * fine)


@functools.cache
def wood(seed: int, colour: Rgb, size: float = 4.0, boards: int = 4, spec: float = 0.05) -> Skin:
    """Boards along x with grain that runs and wavers."""
    n, rng = 320, rng_for("wood", seed)
    y, _ = (np.mgrid[0:n, 0:n] + 0.5) / n
    board = (y * boards).astype(int)
    shift = rng.uniform(0, n, boards).astype(int)[board]
    cols = (np.arange(n)[None, :] + shift) % n
    waver = noise(seed, n, 2.0, 6.0)[np.arange(n)[:, None], cols]
    rings = np.sin(y * boards * 21 + 3.4 * waver + board * 2.0)
    fibre = noise(seed + 1, n, 0.8, 14.0)
    tone = rng.normal(0, 0.8, boards)[board]
    joint = np.clip(np.minimum(y * boards % 1, 1 - y * boards % 1) * 40, 0, 1)
    rgb = tint((0.6 * rings + 0.7 * fibre + tone).astype(np.float32), colour, 0.13)
    return Skin(rgb * (0.35 + 0.65 * joint[..., None]), (size, size), (0.008 * joint).astype(np.float32), spec=spec)


@functools.cache
def marble(seed: int, colour: Rgb, vein: Rgb, size: float = 4.0, spec: float = 0.05, gloss: float = 60.0) -> Skin:
    warp = noise(seed, 256, 1.9)
    lines = np.exp(-np.abs(warp + 0.3 * noise(seed + 1, 256, 1.4)) * 7)
    rgb = mix(tint(noise(seed + 2, 256, 1.8), colour, 0.05), vein, (0.75 * lines).astype(np.float32))
    return Skin(rgb, (size, size), spec=spec, gloss=gloss)


@functools.cache
def tiles(seed: int, colour: Rgb, joint: Rgb, size: float = 2.0, count: int = 4, checks: float = 0.0) -> Skin:
    n, rng = 256, rng_for("tiles", seed)
    y, x = (np.mgrid[0:n, 0:n] + 0.5) / n * count
    tone = rng.normal(0, 0.5, (count, count))[y.astype(int), x.astype(int)]
    tone = tone + checks * 6 * (((y.astype(int) + x.astype(int)) % 2) - 0.5)
    edge = np.minimum(np.minimum(x % 1, 1 - x % 1), np.minimum(y % 1, 1 - y % 1))
    body = np.clip((edge - 0.02) / 0.03, 0, 1).astype(np.float32)
    rgb = mix(joint, tint((tone + 0.4 * noise(seed, n, 1.5)).astype(np.float32), colour, 0.09), body)
    return Skin(rgb, (size, size), 0.01 * size * body, spec=0.05, gloss=80)


@functools.cache
def roof_tiles(seed: int, colour: Rgb, size: float = 2.4, rows: int = 12) -> Skin:
    n, rng = 256, rng_for("roof", seed)
    y, x = (np.mgrid[0:n, 0:n] + 0.5) / n * rows
    along = x + 0.5 * (y.astype(int) % 2)
    tone = rng.normal(0, 1, (rows, rows))[y.astype(int), along.astype(int) % rows]
    lap = (y % 1) ** 3
    groove = np.abs(along % 1 - 0.5) * 2
    shade = (1 - 0.55 * lap) * (1 - 0.3 * groove**6)
    rgb = tint((tone + noise(seed, n, 1.6)).astype(np.float32), colour, 0.13) * shade[..., None].astype(np.float32)
    return Skin(rgb, (size, size), (0.05 * (1 - lap) - 0.02 * groove**2).astype(np.float32))


@functools.cache
def wallpaper(seed: int, colour: Rgb, other: Rgb, kind: str = "stripes", size: float = 4.0) -> Skin:
    n = 256
    y, x = (np.mgrid[0:n, 0:n] + 0.5) / n * 2 * np.pi
    if kind == "stripes":
        share = (np.sin(x * 8) > 0.2) * 0.8
    elif kind == "damask":
        share = np.clip(np.sin(4 * x) * np.sin(4 * y) + 0.5 * np.sin(8 * x + 2 * np.sin(4 * y)), 0, 0.6)
    else:
        share = (np.sin(6 * x) * np.sin(6 * y) > 0.75) * 0.9
    rgb = mix(tint(noise(seed, n, 1.4), colour, 0.04), other, share.astype(np.float32))
    return Skin(rgb, (size, size))


@functools.cache
def cloth(seed: int, colour: Rgb, other: Rgb, size: float = 2.0, kind: str = "check") -> Skin:
    n = 256
    y, x = (np.mgrid[0:n, 0:n] + 0.5) / n
    weave = (np.sin(x * 128 * np.pi) * np.sin(y * 128 * np.pi)).astype(np.float32)
    a, b = ((x * 4) % 1 < 0.5) * 0.5, ((y * 4) % 1 < 0.5) * 0.5
    share = (a + b if kind == "check" else 0 * a).astype(np.float32)
    folds = noise(seed, n, 2.2)
    rgb = mix(colour, other, share) * (1 + 0.08 * weave[..., None] + 0.05 * folds[..., None])
    return Skin(rgb, (size, size), 0.02 * folds)
