"""Pictures whose metadata is unusual or damaged in random ways, and whose pixels are whole.

For the quick tests and for the long runs of them: each generator is endless and depends on its seed alone.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

TURNS = {1: 1, 3: 3, 6: 6, 8: 8}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
TAGS = (0x0001, 0x00FE, 0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x010E, 0x010F, 0x0110, 0x0111, 0x0112, 0x0115, 0x0116)
TAGS += (0x0117, 0x011A, 0x011B, 0x011C, 0x0128, 0x012D, 0x0131, 0x0132, 0x013B, 0x013E, 0x013F, 0x014A, 0x0152)
TAGS += (0x0201, 0x0202, 0x0211, 0x0212, 0x0213, 0x0214, 0x02BC, 0x4746, 0x8298, 0x829A, 0x829D, 0x83BB, 0x8649)
TAGS += (0x8769, 0x8773, 0x8822, 0x8825, 0x8827, 0x9000, 0x9003, 0x9101, 0x927C, 0x9286, 0xA001, 0xA005, 0xA40B, 0xC4A5)


def scene(width: int = 24, height: int = 16) -> Image.Image:
    """A picture of which no turn or flip looks like another."""
    rng = np.random.default_rng(7)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(kind: str, **options: Any) -> bytes:
    """The scene, or the image `im`, in a format of Pillow's."""
    stream = io.BytesIO()
    (options.pop("im", None) or scene()).save(stream, kind, **options)
    return stream.getvalue()


def exif_block(entries: list[tuple[int, int, int, bytes]], order: str = "<") -> bytes:
    """A TIFF structure with one directory; entries are tag, type, count and value."""
    offset, behind = 8 + 2 + 12 * len(entries) + 4, b""
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in sorted(entries):
        directory += struct.pack(f"{order}HHI", tag, kind, count)
        if len(value) <= 4:
            directory += value.ljust(4, b"\0")
        else:
            directory += struct.pack(f"{order}I", offset + len(behind))
            behind += value
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}I", 8) + directory + bytes(4) + behind


def orientation_entry(orientation: int, order: str = "<") -> tuple[int, int, int, bytes]:
    """The usual form of the tag."""
    return (0x0112, 3, 1, struct.pack(f"{order}H", orientation))


def random_exif(seed: int) -> Iterator[tuple[bytes, int]]:
    """EXIF blocks with a readable orientation beside other tags of any type and value; the orientation."""
    rng = random.Random(seed)
    while True:
        order, orientation = rng.choice("<>"), rng.randint(1, 8)
        entries = [orientation_entry(orientation, order)]
        for _ in range(rng.randint(1, 6)):
            tag = rng.choice((*TAGS, rng.randrange(65536)))
            kind = rng.choice((*_SIZES, rng.randrange(65536)))
            count = rng.choice((0, 1, 1, 2, 3, rng.randrange(40)))
            value = rng.randbytes(_SIZES.get(kind, 1) * count)
            if rng.random() < 0.2:  # a count that its value does not have
                count = rng.randrange(1 << 32)
            if tag != 0x0112:
                entries.append((tag, kind, count, value))
        yield exif_block(entries, order), orientation


def png_chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    """One chunk, with its own or another checksum."""
    own = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", own)


def random_png(seed: int) -> Iterator[bytes]:
    """The scene as PNG with damaged ancillary chunks before and behind its pixels."""
    rng = random.Random(seed)
    plain = encoded("PNG")
    kinds = [b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST"]
    kinds += [b"tIME", b"sPLT", b"acTL", b"fcTL", b"prVt", b"caBX", b"tRNS", b"cICP", b"mDCV"]
    while True:
        front, behind = b"", b""
        for _ in range(rng.randint(1, 4)):
            kind = rng.choice(kinds)
            content = _png_content(rng, kind)
            checksum = rng.randrange(1 << 32) if rng.random() < 0.3 else None
            made = png_chunk(kind, content, checksum)
            if rng.random() < 0.3 and kind != b"tRNS":
                behind += made
            else:
                front += made
        yield plain[:33] + front + plain[33:-12] + behind + (plain[-12:] if rng.random() < 0.8 else b"")


def _png_content(rng: random.Random, kind: bytes) -> bytes:
    if kind == b"tRNS":  # of a length that no RGB picture has: one that fits would be transparency
        return rng.randbytes(rng.choice((0, 1, 2, 3, 5, 7, 256)))
    text = rng.randbytes(rng.choice((0, 5, 100, 5000)))
    packed = zlib.compress(bytes(rng.choice((10, 3 << 20)))) if rng.random() < 0.1 else zlib.compress(text)
    if rng.random() < 0.3:
        packed = packed[: rng.randrange(len(packed) + 1)]
    bodies = {
        b"iCCP": b"name\0" + rng.choice((b"\0", b"\1", b"")) + packed,
        b"zTXt": b"Comment\0" + rng.choice((b"\0", b"\7", b"")) + packed,
        b"iTXt": b"XML:com.adobe.xmp\0" + rng.choice((b"\0\0", b"\1\0", b"\1\5", b"")) + b"\0\0" + packed,
        b"tEXt": rng.choice((b"Raw profile type exif", b"Title", b"")) + rng.choice((b"\0", b"")) + text,
        b"eXIf": rng.choice((text, b"II*\0" + text, b"MM\0*\0\0\0\x08" + bytes(40))),
    }
    return bodies.get(kind, rng.randbytes(rng.choice((0, 1, 4, 9, 26, 33)))) if rng.random() < 0.8 else text


def random_jpeg(seed: int) -> Iterator[bytes]:
    """The scene as JPEG with unusual and damaged application segments and comments, and bytes between segments."""
    rng = random.Random(seed)
    plains = [encoded("JPEG", quality=90), encoded("JPEG", quality=90, progressive=True)]
    names = [b"", b"JFIF\0", b"JFXX\0", b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"MPF\0"]
    names += [b"FPXR\0", b"Photoshop 3.0\0", b"Photoshop 3.0\x008BIM", b"Adobe", b"Ducky", b"CICP"]
    while True:
        plain = rng.choice(plains)
        front = b""
        for _ in range(rng.randint(1, 5)):
            marker = rng.choice((*range(0xE0, 0xF0), 0xFE, 0xFE))
            name = rng.choice(names)
            content = name[: rng.choice((len(name), rng.randrange(len(name) + 1)))] + rng.randbytes(rng.randrange(40))
            if (marker == 0xEE and content[:5] == b"Adobe") or marker == 0xE0:
                content = content[:4]  # whole ones would change the colours
            if rng.random() < 0.2:  # a valid tag in what was said to be longer
                content += exif_block([orientation_entry(1)])
            length = len(content) + 2
            if rng.random() < 0.1:
                content, length = b"", rng.randrange(2)  # shorter than the length itself
            fill = b"\xff" * rng.randint(0, 3) if rng.random() < 0.2 else b""
            junk = rng.randbytes(4).replace(b"\xff", b"\0") if rng.random() < 0.1 else b""
            front += fill + b"\xff" + bytes([marker]) + struct.pack(">H", length) + content + junk
        ending = rng.choice((b"", b"\xff\xd9", b"\xff\xd9", b"\0\0\xff\xd9", b"\xff\xd9" + rng.randbytes(50)))
        yield plain[:2] + front + plain[2:-2] + ending
