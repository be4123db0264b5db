"""Bytes to an upright RGB picture.

Below `read`, and used alone for pictures that are already in memory. Orientation follows EXIF 2.3 tag 0x0112; 16-bit
values are scaled to 8 bits; transparency is put on white.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import ImageError
from pipeline.imaging.limits import Deadline, Pixels, SlowError, TimedBytes

# Photos have about ten scans. A progressive JPEG of a few kilobytes can have thousands, each of which goes over all its
# pixels again.
MAX_SCANS = 100


# Brands of ISO/IEC 23008-12 files with HEVC pictures.
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


# Pillow warns of files that it reads nonetheless. Filters belong to the whole process and photos are read by threads,
# so this is said once, not around every picture.
warnings.filterwarnings("ignore", module=r"PIL\.")


# Photos are prepared by several threads already; OpenCV's own would only wait for each other.
cv2.setNumThreads(1)


def decode_image(data: bytes, *, name: str, max_pixels: int = 200_000_000, seconds: float = 60.0) -> Pixels:
    """The first frame of an encoded picture, upright, [H, W, 3] uint8 RGB. Raises ImageError naming `name`."""
    return decode_within(data, name, max_pixels, Deadline(seconds))


def decode_within(data: bytes, name: str, max_pixels: int, deadline: Deadline) -> Pixels:
    if Image.MAX_IMAGE_PIXELS is not None:  # Pillow's own limit must not refuse what `max_pixels` allows
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)
    try:
        with Image.open(TimedBytes(data, deadline), formats=_formats()) as image:
            _refuse_too_large(image, name, max_pixels)
            _refuse_many_scans(image, data, name)
            image.load()
            _refuse_too_large(image, name, max_pixels)  # an icon says how large it is only now
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except ImageError:
        raise
    except Exception as error:  # Pillow's parsers raise whatever hostile bytes provoke; every one is the file's fault
        raise ImageError(name, _reason(error, data)) from None


def _refuse_too_large(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(name, f"{width} x {height} pixels, more than the {max_pixels:,} allowed")


def _refuse_many_scans(image: Image.Image, data: bytes, name: str) -> None:
    if not image.info.get("progressive"):
        return
    scans = data.count(b"\xff\xda")  # inside a scan 0xff is always followed by 0
    if scans > MAX_SCANS:
        raise ImageError(name, f"a progressive JPEG of {scans:,} scans, more than the {MAX_SCANS} allowed")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_to_rgb(image)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _deep_to_rgb(image: Image.Image) -> Image.Image:
    """Pillow clips deep greys at 255 when it converts; scale 16-bit ones by 257, deeper ones by their own range."""
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise ValueError("none of its values is finite")
        low, high = float(finite.min()), float(finite.max())
        values = (np.nan_to_num(values, nan=low).clip(low, high) - low) * (255 / ((high - low) or 1))
    elif values.max() > 255 or image.mode.startswith("I;16"):
        values = values / 257
    return Image.fromarray(np.clip(values.round(), 0, 255).astype(np.uint8)).convert("RGB")


@cache
def _formats() -> tuple[str, ...]:
    """All that Pillow opens, photos first, but EPS: that is a program, which Pillow has Ghostscript execute."""
    with suppress(ImportError):  # an extra; without it a HEIC file is an error that says so
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.init()
    return ("JPEG", "PNG", "WEBP", *(name for name in Image.ID if name != "EPS"))


def _reason(error: Exception, data: bytes) -> str:
    if isinstance(error, SlowError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        if data[4:8] == b"ftyp" and data[8:12] in _HEIC and "HEIF" not in Image.OPEN:
            return "HEIC is read where pillow-heif is installed (pip install pillow-heif)"
        return "not a picture in a known format"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"cannot be decoded ({text})"
