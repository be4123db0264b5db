"""Street houses in three styles (brick, palace, timber), and the windows, doors and roofs they share.

Called by catalog.py, and by landmarks.py and outdoors.py for their parts.
Technique: a front is a height map drawn floor by floor; style and layout have generators of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .geometry import HERE, Frame, vec
from .painter import Painter
from .solids import Box, Built, Convex, Relief, Solid
from .textures import Rgb, Rng, Skin, bricks, pick, plaster, roof_tiles

WALL = 0.14  # level of a facade's wall over the glass of its windows
GLASS: Rgb = (0.16, 0.19, 0.22)
BRICKS: list[Rgb] = [(0.58, 0.30, 0.22), (0.66, 0.42, 0.30), (0.50, 0.27, 0.22), (0.74, 0.62, 0.46)]
PLASTERS: list[Rgb] = [
    (0.85, 0.74, 0.52),
    (0.80, 0.62, 0.52),
    (0.70, 0.74, 0.70),
    (0.86, 0.82, 0.74),
    (0.66, 0.70, 0.77),
    (0.84, 0.66, 0.40),
]
STONES: list[Rgb] = [(0.70, 0.66, 0.58), (0.62, 0.60, 0.57), (0.76, 0.68, 0.54)]
ROOFS: list[Rgb] = [(0.52, 0.28, 0.20), (0.32, 0.33, 0.37), (0.44, 0.32, 0.26)]
DOORS: list[Rgb] = [(0.16, 0.28, 0.22), (0.42, 0.14, 0.12), (0.14, 0.20, 0.34), (0.34, 0.22, 0.14)]
NAMES = [
    "BAKERY",
    "BOOKS",
    "CAFE ROMA",
    "HOTEL LUX",
    "FLOWERS",
    "TAILOR",
    "MUSIC",
    "WINES",
    "APOTHEKE",
    "CLOCKS",
    "BISTRO",
    "TEA ROOM",
]
WHITE: Rgb = (0.88, 0.86, 0.82)


@dataclass(frozen=True)
class Opening:
    """How the windows of a facade look."""

    kind: str  # flat, arch, round
    trim: Rgb
    frame: Rgb
    bars: tuple[int, int]
    shutters: Rgb | None = None
    hood: str = "none"  # none, ledge, gable
    sill: bool = True


def facade(kind: str, style: Rng, layout: Rng, dots: float = 40.0) -> Built:
    """A house front facing +z: its solids, width and height. Kinds: brick, palace, timber."""
    seed = int(layout.integers(1 << 20))
    trim = pick(style, [WHITE, (0.80, 0.74, 0.62), (0.66, 0.63, 0.58)])
    frame = pick(style, [WHITE, (0.25, 0.20, 0.17), (0.86, 0.84, 0.78)])
    roof = roof_tiles(int(style.integers(9)), pick(style, ROOFS))
    wood = pick(style, [(0.27, 0.19, 0.14), (0.20, 0.17, 0.16), (0.36, 0.22, 0.15)])
    if kind == "brick":
        wall = bricks(int(style.integers(9)), pick(style, BRICKS))
    else:
        wall = plaster(int(style.integers(9)), pick(layout, PLASTERS))
    floors = int(layout.integers(2, 5)) if kind != "timber" else int(layout.integers(2, 4))
    bays = int(layout.integers(3, 6)) if kind != "palace" else int(layout.integers(4, 8))
    pitch = float(layout.uniform(1.9, 2.5))
    storey = {"brick": 2.9, "palace": 3.5, "timber": 2.6}[kind]
    ground = storey * 1.15
    width, high = bays * pitch + 1.2, ground + floors * storey + (0.7 if kind != "timber" else 0.25)
    board = Painter(width, high, dots, wall, WALL)
    opening = Opening(
        pick(layout, ["flat", "arch", "round"]) if kind != "timber" else "flat",
        trim if kind != "timber" else wood,
        frame,
        pick(layout, [(2, 2), (2, 3), (3, 4), (2, 1)]),
        pick(layout, DOORS) if kind != "brick" and layout.random() < 0.5 else None,
        pick(layout, ["none", "ledge", "gable"]) if kind == "palace" else "none",
    )
    xs = [0.6 + pitch * (i + 0.5) for i in range(bays)]
    stone = pick(style, STONES)
    if kind == "palace":
        board.rect(0, 0, width, ground, (stone[0], stone[1], stone[2]), WALL + 0.05)
        for k in range(int(ground / 0.5)):
            board.rect(0, k * 0.5, width, k * 0.5 + 0.05, (stone[0] * 0.7, stone[1] * 0.7, stone[2] * 0.7), WALL)
    if kind == "timber":
        _timbering(board, wood, ground, storey, floors, width, xs, layout)
    wide, tall = pitch * float(layout.uniform(0.42, 0.55)), storey * float(layout.uniform(0.52, 0.64))
    for floor in range(floors):
        base = ground + floor * storey
        if kind != "timber" and (floor == 0 or layout.random() < 0.5):
            board.rect(0, base - 0.12, width, base + 0.1, trim, WALL + 0.16)
        balcony = int(layout.integers(bays)) if kind == "palace" and layout.random() < 0.7 else -1
        gap = int(layout.integers(bays)) if kind != "palace" and layout.random() < 0.35 else -1
        for i, x in enumerate(xs):
            if i == gap:
                continue
            window(
                board,
                x,
                base + storey * 0.22,
                wide,
                tall * (0.9 if floor == floors - 1 else 1),
                opening,
                layout,
            )
            if i == balcony:
                _balcony(board, x, base + storey * 0.2, wide + 0.9, trim)
    entry = int(layout.integers(bays))
    colour = pick(layout, DOORS)
    if kind != "palace" and layout.random() < 0.75 and bays > 2:
        side = 0 if entry >= bays / 2 else 1
        span = pitch * (bays - 1.5) if bays < 5 else pitch * 2.6
        middle = 0.5 + span / 2 if side == 0 else width - 0.5 - span / 2
        shop(board, middle, span, ground - 0.25, pick(layout, NAMES), pick(layout, DOORS), layout)
        taken = [i for i, x in enumerate(xs) if abs(x - middle) < span / 2 + wide / 2 + 0.2]
        entry = bays - 1 if side == 0 else 0
    else:
        taken = []
    for i, x in enumerate(xs):
        if i == entry:
            door(board, x, 1.2, ground * 0.72, colour, opening)
        elif i not in taken:
            window(board, x, ground * 0.3, wide, ground * 0.5, opening, layout)
    if kind == "palace":
        for x in (
            [0.3, width - 0.3] if layout.random() < 0.5 else [0.3, *[(a + b) / 2 for a, b in pairwise(xs)], width - 0.3]
        ):
            board.rect(x - 0.2, ground, x + 0.2, high - 0.6, trim, WALL + 0.12)
            board.rect(x - 0.28, high - 0.9, x + 0.28, high - 0.6, trim, WALL + 0.18)
    if kind != "timber":
        board.rect(0, high - 0.6, width, high - 0.35, trim, WALL + 0.2)
        for k in range(int(width / 0.45)):
            board.rect(k * 0.45 + 0.1, high - 0.35, k * 0.45 + 0.3, high - 0.18, trim, WALL + 0.36)
        board.rect(0, high - 0.18, width, high, trim, WALL + 0.45)
    board.rect(0, 0, width, 0.35, (stone[0] * 0.8, stone[1] * 0.8, stone[2] * 0.8), WALL + 0.1)
    deep = 8.0
    solids: list[Solid] = [
        Relief(HERE, board.heights(), board.skin(0.07, seed)),
        Box(HERE, vec(-width / 2, 0, -deep), vec(width / 2, high, 0.02), wall),
    ]
    rise = float(layout.uniform(1.8, 3.2)) if kind != "timber" else float(layout.uniform(3.2, 4.4))
    if kind == "timber" and layout.random() < 0.8:
        planes = [(vec(s * rise, width / 2 + 0.3, 0), rise * (width / 2 + 0.3)) for s in (-1, 1)]
        peak = width / 2 + 0.3
        at = Frame.make(0, high, -deep / 2)
        solids.append(Convex(at, vec(-peak, 0, -deep / 2), vec(peak, rise, deep / 2 + 0.1), planes, wall))
        lift = Frame.make(0, high + 0.18, -deep / 2 - 0.1)
        solids.append(Convex(lift, vec(-peak, 0, -deep / 2), vec(peak, rise, deep / 2 + 0.05), planes, roof))
        solids += _gable_window(width, high, rise, opening, wood, layout)
    else:
        hip = pick(layout, [0.0, 2.5]) if kind == "palace" else 0.0
        solids.append(gable_roof(width + 0.5, deep + 1.0, rise, roof, Frame.make(0, high, -deep / 2 + 0.3), hip))
        for x in sorted({float(layout.choice(xs)) for _ in range(int(layout.integers(0, 4)))}):
            solids += _dormer(x - width / 2, high, rise, deep, wall, roof, opening, layout)
    for x in layout.uniform(-width * 0.4, width * 0.4, int(layout.integers(1, 3))):
        chimney = bricks(3, BRICKS[0])
        solids.append(
            Box(
                Frame.make(float(x), high, -deep * 0.55),
                vec(-0.4, 0, -0.4),
                vec(0.4, rise + 0.9, 0.4),
                chimney,
            )
        )
    return solids, width, high + rise


def outline(x: float, y: float, w: float, h: float, kind: str, grow: float = 0.0) -> list[tuple[float, float]]:
    """The shape of a window of width w and height h whose sill is centred at (x, y)."""
    half = w / 2 + grow
    if kind == "flat":
        return [
            (x - half, y - grow),
            (x + half, y - grow),
            (x + half, y + h + grow),
            (x - half, y + h + grow),
        ]
    rise = half if kind == "arch" else half * 0.35
    top = y + h + grow - rise
    turn = np.linspace(0, np.pi, 17)
    arch = [(x + half * float(np.cos(a)), top + rise * float(np.sin(a))) for a in turn]
    return [(x - half, y - grow), (x + half, y - grow), *arch]


def window(board: Painter, x: float, y: float, w: float, h: float, style: Opening, rng: Rng) -> None:
    if style.shutters is not None:
        for side in (-1, 1):
            x0, x1 = sorted((x + side * (w / 2 + 0.06), x + side * (w + 0.06)))
            board.rect(x0, y, x1, y + h, style.shutters, WALL + 0.07)
            for k in range(int(h / 0.11)):
                dark = (style.shutters[0] * 0.72, style.shutters[1] * 0.72, style.shutters[2] * 0.72)
                board.rect(x0 + 0.06, y + 0.06 + k * 0.11, x1 - 0.06, y + 0.10 + k * 0.11, dark, WALL + 0.04)
    else:
        board.polygon(outline(x, y, w, h, style.kind, 0.13), style.trim, WALL + 0.06)
    glow = float(rng.uniform(0.3, 1.0)) if rng.random() < 0.45 else 0.0
    tone = float(rng.uniform(0.6, 1.3))
    board.polygon(outline(x, y, w, h, style.kind), style.frame, 0.05)
    pane: Rgb = (GLASS[0] * tone, GLASS[1] * tone, GLASS[2] * tone)
    board.polygon(outline(x, y + 0.05, w - 0.1, h - 0.1, style.kind), pane, 0.0, 0.09, glow)
    if rng.random() < 0.6:
        drawn, cloth = float(rng.uniform(0.12, 0.3)) * w, float(rng.uniform(0.4, 0.62))
        for side in (-1, 1):
            x0, x1 = sorted((x + side * (w / 2 - 0.06), x + side * (w / 2 - drawn)))
            board.rect(x0, y + 0.06, x1, y + h * 0.75, (cloth, cloth * 0.97, cloth * 0.9), 0.0, 0.06, glow * 0.7)
    for i in range(1, style.bars[0]):
        at = x - w / 2 + w * i / style.bars[0]
        board.rect(at - 0.03, y, at + 0.03, y + h * 0.96, style.frame, 0.05)
    for j in range(1, style.bars[1]):
        at = y + h * j / style.bars[1]
        board.rect(x - w / 2 + 0.03, at - 0.03, x + w / 2 - 0.03, at + 0.03, style.frame, 0.05)
    if style.sill:
        board.rect(x - w / 2 - 0.18, y - 0.16, x + w / 2 + 0.18, y, style.trim, WALL + 0.17)
    if style.hood != "none":
        top = y + h + 0.2
        board.rect(x - w / 2 - 0.22, top, x + w / 2 + 0.22, top + 0.12, style.trim, WALL + 0.22)
        if style.hood == "gable":
            peak = [(x - w / 2 - 0.22, top + 0.12), (x + w / 2 + 0.22, top + 0.12), (x, top + 0.5)]
            board.polygon(peak, style.trim, WALL + 0.18)


def door(board: Painter, x: float, w: float, h: float, colour: Rgb, style: Opening) -> None:
    board.polygon(outline(x, 0, w, h, style.kind, 0.22), style.trim, WALL + 0.12)
    board.polygon(outline(x, 0, w, h, style.kind), colour, 0.02, 0.05)
    dark: Rgb = (colour[0] * 0.6, colour[1] * 0.6, colour[2] * 0.6)
    for side in (-1, 1):
        for low, high in ((0.1, 0.32), (0.38, 0.68)):
            x0, x1 = sorted((x + side * 0.07, x + side * (w / 2 - 0.1)))
            board.rect(x0, h * low, x1, h * high, dark, 0.0, 0.05)
    board.rect(x - w / 2 + 0.05, h * 0.73, x + w / 2 - 0.05, h * 0.76, style.frame, 0.06)
    board.disc(x + 0.1, h * 0.36, 0.05, (0.8, 0.65, 0.3), 0.08, 0.3)


def shop(board: Painter, x: float, w: float, h: float, name: str, colour: Rgb, rng: Rng) -> None:
    board.rect(x - w / 2, 0, x + w / 2, h, colour, WALL + 0.1)
    board.rect(x - w / 2 + 0.18, 0.55, x + w / 2 - 0.18, h - 0.75, GLASS, 0.0, 0.1, 0.8)
    for _ in range(9):
        at, tall = float(rng.uniform(x - w / 2 + 0.3, x + w / 2 - 0.3)), float(rng.uniform(0.15, 0.6))
        goods = (float(rng.uniform(0.2, 0.7)), float(rng.uniform(0.2, 0.6)), float(rng.uniform(0.15, 0.5)))
        board.rect(at - 0.12, 0.56, at + 0.12, 0.56 + tall, goods, 0.0, 0.08, 0.6)
    for k in (-1, 1):
        board.rect(x + k * w / 6 - 0.03, 0.5, x + k * w / 6 + 0.03, h - 0.75, colour, 0.06)
    board.rect(
        x - w / 2,
        h - 0.7,
        x + w / 2,
        h - 0.12,
        (colour[0] * 0.7, colour[1] * 0.7, colour[2] * 0.7),
        WALL + 0.16,
    )
    board.text(x, h - 0.4, name, 0.42, (0.93, 0.86, 0.62), WALL + 0.2)
    board.rect(x - w / 2 - 0.1, h - 0.12, x + w / 2 + 0.1, h, WHITE, WALL + 0.3)


def gable_roof(w: float, d: float, rise: float, skin: Skin, at: Frame, hip: float = 0.0) -> Convex:
    planes = [(vec(0, d / 2, s * rise), rise * d / 2) for s in (-1, 1)]
    if hip > 0:
        planes += [(vec(s * rise, hip, 0), rise * w / 2) for s in (-1, 1)]
    return Convex(at, vec(-w / 2, 0, -d / 2), vec(w / 2, rise, d / 2), planes, skin)


def _balcony(board: Painter, x: float, y: float, w: float, trim: Rgb) -> None:
    iron: Rgb = (0.12, 0.12, 0.13)
    board.rect(x - w / 2, y - 0.22, x + w / 2, y, trim, WALL + 0.55)
    for k in range(int(w / 0.14) + 1):
        at = x - w / 2 + 0.03 + k * 0.14
        board.rect(at - 0.018, y, at + 0.018, y + 0.85, iron, WALL + 0.4)
    board.rect(x - w / 2, y + 0.82, x + w / 2, y + 0.9, iron, WALL + 0.5)


def _timbering(
    board: Painter,
    wood: Rgb,
    ground: float,
    storey: float,
    floors: int,
    width: float,
    xs: list[float],
    rng: Rng,
) -> None:
    beam, out = 0.2, WALL + 0.06
    for floor in range(floors + 1):
        y = ground + floor * storey
        board.rect(0, y - 0.16, width, y + 0.12, wood, out + 0.05)
    posts = [0.1, *[(a + b) / 2 for a, b in pairwise(xs)], width - 0.1]
    for floor in range(floors):
        y = ground + floor * storey
        for x in posts:
            board.rect(x - beam / 2, y, x + beam / 2, y + storey, wood, out)
        board.rect(0, y + storey * 0.18, width, y + storey * 0.24, wood, out)
        for a, b in pairwise(posts):
            brace = int(rng.integers(4))
            low, high = y + 0.05, y + storey * 0.2
            if brace in (1, 3):
                board.line([(a, low), (b, high)], 0.15, wood, out)
            if brace in (2, 3):
                board.line([(a, high), (b, low)], 0.15, wood, out)
            if rng.random() < 0.4:
                board.line([(a, y + storey * 0.24), (a + (b - a) * 0.3, y + storey)], 0.15, wood, out)
                board.line([(b, y + storey * 0.24), (b - (b - a) * 0.3, y + storey)], 0.15, wood, out)


def _gable_window(width: float, high: float, rise: float, style: Opening, wood: Rgb, rng: Rng) -> list[Solid]:
    board = Painter(1.7, min(rise * 0.5, 1.8), 40, wood, WALL)
    window(board, 0.85, 0.3, 0.8, board.height - 0.6, style, rng)
    return [Relief(Frame.make(0, high + 0.35, 0.04), board.heights(), board.skin())]


def _dormer(
    x: float, high: float, rise: float, deep: float, wall: Skin, roof: Skin, style: Opening, rng: Rng
) -> list[Solid]:
    board = Painter(1.4, 1.5, 40, (0.8, 0.78, 0.73), WALL)
    window(board, 0.7, 0.3, 0.8, 0.95, Opening(style.kind, style.trim, style.frame, (2, 2)), rng)
    front = -0.7
    solids: list[Solid] = [Relief(Frame.make(x, high + 0.25, front), board.heights(), board.skin())]
    solids.append(Box(Frame.make(x, high + 0.25, front), vec(-0.7, 0, -2.5), vec(0.7, 1.5, 0.02), wall))
    top = Frame.make(x, high + 1.75, front - 1.1, yaw=np.pi / 2)
    return [*solids, gable_roof(3.2, 1.7, 0.7, roof, top)]
