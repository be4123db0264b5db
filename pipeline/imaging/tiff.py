"""TIFF files: the tags that the first page's pixels need, the orientation, the colour profile and the range of samples.

Below `decode`. The file stays as it is; a directory without other tags is put behind it. Sources: TIFF 6.0; BigTIFF;
ICC.1:2022, annex B; DNG 1.7 and the vendors' raw files, which are TIFF files too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pipeline.imaging.container import MAX_METADATA, Container
from pipeline.imaging.exif import ORIENTATION, orientation_value, xmp_orientation
from pipeline.imaging.limits import Deadline

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SUBFILE = 256, 257, 258, 259, 262, 254
_SAMPLES, _MAX_VALUE, _SUB_IFDS, _FORMAT, _XMP, _ICC, _DNG = 277, 281, 330, 339, 700, 34675, 50706
_NEEDED = {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, 266, 273, _SAMPLES, 278, 279, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 332, 338, _FORMAT, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 532, 50674),
}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_FORMATS = {1: "integer", 2: "signed integer", 3: "float", 5: "complex integer", 6: "complex float"}
_PHOTOMETRICS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "LAB"}
_SENSOR = (32803, 34892)  # values of a colour filter array, linear raw
_RAW_COMPRESSIONS = (32767, 32770, 34713, 65535)  # Sony, Samsung, Nikon, Pentax
_MOST_TAGS = 4096


@dataclass(frozen=True)
class _Tag:
    kind: int
    count: int
    field: int
    entry: bytes


@dataclass(frozen=True)
class _Layout:
    """How directories are written: byte order, bytes of an offset (4, in BigTIFF 8)."""

    data: bytes
    order: str
    wide: bool

    def number(self, at: int, code: str) -> int:
        return int(struct.unpack_from(f"{self.order}{code}", self.data, at)[0])

    @property
    def offset(self) -> str:
        return "Q" if self.wide else "I"

    def directory(self, at: int) -> dict[int, _Tag]:
        """The tags of a directory. Raises struct.error where it is cut off."""
        head, length = (8, 20) if self.wide else (2, 12)
        entries = min(self.number(at, "Q" if self.wide else "H"), _MOST_TAGS)
        tags: dict[int, _Tag] = {}
        for entry in range(at + head, at + head + length * entries, length):
            tag, kind = self.number(entry, "H"), self.number(entry + 2, "H")
            field = entry + (12 if self.wide else 8)
            tags.setdefault(
                tag, _Tag(kind, self.number(entry + 4, self.offset), field, self.data[entry : entry + length])
            )
        return tags

    def content(self, tag: _Tag, most: int) -> bytes:
        """The bytes of a tag's values; b"" where they are more than `most` or the file ends before them."""
        size = _SIZES.get(tag.kind, 1) * tag.count
        if size > most:
            return b""
        start = tag.field if size <= (8 if self.wide else 4) else self.number(tag.field, self.offset)
        content = self.data[start : start + size]
        return content if len(content) == size else b""

    def integers(self, tags: dict[int, _Tag], number: int) -> tuple[int, ...]:
        """The values of an integer tag; () where there are none."""
        tag = tags.get(number)
        code = _INTEGERS.get(tag.kind) if tag else None
        content = self.content(tag, 1024) if tag and code else b""
        return struct.unpack(f"{self.order}{tag.count}{code}", content) if tag and content else ()


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as a TIFF or BigTIFF file does."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tiff(data: bytes, deadline: Deadline) -> Container:
    """Reduce a TIFF file to its first page. One whose directory is cut off is left as it is."""
    deadline.check()
    layout = _layout(data)
    try:
        tags = layout.directory(layout.number(8 if layout.wide else 4, layout.offset))
    except struct.error:
        return Container(data)
    kept = b"".join(tag.entry for number, tag in sorted(tags.items()) if number in _NEEDED)
    count = sum(number in _NEEDED for number in tags)
    start = len(data) + len(data) % 2
    if start >= 1 << 32 and not layout.wide:
        return Container(data)
    head = struct.pack(f"{layout.order}{'Q' if layout.wide else 'H'}", count)
    directory = head + kept + bytes(8 if layout.wide else 4)
    front = data[: 8 if layout.wide else 4] + struct.pack(f"{layout.order}{layout.offset}", start)
    return Container(
        data=b"".join([front, memoryview(data)[len(front) :], bytes(len(data) % 2), directory]),
        orientation=_orientation(layout, tags),
        profile=(layout.content(tags[_ICC], MAX_METADATA) or None) if _ICC in tags else None,
        white=_white(layout, tags),
        description=_description(layout, tags),
    )


def is_raw(data: bytes) -> bool:
    """Whether a TIFF file is a camera raw file, whose first page is often no more than a thumbnail."""
    if data[8:10] == b"CR":  # Canon
        return True
    layout = _layout(data)
    try:
        tags = layout.directory(layout.number(8 if layout.wide else 4, layout.offset))
        below = layout.integers(tags, _SUB_IFDS)[:8]
        pages = [tags, *(layout.directory(at) for at in below)]
    except struct.error:
        return False
    return _DNG in tags or any(
        layout.integers(page, _PHOTOMETRIC)[:1] in [(value,) for value in _SENSOR]
        or layout.integers(page, _COMPRESSION)[:1] in [(value,) for value in _RAW_COMPRESSIONS]
        for page in pages
    )


def _layout(data: bytes) -> _Layout:
    return _Layout(data, "<" if data[:2] == b"II" else ">", b"+" in data[2:4])


def _orientation(layout: _Layout, tags: dict[int, _Tag]) -> int:
    if (tag := tags.get(ORIENTATION)) is not None:
        inline = 8 if layout.wide else 4
        return orientation_value(layout.data, layout.order, tag.kind, tag.count, tag.field, inline)
    packet = layout.content(tags[_XMP], MAX_METADATA) if _XMP in tags else b""
    return xmp_orientation(packet) or 1


def _white(layout: _Layout, tags: dict[int, _Tag]) -> int | None:
    """From the bits of a sample, or from the largest value that the file states."""
    bits = max(layout.integers(tags, _BITS), default=1)
    if 8 < bits < 16:
        return (1 << bits) - 1
    largest = max(layout.integers(tags, _MAX_VALUE), default=0)
    return largest if bits == 16 and 255 < largest < 65535 else None


def _description(layout: _Layout, tags: dict[int, _Tag]) -> str:
    bits = "/".join(map(str, sorted(set(layout.integers(tags, _BITS)[:8])) or [1]))
    kind = _FORMATS.get(next(iter(layout.integers(tags, _FORMAT)), 1), "unknown")
    colour = next(iter(layout.integers(tags, _PHOTOMETRIC)), 0)
    samples = next(iter(layout.integers(tags, _SAMPLES)), 1)
    compression = next(iter(layout.integers(tags, _COMPRESSION)), 1)
    name = _PHOTOMETRICS.get(colour, f"photometric {colour}")
    return f"{name}, {samples} x {bits}-bit {kind}, compression {compression}"
