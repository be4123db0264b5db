"""Indoors, and at the garden table: lamps, table tops, walls and clutter; one unit is 10 cm.

Called by views.py for every picture of a thing on a table or a wall.
Technique: boxes with seeded skins; the clutter comes from the builders of the subjects themselves.
"""

from __future__ import annotations

import numpy as np

from .facades import BRICKS
from .geometry import Frame, vec
from .outdoors import direction, ground, tree
from .painting import painting
from .pots import bottle, fruit, mug, tin, vase
from .printed import book, package
from .render import Light
from .solids import Box, Solid
from .textures import (
    Rgb,
    Rng,
    Skin,
    bricks,
    cloth,
    grass,
    hue,
    marble,
    pick,
    plain,
    plaster,
    rng_for,
    tiles,
    wallpaper,
    wood,
)


def lamplight(rng: Rng) -> Light:
    """A room's window or lamp, from either side."""
    warm = float(rng.uniform(0, 1))
    colour = (2.2 + 0.5 * warm, 2.1 - 0.3 * warm, 2.0 - 1.2 * warm)
    power = float(rng.uniform(0.35, 1.3))
    way = direction(float(rng.uniform(-1.8, 1.8)), float(rng.uniform(0.4, 1.2)))
    cool: Rgb = pick(rng, [(0.55, 0.6, 0.7), (0.66, 0.6, 0.5), (0.6, 0.6, 0.6), (0.42, 0.48, 0.6)])
    key = (colour[0] * power, colour[1] * power, colour[2] * power)
    soft = float(rng.uniform(0.02, 0.10))
    return Light(way, key, cool, (cool[0] * 0.75, cool[1] * 0.72, cool[2] * 0.68), softness=soft, lobe=30)


def tabletops(rng: Rng) -> Skin:
    kind, seed = int(rng.integers(8)), int(rng.integers(4))
    if kind < 3:
        return wood(
            seed,
            pick(rng, [(0.55, 0.38, 0.22), (0.36, 0.23, 0.14), (0.72, 0.58, 0.40), (0.62, 0.60, 0.55)]),
            6.0,
            5,
        )
    if kind == 3:
        return marble(seed, (0.85, 0.84, 0.82), (0.55, 0.55, 0.56), 8.0, 0.06)
    if kind == 4:
        return cloth(
            seed,
            (0.85, 0.82, 0.76),
            pick(rng, [(0.65, 0.15, 0.15), (0.15, 0.28, 0.5), (0.3, 0.45, 0.3)]),
            3.0,
        )
    if kind == 5:
        return cloth(seed, hue(rng_for("cloth", seed), (0.25, 0.7), (0.1, 0.5)), (0, 0, 0), 2.5, "plain")
    if kind == 6:
        return tiles(seed, (0.72, 0.72, 0.70), (0.5, 0.5, 0.48), 8.0, 4)
    return plain(pick(rng, [(0.8, 0.8, 0.78), (0.24, 0.25, 0.27), (0.62, 0.66, 0.62)]), 0.05, 60, 6)


def wallings(rng: Rng, scale: float = 1.0) -> Skin:
    kind, seed = int(rng.integers(7)), int(rng.integers(4))
    soft = pick(
        rng,
        [
            (0.80, 0.76, 0.68),
            (0.62, 0.70, 0.72),
            (0.74, 0.62, 0.56),
            (0.52, 0.58, 0.50),
            (0.86, 0.85, 0.83),
            (0.30, 0.34, 0.42),
            (0.48, 0.18, 0.17),
        ],
    )
    dark = (soft[0] * 0.82, soft[1] * 0.8, soft[2] * 0.8)
    if kind < 2:
        return plaster(seed, soft)
    if kind == 2:
        return wallpaper(seed, soft, dark, "stripes", 7 * scale)
    if kind == 3:
        return wallpaper(seed, soft, dark, "damask", 6 * scale)
    if kind == 4:
        return bricks(seed, pick(rng, [*BRICKS, (0.82, 0.8, 0.77)]), size=14 * scale)
    if kind == 5:
        return tiles(
            seed,
            pick(rng, [(0.86, 0.87, 0.85), (0.55, 0.68, 0.70), (0.7, 0.6, 0.45)]),
            (0.6, 0.6, 0.58),
            6 * scale,
            4,
        )
    return wood(seed, (0.5, 0.36, 0.24), 9 * scale, 5)


def room(rng: Rng, depth: float) -> list[Solid]:
    """A table (top at y = 0) before a wall with a shelf, a picture or a window on it."""
    top = tabletops(rng)
    wall = wallings(rng)
    solids: list[Solid] = [Box(Frame.make(), vec(-14, -0.5, -depth * 0.8), vec(14, 0, 16), top, casts=False)]
    solids.append(Box(Frame.make(0, -9, -depth), vec(-60, 0, -1), vec(60, 40, 0), wall, casts=False))
    sides = [Frame.make(x, -9) for x in (-26, 26)]
    solids += [Box(at, vec(-1, 0, -60), vec(1, 40, 60), wall, casts=False) for at in sides]
    solids.append(Box(Frame.make(0, -9, 40), vec(-60, 0, 0), vec(60, 40, 1), plain((0.6, 0.57, 0.52)), casts=False))
    extra = int(rng.integers(4))
    if extra == 0:
        shelf = Frame.make(float(rng.uniform(-4, 4)), float(rng.uniform(3, 4.5)), -depth)
        solids.append(Box(shelf, vec(-5, -0.25, 0), vec(5, 0, 1.8), wood(2, (0.4, 0.28, 0.18))))
        for k in range(9):
            made = book(rng, rng)[0] if rng.random() < 0.6 else pot(rng)
            solids += [s.moved(Frame.make(-4 + k, 0, 0.9, yaw=1.57).then(shelf)) for s in made]
    elif extra == 1:
        at = Frame.make(float(rng.uniform(-5, 5)), float(rng.uniform(1.5, 3)), -depth)
        bright = Skin(np.full((8, 8, 3), 0.9, np.float32), (1.0, 1.0), glow=2.2)
        solids.append(Box(at, vec(-2.2, 0, 0), vec(2.2, 6, 0.1), bright))
        for x in (-2.2, 0, 2.2):
            solids.append(Box(at, vec(x - 0.15, 0, 0), vec(x + 0.15, 6, 0.3), plain((0.8, 0.79, 0.76))))
        solids.append(Box(at, vec(-2.4, 2.9, 0), vec(2.4, 3.1, 0.25), plain((0.8, 0.79, 0.76))))
    elif extra == 2:
        made, w, h = painting(rng, rng)
        at = Frame.make(float(rng.uniform(-4, 4)), float(rng.uniform(2, 4)), -depth + 0.02)
        solids.append(Box(at, vec(-w * 1.6, 0, 0), vec(w * 1.6, h * 3, 0.15), plain((0.3, 0.22, 0.15))))
        solids.append(
            Box(
                at,
                vec(-w * 1.45, 0.2, 0),
                vec(w * 1.45, h * 3 - 0.2, 0.17),
                plain(hue(rng), grain=0.3),
            )
        )
        del made
    return solids


def garden(rng: Rng) -> list[Solid]:
    """A table out of doors: lawn, hedge and trees, all out of focus; one unit is 10 cm."""
    solids: list[Solid] = [Box(Frame.make(), vec(-9, -0.5, -7), vec(9, 0, 9), tabletops(rng), casts=False)]
    solids.append(ground(grass(int(rng.integers(3))), -8.0, 400))
    for _ in range(9):
        at = Frame.make(float(rng.uniform(-70, 70)), -8, float(rng.uniform(-110, -50)))
        solids += [s.moved(at) for s in tree(rng, float(rng.uniform(30, 60)))[:30]]
    return solids


def pot(rng: Rng) -> list[Solid]:
    return pick(rng, [vase, bottle, mug, tin])(rng, rng)[0]


def clutter(rng: Rng) -> list[Solid]:
    """One thing that may stand beside, behind or before another on a table."""
    kind = int(rng.integers(6))
    if kind == 0:
        return fruit(rng)
    if kind == 1:
        lying = Frame.make(0, 0.2, 0, float(rng.uniform(-0.6, 0.6)), -np.pi / 2)
        return [s.moved(lying) for s in book(rng, rng)[0]]
    if kind == 2:
        return package(rng, rng)[0]
    return pot(rng)
