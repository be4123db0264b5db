"""A picture as programs have it, upright and RGB: a file, encoded bytes, a Pillow image or an array.

Beside `read`, for queries from Python and from stdin. Whatever the form, the same photo gives the same pixels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.errors import ImageError
from pipeline.files import ObjectPath, Place
from pipeline.imaging.colour import ColourRule
from pipeline.imaging.decode import decode_within, upright_rgb
from pipeline.imaging.limits import Deadline, Pixels, Smallest
from pipeline.imaging.read import ImageFile, read_image

Picture = Place | bytes | Image.Image | Pixels


def read_picture(
    picture: Picture,
    name: str,
    *,
    max_pixels: int = 200_000_000,
    max_bytes: int = 500_000_000,
    seconds: float = 60.0,
    icc: ColourRule = "ignore",
    smallest: Smallest | None = None,
) -> ImageFile:
    """Read a picture.

    Args:
        picture: a file, or an object in a bucket; an encoded picture; a Pillow image of any mode; or pixels [H, W, 3]
            uint8 RGB, upright.
        name: what errors call it, unless it is a file.
        max_pixels: larger pictures are refused.
        max_bytes: longer files are refused, and longer bytes.
        seconds: limit on reading and decoding.
        icc: "srgb" converts by the colour profile of a file or Pillow image, "ignore" takes its values as they are.
        smallest: of a file or bytes, see `read_image`.

    Raises:
        ImageError: it cannot be read; of an array, its shape or type is another one.
    """
    if isinstance(picture, Path | ObjectPath):
        return read_image(
            picture, max_pixels=max_pixels, max_bytes=max_bytes, seconds=seconds, icc=icc, smallest=smallest
        )
    if isinstance(picture, np.ndarray):
        check_pixels(picture, name)
        return _in_memory(picture, max_pixels, name)
    if isinstance(picture, Image.Image):
        return _in_memory(_from_pillow(picture, name, icc), max_pixels, name)
    if not picture:
        raise ImageError(name, "no bytes")
    if len(picture) > max_bytes:
        raise ImageError(name, f"{len(picture):,} bytes, more than the {max_bytes:,} allowed")
    pixels, whole = decode_within(picture, name, max_pixels, Deadline(seconds), icc, smallest)
    return ImageFile(pixels, len(picture), 0, hashlib.sha256(picture).hexdigest(), whole)


def check_pixels(pixels: np.ndarray, name: str) -> None:
    """Raises ImageError for an array that is not a picture [H, W, 3] of uint8."""
    if pixels.dtype != np.uint8:
        hint = "; multiply values in [0, 1] by 255 and convert" if pixels.dtype.kind == "f" else ""
        raise ImageError(name, f"an array of {pixels.dtype}; pixels are uint8, RGB, from 0 to 255{hint}")
    if pixels.ndim == 4:
        raise ImageError(name, f"an array of shape {list(pixels.shape)}; give several pictures as list(array)")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ImageError(name, f"an array of shape {list(pixels.shape)}; a picture is [H, W, 3], rows of RGB pixels")


def _in_memory(pixels: Pixels, max_pixels: int, name: str) -> ImageFile:
    height, width = pixels.shape[:2]
    if height * width > max_pixels:
        raise ImageError(name, f"{width} x {height} pixels, more than the {max_pixels:,} allowed")
    return ImageFile(np.ascontiguousarray(pixels), 0, 0, "", (width, height))


def _from_pillow(image: Image.Image, name: str, icc: ColourRule) -> Pixels:
    """The pixels that a file of the image gives. Raises ImageError for a closed or damaged file."""
    try:
        image.load()
        return np.asarray(upright_rgb(image, icc))
    except Exception as error:  # Pillow's parsers raise many types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(name, f"a Pillow image that cannot be read ({reason})") from None
