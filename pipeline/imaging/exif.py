"""The orientation of a picture, from EXIF or XMP metadata, and nothing else of them.

Below the readers of containers (`jpeg`, `png`, `webp`, `tiff`, ...) and `decode`. Other tags are never parsed, so a
broken or unusual one cannot cost a picture. Sources: EXIF 2.32 (CIPA DC-008), TIFF 6.0.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from PIL import Image

ORIENTATION: Final = 0x0112

# TIFF's numeric types: the struct code of one value. Rationals are handled apart.
_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q"}
_RATIONALS = {5: "II", 10: "ii"}
_IN_XMP = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>)\s*([0-9]+)""")
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def exif_orientation(block: bytes) -> int | None:
    """The orientation that an EXIF block states: 1 to 8, 1 for any other value, None where the block states none.

    Args:
        block: a TIFF structure, with or without `Exif\\0\\0` or a four-byte offset (JPEG XL, HEIF) before it.
    """
    start = next((at for at in (0, 6, 4, 10) if block[at : at + 4] in (b"II*\0", b"MM\0*")), None)
    if start is None:
        return None
    block = block[start:]
    order = "<" if block[:2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", block, entry)
            if tag == ORIENTATION:
                return orientation_value(block, order, kind, values, entry + 8)
    except struct.error:  # the block ends before its directory does
        return None
    return None


def orientation_value(block: bytes, order: str, kind: int, count: int, field: int, inline: int = 4) -> int:
    """The first value of an orientation tag, 1 where it is not one of 1 to 8.

    Args:
        block: a TIFF structure.
        order: "<" or ">".
        kind: the TIFF type of the tag.
        count: of its values.
        field: where the value or its offset is.
        inline: bytes of the field; longer values are elsewhere. 8 in BigTIFF.
    """
    code = _TYPES.get(kind) or _RATIONALS.get(kind)
    if code is None or not count:
        return 1
    layout = f"{order}{code}"
    try:
        if struct.calcsize(layout) * count > inline:
            (field,) = struct.unpack_from(f"{order}{'I' if inline == 4 else 'Q'}", block, field)
        parts = struct.unpack_from(layout, block, field)
    except (struct.error, OverflowError):
        return 1
    value = parts[0] / (parts[1] or float("inf")) if kind in _RATIONALS else parts[0]
    return int(value) if value in range(1, 9) else 1


def xmp_orientation(packet: bytes) -> int | None:
    """The `tiff:Orientation` of an XMP packet, as `exif_orientation` gives it."""
    match = _IN_XMP.search(packet)
    if match is None:
        return None
    value = int(match[1][:3])
    return value if value in range(1, 9) else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture turned and flipped as its orientation (1 to 8) requires."""
    method = _TRANSPOSE.get(orientation)
    return image if method is None else image.transpose(method)
