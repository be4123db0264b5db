"""Out of doors: weather, ground, trees, people, cars, street furniture, skyline and hills; metres.

Called by views.py for every picture anew, so that no two views of a place share light and company.
Technique: plain solids of solids.py; foliage is a crown of cards with leaf-shaped holes.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw

from .facades import ROOFS, gable_roof
from .geometry import Array, Frame, unit, vec
from .painter import Painter
from .render import Light
from .solids import Box, Card, Convex, Lathe, Solid
from .textures import Rgb, Rng, Skin, bricks, cells, grass, gravel, hue, noise, pick, plain, rng_for, tiles, tint


def daylight(rng: Rng, span: float) -> tuple[Light, float]:
    """Some weather, and how bright lamps look in it; `span` is the size of the scene."""
    mood = int(rng.choice(6, p=[0.36, 0.18, 0.18, 0.08, 0.1, 0.1]))
    azimuth, seed = float(rng.uniform(-1.9, 1.9)), int(rng.integers(1 << 16))
    if mood == 0:  # clear
        sun = direction(azimuth, float(rng.uniform(0.5, 1.1)))
        return Light(
            sun,
            (2.6, 2.45, 2.2),
            (0.22, 0.36, 0.68),
            (0.62, 0.70, 0.80),
            softness=0.004,
            clouds=float(rng.uniform(0, 0.45)),
            haze=0.04 / span,
            seed=seed,
        ), 0.0
    if mood == 1:  # low sun
        sun = direction(azimuth, float(rng.uniform(0.14, 0.32)))
        return Light(
            sun,
            (3.0, 1.75, 0.85),
            (0.24, 0.30, 0.48),
            (0.80, 0.56, 0.38),
            softness=0.006,
            clouds=float(rng.uniform(0.1, 0.5)),
            haze=0.05 / span,
            seed=seed,
        ), 0.15
    if mood == 2:  # overcast
        grey = float(rng.uniform(0.75, 1.0))
        return Light(
            direction(azimuth, 1.0),
            (0.25, 0.25, 0.25),
            (0.85, 0.9, 0.96),
            (0.8 * grey, 0.82 * grey, 0.85 * grey),
            softness=0.08,
            clouds=0.75,
            haze=0.05 / span,
            lobe=4,
            seed=seed,
        ), 0.1
    if mood == 3:  # mist
        return Light(
            direction(azimuth, 0.5),
            (0.7, 0.62, 0.5),
            (0.62, 0.66, 0.72),
            (0.78, 0.76, 0.74),
            softness=0.05,
            haze=float(rng.uniform(0.15, 0.32)) / span,
            lobe=6,
            seed=seed,
        ), 0.2
    if mood == 4:  # dusk
        return Light(
            direction(azimuth, 0.2),
            (0.10, 0.06, 0.05),
            (0.07, 0.10, 0.24),
            (0.26, 0.22, 0.30),
            softness=0.06,
            clouds=0.3,
            haze=0.06 / span,
            seed=seed,
        ), 0.9
    sun = direction(azimuth, float(rng.uniform(0.6, 1.2)))  # hazy noon
    return Light(
        sun,
        (1.9, 1.8, 1.65),
        (0.45, 0.55, 0.70),
        (0.85, 0.86, 0.84),
        softness=0.012,
        haze=0.12 / span,
        seed=seed,
    ), 0.0


def direction(azimuth: float, height: float) -> Array:
    return unit(vec(np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)))


def tree(rng: Rng, high: float) -> list[Solid]:
    bark, kind = plain((0.26, 0.21, 0.17), seed=11, grain=0.2), int(rng.integers(4))
    bole = high * float(rng.uniform(0.28, 0.4))
    solids: list[Solid] = [
        Lathe(
            Frame.make(),
            [(high * 0.035, 0), (high * 0.022, bole), (high * 0.012, high * 0.7), (0.0, high * 0.8)],
            bark,
        )
    ]
    wide = (high - bole) * float(rng.uniform(0.32, 0.5))
    middle = bole + (high - bole) * 0.48
    for _ in range(44):
        way = unit(rng.normal(0, 1, 3).astype(np.float32))
        reach = float(rng.uniform(0.45, 1.0))
        size = wide * float(rng.uniform(0.7, 1.1))
        x, y, z = way * reach * np.array([wide, (high - bole) * 0.5, wide], np.float32)
        alpha, skin = _leaf_card(kind + 4 * int(rng.integers(3)))
        own = Skin.__new__(Skin)
        own.__dict__.update(skin.__dict__)
        own.size = (size, size)
        at = Frame.make(
            float(x),
            middle + float(y) - size / 2,
            float(z),
            float(rng.uniform(0, 6.3)),
            float(rng.uniform(-0.7, 0.7)),
        )
        solids.append(Card(at, (size, size), alpha, own))
    return solids


def bush(rng: Rng, high: float) -> list[Solid]:
    return [s for s in tree(rng, high * 1.5) if isinstance(s, Card)]


def person(rng: Rng) -> list[Solid]:
    coat, legs = (
        plain(hue(rng, (0.12, 0.6), (0.05, 0.5)), seed=3, grain=0.15),
        plain(hue(rng, (0.1, 0.35), (0.05, 0.3)), seed=4),
    )
    skin = plain(pick(rng, [(0.8, 0.62, 0.5), (0.5, 0.35, 0.26), (0.68, 0.5, 0.4)]))
    hair, tall = (
        plain(pick(rng, [(0.15, 0.1, 0.08), (0.45, 0.32, 0.18), (0.5, 0.48, 0.46)])),
        float(rng.uniform(0.92, 1.06)),
    )
    solids: list[Solid] = []
    stride = float(rng.uniform(0.05, 0.28))
    for s in (-1, 1):
        leg = [(0.0, 0.0), (0.07, 0.02), (0.06, 0.1), (0.075, 0.45), (0.1, 0.85)]
        solids.append(Lathe(Frame.make(s * 0.09, 0, s * stride, pitch=-s * stride * 1.1), leg, legs))
        arm = [(0.0, 0.0), (0.045, 0.05), (0.055, 0.3), (0.065, 0.58), (0.0, 0.64)]
        solids.append(Lathe(Frame.make(s * 0.25, 0.78, -s * stride * 0.6, pitch=s * stride, roll=s * 0.12), arm, coat))
    torso = [(0.0, 0.72), (0.17, 0.74), (0.15, 1.05), (0.19, 1.32), (0.16, 1.44), (0.06, 1.5), (0.0, 1.51)]
    head = [
        (0.055, 1.46),
        (0.055, 1.52),
        *[(0.1 * float(np.sin(t)) + 1e-3, 1.65 - 0.13 * float(np.cos(t))) for t in np.linspace(0.7, 3.1, 9)],
    ]
    cap = [(0.115 * float(np.cos(t)) + 1e-3, 1.68 + 0.13 * float(np.sin(t))) for t in np.linspace(0, 1.57, 7)]
    solids += [Lathe(Frame.make(), torso, coat), Lathe(Frame.make(), head, skin)]
    solids.append(Lathe(Frame.make(0, 0, -0.012), cap, hair))
    scale = Frame.make(0, (tall - 1) * 0.5)
    return [s.moved(scale) for s in solids]


def car(rng: Rng) -> list[Solid]:
    colour = pick(
        rng,
        [
            (0.6, 0.12, 0.1),
            (0.75, 0.75, 0.76),
            (0.12, 0.13, 0.15),
            (0.15, 0.25, 0.45),
            (0.5, 0.52, 0.5),
            (0.7, 0.66, 0.55),
        ],
    )
    paint, glass = plain(colour, 0.12, 140, grain=0.01), plain((0.06, 0.07, 0.08), 0.12, 160)
    rubber, metal = plain((0.05, 0.05, 0.05)), plain((0.55, 0.55, 0.56), 0.3, 50)
    body = [(vec(1, 0.35, 0), 2.32), (vec(-1, 0.3, 0), 2.3), (vec(0, 0.25, 1), 1.0), (vec(0, 0.25, -1), 1.0)]
    cabin = [(vec(1, 0.75, 0), 1.95), (vec(-1, 0.6, 0), 2.1), (vec(0, 0.4, 1), 1.18), (vec(0, 0.4, -1), 1.18)]
    solids: list[Solid] = [Convex(Frame.make(), vec(-2.2, 0.25, -0.86), vec(2.2, 0.92, 0.86), body, paint)]
    solids.append(Convex(Frame.make(), vec(-1.8, 0.9, -0.8), vec(1.4, 1.38, 0.8), cabin, glass))
    solids.append(Convex(Frame.make(), vec(-1.8, 1.36, -0.8), vec(1.4, 1.45, 0.8), cabin, paint))
    for x in (-1.35, 1.4):
        for s in (-1, 1):
            at = Frame.make(x, 0.33, s * 0.72, pitch=s * np.pi / 2)
            solids.append(Lathe(at, [(0.0, -0.05), (0.33, -0.05), (0.33, 0.16), (0.2, 0.165)], rubber))
            solids.append(Lathe(at, [(0.2, 0.13), (0.2, 0.17), (0.0, 0.175)], metal))
    lamp = plain((0.9, 0.9, 0.85), 0.1)
    for z in (-0.6, 0.6):
        solids += [Box(Frame.make(), vec(1.95, 0.55, z - 0.16), vec(2.14, 0.7, z + 0.16), lamp)]
    return solids


def street_lamp(rng: Rng) -> list[Solid]:
    high, iron = float(rng.uniform(3.4, 5)), plain((0.1, 0.12, 0.12), 0.06)
    pole = [(0.0, 0.0), (0.16, 0.0), (0.14, 0.4), (0.07, 0.7), (0.05, high - 0.7), (0.09, high - 0.6)]
    glass = Skin(np.full((8, 8, 3), 0.75, np.float32), (1.0, 1.0), spec=0.06, glow=1.6)
    lamp = [(0.1, high - 0.6), (0.22, high - 0.05), (0.24, high)]
    return [
        Lathe(Frame.make(), pole, iron),
        Lathe(Frame.make(), lamp, glass),
        Lathe(Frame.make(0, 0.01), [(0.28, high), (0.1, high + 0.2), (0.0, high + 0.3)], iron),
    ]


def sign_post(rng: Rng) -> list[Solid]:
    board = Painter(0.7, 0.7, 90, (0.4, 0.4, 0.42))
    ring, inner = pick(rng, [((0.75, 0.1, 0.1), (0.93, 0.93, 0.92)), ((0.12, 0.25, 0.6), (0.12, 0.25, 0.6))])
    board.disc(0.35, 0.35, 0.34, ring)
    board.disc(0.35, 0.35, 0.26, inner)
    board.text(
        0.35,
        0.35,
        pick(rng, ["30", "P", "50", "i"]),
        0.36,
        (0.1, 0.1, 0.1) if inner[0] > 0.5 else (0.95, 0.95, 0.95),
    )
    rows, cols = board.height_dots()
    y, x = np.mgrid[0:rows, 0:cols]
    disc = (np.hypot(x / cols - 0.5, y / rows - 0.5) < 0.485).astype(np.float32)
    pole = Lathe(Frame.make(0, 0, -0.05), [(0.035, 0), (0.035, 3.1), (0.0, 3.11)], plain((0.5, 0.5, 0.5), 0.15))
    return [pole, Card(Frame.make(0, 2.3), (0.7, 0.7), disc, board.skin(0.05, 2))]


def ground(skin: Skin, level: float = 0.0, reach: float = 260.0) -> Box:
    return Box(Frame.make(0, level), vec(-reach, -1, -reach), vec(reach, 0, reach), skin, casts=False)


def skyline(rng: Rng, distance: float) -> list[Solid]:
    """Houses all round, far enough to be backdrop."""
    solids: list[Solid] = []
    for k in range(22):
        angle = k * 2 * np.pi / 22 + float(rng.uniform(-0.08, 0.08))
        far = distance * float(rng.uniform(1.0, 1.5))
        w, d, h = (float(v) for v in rng.uniform((8, 7, 6), (18, 12, 17)))
        at = Frame.make(
            far * float(np.sin(angle)),
            0,
            far * float(np.cos(angle)),
            yaw=angle + float(rng.uniform(-0.2, 0.2)),
        )
        wall = _window_wall(int(rng.integers(8)))
        solids.append(Box(at, vec(-w / 2, 0, -d / 2), vec(w / 2, h, d / 2), wall))
        tile = plain(pick(rng, ROOFS), seed=9, grain=0.15)
        solids.append(gable_roof(w + 0.6, d + 0.8, float(rng.uniform(2, 4)), tile, Frame.make(0, h).then(at)))
    return solids


def woodland(rng: Rng, distance: float, count: int = 16) -> list[Solid]:
    solids: list[Solid] = []
    for _ in range(count):
        angle, far = float(rng.uniform(-np.pi, np.pi)), distance * float(rng.uniform(0.8, 1.8))
        at = Frame.make(far * float(np.sin(angle)), 0, far * float(np.cos(angle)))
        solids += [s.moved(at) for s in tree(rng, float(rng.uniform(5, 11)))[:28]]
    return solids


@functools.cache
def _slope(colour: Rgb) -> Skin:
    """Woods and fields from afar: a large tile, for a small one would show as a grid."""
    woods = noise(13, 256, 1.3)
    return Skin(tint(woods, colour, 0.16), (90.0, 90.0), 0.5 * woods)


def hills(rng: Rng, distance: float) -> list[Solid]:
    """Blunt domes on the horizon."""
    solids: list[Solid] = []
    for k in range(12):
        angle, far = k * np.pi / 6 + float(rng.uniform(-0.2, 0.2)), distance * float(rng.uniform(1.2, 2.2))
        r, h = far * float(rng.uniform(0.25, 0.5)), far * float(rng.uniform(0.05, 0.16))
        dome = [(r * float(np.cos(t)) ** 1.2 + 0.01, h * float(np.sin(t))) for t in np.linspace(0, np.pi / 2, 9)]
        green = pick(rng, [(0.30, 0.36, 0.20), (0.26, 0.33, 0.22), (0.42, 0.40, 0.26)])
        at = Frame.make(far * float(np.sin(angle)), -0.2, far * float(np.cos(angle)))
        solids.append(Lathe(at, dome, _slope(green), casts=False))
    return solids


def pavings(rng: Rng) -> Skin:
    kind = int(rng.integers(6))
    if kind == 0:
        return cells(1, (0.50, 0.47, 0.44), (0.28, 0.26, 0.24), 2.4, 144)
    if kind == 1:
        return tiles(3, (0.62, 0.59, 0.54), (0.40, 0.38, 0.35), 2.4, 4)
    if kind == 2:
        return gravel(5)
    if kind == 3:
        return gravel(7, (0.34, 0.34, 0.35))
    if kind == 4:
        return grass(5)
    return bricks(8, (0.52, 0.38, 0.32), (0.4, 0.37, 0.33), 2.0, 18)


@functools.cache
def water(seed: int) -> Skin:
    waves = noise(seed, 256, 1.5, 4.0)
    return Skin(tint(waves, (0.16, 0.22, 0.22), 0.08), (7.0, 7.0), 0.022 * waves, spec=0.12, gloss=150)


@functools.cache
def snow() -> Skin:
    return Skin(tint(noise(21, 256, 1.6), (0.86, 0.88, 0.92), 0.03), (4.0, 4.0), 0.02 * noise(22, 256, 1.7))


@functools.cache
def _leaf_card(seed: int) -> tuple[Array, Skin]:
    n, rng = 128, rng_for("leaves", seed)
    mask, shade = Image.new("L", (n, n), 0), Image.new("L", (n, n), 120)
    for _ in range(170):
        x, y = rng.normal(n / 2, n * 0.19, 2)
        a, r = float(rng.uniform(0, 6.28)), float(rng.uniform(4, 8))
        c, s = np.cos(a) * r, np.sin(a) * r
        leaf = [(x + c, y + s), (x - s * 0.4, y + c * 0.4), (x - c, y - s), (x + s * 0.4, y - c * 0.4)]
        ImageDraw.Draw(mask).polygon(leaf, fill=255)
        ImageDraw.Draw(shade).polygon(leaf, fill=int(rng.integers(60, 200)))
    tone = np.asarray(shade, np.float32) / 128 - 1
    green: Rgb = [(0.30, 0.42, 0.16), (0.24, 0.36, 0.16), (0.42, 0.46, 0.18), (0.58, 0.36, 0.14)][seed % 4]
    return np.asarray(mask, np.float32) / 255, Skin(tint(tone, green, 0.45), (1.0, 1.0), fit=True)


@functools.cache
def _window_wall(seed: int) -> Skin:
    rng = rng_for("far", seed)
    wall: Rgb = pick(rng, [(0.62, 0.56, 0.48), (0.55, 0.4, 0.33), (0.7, 0.66, 0.6), (0.5, 0.5, 0.52)])
    board = Painter(10, 9, 14, wall)
    for i in range(4):
        for j in range(3):
            glow = 0.8 if rng.random() < 0.4 else 0.0
            board.rect(i * 2.5 + 0.5, j * 3 + 0.8, i * 2.5 + 2.0, j * 3 + 2.6, (0.8, 0.78, 0.74))
            board.rect(
                i * 2.5 + 0.65,
                j * 3 + 0.95,
                i * 2.5 + 1.85,
                j * 3 + 2.45,
                (0.17, 0.2, 0.23),
                None,
                0.09,
                glow,
            )
    skin = board.skin(0.06, seed)
    skin.fit = False
    return skin
