"""A small picture as a data address, which is part of a page instead of a file beside it.

Used by result pages and by results in a notebook.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.errors import ImageError
from pipeline.imaging.limits import Pixels
from pipeline.imaging.read import read_image


def thumbnail(path: str, box: Sequence[float] | None = None, side: int = 200) -> str:
    """A JPEG as a data address: the photo, or the `box` (x0, y0, x1, y1) of it, at most `side` pixels wide and high.

    Empty where the photo cannot be read any more.
    """
    return _thumbnail(path, tuple(box) if box else None, side)


def data_address(pixels: Pixels) -> str:
    """Pixels [H, W, 3] uint8 RGB as a JPEG in a data address."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


@lru_cache(maxsize=4096)
def _thumbnail(path: str, box: tuple[float, ...] | None, side: int) -> str:
    try:
        image = Image.fromarray(read_image(Path(path)).pixels)
    except ImageError:
        return ""
    if box is not None:
        left, top, right, bottom = (int(value) for value in box)
        right, bottom = min(right, image.width), min(bottom, image.height)
        image = image.crop((max(0, left), max(0, top), max(left + 1, right), max(top + 1, bottom)))
    image.thumbnail((side, side))
    return data_address(np.asarray(image))
