"""Bytes to an upright RGB picture, and the one resize that every describer uses.

Stands between the catalog's paths and a describer's `prepare`. Whatever is wrong with a file ends in one ImageError.
Orientation follows EXIF 2.3 tag 0x0112; 16-bit values are scaled to 8 bits; transparency is put on white.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from stat import S_ISREG
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import ImageError

ResizeRule = Literal["area", "short", "long", "exact", "none"]
Pixels = npt.NDArray[np.uint8]

# Photos have about ten scans. A progressive JPEG of a few kilobytes can have thousands, each of which goes over all its
# pixels again.
MAX_SCANS = 100

# Opening a pipe must not wait for somebody to write into it. Windows has neither such pipes nor this flag.
_OPENING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_BLOCK = 16 << 20

# Brands of ISO/IEC 23008-12 files with HEVC pictures.
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# Beyond this aspect the short and long rules squeeze: a strip of 1 x 100,000 pixels must not become 320 x 32,000,000.
MAX_ASPECT = 8

INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}

# Pillow warns of files that it reads nonetheless. Filters belong to the whole process and photos are read by threads,
# so this is said once, not around every picture.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Photos are prepared by several threads already; OpenCV's own would only wait for each other.
cv2.setNumThreads(1)


# A file that changes while it is read is read again, after so many seconds each time.
_PAUSES = (0.1, 0.5, 0.0)


@dataclass(frozen=True)
class ImageFile:
    """A picture and the facts of its file: `pixels` [H, W, 3] uint8 RGB, upright; `size` in bytes."""

    pixels: Pixels
    size: int
    mtime_ns: int
    sha256: str


class _SlowError(Exception):
    """Reading or decoding takes longer than it may."""


class _Deadline:
    """When to give up. Raises _SlowError once it has passed."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise _SlowError(too_slow(self._seconds))


class _TimedBytes(io.BytesIO):
    """Bytes that stop a decoder which comes back for more of them when its time is over.

    Pillow asks in blocks of 64 KB, so this ends a slow decoder in its own thread, with its memory freed. One that
    stays in a single call for long is left to whoever waits for the thread (`describe.ahead`).
    """

    def __init__(self, data: bytes, deadline: _Deadline) -> None:
        super().__init__(data)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        self._deadline.check()
        return super().read(size)


def read_image(
    path: Path,
    *,
    max_pixels: int = 200_000_000,
    max_bytes: int = 500_000_000,
    seconds: float = 60.0,
) -> ImageFile:
    """Read a picture file of any format that Pillow knows.

    Args:
        path: the file.
        max_pixels: larger pictures are refused before they are decoded.
        max_bytes: larger files are refused before they are read.
        seconds: a file that takes longer to read and decode is given up.

    Raises:
        ImageError: missing, unreadable, no regular file, empty, too large, truncated, too slow, or no picture.
    """
    deadline = _Deadline(seconds)
    try:
        data, facts = _read_bytes(path, max_bytes, deadline)
    except _SlowError as error:
        raise ImageError(str(path), str(error)) from None
    except OSError as error:
        raise ImageError(str(path), error.strerror or type(error).__name__) from None
    except ValueError as error:  # a name that no file system allows, such as one with a null character
        raise ImageError(str(path), str(error)) from None
    if not data:
        raise ImageError(str(path), "the file is empty")
    pixels = _decode(data, str(path), max_pixels, deadline)
    return ImageFile(pixels, len(data), facts.st_mtime_ns, hashlib.sha256(data).hexdigest())


def decode_image(data: bytes, *, name: str, max_pixels: int = 200_000_000, seconds: float = 60.0) -> Pixels:
    """The first frame of an encoded picture, upright, [H, W, 3] uint8 RGB. Raises ImageError naming `name`."""
    return _decode(data, name, max_pixels, _Deadline(seconds))


def too_slow(seconds: float) -> str:
    """The reason given for a picture that took longer than it may."""
    return f"not read within {seconds:g} seconds"


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


def resize_by(pixels: Pixels, factor: float) -> Pixels:
    """Resize [H, W, 3] uint8 by a factor as CVNet's and SuperGlobal's data sets do: OpenCV, area average when smaller,
    bilinear when larger.

    OpenCV maps coordinates by exactly 1 / `factor` here, and not by the ratio of the rounded sizes, which differ by
    up to 76 grey levels. Sides are rounded half to even and are at least 1.
    """
    if factor == 1:
        return pixels
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    height, width = pixels.shape[:2]
    if round(min(height, width) * factor) < 1:
        smallest = (max(1, round(width * factor)), max(1, round(height * factor)))
        return np.asarray(cv2.resize(pixels, smallest, interpolation=method), dtype=np.uint8)
    return np.asarray(cv2.resize(pixels, (0, 0), fx=factor, fy=factor, interpolation=method), dtype=np.uint8)


def _read_bytes(path: Path, max_bytes: int, deadline: _Deadline) -> tuple[bytes, os.stat_result]:
    """All of a regular file, and its facts. Raises ImageError for one that keeps changing while it is read."""
    for pause in _PAUSES:
        data, before, after = _read_once(path, max_bytes, deadline)
        if len(data) == before.st_size == after.st_size and before.st_mtime_ns == after.st_mtime_ns:
            return data, before
        time.sleep(pause)
    raise ImageError(str(path), "it changed while it was read")


def _read_once(path: Path, max_bytes: int, deadline: _Deadline) -> tuple[bytes, os.stat_result, os.stat_result]:
    """All of a regular file, and its facts before and after; of a file that grows no more than it had."""
    try:
        descriptor = os.open(path, _OPENING)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise ImageError(str(path), "not a regular file") from None
        raise
    try:
        facts = os.fstat(descriptor)
        if not S_ISREG(facts.st_mode):  # a pipe or a device would be read for ever
            raise ImageError(str(path), "not a regular file")
        if facts.st_size > max_bytes:
            raise ImageError(str(path), f"{facts.st_size:,} bytes, more than the {max_bytes:,} allowed")
        blocks: list[bytes] = []
        left = facts.st_size
        while left and (block := os.read(descriptor, min(left, _BLOCK))):
            deadline.check()
            blocks.append(block)
            left -= len(block)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return b"".join(blocks), facts, after


def _decode(data: bytes, name: str, max_pixels: int, deadline: _Deadline) -> Pixels:
    if Image.MAX_IMAGE_PIXELS is not None:  # Pillow's own limit must not refuse what `max_pixels` allows
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)
    try:
        with Image.open(_TimedBytes(data, deadline), formats=_formats()) as image:
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
    if isinstance(error, _SlowError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        if data[4:8] == b"ftyp" and data[8:12] in _HEIC and "HEIF" not in Image.OPEN:
            return "HEIC is read where pillow-heif is installed (pip install pillow-heif)"
        return "not a picture in a known format"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"cannot be decoded ({text})"
