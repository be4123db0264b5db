"""Deep samples to 8 bits.

Below `decode`. Pillow clips deep grey values at 255 and keeps the upper byte of deep colours; here values are scaled by
the range that the file states.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image


def is_deep(image: Image.Image) -> bool:
    """Whether a picture has integers of more than 8 bits or floats."""
    return image.mode.startswith("I") or image.mode == "F"


def deep_to_grey(image: Image.Image, white: int | None = None) -> Image.Image:
    """A deep grey picture as L, or as LA where one value is transparent.

    16-bit values are divided by 257, or scaled from 0 to `white` where they are right-aligned; floats, signed and
    longer integers from black at their least to white at their greatest value. Raises ValueError where no value is
    finite.
    """
    values = np.asarray(image, dtype=np.float64)
    transparent = image.info.get("transparency")
    alpha = None
    if isinstance(transparent, int):
        alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise ValueError("none of its values is finite")
        low, high = float(finite.min()), float(finite.max())
        values = (np.nan_to_num(values, nan=low).clip(low, high) - low) * (255 / ((high - low) or 1))
    elif white is not None and _right_aligned(values, white):
        values = values * (255 / white)
    elif values.max() > 255 or image.mode.startswith("I;16"):
        values = values / 257
    grey = Image.fromarray(np.clip(values.round(), 0, 255).astype(np.uint8))
    return grey if alpha is None else Image.merge("LA", (grey, alpha))


def deep_colours(data: bytes, white: int) -> Image.Image | None:
    """A PNG or TIFF file of 16-bit colours as RGB or RGBA, scaled from 0 to `white`.

    Returns:
        None where its values fill 16 bits, or OpenCV does not read it.
    """
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or not _right_aligned(values[..., :3], white):
        return None
    order = [2, 1, 0, 3][: values.shape[2]]
    scaled = np.clip((values[..., order] * (255 / white)).round(), 0, 255).astype(np.uint8)
    return Image.fromarray(scaled)


def _right_aligned(values: npt.NDArray[Any], white: int) -> bool:
    """Whether values are those of fewer bits as they are. Left-aligned ones of few bits are multiples of their step."""
    return bool(values.max() <= white and np.any(values % (65536 // (white + 1) or 1)))
