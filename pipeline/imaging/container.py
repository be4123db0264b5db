"""What a picture file says beside its pixels, and the file without the rest of its metadata.

Made by the readers of containers (`jpeg`, `png`, `webp`, `gif`, `tiff`, ...) for `decode`. Pillow then sees only what
it needs for the pixels: a metadata block that it cannot parse does not cost the picture.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

# Larger colour profiles and text blocks are skipped. The largest profiles in use (CMYK, with tables) have about 3 MB.
MAX_METADATA = 8 << 20


@dataclass(frozen=True)
class Container:
    """A picture file reduced to what its pixels need.

    Attributes:
        data: the file without its other metadata.
        orientation: 1 to 8, as in EXIF.
        profile: an ICC profile, None where there is none.
        white: of 16-bit samples the value of white where the file states fewer significant bits, such as 4095.
        complete: False: the end marker is missing, and whether all pixels are there is unknown.
        size: width and height as stored, None where the reader does not know them before decoding.
        description: the samples in words, for error messages; "" where the reader does not know them.
    """

    data: bytes
    orientation: int = 1
    profile: bytes | None = None
    white: int | None = None
    complete: bool = True
    size: tuple[int, int] | None = None
    description: str = ""


def inflate(data: bytes, limit: int = MAX_METADATA) -> bytes | None:
    """A zlib stream of at most `limit` bytes; None where it is longer or damaged."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, limit)
    except zlib.error:
        return None
    return content if stream.eof else None
