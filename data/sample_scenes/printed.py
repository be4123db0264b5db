"""Printed things: books and packages, with made-up titles, brands and cover art; one unit is 10 cm.

Called by catalog.py, and by indoors.py for clutter; scene_art also decorates pots.py.
Technique: covers are drawn on a board and laid on boxes.
"""

from __future__ import annotations

import numpy as np

from .geometry import HERE, vec
from .painter import Painter
from .solids import Box, Built
from .textures import Rng, Skin, hue, noise, pick, plain, tint

TITLES = [
    "THE QUIET\nHARBOUR",
    "NORTH\nWIND",
    "A HISTORY\nOF MAPS",
    "GARDENS\nAT NIGHT",
    "SALT &\nIRON",
    "THE LAST\nORCHARD",
    "BIRDS OF\nTHE COAST",
    "TWELVE\nROOMS",
    "PAPER\nBOATS",
]
WRITERS = ["A. MERIDEN", "L. OKONJO", "J. VALTERS", "M. SOLANO", "E. HARGROVE", "T. NIEMI"]
BRANDS = ["ALBA", "Nordlys", "KIRI", "Fiora", "MOKKA", "Zephyr", "ORZO", "Lumen", "TAVOLA", "Pico"]
GOODS = [
    "crisp oats",
    "green tea",
    "dark roast",
    "sea salt",
    "wafers",
    "tomato",
    "muesli",
    "spices",
    "soap",
    "rice",
]


def book(style: Rng, layout: Rng) -> Built:
    w, h, d = (
        float(style.uniform(1.4, 1.7)),
        float(style.uniform(2.1, 2.4)),
        float(layout.uniform(0.22, 0.45)),
    )
    ground, ink = hue(layout, (0.2, 0.85), (0.15, 0.6)), (0.95, 0.92, 0.85)
    if sum(ground) > 1.6:
        ink = (0.12, 0.1, 0.12)
    accent = hue(layout, (0.35, 0.65), (0.5, 0.8))
    cover = Painter(w, h, 130, ground)
    arrangement = int(layout.integers(3))
    title, writer = pick(layout, TITLES), pick(layout, WRITERS)
    if arrangement == 0:
        scene_art(cover, 0.12, 0.12, w - 0.12, h * 0.6, layout)
        cover.text(w / 2, h * 0.77, title, 0.24, ink)
    elif arrangement == 1:
        scene_art(cover, 0, h * 0.35, w, h, layout)
        cover.text(w / 2, h * 0.21, title, 0.22, ink)
    else:
        scene_art(cover, 0, 0, w, h, layout)
        cover.rect(w * 0.12, h * 0.55, w * 0.88, h * 0.88, ground)
        cover.text(w / 2, h * 0.72, title, 0.2, ink)
    cover.rect(0.1, h * 0.945, w - 0.1, h * 0.955, accent)
    cover.text(w / 2, h * (0.06 if arrangement != 1 else 0.05), writer, 0.12, ink)
    spine = Painter(d, h, 130, ground)
    spine.rect(0, h * 0.8, d, h * 0.86, accent)
    spine.rect(0, h * 0.1, d, h * 0.14, accent)
    back = Painter(w, h, 80, ground)
    for k in range(9):
        back.rect(0.2, h * 0.8 - k * 0.11, w - 0.2 - 0.3 * (k % 3 == 2), h * 0.8 - k * 0.11 + 0.04, ink)
    back.rect(w - 0.7, 0.15, w - 0.15, 0.5, (0.95, 0.95, 0.95))
    skins = [
        plain(ground),
        spine.skin(0.04, 1),
        plain(ground),
        plain(ground),
        cover.skin(0.03, 2),
        back.skin(0.03, 3),
    ]
    for s in skins[4:]:
        s.levels[0][..., 3] = 0.05
    leaf = np.broadcast_to(tint(noise(3, 128, 0.6, 30.0), (0.88, 0.84, 0.74), 0.12), (128, 128, 3))
    pages = Skin(np.asarray(leaf), (0.6, 0.6))
    edge = Skin(np.ascontiguousarray(np.swapaxes(leaf, 0, 1)), (0.6, 0.6))
    inner = Box(
        HERE,
        vec(-w / 2 + 0.02, 0.03, -d / 2 + 0.04),
        vec(w / 2 - 0.05, h - 0.03, d / 2 - 0.04),
        [edge, edge, pages, pages, edge, edge],
    )
    thin = 0.04
    front = Box(HERE, vec(-w / 2, 0, d / 2 - thin), vec(w / 2, h, d / 2), skins)
    rear = Box(HERE, vec(-w / 2, 0, -d / 2), vec(w / 2, h, -d / 2 + thin), skins)
    bound = Box(HERE, vec(-w / 2 - 0.01, 0, -d / 2), vec(-w / 2 + thin, h, d / 2), skins)
    return [inner, front, rear, bound], w, h


def package(style: Rng, layout: Rng) -> Built:
    w, h, d = (
        float(layout.uniform(1.2, 1.9)),
        float(layout.uniform(1.5, 2.6)),
        float(layout.uniform(0.5, 1.0)),
    )
    main, band = hue(layout, (0.3, 0.8), (0.35, 0.75)), hue(style, (0.3, 0.6), (0.4, 0.8))
    paper, brand = (0.94, 0.92, 0.86), pick(layout, BRANDS)
    front = Painter(w, h, 120, main)
    scheme = int(layout.integers(3))
    if scheme == 0:
        front.rect(0, h * 0.62, w, h, band)
        front.disc(w / 2, h * 0.36, w * 0.36, paper)
        scene_art(front, w * 0.28, h * 0.24, w * 0.72, h * 0.46, layout)
    elif scheme == 1:
        scene_art(front, 0, 0, w, h * 0.55, layout)
        front.polygon([(0, h * 0.5), (w, h * 0.62), (w, h), (0, h)], band)
    else:
        for k in range(12):
            front.polygon(
                [(w * k / 6 - w, 0), (w * k / 6 - w * 0.92, 0), (w * k / 6, h), (w * k / 6 - w * 0.08, h)],
                band,
            )
        front.rect(w * 0.08, h * 0.55, w * 0.92, h * 0.92, paper)
        scene_art(front, w * 0.2, h * 0.12, w * 0.8, h * 0.45, layout)
    ink = paper if scheme < 2 else (0.14, 0.13, 0.15)
    front.text(w / 2, h * 0.82, brand, 0.38 * w / max(1.4, len(brand) * 0.24), ink)
    front.text(w / 2, h * 0.67, pick(layout, GOODS), 0.15, ink)
    front.text(w * 0.8, h * 0.05, f"{int(layout.integers(1, 10)) * 50} g", 0.12, ink)
    side = Painter(d, h, 100, main)
    side.rect(0, h * 0.62, d, h, band)
    side.rect(d * 0.1, h * 0.1, d * 0.9, h * 0.55, paper)
    for k in range(int(h * 4)):
        side.rect(
            d * 0.16,
            h * 0.13 + k * 0.1,
            d * (0.84 if k % 3 else 0.6),
            h * 0.13 + k * 0.1 + 0.035,
            (0.2, 0.2, 0.2),
        )
    lid = Painter(w, d, 80, band)
    lid.rect(0, d * 0.48, w, d * 0.5, (band[0] * 0.6, band[1] * 0.6, band[2] * 0.6))
    lid.text(w / 2, d * 0.24, brand, 0.2, paper)
    f, s, t = front.skin(0.03, 1), side.skin(0.03, 2), lid.skin(0.04, 3)
    for skin in (f, s, t):
        skin.levels[0][..., 3] = 0.045
    return [Box(HERE, vec(-w / 2, 0, -d / 2), vec(w / 2, h, d / 2), [s, s, t, t, f, f])], w, h


def scene_art(board: Painter, x0: float, y0: float, x1: float, y1: float, rng: Rng) -> None:
    """A small picture of its own: hills, discs, stripes, a plant or a sail."""
    w, h = x1 - x0, y1 - y0
    kind = int(rng.integers(5))
    board.rect(x0, y0, x1, y1, hue(rng, (0.5, 0.85)))
    if kind == 0:
        board.disc(x0 + w * float(rng.uniform(0.25, 0.75)), y0 + h * 0.7, w * 0.13, hue(rng, (0.6, 0.9), (0.6, 0.9)))
        for k in range(4):
            line = [
                (x0 + w * t, y0 + h * (0.55 - 0.13 * k) + h * 0.07 * float(np.sin(t * rng.uniform(4, 9) + k)))
                for t in np.linspace(0, 1, 9)
            ]
            board.polygon([(x0, y0), *line, (x1, y0)], hue(rng, (0.2, 0.5)))
    elif kind == 1:
        for _ in range(int(rng.integers(5, 11))):
            r = w * float(rng.uniform(0.05, 0.2))
            board.disc(
                float(rng.uniform(x0 + r, x1 - r)),
                float(rng.uniform(y0 + r, max(y0 + r, y1 - r))),
                r,
                hue(rng),
            )
    elif kind == 2:
        count = int(rng.integers(4, 9))
        for k in range(count):
            board.rect(
                x0 + w * k / count,
                y0,
                x0 + w * (k + 0.6) / count,
                y0 + h * float(rng.uniform(0.3, 1)),
                hue(rng),
            )
    elif kind == 3:
        green, base = hue(rng, (0.2, 0.4)), x0 + w / 2
        board.line([(base, y0), (base, y0 + h * 0.8)], w * 0.03, green)
        for k in range(int(rng.integers(4, 8))):
            y, s = y0 + h * (0.15 + 0.1 * k), 1 if k % 2 else -1
            leaf = [
                (base, y),
                (base + s * w * 0.17, y + h * 0.16),
                (base + s * w * 0.34, y + h * 0.12),
                (base + s * w * 0.2, y),
            ]
            board.polygon(leaf, green)
        board.disc(base, y0 + h * 0.85, w * 0.12, hue(rng, (0.5, 0.7), (0.6, 0.9)))
    else:
        board.rect(x0, y0, x1, y0 + h * 0.35, hue(rng, (0.25, 0.45)))
        x = x0 + w * float(rng.uniform(0.35, 0.65))
        board.polygon([(x, y0 + h * 0.38), (x, y0 + h * 0.9), (x + w * 0.28, y0 + h * 0.38)], hue(rng, (0.75, 0.95)))
        board.polygon([(x - 0.03, y0 + h * 0.38), (x - 0.03, y0 + h * 0.75), (x - w * 0.2, y0 + h * 0.38)], hue(rng))
        board.polygon(
            [
                (x - w * 0.25, y0 + h * 0.34),
                (x + w * 0.3, y0 + h * 0.34),
                (x + w * 0.2, y0 + h * 0.24),
                (x - w * 0.15, y0 + h * 0.24),
            ],
            hue(rng, (0.2, 0.4)),
        )
