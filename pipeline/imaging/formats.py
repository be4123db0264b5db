"""Which format a file has, by its first bytes, and what a file is that is not a picture.

Below `decode`. The ending of a name plays no part.
"""

from __future__ import annotations

import re

from pipeline.imaging.gif import is_gif
from pipeline.imaging.jpeg2000 import MAGIC as JP2_MAGIC
from pipeline.imaging.png import MAGIC as PNG_MAGIC
from pipeline.imaging.tiff import is_raw, is_tiff
from pipeline.imaging.webp import is_webp

_JXL_MAGICS = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_RAW_MAGICS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM", b"FOVb", b"II\x1a\0\0\0HEAPCCDR")

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript program"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript program"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"(\xb5/\xfd", "a Zstandard archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 file"),
    (b"FLV", "a Flash video"),
    (b"\0\0\x01\xba", "an MPEG video"),
    (b"\xd0\xcf\x11\xe0", "an Office document"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PAR1", "a Parquet table"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"#!", "a script"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch its content with: git lfs pull"),
    (b"bplist", "an Apple property list"),
    (b"\0\x05\x16\x07", "macOS metadata, not the picture itself"),
)
_TEXT = re.compile(rb"[\t\n\f\r\x20-\x7e\x80-\xff]+")


def identify(data: bytes) -> str | None:
    """JPEG, PNG, WEBP, GIF, JPEG2000, TIFF, RAW, HEIF, AVIF or JXL; None for other files, also those whose format
    only Pillow knows."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(PNG_MAGIC):
        return "PNG"
    if is_webp(data):
        return "WEBP"
    if is_gif(data):
        return "GIF"
    if data.startswith(JP2_MAGIC):
        return "JPEG2000"
    if data.startswith(_RAW_MAGICS):
        return "RAW"
    if is_tiff(data):
        return "RAW" if is_raw(data) else "TIFF"
    if data.startswith(_JXL_MAGICS):
        return "JXL"
    if data[4:8] == b"ftyp":
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(int.from_bytes(data[:4]), 256), 4))}
        if data[8:12] == b"crx ":
            return "RAW"
        return "AVIF" if brands & _AVIF_BRANDS else "HEIF" if brands & _HEIF_BRANDS else None
    return None


def describe_other(data: bytes) -> str:
    """What a file that is not a picture is, in words; "" where its first bytes do not say."""
    for magic, name in _OTHERS:
        if data.startswith(magic):
            return name
    if data[4:8] == b"ftyp":
        return "a video (MP4 or QuickTime)"
    if data[:4] == b"RIFF":
        return {b"AVI ": "an AVI video", b"WAVE": "a WAV file"}.get(data[8:12], "")
    head = data[:1024]
    if not head.strip(b"\0"):
        return "zero bytes only"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if b"<svg" in start and start.startswith(b"<"):
        return "an SVG drawing"
    if start.startswith(b"<?xml"):
        return "an XML file"
    if _TEXT.fullmatch(head) and (b"\n" in head or len(head) > 32 or head.isascii()):
        return "a text file" if _is_utf8(head) else ""
    return ""


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4  # a character that the 1,024 bytes cut in two
    return True
