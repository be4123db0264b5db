"""A decoded picture to what the network reads: box, resizing at every scale, crop.

Runs on the threads that read photos, before the describer's network. What is done is written in `ImageConfig`; the way
back to the original's pixels is kept for every scale, because local descriptors say where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.config import ImageConfig
from pipeline.errors import RelookError
from pipeline.imaging import resize, resize_by, target_size
from pipeline.types import Box, Prepared

Pixels = npt.NDArray[np.uint8]
# sx, sy, dx, dy: x_original = x * sx + dx, and so for y.
Mapping = tuple[float, float, float, float]


def prepare(
    image: Pixels, bbox: Box | None, settings: ImageConfig, scales: Sequence[float], patch: int = 1
) -> Prepared:
    """See `pipeline.types.Describer.prepare`.

    Where `settings.scaling` is "tensor" the picture is prepared once, at scale 1, and the network resizes it. The sides
    of a crop are multiples of `patch` pixels at every scale.

    Raises:
        RelookError: the `bbox` lies outside the picture.
    """
    height, width = image.shape[:2]
    left, top = 0, 0
    if bbox is not None:
        left, top, right, bottom = clip(bbox, width, height)
        image = image[top:bottom, left:right]
    shrunk = _limited(image, settings)
    back = image.shape[1] / shrunk.shape[1], image.shape[0] / shrunk.shape[0]
    pixels, to_original = [], []
    used = (1.0,) if settings.scaling == "tensor" else tuple(scales)
    for scale in used:
        resized, (sx, sy, dx, dy) = _at_scale(shrunk, scale, settings, patch)
        pixels.append(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        to_original.append((sx * back[0], sy * back[1], dx * back[0] + left, dy * back[1] + top))
    return Prepared(pixels, to_original, used, width, height)


def _limited(image: Pixels, settings: ImageConfig) -> Pixels:
    """No side longer than `max_side`."""
    longest = max(image.shape[:2])
    if settings.max_side is None or longest <= settings.max_side:
        return image
    if settings.interpolation == "opencv":
        return resize_by(image, settings.max_side / longest)
    size = target_size(image.shape[1], image.shape[0], rule="none", size=0, scale=settings.max_side / longest)
    return resize(image, size, settings.interpolation)


def _at_scale(image: Pixels, scale: float, settings: ImageConfig, patch: int) -> tuple[Pixels, Mapping]:
    size = target_size(
        image.shape[1],
        image.shape[0],
        rule=settings.resize,
        size=settings.size,
        multiple=settings.multiple or 1,
        scale=scale,
    )
    if settings.interpolation == "opencv":
        # The step between its pixels is 1 / scale, whatever the rounded sizes.
        resized, sx, sy = resize_by(image, scale), 1 / scale, 1 / scale
    else:
        resized = resize(image, size, settings.interpolation)
        sx, sy = image.shape[1] / size[0], image.shape[0] / size[1]
    dx = dy = 0.0
    if settings.crop:
        side = round_to(settings.crop * scale, patch)
        x, y = max(0, (size[0] - side) // 2), max(0, (size[1] - side) // 2)
        resized = resized[y : y + side, x : x + side]
        dx, dy = x * sx, y * sy
    return resized, (sx, sy, dx, dy)


def round_to(side: float, multiple: int) -> int:
    """The nearest multiple, at least one; in pixels."""
    return max(multiple, round(side / multiple) * multiple)


def clip(bbox: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Whole pixels of a box inside the picture; corners are truncated, as the Revisited Oxford protocol does."""
    left, top = max(0, int(bbox[0])), max(0, int(bbox[1]))
    right, bottom = min(width, int(bbox[2])), min(height, int(bbox[3]))
    if right <= left or bottom <= top:
        raise RelookError(f"the box {bbox} has no pixel of a picture of {width} x {height}")
    return left, top, right, bottom
