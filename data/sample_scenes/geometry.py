"""Geometry: vectors, the camera that rays start from, and the frames that solids stand in.

Used by solids.py and everything above it.
Technique: float32 arrays of many points at once; a parallel camera serves as the view from a light.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
NEAR = 1e-3


def vec(*values: float) -> Array:
    return np.array(values, np.float32)


def unit(v: Array) -> Array:
    length = np.sqrt(np.sum(v * v, axis=-1, keepdims=True, dtype=np.float32))
    return np.asarray(v / np.maximum(length, 1e-9), np.float32)


def dot(a: Array, b: Array) -> Array:
    return np.asarray(np.sum(a * b, axis=-1), np.float32)


@dataclass(frozen=True)
class Camera:
    """A pinhole (or, for lights, a parallel) camera; `focal` is pixels per unit of slope (or length)."""

    eye: Array
    axes: Array  # rows: right, up, forward
    focal: float
    width: int
    height: int
    parallel: bool = False

    @staticmethod
    def look(
        eye: Array,
        target: Array,
        focal: float,
        size: tuple[int, int],
        roll: float = 0.0,
        parallel: bool = False,
    ) -> Camera:
        forward = unit(target - eye)
        side = vec(1, 0, 0) if abs(float(forward[1])) > 0.999 else unit(np.cross(forward, vec(0, 1, 0)))
        up = np.cross(side, forward)
        right = side * np.cos(roll) + up * np.sin(roll)
        axes = np.stack([right, np.cross(right, forward), forward]).astype(np.float32)
        return Camera(eye, axes, focal, size[0], size[1], parallel)

    def rays(self, rows: slice, cols: slice) -> tuple[Array, Array]:
        x = (np.arange(cols.start, cols.stop, dtype=np.float32) + 0.5 - self.width / 2) / self.focal
        y = (self.height / 2 - np.arange(rows.start, rows.stop, dtype=np.float32) - 0.5) / self.focal
        across = x[None, :, None] * self.axes[0] + y[:, None, None] * self.axes[1]
        flat = across.reshape(-1, 3).astype(np.float32)
        if self.parallel:
            return self.eye + flat, np.broadcast_to(self.axes[2], flat.shape)
        return np.broadcast_to(self.eye, flat.shape), unit(flat + self.axes[2])

    def project(self, points: Array) -> tuple[Array, Array, Array]:
        """Column, row and depth (along the optical axis) of world points."""
        local = (points - self.eye) @ self.axes.T
        depth = local[:, 2]
        scale = self.focal if self.parallel else self.focal / np.maximum(depth, NEAR)
        return self.width / 2 + local[:, 0] * scale, self.height / 2 - local[:, 1] * scale, depth

    def windows(self, hulls: Array) -> list[list[int]]:
        """For each hull (n, k, 3) the rectangle (row from, to, column from, to) of pixels that can see it."""
        col, row, depth = (v.reshape(hulls.shape[:2]) for v in self.project(hulls.reshape(-1, 3)))
        edges = np.stack([row.min(1) - 1, row.max(1) + 2, col.min(1) - 1, col.max(1) + 2], 1)
        limit = np.array([self.height, self.height, self.width, self.width])
        if not self.parallel:
            edges = np.where((depth.min(1) < 0.05)[:, None], limit * np.array([0, 1, 0, 1]), edges)
            edges = np.where((depth.max(1) < NEAR)[:, None], 0, edges)
        whole: list[list[int]] = np.clip(edges, 0, limit).astype(int).tolist()
        return whole


class Frame(NamedTuple):
    """Where a solid stands: the columns of `turn` are its axes in the world."""

    at: Array
    turn: Array

    @staticmethod
    def make(x: float = 0, y: float = 0, z: float = 0, yaw: float = 0, pitch: float = 0, roll: float = 0) -> Frame:
        (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return Frame(vec(x, y, z), (about_y @ about_x @ about_z).astype(np.float32))

    def then(self, outer: Frame) -> Frame:
        return Frame(outer.turn @ self.at + outer.at, outer.turn @ self.turn)


HERE = Frame.make()
