"""Framed paintings: landscapes, abstracts, still lifes and portraits; metres.

Called by catalog.py, and by views.py and indoors.py for what else hangs on a wall.
Technique: flat shapes dragged along a noise field, as a brush would, under a relief of strokes.
"""

from __future__ import annotations

import numpy as np

from .geometry import HERE, vec
from .painter import Painter
from .solids import Box, Built, Relief, Solid
from .textures import Rgb, Rng, Skin, hue, noise, pick, plain


def painting(style: Rng, layout: Rng) -> Built:
    """A framed canvas whose back is at z = 0; metres."""
    w, h = float(layout.uniform(0.8, 1.4)), float(layout.uniform(0.7, 1.1))
    rows = 256
    cols = int(rows * w / h)
    genre = int(layout.integers(4))
    canvas = Painter(w, h, rows / h, hue(layout, (0.5, 0.85), (0.2, 0.6)))
    seed = int(layout.integers(1 << 20))
    (_landscape, _abstract, _still_life, _portrait)[genre](canvas, layout)
    size = canvas.rgb.size
    art = np.asarray(canvas.rgb, np.float32) / 255
    # Brush work: colours dragged along a noise field, then a relief of strokes.
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    field = (
        noise(seed, 512, 1.7)[: size[1], : size[0]] if size[0] <= 512 else noise(seed, 1024, 1.7)[: size[1], : size[0]]
    )
    strokes = noise(seed + 1, 1024, 1.1, 2.5)[: size[1], : size[0]]
    dx, dy = (3 * field + 3 * strokes).astype(int), (2 * np.roll(field, 60, 0) + 1.5 * strokes).astype(int)
    art = art[np.clip(y + dy, 0, size[1] - 1), np.clip(x + dx, 0, size[0] - 1)]
    art = np.clip(art * (1 + 0.09 * strokes + 0.08 * field)[..., None], 0, 1).astype(np.float32)
    skin = Skin(art, (w, h), 0.0004 * strokes, spec=0.03, gloss=40, fit=True)
    gilt: Rgb = pick(style, [(0.66, 0.50, 0.24), (0.20, 0.15, 0.12), (0.50, 0.32, 0.18), (0.85, 0.83, 0.78)])
    b = float(layout.uniform(0.07, 0.16))
    frame = Painter(w + 2 * b, h + 2 * b, 110, gilt)
    ridge = [(0.0, 0.05), (0.2, 0.075), (0.45, 0.06), (0.75, 0.085), (0.88, 0.05), (0.97, 0.03)]
    for k, (inset, level) in enumerate(ridge):
        tone = 1 - 0.16 * (k % 2)
        frame.rect(
            b * inset,
            b * inset,
            w + 2 * b - b * inset,
            h + 2 * b - b * inset,
            (gilt[0] * tone, gilt[1] * tone, gilt[2] * tone),
            level,
            0.2,
        )
    if layout.random() < 0.6:
        for k in range(int((w + 2 * b) / 0.06)):
            for y0 in (b * 0.6, h + b * 1.4):
                frame.disc(0.03 + k * 0.06, y0, 0.02, gilt, 0.095, 0.2)
    heights = frame.heights()
    solids: list[Solid] = [Relief(HERE, heights, frame.skin(0.05, 1, gloss=50))]
    solids.append(
        Box(
            HERE,
            vec(-w / 2, b, 0.0),
            vec(w / 2, b + h, 0.034),
            [plain(gilt), plain(gilt), plain(gilt), plain(gilt), skin, skin],
        )
    )
    assert cols > 0
    return solids, w + 2 * b, h + 2 * b


def _gradient(board: Painter, y0: float, y1: float, low: Rgb, high: Rgb) -> None:
    for k in range(24):
        t = k / 23
        colour = (
            low[0] + (high[0] - low[0]) * t,
            low[1] + (high[1] - low[1]) * t,
            low[2] + (high[2] - low[2]) * t,
        )
        board.rect(0, y0 + (y1 - y0) * k / 24, board.width, y0 + (y1 - y0) * (k + 1) / 24 + 0.01, colour)


def _landscape(board: Painter, rng: Rng) -> None:
    w, h = board.width, board.height
    _gradient(board, h * 0.3, h, hue(rng, (0.7, 0.85)), hue(rng, (0.4, 0.65)))
    board.disc(w * float(rng.uniform(0.15, 0.85)), h * float(rng.uniform(0.6, 0.85)), h * 0.06, (0.97, 0.9, 0.7))
    for k in range(4):
        xs, high = np.linspace(0, w, 24), h * (0.62 - 0.13 * k)
        wave = np.cumsum(rng.normal(0, 0.02 * h * (1 - 0.2 * k), 24))
        board.polygon(
            [(0, 0), *[(float(x), high + float(v)) for x, v in zip(xs, wave, strict=True)], (w, 0)],
            hue(rng, (0.15 + 0.04 * k, 0.5), (0.2, 0.5)),
        )
    for _ in range(int(rng.integers(2, 9))):
        x, y, r = (
            float(rng.uniform(0, w)),
            h * float(rng.uniform(0.1, 0.3)),
            h * float(rng.uniform(0.04, 0.1)),
        )
        board.rect(x - 0.008, y - r, x + 0.008, y, (0.2, 0.14, 0.1))
        for _ in range(6):
            board.disc(
                x + float(rng.normal(0, r * 0.4)),
                y + r * 0.5 + float(rng.normal(0, r * 0.4)),
                r * 0.5,
                hue(rng, (0.15, 0.35), (0.2, 0.5)),
            )
    if rng.random() < 0.6:
        x = w * float(rng.uniform(0.2, 0.7))
        board.rect(x, h * 0.2, x + w * 0.14, h * 0.32, (0.85, 0.8, 0.7))
        board.polygon(
            [(x - 0.02, h * 0.32), (x + w * 0.14 + 0.02, h * 0.32), (x + w * 0.07, h * 0.42)],
            (0.55, 0.25, 0.18),
        )


def _abstract(board: Painter, rng: Rng) -> None:
    w, h = board.width, board.height
    for _ in range(int(rng.integers(8, 16))):
        kind, x, y, r = (
            int(rng.integers(4)),
            float(rng.uniform(0, w)),
            float(rng.uniform(0, h)),
            float(rng.uniform(0.05, 0.3)),
        )
        if kind == 0:
            board.disc(x, y, r, hue(rng))
            board.disc(x, y, r * 0.6, hue(rng))
        elif kind == 1:
            board.rect(x, y, x + 2 * r, y + r, hue(rng))
        elif kind == 2:
            board.polygon([(x + r * float(rng.normal()), y + r * float(rng.normal())) for _ in range(3)], hue(rng))
        else:
            board.line([(x, y), (float(rng.uniform(0, w)), float(rng.uniform(0, h)))], 0.02, (0.08, 0.08, 0.1))


def _still_life(board: Painter, rng: Rng) -> None:
    w, h = board.width, board.height
    _gradient(board, h * 0.3, h, hue(rng, (0.15, 0.3), (0.1, 0.4)), hue(rng, (0.25, 0.5), (0.1, 0.4)))
    board.rect(0, 0, w, h * 0.32, hue(rng, (0.3, 0.7), (0.15, 0.4)))
    x, tall = w * float(rng.uniform(0.3, 0.7)), h * float(rng.uniform(0.3, 0.45))
    pot = hue(rng, (0.3, 0.7))
    board.disc(x, h * 0.2 + tall * 0.45, tall * 0.36, pot, squash=1.2)
    board.rect(x - tall * 0.16, h * 0.2 + tall * 0.7, x + tall * 0.16, h * 0.2 + tall, pot)
    for _ in range(int(rng.integers(6, 14))):
        fx, fy, r = (
            x + float(rng.normal(0, 0.13)),
            h * 0.2 + tall + abs(float(rng.normal(0.1, 0.08))),
            float(rng.uniform(0.03, 0.07)),
        )
        board.line([(x, h * 0.2 + tall), (fx, fy)], 0.008, (0.2, 0.35, 0.15))
        board.disc(fx, fy, r, hue(rng, (0.5, 0.8), (0.5, 0.9)))
        board.disc(fx, fy, r * 0.4, hue(rng, (0.3, 0.6)))
    for _ in range(int(rng.integers(2, 7))):
        fx, r, fruit = (
            float(rng.uniform(0.1, w - 0.1)),
            float(rng.uniform(0.04, 0.08)),
            hue(rng, (0.4, 0.6), (0.5, 0.9)),
        )
        board.disc(fx + 0.02, h * 0.17, r * 1.1, (0.12, 0.1, 0.1), squash=0.4)
        board.disc(fx, h * 0.2, r, (fruit[0] * 0.75, fruit[1] * 0.75, fruit[2] * 0.75))
        board.disc(fx - r * 0.2, h * 0.2 + r * 0.2, r * 0.7, fruit)


def _portrait(board: Painter, rng: Rng) -> None:
    w, h = board.width, board.height
    _gradient(board, 0, h, hue(rng, (0.12, 0.3), (0.1, 0.4)), hue(rng, (0.2, 0.45), (0.1, 0.4)))
    x, y = w * float(rng.uniform(0.42, 0.58)), h * 0.62
    flesh: Rgb = pick(rng, [(0.85, 0.66, 0.54), (0.55, 0.38, 0.28), (0.74, 0.55, 0.42)])
    hair, coat = hue(rng, (0.1, 0.4), (0.1, 0.4)), hue(rng, (0.15, 0.5))
    board.disc(x, y + 0.02, h * 0.2, hair, squash=1.25)
    board.polygon(
        [(x - h * 0.4, 0), (x - h * 0.3, h * 0.3), (x, h * 0.44), (x + h * 0.3, h * 0.3), (x + h * 0.4, 0)],
        coat,
    )
    board.polygon([(x - h * 0.08, h * 0.42), (x, h * 0.25), (x + h * 0.08, h * 0.42)], hue(rng, (0.7, 0.95)))
    board.rect(x - h * 0.06, h * 0.36, x + h * 0.06, h * 0.52, (flesh[0] * 0.8, flesh[1] * 0.8, flesh[2] * 0.8))
    board.disc(x, y, h * 0.15, flesh, squash=1.3)
    board.disc(x + h * 0.06, y, h * 0.08, (flesh[0] * 0.9, flesh[1] * 0.88, flesh[2] * 0.86), squash=1.6)
    for s in (-1, 1):
        board.disc(x + s * h * 0.055, y + h * 0.03, h * 0.018, (0.12, 0.1, 0.1), squash=0.6)
    board.line(
        [(x, y + h * 0.02), (x + h * 0.015, y - h * 0.05)],
        0.008,
        (flesh[0] * 0.7, flesh[1] * 0.65, flesh[2] * 0.6),
    )
    board.disc(x, y - h * 0.1, h * 0.035, (0.6, 0.25, 0.22), squash=0.35)
    if rng.random() < 0.5:
        board.rect(x - h * 0.26, y + h * 0.13, x + h * 0.26, y + h * 0.17, hair)
        board.rect(x - h * 0.15, y + h * 0.15, x + h * 0.15, y + h * 0.3, hair)
