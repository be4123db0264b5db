"""WebP files: the chunks that the pixels need, the orientation and the colour profile.

Below `decode`. Source: WebP Container Specification (RFC 9649).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.imaging.container import MAX_METADATA, Container
from pipeline.imaging.exif import exif_orientation, xmp_orientation
from pipeline.imaging.limits import Deadline

_PIXELS = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_FIRST_PIXELS = re.compile(rb"VP8 .{7}\x9d\x01\x2a|VP8L.{4}\x2f|ALPH.{4}[\x00-\x3f]|ANIM\x06\0\0\0", re.DOTALL)
_ALPHA, _ANIMATED = 0x10, 0x02


def is_webp(data: bytes) -> bool:
    """Whether a file begins as a WebP file does."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def read_webp(data: bytes, deadline: Deadline) -> Container:
    """Reduce a WebP file. The sizes of the whole file and of the last chunk are not believed."""
    chunks = list(_chunks(data, 12, deadline))
    if not any(kind in _PIXELS for kind, *_ in chunks) and (found := _FIRST_PIXELS.search(data, 12)):
        # A chunk before the pixels has a wrong length.
        chunks = [*chunks[:1], *_chunks(data, found.start(), deadline)]
    orientations: list[int | None] = []
    profile: bytes | None = None
    kept: list[bytes] = []
    size: tuple[int, int] | None = None
    animated = _ANIMATED if any(kind == b"ANMF" for kind, *_ in chunks) else 0
    for kind, start, end, behind in chunks:
        content = data[start:end]
        if kind == b"VP8X" and not kept and len(content) >= 10:
            size = int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:10], "little") + 1
            kept.append(_chunk(kind, bytes([content[0] & _ALPHA | animated]) + content[1:]))
        elif kind in _PIXELS:
            kept.append(data[start - 8 : behind])
            size = size or _size(kind, content)
        elif kind == b"EXIF":
            orientations.insert(0, exif_orientation(content))
        elif kind == b"XMP ":
            orientations.append(xmp_orientation(content[:MAX_METADATA]))
        elif kind == b"ICCP" and end - start <= MAX_METADATA:
            profile = profile or content
    body = b"WEBP" + b"".join(kept)
    return Container(
        data=b"RIFF" + len(body).to_bytes(4, "little") + body,
        orientation=next((value for value in orientations if value is not None), 1),
        profile=profile,
        size=size,
    )


def _chunks(data: bytes, at: int, deadline: Deadline) -> Iterator[tuple[bytes, int, int, int]]:
    """Of each chunk its kind, where its content starts and ends, and where the next chunk starts."""
    while at + 8 <= len(data):
        deadline.check()
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        behind = at + 8 + length + length % 2
        yield data[at : at + 4], at + 8, at + 8 + length, behind
        at = behind


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
