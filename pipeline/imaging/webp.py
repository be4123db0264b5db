"""WebP files: the chunks that the pixels need, the orientation and the colour profile.

Below `decode`. Source: WebP Container Specification (RFC 9649).
"""

from __future__ import annotations

from pipeline.imaging.container import MAX_METADATA, Container
from pipeline.imaging.exif import exif_orientation, xmp_orientation
from pipeline.imaging.limits import Deadline

_PIXELS = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_ALPHA, _ANIMATED = 0x10, 0x02


def is_webp(data: bytes) -> bool:
    """Whether a file begins as a WebP file does."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def read_webp(data: bytes, deadline: Deadline) -> Container:
    """Reduce a WebP file. The sizes of the whole file and of the last chunk are not believed."""
    kept: list[bytes] = []
    orientations: list[int | None] = []
    profile: bytes | None = None
    size: tuple[int, int] | None = None
    at = 12
    while at + 8 <= len(data):
        deadline.check()
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        content = data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
        if kind == b"VP8X" and not kept and len(content) >= 10:
            size = int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:10], "little") + 1
            kept.append(_chunk(kind, bytes([content[0] & (_ALPHA | _ANIMATED)]) + content[1:]))
        elif kind in _PIXELS:
            kept.append(data[at - 8 - length - length % 2 : at])
            size = size or _size(kind, content)
        elif kind == b"EXIF":
            orientations.insert(0, exif_orientation(content))
        elif kind == b"XMP ":
            orientations.append(xmp_orientation(content[:MAX_METADATA]))
        elif kind == b"ICCP" and length <= MAX_METADATA:
            profile = profile or content
    body = b"WEBP" + b"".join(kept)
    return Container(
        data=b"RIFF" + len(body).to_bytes(4, "little") + body,
        orientation=next((value for value in orientations if value is not None), 1),
        profile=profile,
        size=size,
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


def _size(kind: bytes, content: bytes) -> tuple[int, int] | None:
    """Width and height of a simple file's bitstream."""
    if kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a" and len(content) >= 10:
        return int.from_bytes(content[6:8], "little") & 0x3FFF, int.from_bytes(content[8:10], "little") & 0x3FFF
    if kind == b"VP8L" and content[:1] == b"\x2f" and len(content) >= 5:
        bits = int.from_bytes(content[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None
