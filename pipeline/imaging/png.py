"""PNG files: the chunks that the pixels need, the orientation, the colour profile and the significant bits.

Below `decode`. Chunks with a wrong checksum are used where their content can be; a header only where the pixels have
exactly the size that it states. Text is skipped. Of an animated PNG the default image is kept. Source: PNG
specification, third edition (W3C, 2025).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

from pipeline.imaging.colour_spaces import coded_profile, matrix_profile
from pipeline.imaging.container import MAX_METADATA, Container, inflate
from pipeline.imaging.exif import exif_orientation, xmp_orientation
from pipeline.imaging.limits import Deadline

MAGIC = b"\x89PNG\r\n\x1a\n"

_XMP = b"XML:com.adobe.xmp"
_HEX_EXIF = (b"Raw profile type exif", b"Raw profile type APP1")
_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column and row of each pass of an interlaced picture, and the steps to its next ones.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PRIMARIES_COUNT = 8
_BLOCK = 1 << 16


def read_png(data: bytes, deadline: Deadline) -> Container:
    """Reduce a PNG file. Chunks behind a broken one are not read; the decoder then says what is missing."""
    header, checksum = b"", b""
    kept: list[bytes] = []
    pixels: list[tuple[int, int]] = []
    found: dict[bytes, bytes] = {}
    orientations: list[int | None] = []
    whole = False
    for kind, start, end in _chunks(data, deadline):
        content = data[start:end]
        if kind == b"IHDR" and not header:
            header, checksum = content, data[end : end + 4]
        elif kind == b"PLTE" or (kind == b"tRNS" and _fits(content, header)):
            kept.append(_chunk(kind, content))
        elif kind == b"IDAT":
            pixels.append((start, end))
            whole = int.from_bytes(data[start - 8 : start - 4]) == end - start
        elif kind == b"eXIf":
            orientations.insert(0, exif_orientation(content))
        elif kind in (b"iTXt", b"zTXt", b"tEXt") and len(orientations) < 16:
            orientations.append(_orientation_of_text(kind, content))
        elif kind in (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"sBIT") and not pixels:
            found.setdefault(kind, content)
    if header and zlib.crc32(b"IHDR" + header) != int.from_bytes(checksum):
        checksum = checksum if _differs(header, [data[start:end] for start, end in pixels], deadline) else b""
    depth, colour = (header[8], header[9]) if len(header) == 13 else (0, 0)
    return Container(
        # Behind pixels that are cut off nothing may follow: it would be read as pixels.
        data=b"".join(
            [
                MAGIC,
                _chunk(b"IHDR", header, checksum) if header else b"",
                *kept,
                *(data[start - 8 : end + 4] for start, end in pixels),
                _chunk(b"IEND", b"") if whole else b"",
            ]
        ),
        orientation=next((value for value in orientations if value is not None), 1),
        profile=_profile(found),
        white=_white(found.get(b"sBIT", b""), depth),
        description=f"{depth}-bit {_COLOURS.get(colour, f'colour type {colour}')}",
    )


def _chunks(data: bytes, deadline: Deadline) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk's content; a last one that is cut off ends with the file."""
    at = len(MAGIC)
    while at + 8 <= len(data):
        deadline.check()
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        if not kind.isalpha():
            return
        end = min(at + 8 + length, len(data))
        yield kind, at + 8, end
        if kind == b"IEND":
            return
        at += 12 + length


def _chunk(kind: bytes, content: bytes, checksum: bytes = b"") -> bytes:
    """One chunk, with its own checksum or a new one."""
    checksum = checksum or struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def _differs(header: bytes, parts: Sequence[bytes], deadline: Deadline) -> bool:
    """Whether the pixels do not have exactly the size that the header states, or are damaged themselves."""
    size, count, stream = _unpacked_size(header), 0, zlib.decompressobj()
    try:
        for part in parts:
            for at in range(0, len(part), _BLOCK):
                rest = part[at : at + _BLOCK]
                while True:
                    deadline.check()
                    made = len(stream.decompress(rest, _BLOCK))
                    count, rest = count + made, stream.unconsumed_tail
                    if count > size:
                        return True
                    if made < _BLOCK and not rest:
                        break
    except zlib.error:
        return True
    return not stream.eof or count != size


def _unpacked_size(header: bytes) -> int:
    """Bytes of all rows and of the filter before each; 0 for a header that states no picture."""
    if len(header) != 13 or header[9] not in _SAMPLES or header[12] > 1:
        return 0
    width, height = struct.unpack(">II", header[:8])
    bits = header[8] * _SAMPLES[header[9]]
    size = 0
    for column, row, across, down in _PASSES if header[12] else ((0, 0, 1, 1),):
        columns, rows = -((column - width) // across), -((row - height) // down)
        if columns > 0 and rows > 0:
            size += rows * (1 + -(-columns * bits // 8))
    return size


def _fits(transparency: bytes, header: bytes) -> bool:
    """Whether a tRNS chunk has the length that its colour type requires."""
    colour = header[9] if len(header) == 13 else -1
    return len(transparency) == {0: 2, 2: 6}.get(colour, -1) if colour != 3 else 0 < len(transparency) <= 256


def _orientation_of_text(kind: bytes, content: bytes) -> int | None:
    """Of an XMP packet, or of EXIF in hexadecimal digits as ImageMagick writes it; None for any other text."""
    key, _, rest = content.partition(b"\0")
    if kind == b"iTXt" and key == _XMP:
        compressed, fields = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
        text = inflate(fields[-1]) if compressed else fields[-1]
        return xmp_orientation(text[:MAX_METADATA]) if text else None
    if key in _HEX_EXIF:
        text = inflate(rest[1:]) if kind == b"zTXt" else rest
        lines = (text or b"")[:MAX_METADATA].split(b"\n", 3)
        try:
            return exif_orientation(bytes.fromhex(b"".join(lines[-1].split()).decode("ascii")))
        except ValueError:
            return None
    return None


def _profile(found: dict[bytes, bytes]) -> bytes | None:
    """The profile of the chunk that the specification prefers: cICP, iCCP, sRGB, then gAMA and cHRM."""
    if len(found.get(b"cICP", b"")) == 4:
        return coded_profile(*found[b"cICP"][:2])
    if b"iCCP" in found:
        _, _, rest = found[b"iCCP"].partition(b"\0")
        profile = inflate(rest[1:]) if rest[:1] == b"\0" else None
        if profile:
            return profile
    if b"sRGB" in found or len(found.get(b"gAMA", b"")) != 4:
        return None
    gamma = int.from_bytes(found[b"gAMA"]) / 100_000
    chromaticities = found.get(b"cHRM", b"")
    if len(chromaticities) != 4 * _PRIMARIES_COUNT:
        return matrix_profile(gamma=gamma)
    values = [value / 100_000 for value in struct.unpack(f">{_PRIMARIES_COUNT}I", chromaticities)]
    return matrix_profile(list(zip(values[2::2], values[3::2], strict=True)), (values[0], values[1]), gamma)


def _white(significant: bytes, depth: int) -> int | None:
    bits = max(significant, default=0)
    return (1 << bits) - 1 if depth == 16 and 8 < bits < 16 else None
