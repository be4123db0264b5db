"""Pictures of further formats whose metadata is unusual or damaged in random ways, and whose pixels are whole.

Beside `damaged_metadata`, which has EXIF, PNG and JPEG. Each generator is endless and depends on its seed alone.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from damaged_metadata import encoded, exif_block, orientation_entry, scene

WEBP = {"lossless": True}
AVIF = {"quality": 100, "subsampling": "4:4:4"}
GIF = {"im": scene().quantize(16)}
JPEG2000 = {"irreversible": False}


def random_webp(seed: int) -> Iterator[bytes]:
    """Chunks of metadata with random content around the pixels; lengths, flags and the file's size may be wrong."""
    rng = random.Random(seed)
    pixels = encoded("WEBP", **WEBP)[12:]
    while True:
        parts = [_riff(b"VP8X", bytes([rng.randrange(256)]) + bytes(3) + b"\x17\0\0\x0f\0\0")]
        parts += [_random_riff(rng) for _ in range(rng.randrange(3))]
        parts.append(pixels)
        parts += [_random_riff(rng) for _ in range(rng.randrange(3))]
        body = b"WEBP" + b"".join(parts)
        size = rng.choice((len(body), len(body), 0, 0xFFFFFFFF, rng.randrange(1 << 32)))
        yield b"RIFF" + struct.pack("<I", size) + body


def random_gif(seed: int) -> Iterator[bytes]:
    """Extensions of any label and length, and bytes between blocks, before the frame and behind it."""
    rng = random.Random(seed)
    plain = encoded("GIF", **GIF)
    frame = plain.index(b",\0\0\0\0\x18\0\x10\0")
    while True:
        parts = [plain[:frame]]
        for _ in range(rng.randint(1, 4)):
            blocks = [rng.randbytes(rng.choice((1, 3, 4, 11, 200))) for _ in range(rng.randrange(4))]
            if rng.random() < 0.5:
                blocks = [rng.choice((b"NETSCAPE2.0", b"XMP DataXMP", b"ICCRGBG1012")), *blocks]
            label = rng.choice((0xFE, 0xFF, 0x01, rng.randrange(256)))
            if label != 0xF9 or (blocks and len(blocks[0]) != 4):  # a whole graphic control would state transparency
                parts.append(b"!" + bytes([label]) + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0")
            if rng.random() < 0.2:
                parts.append(rng.randbytes(5).translate(bytes(byte & 0x1F for byte in range(256))))
        yield b"".join([*parts, plain[frame:-1], rng.choice((b"", b";", b"!\xfe\3abc\0;", b";" + rng.randbytes(20)))])


def random_jp2(seed: int) -> Iterator[bytes]:
    """Boxes of metadata of any content beside those of the picture, and in its header; lengths may be wrong."""
    rng = random.Random(seed)
    plain = encoded("JPEG2000", **JPEG2000)
    header, stream = plain.index(b"jp2h") - 4, plain.index(b"jp2c") - 4
    first, found = plain[header + 8 : plain.index(b"colr") - 4], plain[plain.index(b"colr") - 4 : stream]
    while True:
        inside = [_random_box(rng, (b"res ", b"colr", b"zzzz")) for _ in range(rng.randrange(3))]
        whole = first + b"".join([*inside, found] if rng.random() < 0.5 else [found, *inside])
        before = b"".join(_random_box(rng, (b"uuid", b"xml ", b"uinf", b"free")) for _ in range(rng.randrange(3)))
        if before and rng.random() < 0.2:
            before = struct.pack(">I", rng.randrange(1 << 32)) + before[4:]
        behind = b"".join(_random_box(rng, (b"uuid", b"xml ", b"free")) for _ in range(rng.randrange(3)))
        behind = behind[: rng.randrange(len(behind) + 1)] if rng.random() < 0.3 else behind
        codestream = struct.pack(">I", len(plain) - stream) + plain[stream + 4 :]
        yield plain[:header] + _box(b"jp2h", whole) + before + codestream + behind


def random_tiff(seed: int) -> Iterator[bytes]:
    """Tags that the pixels do not need, of any type, count and offset; the next directory may be anywhere."""
    rng = random.Random(seed)
    plains = [encoded("TIFF"), *(encoded("TIFF", compression=f"tiff_{name}") for name in ("lzw", "adobe_deflate"))]
    tags = (269, 270, 271, 305, 306, 316, 700, 33432, 33723, 34377, 34665, 34675, 34853, 37500, 40965, 50341, 59932)
    while True:
        plain = rng.choice(plains)
        at = int.from_bytes(plain[4:8], "little")
        count = int.from_bytes(plain[at : at + 2], "little")
        entries = {plain[q : q + 2]: plain[q : q + 12] for q in range(at + 2, at + 2 + 12 * count, 12)}
        content = rng.randbytes(300)
        place = len(plain) + len(plain) % 2
        for tag in rng.sample(tags, rng.randint(1, 6)):
            kind = rng.choice((*range(1, 14), rng.randrange(65536)))
            number = rng.choice((0, 1, 2, 20, rng.randrange(1 << 32)))
            value = rng.choice((place, rng.randrange(len(plain)), rng.randrange(1 << 32)))
            entries.setdefault(struct.pack("<H", tag), struct.pack("<HHII", tag, kind, number, value))
        directory = b"".join(sorted(entries.values(), key=lambda entry: entry[1::-1]))
        after = struct.pack("<I", rng.choice((0, 8, 0xFFFFFFFF, rng.randrange(1 << 32))))
        start = struct.pack("<I", place + len(content))
        padded = plain.ljust(place, b"\0")
        yield padded[:4] + start + padded[8:] + content + struct.pack("<H", len(entries)) + directory + after


def random_avif(seed: int) -> Iterator[bytes]:
    """EXIF, XMP and the colour profile overwritten, the first brand another one, bytes behind the last box."""
    rng = random.Random(seed)
    exif = exif_block([(0x010F, 2, 30, b"the name of whoever made it..\0")])
    packet, profile = b"<x:xmpmeta>" + b"x" * 60, b"a colour profile " * 12
    plain = encoded("AVIF", exif=exif, xmp=packet, icc_profile=profile, **AVIF)
    while True:
        made = bytearray(plain)
        for content in (exif, packet, profile):
            at = plain.index(content)
            if rng.random() < 0.7:
                made[at : at + len(content)] = rng.randbytes(len(content))
        made[8:12] = rng.choice((b"avif", b"mif1", b"miaf", b"MA1B", b"isom", bytes(made[8:12])))
        yield bytes(made) + rng.choice((b"", rng.randbytes(7), _random_box(rng, (b"free", b"uuid"))))


def random_bmp(seed: int) -> Iterator[bytes]:
    """Fields that say what is known otherwise: sizes of file and pixels, resolution, colours in use; bytes behind."""
    rng = random.Random(seed)
    plain = encoded("BMP")
    while True:
        made = bytearray(plain)
        for at in (2, 6, 34, 38, 42, 50):
            if rng.random() < 0.5:
                made[at : at + 4] = rng.choice((bytes(4), b"\xff" * 4, rng.randbytes(4)))
        yield bytes(made) + rng.randbytes(rng.choice((0, 1, 50)))


def _riff(kind: bytes, content: bytes, length: int | None = None) -> bytes:
    length = len(content) if length is None else length
    return kind + struct.pack("<I", length) + content + b"\0" * (len(content) % 2)


def _random_riff(rng: random.Random) -> bytes:
    kind, content = rng.choice((b"ICCP", b"EXIF", b"XMP ", b"zzzz")), rng.randbytes(rng.choice((0, 1, 7, 300)))
    if kind == b"EXIF" and rng.random() < 0.5:
        content = exif_block([orientation_entry(1)]) + content
    wrong = rng.choice((0, len(content) + 1, len(content) + 30, rng.randrange(1 << 32)))
    return _riff(kind, content, wrong if rng.random() < 0.2 else None)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def _random_box(rng: random.Random, kinds: tuple[bytes, ...]) -> bytes:
    kind = rng.choice(kinds)
    content = rng.randbytes(rng.choice((0, 1, 20, 300, 2_000_000 if rng.random() < 0.05 else 3)))
    if kind == b"colr":  # by a profile: another enumerated colour space would be believed
        content = b"\2" + content
    return _box(kind, content)
