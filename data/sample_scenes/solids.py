"""Solids: where a ray meets a box, convex body, turned body, relief, card or distance field.

Built by the subjects and surroundings, met by the rays of render.py, for the picture and its shadow maps.
Technique: every solid answers in its own frame, inside its bounding box, for many rays at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .geometry import NEAR, Array, Frame, dot, unit, vec
from .textures import BUMP_U, BUMP_V, Skin

MISS = np.float32(np.inf)


class Surface(NamedTuple):
    normal: Array  # (n, 3) in the solid's frame
    look: Array  # (n, CHANNELS) as a Skin gives it
    gloss: float


class Solid(ABC):
    """A body inside a local bounding box; subclasses say where a ray that enters the box meets it."""

    def __init__(self, frame: Frame, low: Array, high: Array, casts: bool = True) -> None:
        self.frame, self.low, self.high, self.casts = frame, low, high, casts

    @abstractmethod
    def trace(self, o: Array, d: Array, t0: Array, t1: Array) -> Array:
        """Distance to the surface for rays that cross the bounding box between t0 and t1."""

    @abstractmethod
    def surface(self, p: Array, foot: Array) -> Surface:
        """Normal and look at local points; `foot` is the width of a pixel there."""

    def moved(self, outer: Frame) -> Solid:
        clone = object.__new__(type(self))
        clone.__dict__.update(self.__dict__)
        clone.frame = self.frame.then(outer)
        return clone

    def corners(self) -> Array:
        pick = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], bool)
        return np.where(pick, self.high, self.low).astype(np.float32) @ self.frame.turn.T + self.frame.at

    def hit(self, origin: Array, direction: Array) -> Array:
        o = (origin - self.frame.at) @ self.frame.turn
        d = direction @ self.frame.turn
        inverse = 1 / np.where(np.abs(d) < 1e-9, np.float32(1e-9), d)
        a, b = (self.low - o) * inverse, (self.high - o) * inverse
        t0 = np.minimum(a, b).max(axis=1)
        t1 = np.maximum(a, b).min(axis=1)
        found = np.full(len(o), MISS, np.float32)
        index = np.flatnonzero((t1 >= t0) & (t1 > NEAR))
        if len(index):
            entry = np.maximum(t0[index], NEAR)
            found[index] = self.trace(o[index], d[index], entry, t1[index])
        return found


Built = tuple[list[Solid], float, float]  # with their width and height


class Box(Solid):
    """A cuboid with one skin, or one per face in the order +x -x +y -y +z -z."""

    def __init__(self, frame: Frame, low: Array, high: Array, skins: Skin | Sequence[Skin], casts: bool = True) -> None:
        super().__init__(frame, low, high, casts)
        self.skins = [skins] * 6 if isinstance(skins, Skin) else list(skins)

    def trace(self, o: Array, d: Array, t0: Array, t1: Array) -> Array:
        return t0

    def surface(self, p: Array, foot: Array) -> Surface:
        q = (p - (self.low + self.high) / 2) / ((self.high - self.low) / 2)
        axis = np.argmax(np.abs(q), axis=1)
        face = axis * 2 + (q[np.arange(len(p)), axis] < 0)
        normal = np.zeros_like(p)
        skins_look = np.zeros((len(p), Skin.CHANNELS), np.float32)
        a, b = p - self.low, self.high - p
        across = [(b[:, 2], a[:, 1]), (a[:, 2], a[:, 1]), (a[:, 0], b[:, 2])]
        across += [(a[:, 0], a[:, 2]), (a[:, 0], a[:, 1]), (b[:, 0], a[:, 1])]
        tangents = [((0, 0, -1), (0, 1, 0)), ((0, 0, 1), (0, 1, 0)), ((1, 0, 0), (0, 0, -1))]
        tangents += [((1, 0, 0), (0, 0, 1)), ((1, 0, 0), (0, 1, 0)), ((-1, 0, 0), (0, 1, 0))]
        for side in np.unique(face):
            here = np.flatnonzero(face == side)
            u, v = across[side]
            look = self.skins[side].look(u[here], v[here], foot[here])
            base = np.zeros(3, np.float32)
            base[side // 2] = 1 if side % 2 == 0 else -1
            t_u, t_v = (vec(*t) for t in tangents[side])
            normal[here] = base - look[:, BUMP_U, None] * t_u - look[:, BUMP_V, None] * t_v
            skins_look[here] = look
        return Surface(unit(normal), skins_look, self.skins[0].gloss)


class Convex(Solid):
    """An intersection of half spaces n.p <= k, such as a roof."""

    def __init__(self, frame: Frame, low: Array, high: Array, planes: Sequence[tuple[Array, float]], skin: Skin):
        super().__init__(frame, low, high)
        self.normals = np.stack([unit(n) for n, _ in planes])
        self.offsets = np.array([k / np.linalg.norm(n) for n, k in planes], np.float32)
        self.skin = skin

    def trace(self, o: Array, d: Array, t0: Array, t1: Array) -> Array:
        enter, leave = t0.copy(), t1.copy()
        for n, k in zip(self.normals, self.offsets, strict=True):
            slope, gap = d @ n, k - o @ n
            t = gap / np.where(np.abs(slope) < 1e-9, np.float32(1e-9), slope)
            enter = np.where(slope < 0, np.maximum(enter, t), enter)
            leave = np.where(slope >= 0, np.minimum(leave, t), leave)
        return np.where(enter <= leave, enter, MISS)

    def surface(self, p: Array, foot: Array) -> Surface:
        box = np.eye(3, dtype=np.float32)
        normals = np.concatenate([self.normals, box, -box])
        offsets = np.concatenate([self.offsets, self.high, -self.low])
        normal = normals[np.argmin(np.abs(offsets - p @ normals.T), axis=1)]
        # The skin is laid along the slope of the face, as tiles lie on a roof.
        flat = unit(np.stack([normal[:, 2], 0 * normal[:, 0], -normal[:, 0]], 1) + vec(1e-6, 0, 0))
        slope = np.cross(normal, flat).astype(np.float32)
        look = self.skin.look(dot(p, flat), dot(p, slope), foot)
        normal = normal - look[:, BUMP_U, None] * flat - look[:, BUMP_V, None] * slope
        return Surface(unit(normal), look, self.skin.gloss)


class Lathe(Solid):
    """A surface of revolution about y: cone frustums through (radius, height) points of rising height."""

    def __init__(self, frame: Frame, profile: Sequence[tuple[float, float]], skin: Skin, casts: bool = True):
        points = np.array(profile, np.float32)
        self.points, self.skin = points, skin
        r = float(points[:, 0].max())
        super().__init__(frame, vec(-r, points[0, 1], -r), vec(r, points[-1, 1], r), casts)
        rise = np.diff(points, axis=0)
        self.facets = unit(np.stack([rise[:, 1], -rise[:, 0]], 1))
        self.flat = np.abs(rise[:, 1]) < 1e-4 * np.maximum(np.abs(rise[:, 0]), 1e-6)
        self.flat |= rise[:, 1] == 0

    def trace(self, o: Array, d: Array, t0: Array, t1: Array) -> Array:
        best = np.full(len(o), MISS, np.float32)
        flat_dd = d[:, 0] ** 2 + d[:, 2] ** 2
        flat_od = o[:, 0] * d[:, 0] + o[:, 2] * d[:, 2]
        flat_oo = o[:, 0] ** 2 + o[:, 2] ** 2
        for (r0, y0), (r1, y1), ring in zip(self.points[:-1], self.points[1:], self.flat, strict=True):
            if ring:
                t = (y0 - o[:, 1]) / np.where(np.abs(d[:, 1]) < 1e-9, np.float32(1e-9), d[:, 1])
                square = flat_oo + t * (2 * flat_od + t * flat_dd)
                good = (square >= min(r0, r1) ** 2) & (square <= max(r0, r1) ** 2) & (t > NEAR) & (t < best)
                best = np.where(good, t, best)
                continue
            k = (r1 - r0) / (y1 - y0)
            reach = r0 + k * (o[:, 1] - y0)
            a = flat_dd - (k * d[:, 1]) ** 2
            b = flat_od - reach * k * d[:, 1]
            c = flat_oo - reach**2
            a = np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
            square = b * b - a * c
            root = np.sqrt(np.maximum(square, 0))
            for sign in (-1, 1):
                t = (-b + sign * root) / a
                y = o[:, 1] + t * d[:, 1]
                good = (square >= 0) & (t > NEAR) & (y >= y0) & (y <= y1) & (t < best)
                best = np.where(good, t, best)
        return best

    def surface(self, p: Array, foot: Array) -> Surface:
        y = self.points[:, 1]
        i = np.clip(np.searchsorted(y, p[:, 1]) - 1, 0, len(y) - 2)
        # On a flat ring the height alone cannot tell the facet: the radius must be off the wall's.
        radius = np.hypot(p[:, 0], p[:, 2])
        for ring in np.flatnonzero(self.flat):
            (r0, y0), (r1, _) = self.points[ring], self.points[ring + 1]
            inside = (radius > min(r0, r1)) & (radius < max(r0, r1) * 0.9995)
            i = np.where((np.abs(p[:, 1] - y0) < 1e-4 * (1 + abs(y0))) & inside, ring, i)
        part = ((p[:, 1] - y[i]) / np.maximum(y[i + 1] - y[i], 1e-6))[:, None]
        here = self.facets[i]
        # Neighbouring facets are blended unless they meet at a crease.
        other = self.facets[np.clip(np.where(part[:, 0] < 0.5, i - 1, i + 1), 0, len(self.facets) - 1)]
        share = np.where(dot(here, other)[:, None] > 0.8, np.abs(part - 0.5), 0)
        slope = unit(here * (1 - share) + other * share)
        angle = np.arctan2(p[:, 0], p[:, 2])
        out = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], 1).astype(np.float32)
        normal = out * slope[:, :1] + vec(0, 1, 0) * slope[:, 1:]
        around = np.stack([out[:, 2], 0 * angle, -out[:, 0]], 1).astype(np.float32)
        girth = self.skin.size[0] if self.skin.fit else 2 * np.pi * float(self.points[:, 0].max())
        u = (angle / (2 * np.pi) + 0.5) * girth
        look = self.skin.look(u.astype(np.float32), p[:, 1] - y[0], foot)
        normal = normal - look[:, BUMP_U, None] * around - look[:, BUMP_V, None] * vec(0, 1, 0)
        return Surface(unit(normal), look, self.skin.gloss)


class Relief(Solid):
    """A height map standing on the plane z = 0, facing +z; its skin covers it once."""

    STEPS, HALVINGS = 18, 4

    def __init__(self, frame: Frame, heights: Array, skin: Skin) -> None:
        self.heights, self.skin = heights, skin
        width, height = skin.size
        super().__init__(frame, vec(-width / 2, 0, 0), vec(width / 2, height, float(heights.max()) + 0.01))

    def level(self, p: Array) -> Array:
        rows, cols = self.heights.shape
        col = ((p[:, 0] - self.low[0]) * (cols / self.skin.size[0])).astype(np.int32)
        row = rows - 1 - (p[:, 1] * (rows / self.skin.size[1])).astype(np.int32)
        flat = np.clip(row, 0, rows - 1) * cols + np.clip(col, 0, cols - 1)
        return np.asarray(self.heights.ravel()[flat] - p[:, 2], np.float32)

    def trace(self, o: Array, d: Array, t0: Array, t1: Array) -> Array:
        step = (t1 - t0) / self.STEPS
        outside, inside = t0.copy(), np.full_like(t0, MISS)
        todo = np.arange(len(t0))
        for i in range(self.STEPS + 1):
            t = t0[todo] + step[todo] * (i - 1e-3 * (i == self.STEPS))
            under = self.level(o[todo] + d[todo] * t[:, None]) >= 0
            inside[todo[under]] = t[under]
            outside[todo[~under]] = t[~under]
            todo = todo[~under]
            if not len(todo):
                break
        met = np.flatnonzero(np.isfinite(inside))
        a, b = np.minimum(outside, inside)[met], inside[met]
        for _ in range(self.HALVINGS):
            t = (a + b) / 2
            under = self.level(o[met] + d[met] * t[:, None]) >= 0
            a, b = np.where(under, a, t), np.where(under, t, b)
        inside[met] = b
        return inside

    def surface(self, p: Array, foot: Array) -> Surface:
        look = self.skin.look(p[:, 0] - self.low[0], p[:, 1], foot)
        normal = np.stack([-look[:, BUMP_U], -look[:, BUMP_V], np.ones(len(p), np.float32)], 1)
        edge = np.abs(p[:, 0]) > self.high[0] - 2e-3
        normal[edge] = np.stack([np.sign(p[edge, 0]), 0 * p[edge, 0], 0 * p[edge, 0]], 1)
        normal[p[:, 1] > self.high[1] - 2e-3] = vec(0, 1, 0)
        return Surface(unit(normal), look, self.skin.gloss)


class Card(Solid):
    """A flat picture at z = 0 with holes where its alpha is low, such as a spray of leaves."""

    def __init__(self, frame: Frame, size: tuple[float, float], alpha: Array, skin: Skin, casts: bool = True) -> None:
        w, h = size
        super().__init__(frame, vec(-w / 2, 0, -1e-3), vec(w / 2, h, 1e-3), casts)
        self.alpha, self.skin = alpha, skin

    def trace(self, o: Array, d: Array, t0: Array, t1: Array) -> Array:
        p = o + d * t0[:, None]
        rows, cols = self.alpha.shape
        q = (p - self.low) / (self.high - self.low)
        col = np.clip((q[:, 0] * cols).astype(int), 0, cols - 1)
        row = np.clip(((1 - q[:, 1]) * rows).astype(int), 0, rows - 1)
        return np.where(self.alpha[row, col] > 0.5, t0, MISS)

    def surface(self, p: Array, foot: Array) -> Surface:
        normal = np.broadcast_to(vec(0, 0, 1), p.shape)
        return Surface(normal, self.skin.look(p[:, 0] - self.low[0], p[:, 1], foot), self.skin.gloss)


Field = Callable[[Array], Array]
Paint = Callable[[Array, Array, Array], Array]


class Sculpt(Solid):
    """A signed distance field, met by sphere tracing; painted by `paint` or by its skin from three sides."""

    STEPS = 56

    def __init__(
        self, frame: Frame, low: Array, high: Array, field: Field, skin: Skin, paint: Paint | None = None
    ) -> None:
        super().__init__(frame, low, high)
        self.field, self.skin, self.paint = field, skin, paint
        self.fine = float((high - low).max()) * 6e-4

    def trace(self, o: Array, d: Array, t0: Array, t1: Array) -> Array:
        t = t0.copy()
        met = np.full(len(t), MISS, np.float32)
        todo = np.arange(len(t))
        for _ in range(self.STEPS):
            gap = self.field(o[todo] + d[todo] * t[todo, None])
            t[todo] += gap * 0.92
            met[todo[gap < self.fine]] = t[todo[gap < self.fine]]
            todo = todo[(gap >= self.fine) & (t[todo] < t1[todo])]
            if not len(todo):
                break
        return met

    def surface(self, p: Array, foot: Array) -> Surface:
        tips = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)
        slope = [tip * self.field(p + tip * (2 * self.fine))[:, None] for tip in tips]
        normal = unit(np.asarray(slope[0] + slope[1] + slope[2] + slope[3], np.float32))
        if self.paint is not None:
            return Surface(normal, self.paint(p, normal, foot), self.skin.gloss)
        weight = np.abs(normal) ** 4
        weight /= weight.sum(axis=1, keepdims=True)
        look = weight[:, :1] * self.skin.look(p[:, 2], p[:, 1], foot)
        look += weight[:, 1:2] * self.skin.look(p[:, 0], p[:, 2], foot)
        look += weight[:, 2:] * self.skin.look(p[:, 0], p[:, 1], foot)
        rough = np.stack([look[:, BUMP_U], look[:, BUMP_V], -look[:, BUMP_U]], 1)
        return Surface(unit(normal - rough), look, self.skin.gloss)
