"""Landmarks: clock towers, lighthouses, city gates, porticos and bridges.

Called by catalog.py like facades.py.
Technique: drawn reliefs on boxes, turned shafts and columns, vaults cut out of distance fields.
"""

from __future__ import annotations

import numpy as np

from .facades import BRICKS, DOORS, ROOFS, STONES, WALL, WHITE, Opening, door, gable_roof, outline, window
from .geometry import HERE, Array, Frame, vec
from .painter import Painter
from .solids import Box, Built, Convex, Lathe, Relief, Sculpt, Solid
from .textures import Rgb, Rng, Skin, ashlar, bricks, pick, plain, plaster, roof_tiles


def clock_tower(style: Rng, layout: Rng) -> Built:
    w, shaft = float(layout.uniform(4.2, 5.2)), float(layout.uniform(13, 17))
    if style.random() < 0.5:
        wall = bricks(int(style.integers(9)), pick(style, BRICKS))
    else:
        wall = ashlar(int(style.integers(9)), pick(style, STONES))
    trim = pick(style, [WHITE, (0.74, 0.68, 0.56)])
    top = shaft + 6.5
    opening = Opening(pick(layout, ["arch", "flat", "round"]), trim, (0.25, 0.2, 0.18), (2, 3))
    board = Painter(w, top, 32, wall, WALL)
    for x in (0.25, w - 0.25):
        for k in range(int(top / 0.5)):
            reach = 0.3 if k % 2 else 0.45
            x0, x1 = (0, reach) if x < 1 else (w - reach, w)
            board.rect(x0, k * 0.5, x1, k * 0.5 + 0.46, trim, WALL + 0.05)
    bands = sorted(layout.uniform(3, shaft - 2, int(layout.integers(1, 4))))
    for y in [*bands, shaft - 0.2, shaft + 2.6]:
        board.rect(0, float(y), w, float(y) + 0.3, trim, WALL + 0.25)
    for y in np.arange(3.8, shaft - 2.5, float(layout.uniform(2.8, 4.0))):
        for x in [w / 2] if layout.random() < 0.5 else [w * 0.32, w * 0.68]:
            window(board, x, float(y), 0.7, 1.5, opening, layout)
    door(board, w / 2, 1.4, 2.6, pick(layout, DOORS), opening)
    _dial(board, w / 2, shaft + 1.4, 1.05, layout, trim)
    for x in [w * 0.3, w * 0.7] if layout.random() < 0.5 else [w / 2]:
        board.polygon(outline(x, shaft + 3.4, 1.1, 2.3, "arch", 0.12), trim, WALL + 0.08)
        board.polygon(outline(x, shaft + 3.4, 1.1, 2.3, "arch"), (0.09, 0.08, 0.08), -0.25 + WALL)
        for k in range(7):
            board.rect(
                x - 0.5,
                shaft + 3.5 + k * 0.28,
                x + 0.5,
                shaft + 3.62 + k * 0.28,
                (0.3, 0.26, 0.22),
                WALL - 0.06,
            )
    board.rect(0, top - 0.35, w, top, trim, WALL + 0.4)
    skin, heights = board.skin(0.07, int(layout.integers(99))), board.heights()
    heights -= min(0.0, float(heights.min()))
    solids: list[Solid] = [Box(HERE, vec(-w / 2, 0, -w / 2), vec(w / 2, top, w / 2), wall)]
    front = Frame.make(0, 0, w / 2 - 0.05)
    solids += [Relief(front.then(Frame.make(yaw=k * np.pi / 2)), heights, skin) for k in range(4)]
    tile = roof_tiles(int(style.integers(9)), pick(style, [*ROOFS, (0.35, 0.50, 0.44)]))
    rise, half = float(layout.uniform(3, 9)), w / 2 + 0.5
    planes = [(vec(s * rise, half, 0), rise * half) for s in (-1, 1)]
    planes += [(vec(0, half, s * rise), rise * half) for s in (-1, 1)]
    solids.append(Convex(Frame.make(0, top), vec(-half, 0, -half), vec(half, rise, half), planes, tile))
    if layout.random() < 0.5:
        for x, z in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            pole = [(0.45, 0), (0.45, 1.6), (0.55, 1.7), (0.0, 3.2)]
            solids.append(Lathe(Frame.make(x * (w / 2), top, z * (w / 2)), pole, plain(trim)))
    knob = [(0.08, -0.3), (0.08, 0.2), (0.25, 0.4), (0.25, 0.5), (0.05, 0.75), (0.0, 1.9)]
    solids.append(Lathe(Frame.make(0, top + rise), knob, plain((0.75, 0.6, 0.25), 0.3, 60)))
    return solids, w, top + rise


def _dial(board: Painter, x: float, y: float, r: float, rng: Rng, trim: Rgb) -> None:
    board.disc(x, y, r + 0.18, trim, WALL + 0.12)
    face, ink = (
        ((0.93, 0.91, 0.84), (0.1, 0.1, 0.12)) if rng.random() < 0.6 else ((0.12, 0.14, 0.24), (0.88, 0.75, 0.4))
    )
    board.disc(x, y, r, face, WALL + 0.04, 0.04, 0.5)
    for k in range(12):
        a, b = np.sin(k * np.pi / 6), np.cos(k * np.pi / 6)
        board.line([(x + a * r * 0.78, y + b * r * 0.78), (x + a * r * 0.94, y + b * r * 0.94)], 0.09, ink)
    for turn, reach, thick in ((rng.uniform(0, 6.28), 0.5, 0.12), (rng.uniform(0, 6.28), 0.75, 0.08)):
        board.line([(x, y), (x + float(np.sin(turn)) * r * reach, y + float(np.cos(turn)) * r * reach)], thick, ink)


def lighthouse(style: Rng, layout: Rng) -> Built:
    high, low, top = (
        float(layout.uniform(12, 18)),
        float(layout.uniform(2.4, 3.2)),
        float(layout.uniform(1.5, 2.0)),
    )
    colours: list[tuple[Rgb, Rgb]] = [
        ((0.86, 0.84, 0.8), (0.68, 0.16, 0.13)),
        ((0.88, 0.86, 0.82), (0.15, 0.18, 0.25)),
        ((0.8, 0.7, 0.5), (0.5, 0.25, 0.2)),
    ]
    light, dark = pick(style, colours)
    girth = 2 * np.pi * low
    board = Painter(girth, high, 26, light)
    count = int(layout.integers(2, 7))
    for k in range(count):
        if layout.random() < 0.85:
            board.rect(0, (k + 0.5) * high / count, girth, (k + 1) * high / count, dark)
    frame = Opening("arch", (0.75, 0.73, 0.7), (0.2, 0.2, 0.2), (1, 2))
    for k in range(int(layout.integers(4, 8))):
        window(board, girth * ((0.5 + 0.23 * k) % 1), 2.5 + k * (high - 4) / 6, 0.9, 1.3, frame, layout)
    board.rect(girth / 2 - 0.8, 0, girth / 2 + 0.8, 2.4, (0.3, 0.2, 0.15))
    bend = float(layout.uniform(0.6, 1.6))
    profile = [(0.0, 0.0)] + [(top + (low - top) * (1 - t) ** bend, t * high) for t in np.linspace(0, 1, 14)]
    iron, cap = plain((0.18, 0.18, 0.2), 0.05), plain(dark if light[2] > 0.6 else (0.3, 0.3, 0.3), 0.06, 40)
    rail = [
        (0.0, high),
        (top + 0.9, high),
        (top + 0.9, high + 0.25),
        (top + 0.1, high + 0.26),
        (top + 0.1, high + 0.3),
    ]
    lamp = [(0.0, high + 0.25), (1.2, high + 0.25), (1.2, high + 2.4), (0.0, high + 2.4)]
    dome = [
        (1.5, high + 2.4),
        (1.4, high + 2.6),
        (1.0, high + 3.2),
        (0.5, high + 3.6),
        (0.15, high + 3.7),
        (0.15, high + 4.2),
        (0.0, high + 4.9),
    ]
    glass = Skin(np.full((8, 8, 3), 0.3, np.float32), (1.0, 1.0), spec=0.2, glow=1.0, gloss=90)
    solids: list[Solid] = [Lathe(HERE, profile, board.skin(0.08, int(layout.integers(99))))]
    solids += [Lathe(HERE, rail, iron), Lathe(HERE, lamp, glass), Lathe(HERE, dome, cap)]
    for k in range(16):
        a = k * np.pi / 8
        at = Frame.make((top + 0.8) * float(np.sin(a)), high + 0.2, (top + 0.8) * float(np.cos(a)))
        solids.append(Lathe(at, [(0.05, 0), (0.05, 1.0), (0.0, 1.02)], iron))
    for k in range(8):
        a = k * np.pi / 4
        at = Frame.make(1.22 * float(np.sin(a)), high + 0.2, 1.22 * float(np.cos(a)))
        solids.append(Lathe(at, [(0.06, 0), (0.06, 2.3)], iron))
    hut = float(layout.uniform(-1, 1))
    if abs(hut) > 0.3:
        side = float(np.sign(hut)) * 5.5
        wall = plaster(4, light)
        solids.append(Box(Frame.make(side, 0, -0.5), vec(-2.6, 0, -2), vec(2.6, 2.8, 2), wall))
        solids.append(gable_roof(5.8, 4.6, 1.7, roof_tiles(2, ROOFS[0]), Frame.make(side, 2.8, -0.5)))
        front = Painter(4.6, 2.6, 32, light, WALL)
        door(front, 1.2, 0.95, 2.0, pick(layout, DOORS), frame)
        window(front, 3.1, 0.9, 1.0, 1.1, frame, layout)
        solids.append(Relief(Frame.make(side, 0, 1.4), front.heights() * 0.5 + 0.5, front.skin()))
    return solids, low * 2.2, high + 4.9


def gate(style: Rng, layout: Rng) -> Built:
    """A city gate: a vaulted block between two round or square towers."""
    stone = pick(style, STONES)
    wall = ashlar(int(style.integers(9)), stone, 3.2, 8) if style.random() < 0.6 else bricks(5, BRICKS[0])
    w, high, deep = float(layout.uniform(5, 8)), float(layout.uniform(6, 9)), 3.5
    span, spring = float(layout.uniform(1.3, 2.0)), float(layout.uniform(1.8, 3.0))
    pointed = float(layout.uniform(0.0, 0.7))

    def field(p: Array) -> Array:
        block = _box_field(p, (w / 2, high / 2, deep / 2), (0, high / 2, 0))
        x, y = np.abs(p[:, 0]) + pointed * span, p[:, 1] - spring
        vault = np.where(y > 0, np.hypot(x, y) - span * (1 + pointed), np.abs(p[:, 0]) - span)
        return np.maximum(block, -vault).astype(np.float32)

    solids: list[Solid] = [Sculpt(HERE, vec(-w / 2, 0, -deep / 2), vec(w / 2, high, deep / 2), field, wall)]
    trim = plain((stone[0] * 1.1, stone[1] * 1.1, stone[2] * 1.1), 0.02, seed=2, grain=0.1)
    low, top = vec(-w / 2, 0, -deep / 2 - 0.15), vec(w / 2, 0.3, deep / 2 + 0.15)
    solids += [Box(Frame.make(0, y), low, top, trim) for y in (high * 0.72, high - 0.1)]
    tooth = vec(-0.33, 0, deep / 2 - 0.5), vec(0.33, 0.9, deep / 2)
    teeth = np.arange(-w / 2 + 0.4, w / 2, 1.1)
    solids += [Box(Frame.make(float(x), high + 0.2), *tooth, wall) for x in teeth]
    opening = Opening("arch", (stone[0], stone[1], stone[2]), (0.2, 0.18, 0.16), (1, 1))
    board = Painter(w * 0.8, high * 0.24, 36, wall, WALL)
    many = int(layout.integers(1, 5))
    for k in range(many):
        window(board, board.width * (k + 0.5) / many, 0.4, 0.5, board.height - 0.7, opening, layout)
    solids.append(Relief(Frame.make(0, high * 0.74 + 0.2, deep / 2 - 0.08), board.heights(), board.skin()))
    r, tall = float(layout.uniform(1.5, 2.2)), high + float(layout.uniform(0.5, 4))
    roof = roof_tiles(int(style.integers(9)), pick(style, ROOFS))
    cone = float(layout.uniform(2.5, 5))
    for s in (-1, 1):
        at = Frame.make(s * (w / 2 + r * 0.7))
        girth = 2 * np.pi * r
        side = Painter(girth, tall, 30, wall, 0.0)
        for k in range(int(layout.integers(2, 5))):
            y = tall * (0.25 + 0.18 * k)
            side.polygon(outline(girth * (0.5 + s * 0.05 * (k % 2)), y, 0.35, 1.2, "arch", 0.1), stone)
            side.polygon(outline(girth * (0.5 + s * 0.05 * (k % 2)), y, 0.3, 1.1, "arch"), (0.07, 0.06, 0.06))
        solids.append(Lathe(at, [(0, 0), (r * 1.1, 0), (r, 0.8), (r, tall), (0, tall)], side.skin(0.08, 3)))
        solids.append(Lathe(at, [(r, tall - 0.5), (r + 0.3, tall), (r + 0.3, tall + 0.3)], trim))
        solids.append(Lathe(at, [(r + 0.4, tall + 0.3), (r * 0.5, tall + cone * 0.55), (0.0, tall + cone)], roof))
    return solids, w + 3.4 * r, tall + cone


def temple(style: Rng, layout: Rng) -> Built:
    """A portico: steps, columns, entablature and pediment before a plain hall."""
    stone = pick(style, STONES)
    wall, body = ashlar(3, stone, 4.0, 6), plain(stone, 0.03, seed=5, grain=0.12)
    count, pitch = int(layout.integers(4, 8)), float(layout.uniform(1.7, 2.3))
    w, tall, r = count * pitch, float(layout.uniform(5, 7)), float(layout.uniform(0.36, 0.5))
    solids: list[Solid] = []
    for k in range(4):
        grow = 0.4 * (4 - k)
        solids.append(Box(Frame.make(0, 0.3 * k), vec(-w / 2 - grow, 0, -7), vec(w / 2 + grow, 0.3, grow + 0.3), wall))
    flute = Painter(2.4, tall, 40, stone)
    for k in range(20):
        flute.rect(k * 0.12, 0, k * 0.12 + 0.035, tall, (stone[0] * 0.72, stone[1] * 0.7, stone[2] * 0.68), -0.03)
    skin = flute.skin(0.08, int(layout.integers(99)))
    shape = [(r * 1.35, 0), (r * 1.35, 0.2), (r * 1.1, 0.3)] + [
        (r * (1 - 0.18 * t**1.6), 0.35 + t * (tall - 0.9)) for t in np.linspace(0, 1, 7)
    ]
    shape += [(r * 1.2, tall - 0.3), (r * 1.3, tall - 0.28), (r * 1.3, tall)]
    xs = [(i + 0.5 - count / 2) * pitch for i in range(count)]
    solids += [Lathe(Frame.make(x, 1.2, -0.5), shape, skin) for x in xs]
    top = tall + 1.2
    board = Painter(w + 0.4, 1.3, 40, body, WALL)
    words = pick(layout, ["MVSEVM ARTIVM", "BIBLIOTHECA", "THEATRVM", "ACADEMIA", "CVRIA NOVA", "PANTHEON"])
    board.rect(0, 1.05, w + 0.4, 1.3, stone, WALL + 0.25)
    board.text(w / 2 + 0.2, 0.55, words, 0.62, (0.2, 0.16, 0.12), WALL - 0.05)
    solids.append(Relief(Frame.make(0, top, 0.05), board.heights(), board.skin(0.06, 4)))
    solids.append(Box(Frame.make(0, top), vec(-w / 2 - 0.2, 0, -7), vec(w / 2 + 0.2, 1.3, 0.1), body))
    rise = float(layout.uniform(1.4, 2.6))
    half = w / 2 + 0.4
    planes = [(vec(s * rise, half, 0), rise * half) for s in (-1, 1)]
    solids.append(Convex(Frame.make(0, top + 1.3), vec(-half, 0, -7), vec(half, rise, 0.2), planes, body))
    lift = Frame.make(0, top + 1.55)
    solids.append(Convex(lift, vec(-half, 0, -7), vec(half, rise, 0.5), planes, plain((0.55, 0.52, 0.47), seed=7)))
    inner = 0.82
    low = [(vec(s * rise, half, 0), rise * half * inner) for s in (-1, 1)]
    dark = plain((stone[0] * 0.8, stone[1] * 0.78, stone[2] * 0.74), seed=8, grain=0.2)
    solids.append(Convex(Frame.make(0, top + 1.42), vec(-half, 0, 0), vec(half, rise, 0.56), low, dark))
    hall = Painter(w, tall, 32, wall, WALL)
    opening = Opening(pick(layout, ["flat", "arch"]), stone, (0.3, 0.25, 0.2), (2, 3))
    for i in range(1, count):
        x = i * pitch
        if i == count // 2:
            door(hall, x, 1.2, tall * 0.6, pick(layout, DOORS), opening)
        elif layout.random() < 0.7:
            window(hall, x, tall * 0.3, 0.7, tall * 0.35, opening, layout)
    solids.append(Relief(Frame.make(0, 1.2, -3.2), hall.heights(), hall.skin()))
    solids.append(Box(Frame.make(0, 1.2), vec(-w / 2, 0, -7), vec(w / 2, tall, -3.15), wall))
    return solids, w + 1, top + 1.3 + rise


def bridge(style: Rng, layout: Rng) -> Built:
    stone = pick(style, STONES)
    wall = ashlar(int(style.integers(9)), stone, 2.4, 6) if style.random() < 0.6 else bricks(2, BRICKS[1])
    arches, r = int(layout.integers(1, 5)), float(layout.uniform(1.9, 2.8))
    pier, hump = float(layout.uniform(0.8, 1.4)), float(layout.uniform(0.0, 1.3))
    pitch, flat = 2 * r + pier, float(layout.uniform(0.7, 1.05))
    half, deck = arches * pitch / 2 + 6, r * flat + 1.3

    def field(p: Array) -> Array:
        x = p[:, 0]
        top = p[:, 1] - deck - hump * np.cos(np.clip(x / half, -1, 1) * np.pi / 2) ** 2
        block = np.maximum(np.maximum(top * 0.95, np.abs(p[:, 2]) - 1.8), np.abs(x) - half)
        slot = np.clip(np.round(x / pitch - (arches % 2 == 0) * 0.5), -(arches // 2), (arches - 1) // 2)
        local = x - (slot + (arches % 2 == 0) * 0.5) * pitch
        hole = (np.hypot(local, np.maximum(p[:, 1], 0) / flat) - r) * min(flat, 1.0)
        return np.asarray(np.maximum(block, -hole), np.float32)

    solids: list[Solid] = [Sculpt(HERE, vec(-half, -0.2, -1.8), vec(half, deck + hump, 1.8), field, wall)]
    trim = plain((stone[0] * 1.08, stone[1] * 1.06, stone[2] * 1.04), seed=6, grain=0.1)

    def crown(x: float) -> float:
        return deck + hump * float(np.cos(np.clip(x / half, -1, 1) * np.pi / 2)) ** 2

    step = 1.0
    for s in (-1, 1):
        for left in np.arange(-half, half, step):
            a, b = crown(float(left)), crown(float(left) + step)
            at = Frame.make(float(left) + step / 2, (a + b) / 2 - 0.1, s * 1.75, roll=float(np.arctan2(b - a, step)))
            solids.append(Box(at, vec(-step * 0.53, 0, -0.2), vec(step * 0.53, 0.85, 0.2), wall))
            solids.append(Box(at, vec(-step * 0.53, 0.85, -0.28), vec(step * 0.53, 1.0, 0.28), trim))
    for i in range(arches + 1):
        mid = (i - arches / 2) * pitch
        nose = [(pier * 0.75, -0.2), (pier * 0.7, r * 0.6), (pier * 0.45, r * 0.85), (0.0, r * 0.95)]
        solids += [Lathe(Frame.make(mid, 0, s * 1.8), nose, wall) for s in (-1, 1)]
    if layout.random() < 0.6:
        for s in (-0.5, 0.5):
            lamp = [
                (0.14, 0),
                (0.08, 0.3),
                (0.05, 0.4),
                (0.05, 2.0),
                (0.2, 2.2),
                (0.22, 2.6),
                (0.05, 2.8),
                (0, 2.95),
            ]
            x = s * pitch * max(arches - 1, 1)
            solids.append(Lathe(Frame.make(x, crown(x) + 0.8, 1.75), lamp, plain((0.12, 0.13, 0.13), 0.05)))
    return solids, 2 * half * 0.8, deck + hump + 1.5


def _box_field(p: Array, half: tuple[float, float, float], at: tuple[float, float, float]) -> Array:
    q = np.abs(p - np.array(at, np.float32)) - np.array(half, np.float32)
    outside = np.sqrt(np.sum(np.maximum(q, 0) ** 2, axis=1))
    return np.asarray(outside + np.minimum(q.max(axis=1), 0), np.float32)
