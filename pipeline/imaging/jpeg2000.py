"""JPEG 2000 files (JP2): the codestream, what its colours need, and the colour profile.

Below `decode`. Other boxes (XMP, EXIF, resolution, georeferences) are skipped. Source: ISO/IEC 15444-1, annex I.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.imaging.container import MAX_METADATA, Container
from pipeline.imaging.limits import Deadline

MAGIC = b"\0\0\0\x0cjP  \r\n\x87\n"

_NEEDED = (b"ihdr", b"bpcc", b"pclr", b"cmap", b"cdef")
_START = b"jp2c\xff\x4f\xff\x51"
_ENUMERATED, _PROFILES = b"\1", (b"\2", b"\3")


def read_jp2(data: bytes, deadline: Deadline) -> Container:
    """Reduce a JP2 file; one without header or codestream is left as it is."""
    boxes: dict[bytes, tuple[int, int]] = {}
    for kind, start, end in _boxes(data, 0, len(data), deadline):
        boxes.setdefault(kind, (start, end))
    if b"jp2c" not in boxes and (found := data.find(_START)) >= 0:  # a box before it has a wrong length
        boxes[b"jp2c"] = found + 4, len(data)
    if not {b"ftyp", b"jp2h", b"jp2c"} <= boxes.keys():
        return Container(data)
    header, colours, profile = [], b"", None
    for kind, start, end in _boxes(data, *boxes[b"jp2h"], deadline):
        content = data[start:end]
        if kind in _NEEDED:
            header.append(_box(kind, content))
        elif kind == b"colr" and content[:1] == _ENUMERATED and len(content) >= 7:
            colours = colours or _box(kind, content)
        elif kind == b"colr" and content[:1] in _PROFILES and 3 < len(content) <= MAX_METADATA:
            profile = profile or content[3:]
    first, last = boxes[b"ftyp"]
    parts = [MAGIC, _box(b"ftyp", data[first:last]), _box(b"jp2h", b"".join([*header, colours]))]
    start, end = boxes[b"jp2c"]
    return Container(b"".join([*parts, bytes(4), b"jp2c", memoryview(data)[start:end]]), profile=profile)


def _boxes(data: bytes, at: int, end: int, deadline: Deadline) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box; the last one may be cut off. A length that cannot be ends it."""
    while at + 8 <= end:
        deadline.check()
        length, kind, head = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8], 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16]), 16
        length = length or end - at
        if length < head:
            return
        yield kind, at + head, min(at + length, end)
        at += length


def _box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4) + kind + content
