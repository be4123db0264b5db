"""Statues: a standing figure on a plinth with a name on it; metres.

Called by catalog.py.
Technique: a smooth union of tapered capsules, posed by a generator.
"""

from __future__ import annotations

import numpy as np

from .geometry import HERE, Array, Frame, vec
from .painter import Painter
from .solids import Box, Built, Relief, Sculpt, Solid
from .textures import Rgb, Rng, marble, pick


def statue(style: Rng, layout: Rng) -> Built:
    """A standing figure on a plinth with a name on it; height in metres."""
    stuff = int(style.integers(3))
    if stuff == 0:
        skin = marble(int(style.integers(9)), (0.85, 0.83, 0.79), (0.6, 0.58, 0.56), 1.6)
    elif stuff == 1:
        skin = marble(int(style.integers(9)), (0.24, 0.30, 0.25), (0.38, 0.52, 0.45), 1.2, 0.12, 40)
    else:
        skin = marble(int(style.integers(9)), (0.30, 0.22, 0.15), (0.20, 0.15, 0.1), 1.0, 0.15, 40)
    lean = float(layout.uniform(-0.08, 0.08))
    head = vec(lean * 1.5, 1.92, 0.03)
    chest, hips = vec(lean, 1.48, 0), vec(0, 1.0, 0)
    parts: list[tuple[Array, Array, float, float]] = [(hips, chest, 0.19, 0.22), (chest, head, 0.09, 0.08)]
    parts += [
        (head, head + vec(0, 0.05, 0.03), 0.125, 0.12),
        (head + vec(0, -0.06, 0.1), head + vec(0, -0.01, 0.13), 0.03, 0.03),
    ]
    for s in (-1, 1):
        shoulder = chest + vec(s * 0.25, 0.1, 0)
        swing, out = float(layout.uniform(-0.6, 2.6)), float(layout.uniform(0.05, 0.7))
        elbow = shoulder + vec(s * 0.3 * np.sin(out), -0.3 * np.cos(swing), 0.3 * np.sin(swing) * np.cos(out))
        bend = swing + float(layout.uniform(0.2, 1.6))
        hand = elbow + vec(s * 0.05, -0.28 * np.cos(bend), 0.28 * np.sin(bend))
        parts += [
            (chest, shoulder, 0.15, 0.1),
            (shoulder, elbow, 0.085, 0.07),
            (elbow, hand, 0.065, 0.045),
            (hand, hand, 0.06, 0.06),
        ]
    robe = layout.random() < 0.55
    step = float(layout.uniform(-0.2, 0.2))
    if robe:
        parts.append((vec(0, 0.12, 0), hips, 0.36, 0.22))
        parts.append((chest + vec(-0.1, 0, -0.12), vec(0.05, 0.3, -0.2), 0.16, 0.22))
    for s in (-1, 1):
        knee = vec(s * 0.13, 0.55, 0.06 + s * step)
        parts += [
            (hips + vec(s * 0.09, 0, 0), knee, 0.125, 0.09),
            (knee, vec(s * 0.14, 0.1, s * step - 0.02), 0.085, 0.06),
        ]
        parts.append((vec(s * 0.14, 0.05, s * step), vec(s * 0.15, 0.04, s * step + 0.14), 0.06, 0.05))
    prop = int(layout.integers(4))
    if prop == 0:
        parts.append((vec(0.42, 0.0, 0.25), vec(0.42, 2.2, 0.22), 0.025, 0.02))
    elif prop == 1:
        parts.append((vec(-0.35, 0.7, 0.12), vec(-0.37, 1.2, 0.2), 0.16, 0.2))
    elif prop == 2:
        parts += [
            (head + vec(0, 0.1, 0), head + vec(0, 0.16, 0), 0.15, 0.12),
            (head + vec(-0.2, 0.08, 0), head + vec(0.2, 0.08, 0), 0.05, 0.05),
        ]
    fold = float(layout.uniform(7, 12))

    def field(p: Array) -> Array:
        best = np.full(len(p), 9, np.float32)
        for a, b, ra, rb in parts:
            way = b - a
            t = np.clip((p - a) @ way / max(float(way @ way), 1e-6), 0, 1)
            gap = p - a - t[:, None] * way
            far = np.sqrt(np.einsum("ij,ij->i", gap, gap)) - (ra + (rb - ra) * t)
            mixed = np.clip(0.5 + 0.5 * (best - far) / 0.06, 0, 1)
            best = best + (far - best) * mixed - 0.06 * mixed * (1 - mixed)
        if robe:
            crease = np.sin(np.arctan2(p[:, 0], p[:, 2]) * fold + 2 * p[:, 1])
            best = best + 0.018 * crease * np.clip((1.3 - p[:, 1]) * 2, 0, 1)
        return np.asarray(best * 0.85, np.float32)

    w, tall = float(layout.uniform(1.0, 1.4)), float(layout.uniform(1.1, 1.9))
    stone: Rgb = pick(style, [(0.66, 0.63, 0.58), (0.52, 0.45, 0.42), (0.74, 0.70, 0.62)])
    rock = marble(8, stone, (stone[0] * 0.7, stone[1] * 0.7, stone[2] * 0.7), 1.5, 0.03)
    front = Painter(w, tall, 90, rock, 0.05)
    front.rect(0.12, 0.25, w - 0.12, tall - 0.15, level=0.03)
    name = pick(
        layout,
        ["AMALIA\nVERNE", "J. HOLM\n1804-1871", "LIBERTAS", "DR. RAVEL", "O. KASTEN\nPOETA", "MINERVA"],
    )
    front.text(w / 2, tall * 0.55, name, 0.17, (0.2, 0.16, 0.1), 0.0)
    lift = Frame.make(0, 0.35)
    solids: list[Solid] = [Box(HERE, vec(-w * 0.8, 0, -w * 0.8), vec(w * 0.8, 0.18, w * 0.8), rock)]
    solids.append(Box(HERE, vec(-w * 0.66, 0.18, -w * 0.66), vec(w * 0.66, 0.36, w * 0.66), rock))
    solids.append(Box(lift, vec(-w / 2, 0, -w / 2), vec(w / 2, tall, w / 2 - 0.04), rock))
    solids.append(Relief(lift.then(Frame.make(0, 0, w / 2 - 0.05)), front.heights(), front.skin()))
    solids.append(Box(Frame.make(0, tall + 0.35), vec(-w * 0.58, 0, -w * 0.58), vec(w * 0.58, 0.14, w * 0.58), rock))
    at = Frame.make(0, tall + 0.47, yaw=float(layout.uniform(-0.3, 0.3)))
    solids.append(Sculpt(at, vec(-0.95, 0, -0.8), vec(0.95, 2.35, 0.95), field, skin))
    return solids, 1.8, tall + 2.6
