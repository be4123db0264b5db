"""The resizes that every describer uses: target sizes, Pillow's antialiased filters, OpenCV's by a factor.

Between a decoded picture and a describer's `prepare`.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from PIL import Image

from pipeline.imaging.limits import Pixels

ResizeRule = Literal["area", "short", "long", "exact", "none"]


# Beyond this aspect the short and long rules squeeze: a strip of 1 x 100,000 pixels must not become 320 x 32,000,000.
MAX_ASPECT = 8


INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


def target_size(
    width: int, height: int, *, rule: ResizeRule, size: int, multiple: int = 1, scale: float = 1.0
) -> tuple[int, int]:
    """The (width, height) to which a picture is resized.

    Args:
        width, height: of the picture, at least 1.
        rule: "area": size^2 pixels at the picture's aspect; "short", "long": that side becomes `size`;
            "exact": a square of `size`; "none": the picture's own size.
        size: pixels.
        multiple: each side becomes the nearest multiple of this, at least one.
        scale: factor on both sides, applied before rounding.
    """
    if rule == "exact":
        sides = (float(size), float(size))
    elif rule == "none":
        sides = (float(width), float(height))
    else:
        aspect = width / height
        limit = min(max(aspect, 1 / MAX_ASPECT), MAX_ASPECT)
        if rule == "area":
            sides = (size * limit**0.5, size / limit**0.5)
        elif (rule == "short") == (width < height):
            sides = (float(size), size / limit)
        else:
            sides = (size * limit, float(size))
    rounded = [max(multiple, round(side * scale / multiple) * multiple) for side in sides]
    return rounded[0], rounded[1]


def resize(pixels: Pixels, size: tuple[int, int], interpolation: str = "bicubic") -> Pixels:
    """Resize [H, W, 3] uint8 to `size` (width, height) with an antialiased filter named in INTERPOLATIONS."""
    height, width = pixels.shape[:2]
    if (width, height) == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, INTERPOLATIONS[interpolation]))


def resize_by(pixels: Pixels, factor: float, vertical: float | None = None) -> Pixels:
    """Resize [H, W, 3] uint8 by a factor as the data sets of CVNet, SuperGlobal and AMES do: OpenCV, area average when
    smaller, bilinear when larger.

    OpenCV maps coordinates by exactly 1 / `factor` here, and not by the ratio of the rounded sizes, which differ by
    up to 76 grey levels. Sides are rounded half to even and are at least 1.

    Args:
        pixels: the picture.
        factor: of both sides.
        vertical: of the height, where it has its own; one factor below 1 is enough for the area average.
    """
    across, down = factor, factor if vertical is None else vertical
    if across == 1 and down == 1:
        return pixels
    method = cv2.INTER_AREA if min(across, down) < 1 else cv2.INTER_LINEAR
    height, width = pixels.shape[:2]
    if min(round(width * across), round(height * down)) < 1:
        smallest = (max(1, round(width * across)), max(1, round(height * down)))
        return np.asarray(cv2.resize(pixels, smallest, interpolation=method), dtype=np.uint8)
    return np.asarray(cv2.resize(pixels, (0, 0), fx=across, fy=down, interpolation=method), dtype=np.uint8)
