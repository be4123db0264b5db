"""Round things: vases, bottles, tins, mugs and fruit; one unit is 10 cm.

Called by catalog.py, and by indoors.py for clutter.
Technique: turned profiles with ornament or a label drawn round them; handles are distance fields.
"""

from __future__ import annotations

import numpy as np

from .geometry import HERE, Array, Frame, vec
from .painter import Painter
from .printed import BRANDS, scene_art
from .solids import Built, Lathe, Sculpt, Solid
from .textures import Rgb, Rng, Skin, hue, pick, plain, wood


def vase(style: Rng, layout: Rng) -> Built:
    h, belly = float(layout.uniform(2.0, 2.8)), float(layout.uniform(0.6, 0.95))
    ground, ink = hue(style, (0.3, 0.85), (0.15, 0.5)), hue(style, (0.15, 0.4), (0.3, 0.7))
    third = hue(style, (0.4, 0.7), (0.4, 0.8))
    at = float(layout.uniform(0.35, 0.68))
    neck, lip = float(layout.uniform(0.2, 0.4)), float(layout.uniform(0.3, 0.55))
    body = spline([(0.42, 0), (belly * 0.85, h * at * 0.55), (belly, h * at), (neck * 1.1, h * 0.85), (lip, h)])
    girth = 2 * np.pi * belly
    board = Painter(girth, h, 70, ground)
    for k in range(int(layout.integers(3, 6))):
        y = h * float(layout.uniform(0.06, 0.9))
        _ornament(
            board,
            y,
            float(layout.uniform(0.12, 0.4)),
            int(layout.integers(6)),
            ink if k % 2 else third,
            layout,
        )
    skin = board.skin(0.08, int(layout.integers(99)), gloss=90)
    skin.levels[0][..., 3] = float(style.uniform(0.02, 0.07))
    solids: list[Solid] = [Lathe(HERE, [(0, 0), *body], skin)]
    dark = plain((0.1, 0.08, 0.07))
    solids.append(Lathe(HERE, [(0.0, h * 0.93), (lip * 0.86, h * 0.985), (lip * 0.87, h * 0.99)], dark))
    if style.random() < 0.5:
        solids += _handles(body, h, layout, skin)
    return solids, 2 * belly, h


def bottle(style: Rng, layout: Rng) -> Built:
    h, r = float(layout.uniform(2.5, 3.1)), float(layout.uniform(0.36, 0.46))
    glass = pick(style, [(0.07, 0.13, 0.07), (0.20, 0.09, 0.04), (0.08, 0.10, 0.16), (0.25, 0.28, 0.22)])
    shoulder, neck = h * float(layout.uniform(0.55, 0.68)), float(layout.uniform(0.13, 0.17))
    slope = float(layout.uniform(0.2, 0.5))
    profile = [(0.0, 0.0), (r * 0.94, 0.0), (r, 0.06), (r, shoulder)]
    profile += [
        (neck + (r - neck) * float(np.cos(t * np.pi / 2)) ** 0.8, shoulder + slope * t)
        for t in np.linspace(0.15, 0.98, 8)
    ]
    profile += [(neck, h * 0.93), (neck * 1.25, h * 0.94), (neck * 1.25, h * 0.97), (neck, h * 0.975)]
    shine = plain(glass, 0.09, 180.0, grain=0.03)
    low, tall = 0.35, min(float(layout.uniform(0.8, 1.15)), shoulder - 0.5)
    paper, ink = (
        pick(style, [(0.92, 0.89, 0.8), (0.12, 0.12, 0.13), (0.85, 0.8, 0.66)]),
        hue(layout, (0.2, 0.5), (0.4, 0.8)),
    )
    girth = 2 * np.pi * (r + 0.006)
    label = Painter(girth, tall, 110, paper)
    mid, text = girth / 2, (0.15, 0.12, 0.1) if sum(paper) > 1.5 else (0.9, 0.8, 0.5)
    scene_art(label, mid - r * 0.75, tall * 0.08, mid + r * 0.75, tall * 0.55, layout)
    label.text(mid, tall * 0.78, pick(layout, BRANDS), 0.24, text)
    label.text(mid, tall * 0.62, pick(layout, ["1998", "reserva", "cuvee", "No. 7", "extra", "2011"]), 0.1, text)
    for k in (0.5, 1.5, -0.5):
        label.rect(mid + girth * (k - 0.5) * 0.5 - 0.02, 0, mid + girth * (k - 0.5) * 0.5 + 0.02, tall, ink)
    label.rect(0, 0, girth, tall * 0.045, ink)
    label.rect(0, tall * 0.955, girth, tall, ink)
    cap = plain(ink, 0.1, 60)
    solids: list[Solid] = [Lathe(HERE, profile, shine)]
    solids.append(Lathe(Frame.make(0, low), [(r + 0.006, 0), (r + 0.006, tall)], label.skin(0.03, 1)))
    solids.append(Lathe(HERE, [(neck * 1.1, h * 0.84), (neck * 1.12, h), (0.0, h + 0.001)], cap))
    return solids, 2 * r, h


def tin(style: Rng, layout: Rng) -> Built:
    h, r = float(layout.uniform(1.0, 1.5)), float(layout.uniform(0.4, 0.6))
    girth = 2 * np.pi * r
    label = Painter(girth, h, 110, hue(layout, (0.3, 0.7), (0.4, 0.8)))
    band = hue(style, (0.3, 0.8))
    label.rect(0, h * 0.55, girth, h * 0.9, band)
    for k in (0.25, 0.75):
        scene_art(label, girth * k - r * 0.5, h * 0.1, girth * k + r * 0.5, h * 0.5, layout)
    for k in (0.25, 0.5, 0.75):
        label.text(girth * k, h * 0.72, pick(style, BRANDS), 0.28, (0.95, 0.93, 0.88))
    metal = plain((0.7, 0.7, 0.7), 0.35, 60)
    rim = [
        (0.0, h - 0.05),
        (r * 0.93, h - 0.05),
        (r * 0.95, h + 0.03),
        (r * 1.03, h + 0.03),
        (r * 1.03, h - 0.02),
    ]
    return (
        [
            Lathe(HERE, [(0, 0), (r, 0), (r, h)], label.skin(0.03, 1)),
            Lathe(HERE, sorted(rim, key=lambda p: p[1]), metal),
        ],
        2 * r,
        h,
    )


def mug(style: Rng, layout: Rng) -> Built:
    h, r = float(layout.uniform(0.9, 1.15)), float(layout.uniform(0.4, 0.5))
    main, inside = hue(style, (0.3, 0.9), (0.1, 0.6)), (0.9, 0.88, 0.84)
    girth = 2 * np.pi * r
    board = Painter(girth, h, 110, main)
    scene_art(board, girth / 2 - r * 0.8, h * 0.2, girth / 2 + r * 0.8, h * 0.8, layout)
    for y in (0.06, 0.9):
        board.rect(0, h * y, girth, h * (y + 0.04), hue(layout))
    skin, lining = board.skin(0.03, 1, gloss=120), plain(inside, 0.05, 90)
    skin.levels[0][..., 3] = 0.05
    turn = float(layout.choice([-1, 1]))

    def field(p: Array) -> Array:
        flat = np.hypot(p[:, 0], p[:, 2])
        wall = (
            np.hypot(
                np.maximum(np.abs(flat - r + 0.05) - 0.01, 0),
                np.maximum(np.abs(p[:, 1] - h / 2) - h / 2 + 0.04, 0),
            )
            - 0.03
        )
        base = np.maximum(flat - r + 0.03, np.abs(p[:, 1] - 0.05) - 0.04)
        ear = np.hypot(np.hypot((p[:, 0] * turn - r), (p[:, 1] - h * 0.52) * 0.9) - h * 0.27, p[:, 2]) - 0.06
        ear = np.maximum(ear, r - 0.06 - flat)
        return np.asarray(np.minimum(np.minimum(wall, base), ear), np.float32)

    def paint(p: Array, n: Array, foot: Array) -> Array:
        angle = np.arctan2(p[:, 0], p[:, 2])
        flat = np.hypot(p[:, 0], p[:, 2])
        outer = skin.look(((angle / (2 * np.pi) + 0.5) * girth).astype(np.float32), p[:, 1], foot)
        inner = lining.look(p[:, 0], p[:, 1], foot)
        return np.where(((flat < r - 0.04) | (p[:, 1] > h - 0.03))[:, None], inner, outer)

    reach = r + h * 0.35
    return [Sculpt(HERE, vec(-reach, 0, -r), vec(reach, h, r), field, skin, paint)], 2 * r, h


def fruit(rng: Rng) -> list[Solid]:
    r = float(rng.uniform(0.3, 0.45))
    colour = pick(rng, [(0.72, 0.16, 0.12), (0.85, 0.5, 0.12), (0.6, 0.65, 0.2), (0.82, 0.72, 0.25)])
    body = [(r * float(np.sin(t)) + 1e-3, r - r * float(np.cos(t))) for t in np.linspace(0, np.pi, 16)]
    return [
        Lathe(HERE, body, plain(colour, 0.04, 50, 4, 0.12)),
        Lathe(HERE, [(0.02, 2 * r - 0.03), (0.02, 2 * r + 0.1)], wood(1, (0.3, 0.2, 0.1))),
    ]


def spline(points: list[tuple[float, float]], count: int = 26) -> list[tuple[float, float]]:
    """A smooth profile through (radius, height) points (Catmull-Rom in height)."""
    r, y = np.array(points).T
    slope = np.gradient(r, y)
    at = np.linspace(y[0], y[-1], count)
    i = np.clip(np.searchsorted(y, at) - 1, 0, len(y) - 2)
    span = y[i + 1] - y[i]
    t = (at - y[i]) / span
    a, b = 2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t
    value = a * r[i] + b * span * slope[i] + (1 - a) * r[i + 1] + (t**3 - t**2) * span * slope[i + 1]
    return [(float(max(v, 0.02)), float(h)) for v, h in zip(value, at, strict=True)]


def _handles(body: list[tuple[float, float]], h: float, rng: Rng, skin: Skin) -> list[Solid]:
    low, high = float(rng.uniform(0.5, 0.62)) * h, float(rng.uniform(0.82, 0.95)) * h
    mid, r = (low + high) / 2, (high - low) / 2
    x = float(np.interp(mid, [p[1] for p in body], [p[0] for p in body])) + 0.12
    flat = plain(tuple(float(c) ** (1 / 2.2) for c in skin.levels[-1][0, 0, :3]), 0.05, 80)

    def ring(p: Array) -> Array:
        return np.asarray(np.hypot(np.hypot(np.abs(p[:, 0]) - x, p[:, 1] - mid) - r, p[:, 2]) - 0.075, np.float32)

    reach = x + r + 0.1
    return [Sculpt(HERE, vec(-reach, low - 0.1, -0.1), vec(reach, high + 0.1, 0.1), ring, flat)]


def _ornament(board: Painter, y: float, tall: float, kind: int, ink: Rgb, rng: Rng) -> None:
    w, count = board.width, int(rng.integers(8, 18))
    if kind == 0:
        board.rect(0, y, w, y + tall * 0.4, ink)
        board.rect(0, y + tall * 0.6, w, y + tall * 0.7, ink)
    elif kind == 1:
        points = [(w * k / (2 * count), y + tall * (k % 2)) for k in range(2 * count + 1)]
        board.line(points, tall * 0.18, ink)
    elif kind == 2:
        for k in range(count):
            board.disc(w * (k + 0.5) / count, y + tall / 2, tall * 0.4, ink)
    elif kind == 3:
        cell = w / count
        for k in range(count):
            x = k * cell
            key = [
                (x, y),
                (x, y + tall),
                (x + cell * 0.8, y + tall),
                (x + cell * 0.8, y + tall * 0.3),
                (x + cell * 0.4, y + tall * 0.3),
                (x + cell * 0.4, y + tall * 0.6),
            ]
            board.line([*key], tall * 0.12, ink)
            board.line([(x, y), (x + cell, y)], tall * 0.12, ink)
    elif kind == 4:
        for k in range(count):
            x = w * (k + 0.5) / count
            for a in np.linspace(0, 2 * np.pi, 6)[:-1]:
                board.disc(
                    x + tall * 0.25 * float(np.cos(a)),
                    y + tall / 2 + tall * 0.25 * float(np.sin(a)),
                    tall * 0.16,
                    ink,
                )
            board.disc(x, y + tall / 2, tall * 0.12, (0.9, 0.75, 0.3))
    else:
        for k in range(count):
            x = w * k / count
            board.polygon([(x, y), (x + w / count, y), (x + w / count / 2, y + tall)], ink)
