"""HEIF and AVIF files without their EXIF metadata, and JPEG XL's size before it is decoded.

Below `decode`. These formats turn pictures themselves (`irot`, `imir`); EXIF's orientation is ignored.
Sources: ISO/IEC 23008-12; ISO/IEC 14496-12; ISO/IEC 18181-1, annex D.
"""

from __future__ import annotations

import re

from pipeline.imaging.container import Container
from pipeline.imaging.limits import Deadline

# An entry of the item table, version 2 (16-bit number) or 3 (32-bit number), up to its type.
_EXIF_ITEM = re.compile(rb"(infe(?:\x02.{3}.{2}|\x03.{3}.{4}).{2})Exif", re.DOTALL)
# Pillow reads AVIF only where the first of its brands is one of these.
_FIRST_BRANDS = (b"avif", b"avis", b"mif1", b"msf1")
_RATIOS = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def read_heif(data: bytes, deadline: Deadline) -> Container:
    """Give the EXIF item of a HEIF or AVIF file a type that decoders pass over."""
    if data[8:12] not in _FIRST_BRANDS and b"avif" in data[16 : min(int.from_bytes(data[:4]), 256)]:
        data = data[:8] + b"avif" + data[12:]
    at = 0
    while at + 8 <= len(data):
        deadline.check()
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16])
        end = at + length if length else len(data)
        if kind == b"meta":
            return Container(data[:at] + _EXIF_ITEM.sub(rb"\1skip", data[at:end]) + data[end:])
        if length and length < 8:
            break
        at = end
    return Container(data)


def read_jxl(data: bytes, deadline: Deadline) -> Container:
    """The file as it is, and its size where the header can be read: the plugin decodes when it opens a file."""
    deadline.check()
    return Container(data, size=_jxl_size(_codestream(data)))


def _codestream(data: bytes) -> bytes:
    """The first bytes of the codestream of a JPEG XL file, with or without a container."""
    if data.startswith(b"\xff\x0a"):
        return data[:32]
    at = 0
    while at + 8 <= len(data):
        length, kind, head = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8], 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16]), 16
        if kind in (b"jxlc", b"jxlp"):
            start = at + head + (4 if kind == b"jxlp" else 0)
            return data[start : start + 32]
        if length < head:
            break
        at += length
    return b""


def _jxl_size(codestream: bytes) -> tuple[int, int] | None:
    if not codestream.startswith(b"\xff\x0a") or len(codestream) < 12:
        return None
    bits = int.from_bytes(codestream[2:], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & (1 << count) - 1, bits >> count
        return value

    def side(small: int) -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    small = take(1)
    height = side(small)
    ratio = take(3)
    width = height * _RATIOS[ratio][0] // _RATIOS[ratio][1] if ratio else side(small)
    return width, height
