"""Camera raw files (DNG) made by hand, with and without a preview."""

from __future__ import annotations

import struct

import numpy as np

Tag = tuple[int, int, int, bytes]

_MATRIX = tuple(v for n in (3134, -1617, -491, -979, 1916, 33, 72, -229, 1405) for v in (n, 1000))


def raw_file(pixels: np.ndarray, preview: bytes | None = None, orientation: int = 1) -> bytes:
    """A DNG of an RGGB sensor without compression.

    Args:
        pixels: what the sensor sees, [H, W, 3] uint8 with H and W even.
        preview: an encoded JPEG; it becomes the first page, and the sensor's page one below it.
        orientation: of EXIF.
    """
    height, width = pixels.shape[:2]
    sensor = np.zeros((height, width), np.uint16)
    for y, x, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        sensor[y::2, x::2] = pixels[y::2, x::2, channel].astype(np.uint16) * 257
    page = [
        *_size(width, height, 16, 1, 32803, 1, sensor.nbytes),
        (33421, 3, 2, struct.pack("<HH", 2, 2)),
        (33422, 1, 4, bytes([0, 1, 1, 2])),
        (50714, 3, 1, struct.pack("<H", 0)),
        (50717, 4, 1, struct.pack("<I", 65535)),
    ]
    camera = [
        (271, 2, 6, b"maker\0"),
        (272, 2, 6, b"model\0"),
        (274, 3, 1, struct.pack("<H", orientation)),
        (50706, 1, 4, bytes([1, 4, 0, 0])),
        (50708, 2, 6, b"model\0"),
        (50721, 10, 9, struct.pack("<18i", *_MATRIX)),
        (50728, 5, 3, struct.pack("<6I", 1, 1, 1, 1, 1, 1)),
        (50778, 3, 1, struct.pack("<H", 21)),
    ]
    content = sensor.astype("<u2").tobytes()
    if preview is None:
        body = _page([(254, 4, 1, bytes(4)), *page, *camera], 8, content)
        return b"II*\0" + struct.pack("<I", 8) + body
    below = _page([(254, 4, 1, bytes(4)), *page], 8, content)
    start = 8 + len(below)
    first = _size(width, height, 8, 7, 6, 3, len(preview))
    reduced = (254, 4, 1, struct.pack("<I", 1))
    body = _page([reduced, *first, *camera, (330, 4, 1, struct.pack("<I", 8))], start, preview)
    return b"II*\0" + struct.pack("<I", start) + below + body


def _size(width: int, height: int, bits: int, compression: int, photometric: int, samples: int, size: int) -> list[Tag]:
    return [
        (256, 4, 1, struct.pack("<I", width)),
        (257, 4, 1, struct.pack("<I", height)),
        (258, 3, samples, struct.pack("<H", bits) * samples),
        (259, 3, 1, struct.pack("<H", compression)),
        (262, 3, 1, struct.pack("<H", photometric)),
        (273, 4, 1, b"DATA"),
        (277, 3, 1, struct.pack("<H", samples)),
        (278, 4, 1, struct.pack("<I", height)),
        (279, 4, 1, struct.pack("<I", size)),
        (284, 3, 1, struct.pack("<H", 1)),
    ]


def _page(tags: list[Tag], at: int, content: bytes) -> bytes:
    """A directory that begins at `at`, the values that do not fit into it, and the content of its one strip."""
    start = at + 2 + 12 * len(tags) + 4
    total = sum(len(value) for *_, value in tags if len(value) > 4)
    total += total % 2
    behind, directory = b"", struct.pack("<H", len(tags))
    for tag, kind, count, value in sorted(tags):
        value = struct.pack("<I", start + total) if value == b"DATA" else value
        directory += struct.pack("<HHI", tag, kind, count)
        if len(value) > 4:
            directory += struct.pack("<I", start + len(behind))
            behind += value
        else:
            directory += value.ljust(4, b"\0")
    padding = bytes((total + len(content)) % 2)
    return directory + bytes(4) + behind.ljust(total, b"\0") + content + padding
