"""A picture of four colours that looks different whichever way it is turned, for tests of decoding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

COLOURS = np.array([[[220, 40, 30], [40, 200, 60]], [[30, 60, 210], [240, 230, 200]]], np.uint8)


def quadrants(side: int = 16) -> Pixels:
    """Four colours in a rectangle that is higher than wide: each turn or flip of it looks different."""
    return np.ascontiguousarray(COLOURS.repeat(2 * side, axis=0).repeat(side, axis=1))


# How EXIF's orientations store the upright picture: row 0 and column 0 of the file are these edges of the scene.
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    """Write a picture; gives its path."""
    image.save(path, **options)
    return path
