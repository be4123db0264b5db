"""A picture file to pixels: read whole, within limits, and decoded.

Between the catalog's paths and `decode`. Whatever is wrong with a file ends in one ImageError.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from pipeline.errors import ImageError, RelookError, UnreachableError
from pipeline.files import ObjectFacts, ObjectPath, Place
from pipeline.imaging.colour import ColourRule
from pipeline.imaging.decode import decode_within
from pipeline.imaging.limits import Deadline, Pixels, SlowError, Smallest

# Opening a pipe must not wait for a writer. Windows has neither such pipes nor this flag.
_OPENING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_BLOCK = 16 << 20


# A file that changes while it is read is read again after these pauses, in seconds.
_PAUSES = (0.1, 0.5, 0.0)


@dataclass(frozen=True)
class ImageFile:
    """A picture and the facts of its file.

    Attributes:
        pixels: [H, W, 3] uint8 RGB, upright.
        size: of the file in bytes; `mtime_ns` and `sha256` are the file's as well.
        whole: width and height of the upright picture, of which `pixels` may be a reduced one.
    """

    pixels: Pixels
    size: int
    mtime_ns: int
    sha256: str
    whole: tuple[int, int]


def read_image(
    path: Place,
    *,
    max_pixels: int = 200_000_000,
    max_bytes: int = 500_000_000,
    seconds: float = 60.0,
    icc: ColourRule = "ignore",
    smallest: Smallest | None = None,
) -> ImageFile:
    """Read a picture file of any format that Pillow knows, or that an extra brings.

    Args:
        path: the file, or the object in a bucket.
        max_pixels: larger pictures are refused before they are decoded.
        max_bytes: larger files are refused before they are read.
        seconds: a file that takes longer to read and decode is given up.
        icc: "srgb" converts by the picture's colour profile, "ignore" takes its values as they are.
        smallest: a JPEG is decoded at a half, a quarter or an eighth of its sides where these are left; None: in full.

    Raises:
        ImageError: missing, unreadable, no regular file, empty, too large, truncated, too slow, or not a picture.
        UnreachableError: the bucket's store cannot be reached.
    """
    deadline = Deadline(seconds)
    try:
        data, facts = _content(path, max_bytes, deadline)
    except SlowError as error:
        raise ImageError(str(path), str(error)) from None
    except OSError as error:
        raise ImageError(str(path), error.strerror or type(error).__name__) from None
    except ValueError as error:  # a name that no file system allows, such as one with a null character
        raise ImageError(str(path), str(error)) from None
    if not data:
        raise ImageError(str(path), "the file is empty")
    pixels, whole = decode_within(data, str(path), max_pixels, deadline, icc, smallest)
    return ImageFile(pixels, len(data), facts.st_mtime_ns, hashlib.sha256(data).hexdigest(), whole)


def _content(path: Place, max_bytes: int, deadline: Deadline) -> tuple[bytes, os.stat_result | ObjectFacts]:
    if not isinstance(path, ObjectPath):
        return _read_bytes(path, max_bytes, deadline)
    try:
        # An object that is replaced meanwhile has another time in the next listing, and is compared by its content.
        facts = path.stat()
        data = path.read(max_bytes)
    except UnreachableError:
        raise
    except RelookError as error:  # this object alone may be refused, such as one in an archive
        raise ImageError(str(path), str(error).removeprefix(f"{path}: ")) from None
    deadline.check()
    return data, facts


def _read_bytes(path: Path, max_bytes: int, deadline: Deadline) -> tuple[bytes, os.stat_result]:
    """All of a regular file, and its facts. Raises ImageError for one that keeps changing while it is read."""
    for pause in _PAUSES:
        data, before, after = _read_once(path, max_bytes, deadline)
        if len(data) == before.st_size == after.st_size and before.st_mtime_ns == after.st_mtime_ns:
            return data, before
        time.sleep(pause)
    raise ImageError(str(path), "it changed while it was read")


def _read_once(path: Path, max_bytes: int, deadline: Deadline) -> tuple[bytes, os.stat_result, os.stat_result]:
    """All of a regular file, and its facts before and after; of a file that grows, no more than its first size."""
    try:
        descriptor = os.open(path, _OPENING)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise ImageError(str(path), "not a regular file") from None
        raise
    try:
        facts = os.fstat(descriptor)
        if not S_ISREG(facts.st_mode):  # a pipe or a device has no end
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
