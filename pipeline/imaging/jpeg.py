"""JPEG files: the segments that the pixels need, the orientation and the colour profile.

Below `decode`. Segments are found as libjpeg finds them: bytes between segments are skipped, the length of a segment
may be short. Source: ITU-T T.81, annex B; ICC.1:2022, annex B.4; Adobe TN 5116.
"""

from __future__ import annotations

from pipeline.imaging.container import MAX_METADATA, Container
from pipeline.imaging.exif import exif_orientation, xmp_orientation
from pipeline.imaging.limits import Deadline

MAGIC = b"\xff\xd8\xff"

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_APP0, _APP1, _APP2, _APP14, _COM = 0xE0, 0xE1, 0xE2, 0xEE, 0xFE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_TABLES = {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"


def read_jpeg(data: bytes, deadline: Deadline) -> Container:
    """Reduce a JPEG file. Segments that are cut off end the search; the decoder then says what is missing."""
    kept, orientations, packets, profile = [b"\xff\xd8"], [], [], _ProfileParts()
    frame, at, scans = b"", 2, len(data)
    while (found := _next_marker(data, at)) is not None:
        deadline.check()
        marker, at = found
        if marker in _WITHOUT_LENGTH:
            continue
        length = max(2, int.from_bytes(data[at : at + 2]))
        segment = data[at + 2 : at + length]
        if marker in (_SOI, _EOI, _SOS) or len(segment) < length - 2:
            scans = at - 2
            break
        at += length
        if marker in _FRAMES:
            frame = segment
        if marker in _FRAMES | _TABLES or (marker == _APP0 and segment[:5] == b"JFIF\0" and length >= 16):
            kept.append(b"\xff" + bytes([marker]) + length.to_bytes(2) + segment)
        elif marker == _APP14 and segment[:5] == b"Adobe" and length >= 14:
            kept.append(b"\xff\xee" + length.to_bytes(2) + segment)
        elif marker == _APP1 and segment.startswith(_EXIF):
            orientations.append(exif_orientation(segment))
        elif marker == _APP1 and segment.startswith(_XMP):
            packets.append(segment)
        elif marker == _APP2 and segment.startswith(_ICC):
            profile.add(segment[len(_ICC) :])
    stated = [*orientations, *map(xmp_orientation, packets)]
    return Container(
        data=b"".join(kept) + data[scans:],
        orientation=next((value for value in stated if value is not None), 1),
        profile=profile.whole(),
        complete=data.find(b"\xff\xd9", scans) >= 0,
        description=f"{frame[5]} components of {frame[0]} bits" if len(frame) > 5 else "",
    )


def has_every_scan(data: bytes) -> bool:
    """Whether the scans of a JPEG file send each coefficient of each component to its last bit.

    Only the headers of the scans are read; whether the last scan is whole they do not say.
    """
    sent: dict[int, set[int]] = {}
    components: set[int] = set()
    progressive, at = False, 2
    while (found := _next_marker(data, at)) is not None:
        marker, at = found
        if marker in _WITHOUT_LENGTH or marker in (_SOI, _EOI):
            continue
        length = max(2, int.from_bytes(data[at : at + 2]))
        segment = data[at + 2 : at + length]
        if marker in _FRAMES and len(segment) > 5:
            components = set(segment[6 : 6 + 3 * segment[5] : 3])
            progressive = marker in (0xC2, 0xC6, 0xCA, 0xCE)
        elif marker == _SOS and segment and len(segment) >= 4 + 2 * segment[0]:
            first, last, bits = segment[1 + 2 * segment[0] :][:3]
            if not progressive or not bits & 15:
                for component in segment[1 : 1 + 2 * segment[0] : 2]:
                    sent.setdefault(component, set()).update(range(first, last + 1) if progressive else range(64))
        at += length
    return bool(components) and all(len(sent.get(component, ())) >= 64 for component in components)


def _next_marker(data: bytes, at: int) -> tuple[int, int] | None:
    """The next marker from `at` on, and where its segment begins; None at the end of the file."""
    while (at := data.find(b"\xff", at)) >= 0:
        while at < len(data) and data[at] == 0xFF:  # fill bytes
            at += 1
        if at == len(data):
            return None
        if data[at]:
            return data[at], at + 1
    return None


class _ProfileParts:
    """An ICC profile in numbered segments."""

    def __init__(self) -> None:
        self._parts: dict[int, bytes] = {}
        self._count = 0
        self._size = 0

    def add(self, segment: bytes) -> None:
        if len(segment) < 2:
            return
        self._size += len(segment)
        if self._size <= MAX_METADATA:
            self._count = segment[1]
            self._parts.setdefault(segment[0], segment[2:])

    def whole(self) -> bytes | None:
        """None where parts are missing or too many."""
        if self._size > MAX_METADATA or not self._parts or sorted(self._parts) != [*range(1, self._count + 1)]:
            return None
        return b"".join(self._parts[number] for number in sorted(self._parts))
