"""Colours to sRGB, by the ICC profile of a picture.

Below `decode`. Transforms are kept by profile, and shared by threads. A profile that cannot be used changes nothing.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

ColourRule = Literal["srgb", "ignore"]

# A profile whose colours differ from sRGB's by no more than this (of 255) is not applied.
_SAME = 2
_FLAGS = ImageCms.Flags.NOCACHE | ImageCms.Flags.BLACKPOINTCOMPENSATION
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """A picture of mode L, RGB or CMYK in sRGB.

    It stays as it is where its profile is sRGB's, broken, or made for pictures of another mode. A grey picture with an
    RGB profile is taken as RGB.
    """
    found = _transform(profile)
    if found is None:
        return image
    mode, transform = found
    if image.mode == "L" and mode == "RGB":
        image = image.convert("RGB")
    return ImageCms.applyTransform(image, transform) or image if image.mode == mode else image


@lru_cache(maxsize=32)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform] | None:
    """The mode that a profile is for, and its transform to sRGB; None where none is needed or possible."""
    # PyCMSError and what the parts of Pillow's module raise by themselves: a profile comes from a file.
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES[source.profile.xcolor_space]
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", intent, _FLAGS)
    except (ImageCms.PyCMSError, OSError, KeyError, ValueError, TypeError):
        return None
    return None if mode != "CMYK" and _is_srgb(mode, transform) else (mode, transform)


def _is_srgb(mode: str, transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform leaves a grid of colours as they are."""
    steps = np.linspace(0, 255, 9 if mode == "RGB" else 256).round().astype(np.uint8)
    if mode == "RGB":
        grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(1, -1, 3)
    else:
        grid = steps[None]
    converted = ImageCms.applyTransform(Image.fromarray(grid), transform)
    wanted = grid if mode == "RGB" else np.repeat(grid[..., None], 3, axis=-1)
    return converted is not None and abs(np.asarray(converted, np.int16) - wanted.astype(np.int16)).max() <= _SAME
