"""GIF files: the first frame and its palette, without the extensions that its pixels do not need.

Below `decode`. Source: GIF89a specification (CompuServe, 1990).
"""

from __future__ import annotations

from pipeline.imaging.container import Container
from pipeline.imaging.limits import Deadline

_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9
_SCREEN, _DESCRIPTOR = 13, 10


def is_gif(data: bytes) -> bool:
    """Whether a file begins as a GIF file does."""
    return data[:6] in (b"GIF87a", b"GIF89a")


def read_gif(data: bytes, deadline: Deadline) -> Container:
    """Reduce a GIF file to its first frame; one without a frame is left as it is. Bytes between blocks are skipped."""
    at = start = _SCREEN + _palette(data, _SCREEN - 3)
    control = b""
    while at < len(data) and data[at] != _END:
        deadline.check()
        if data[at] == _IMAGE:
            packed = at + _DESCRIPTOR + _palette(data, at + _DESCRIPTOR - 1)
            end = _end_of_blocks(data, packed + 1)  # behind the number of bits of a code
            whole = end <= len(data)
            return Container(b"".join([data[:start], control, data[at:end], bytes([_END]) if whole else b""]))
        if data[at] == _EXTENSION:
            end = _end_of_blocks(data, at + 2)
            if data[at + 1 : at + 3] == bytes([_GRAPHIC_CONTROL, 4]) and end == at + 8:
                control = data[at:end]
            at = end
        else:
            at += 1
    return Container(data)


def _palette(data: bytes, flags: int) -> int:
    """Bytes of the palette that the byte at `flags` announces."""
    value = data[flags] if flags < len(data) else 0
    return 3 << (value & 7) + 1 if value & 0x80 else 0


def _end_of_blocks(data: bytes, at: int) -> int:
    """Where the blocks that begin at `at` end; beyond the file where they are cut off."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1
