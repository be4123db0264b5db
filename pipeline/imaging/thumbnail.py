"""A small picture of a photo, as bytes for a file or as a data address, which is part of a page.

Used by result pages and by results in a notebook.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from pipeline.errors import ImageError
from pipeline.files import located
from pipeline.imaging.limits import Pixels
from pipeline.imaging.read import read_image

# A yellow line with black beside it is seen on every photo.
_FRAME = (("black", 5), ("gold", 2))


def thumbnail(path: str, side: int = 200) -> str:
    """The photo as a JPEG in a data address, at most `side` pixels wide and high; empty where it cannot be read."""
    return _address(thumbnail_bytes(path, side=side))


def thumbnail_bytes(path: str, box: Sequence[float] | None = None, side: int = 200) -> bytes:
    """The photo as a JPEG, at most `side` pixels wide and high; empty where the photo cannot be read any more.

    Args:
        path: of the photo.
        box: x0, y0, x1, y1 in pixels of the upright photo, drawn as a frame; None: no frame.
        side: in pixels.
    """
    return _thumbnail(path, tuple(box) if box else None, side)


def data_address(pixels: Pixels) -> str:
    """Pixels [H, W, 3] uint8 RGB as a JPEG in a data address."""
    return _address(jpeg_bytes(pixels))


def jpeg_bytes(pixels: Pixels) -> bytes:
    """Pixels [H, W, 3] uint8 RGB as a JPEG."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=80)
    return data.getvalue()


def _address(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" if data else ""


@lru_cache(maxsize=4096)
def _thumbnail(path: str, box: tuple[float, ...] | None, side: int) -> bytes:
    try:
        image = Image.fromarray(read_image(located(path)).pixels)
    except ImageError:
        return b""
    width = image.width
    image.thumbnail((side, side))
    if box is not None:
        _draw_frame(image, [value * image.width / width for value in box])
    return jpeg_bytes(np.asarray(image))


def _draw_frame(image: Image.Image, box: Sequence[float]) -> None:
    left, top, right, bottom = box
    corners = (max(1.0, left), max(1.0, top), min(image.width - 2.0, right), min(image.height - 2.0, bottom))
    if corners[0] >= corners[2] or corners[1] >= corners[3]:
        return
    pen = ImageDraw.Draw(image)
    for colour, width in _FRAME:
        pen.rectangle(corners, outline=colour, width=width)
