"""A decoded picture to what the network reads: which input a backbone takes, box, resizing at every scale, crop.

Runs on the threads that read photos, before the describer's network. What is done is written in `ImageConfig`, and on
the model card; the way back to the original's pixels is kept for every scale, because local descriptors say where they
lie.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.config import DescribeConfig, ImageConfig
from pipeline.errors import RelookError
from pipeline.imaging import Smallest, resize, resize_by, target_size
from pipeline.types import Box, FloatArray, Prepared

if TYPE_CHECKING:
    from pipeline.describe.backbones import Backbone

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]
# sx, sy, dx, dy: x_original = x * sx + dx, and so for y.
Mapping = tuple[float, float, float, float]


def with_input_of(backbone: Backbone, config: DescribeConfig) -> DescribeConfig:
    """The configuration with an input that the backbone can read.

    A model of one input size reads pictures that are resized (`describe.image.resize = exact`) or cropped to it, at
    scale 1 alone; a warning says what was set.

    Raises:
        RelookError: the sides of pictures would not be multiples of the backbone's patch, or its input is no square.
    """
    image = config.image.model_copy(
        update={
            "mean": config.image.mean or backbone.mean,
            "std": config.image.std or backbone.std,
            "multiple": config.image.multiple or backbone.multiple,
        }
    )
    if backbone.fixed_size is None:
        _check_patch(backbone, image, config)
        return config.model_copy(update={"image": image})
    height, width = backbone.fixed_size
    if height != width:
        raise RelookError(f"{backbone.architecture} reads {width} x {height} pixels only, which is no square")
    if config.maps.levels and config.image.scaling == "tensor":
        raise RelookError(f"describe.image.scaling = tensor: {backbone.architecture} reads one size only; use picture")
    if image.crop != height:
        image = image.model_copy(
            update={"size": height, "resize": "exact", "crop": None, "max_side": None, "multiple": 1}
        )
    fixed = config.model_copy(
        update={
            "image": image,
            "globals": config.globals.model_copy(update={"scales": (1.0,)}),
            "locals": config.locals.model_copy(update={"scales": (1.0,)}),
        }
    )
    if fixed.globals != config.globals or fixed.image.size != config.image.size:
        log.warning(
            "%s reads %d x %d pixels only: describe.image.size = %d, resize = %s, and scale 1 alone",
            *(backbone.architecture, width, height, image.size, image.resize),
        )
    return fixed


def smallest_for(settings: ImageConfig, scales: Sequence[float]) -> Smallest | None:
    """What must be left of a picture's sides for `prepare_reduced`; None: all, pictures are read in full."""
    if settings.draft is None:
        return None
    margin, largest = settings.draft, 1.0 if settings.scaling == "tensor" else max(scales)

    def smallest(width: int, height: int) -> tuple[int, int]:
        sides = _target(width, height, settings, largest)
        return math.ceil(margin * sides[0]), math.ceil(margin * sides[1])

    return smallest


def prepare_reduced(
    image: Pixels, whole: tuple[int, int], settings: ImageConfig, scales: Sequence[float], patch: int = 1
) -> Prepared:
    """`prepare` for a picture of which `image` is a reduced one; `whole` is its (width, height)."""
    return _prepared(image, whole, (0, 0), whole, settings, scales, patch)


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
    return _prepared(image, (image.shape[1], image.shape[0]), (left, top), (width, height), settings, scales, patch)


def _prepared(
    image: Pixels,
    shown: tuple[int, int],
    corner: tuple[int, int],
    photo: tuple[int, int],
    settings: ImageConfig,
    scales: Sequence[float],
    patch: int,
) -> Prepared:
    """The picture at every scale.

    Args:
        image: what is resized.
        shown: the (width, height) in pixels of the photo that it shows; without a reduction, its own.
        corner: where that begins in the photo.
        photo: its (width, height).
    """
    shrunk = _limited(image, settings)
    size = shown if shrunk is image else (shrunk.shape[1], shrunk.shape[0])
    back = shown[0] / size[0], shown[1] / size[1]
    longest = max(photo) / back[0] if settings.size_of == "photo" else float(max(size))
    pixels, to_original = [], []
    used = (1.0,) if settings.scaling == "tensor" else tuple(scales)
    for scale in used:
        resized, (sx, sy, dx, dy) = _at_scale(shrunk, size, scale, settings, patch, longest)
        pixels.append(_planes(resized))
        to_original.append((sx * back[0], sy * back[1], dx * back[0] + corner[0], dy * back[1] + corner[1]))
    return Prepared(pixels, to_original, used, *photo)


class Normalisation:
    """Pixels as a network reads them, by one look-up per value: 256 results are computed once for each channel.

    They are those of `(pixels / 255 - mean) / std` in float32, rounded in this order, as the papers' code does.
    """

    def __init__(self, settings: ImageConfig) -> None:
        assert settings.mean is not None
        assert settings.std is not None
        levels = np.arange(256, dtype=np.float32) / np.float32(255)
        mean, std = (np.array(values, np.float32)[:, None] for values in (settings.mean, settings.std))
        self._tables = (levels - mean) / std
        self._order = (2, 1, 0) if settings.channels == "bgr" else (0, 1, 2)

    def __call__(self, pictures: Sequence[Pixels]) -> FloatArray:
        """[B, 3, h, w] float32, channels in the network's order, of B pictures [3, h, w] RGB."""
        images = np.empty((len(pictures), *pictures[0].shape), np.float32)
        for picture, image in zip(pictures, images, strict=True):
            for place, channel in enumerate(self._order):
                cv2.LUT(picture[channel], self._tables[channel], image[place])
        return images


def scaled_size(height: int, width: int, scale: float, patch: int) -> tuple[int, int]:
    """(height, width) in pixels of a tensor that is resized by `scale`: rounded down, or to multiples of the patch."""
    if patch > 1:
        return round_to(height * scale, patch), round_to(width * scale, patch)
    return max(1, int(height * scale)), max(1, int(width * scale))


def ways_to_original(
    item: Prepared, scales: Sequence[float], settings: ImageConfig, patch: int
) -> npt.NDArray[np.float32]:
    """For each of S scales (sx, sy, dx, dy), from the pixels that the network reads to the original's: [S, 4]."""
    if settings.scaling == "picture":
        return np.array([item.to_original[item.scales.index(scale)] for scale in scales], dtype=np.float32)
    sx, sy, dx, dy = item.to_original[0]
    height, width = item.pixels[0].shape[1:]
    sizes = [scaled_size(height, width, scale, patch) for scale in scales]
    return np.array([(sx * width / new[1], sy * height / new[0], dx, dy) for new in sizes], dtype=np.float32)


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


def _planes(image: Pixels) -> Pixels:
    """[3, H, W] of [H, W, 3]."""
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, list(planes))
    return planes


def _limited(image: Pixels, settings: ImageConfig) -> Pixels:
    """No side longer than `max_side`."""
    longest = max(image.shape[:2])
    if settings.max_side is None or longest <= settings.max_side:
        return image
    if settings.interpolation == "opencv":
        return resize_by(image, settings.max_side / longest)
    size = target_size(image.shape[1], image.shape[0], rule="none", size=0, scale=settings.max_side / longest)
    return resize(image, size, settings.interpolation)


def _target(width: int, height: int, settings: ImageConfig, scale: float) -> tuple[int, int]:
    return target_size(
        width, height, rule=settings.resize, size=settings.size, multiple=settings.multiple or 1, scale=scale
    )


def _at_scale(
    image: Pixels, shown: tuple[int, int], scale: float, settings: ImageConfig, patch: int, longest: float
) -> tuple[Pixels, Mapping]:
    """The picture at a scale.

    Args:
        image: the picture, or a reduced one.
        shown: (width, height) of the picture.
        scale, settings, patch: see `prepare`.
        longest: the side in pixels that the rule "long" measures, where OpenCV resizes.
    """
    size = _target(*shown, settings, scale)
    if settings.interpolation == "opencv":
        factor = scale * (settings.size / longest) if settings.resize == "long" else scale
        multiple = (settings.multiple or 1) if patch > 1 else 1
        across, down = (_factor_to(side, factor, multiple) for side in (image.shape[1], image.shape[0]))
        # The step between its pixels is 1 / factor, whatever the rounded sizes.
        resized, sx, sy = resize_by(image, across, down), 1 / across, 1 / down
    else:
        resized = resize(image, size, settings.interpolation)
        sx, sy = shown[0] / size[0], shown[1] / size[1]
    dx = dy = 0.0
    if settings.crop:
        side = round_to(settings.crop * scale, patch)
        x, y = max(0, (size[0] - side) // 2), max(0, (size[1] - side) // 2)
        resized = resized[y : y + side, x : x + side]
        dx, dy = x * sx, y * sy
    return resized, (sx, sy, dx, dy)


def _factor_to(side: int, factor: float, multiple: int) -> float:
    """The factor that brings a side to the multiple nearest to `side * factor`, at least one; half to even.

    Computed as AMES's code does, since OpenCV's pixels follow the last digits of a factor.
    """
    if multiple == 1:
        return factor
    parts = factor * side / multiple
    return factor / (parts / max(round(parts), 1))


def _check_patch(backbone: Backbone, image: ImageConfig, config: DescribeConfig) -> None:
    multiple = image.multiple or 1
    if multiple % backbone.patch == 0 or image.crop is not None:
        return
    if image.resize == "exact":
        scales = {1.0, *config.globals.scales, *(config.locals.scales if config.locals.count else ())}
        sides = [target_size(1, 1, rule="exact", size=image.size, multiple=multiple, scale=s)[0] for s in scales]
        if all(side % backbone.patch == 0 for side in sides):
            return
    raise RelookError(
        f"describe.image.multiple = {multiple}: {backbone.architecture} reads sides of multiples of {backbone.patch} "
        "pixels; leave it null"
    )
