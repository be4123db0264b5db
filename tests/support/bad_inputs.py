"""A folder of everything that a folder of photos may hold: odd but good pictures, bad ones, and what is no picture.

Made by Pillow, OpenCV and our own bytes, the same in every run. One scene in every form: whatever can be read has to
come out as that scene, upright and in its colours.
"""

from __future__ import annotations

import base64
import io
import os
import random
import socket
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from quadrants import STORED

Pixels = npt.NDArray[np.uint8]

HIGH, WIDE = 96, 80


def scene() -> Pixels:
    """Four colours and a dark corner: each turn, flip or mixture of channels of it looks different."""
    colours = np.array([[[220, 40, 30], [40, 200, 60]], [[30, 60, 210], [240, 230, 200]]], np.uint8)
    pixels = np.ascontiguousarray(colours.repeat(HIGH // 2, axis=0).repeat(WIDE // 2, axis=1))
    pixels[:16, :16] = 20
    return pixels


SCENE = scene()
GREY = np.asarray(Image.fromarray(SCENE).convert("L").convert("RGB"))
BLACK_WHITE = np.where(GREY > 100, 255, 0).astype(np.uint8)

# The scene without its dark corner as jpegtran -arithmetic writes it: neither Pillow nor OpenCV can.
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5a"
    "YVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09P"
    "T0//yQARCABgAFADAREAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD+8aalCc7CO/I2ocfOF1Z9SPioTf0xb1ndy3CYyU9RBDZn"
    "IO38Fz9ezEYAFycw9n+MtuMuEIZFmxkcGGS0raEAG2enh7eEz9Oh7RXN8IyqOIVAXqHGXRa7cHNmuf8ASKhN26XjaxXLMYkdCUD/2Q=="
)


@dataclass
class Corpus:
    """What lies in `folder`.

    Attributes:
        good: by path below the folder, the pixels that it holds and by how much values may differ on average.
        bad: by path, a pattern of the reason for which it is refused.
        ignored: how many entries are no pictures by their name.
    """

    folder: Path
    good: dict[str, tuple[Pixels, float]] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    ignored: int = 0

    def add_good(self, name: str, data: bytes, pixels: Pixels = SCENE, tolerance: float = 0.0) -> None:
        """A file that has to be read as `pixels`."""
        self._write(name, data)
        self.good[name] = (pixels, tolerance)

    def add_bad(self, name: str, data: bytes, reason: str) -> None:
        """A file that has to be refused."""
        self._write(name, data)
        self.bad[name] = reason

    def _write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        assert name not in self.good
        assert name not in self.bad
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def make_corpus(folder: Path) -> Corpus:
    """Write all of it below `folder`, which is made."""
    folder.mkdir(parents=True)
    corpus = Corpus(folder)
    for part in (_jpegs, _pngs, _other_formats, _depths, _frames, _sizes, _names, _cut, _no_pictures, _bombs, _places):
        part(corpus)
    return corpus


def encoded(kind: str, pixels: Pixels | Image.Image = SCENE, **options: Any) -> bytes:
    """A picture in a format of Pillow's."""
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.ascontiguousarray(pixels))
    image.save(stream, kind, **options)
    return stream.getvalue()


def by_opencv(ending: str, values: npt.NDArray[Any]) -> bytes:
    """RGB values of any depth in a format of OpenCV's."""
    done, data = cv2.imencode(ending, np.ascontiguousarray(values[..., ::-1]))
    assert done
    return data.tobytes()


def oriented(orientation: int) -> bytes:
    """An EXIF block."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk, with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    """A PNG of its own header and rows, each of which begins with a 0."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def interlaced() -> bytes:
    """The scene in the seven passes of Adam7."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = [b"\0" + row.tobytes() for y, x, down, right in passes for row in SCENE[y::down, x::right]]
    return png(WIDE, HIGH, b"".join(rows), interlace=1)


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there `count` times more."""
    data = encoded("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + data[-2:]


def _jpegs(corpus: Corpus) -> None:
    best = {"quality": 100, "subsampling": 0}
    plain = encoded("JPEG", **best)
    corpus.add_good("jpeg/plain.jpg", plain, tolerance=2)
    corpus.add_good("jpeg/usual.jpeg", encoded("JPEG", quality=85), tolerance=6)
    corpus.add_good("jpeg/progressive.jpg", encoded("JPEG", progressive=True, **best), tolerance=2)
    corpus.add_good("jpeg/many_scans.jpg", many_scans(30), tolerance=8)
    corpus.add_good("jpeg/restart_markers.jpg", encoded("JPEG", restart_marker_blocks=1, **best), tolerance=2)
    without_corner = scene()
    without_corner[:16, :16] = without_corner[20, 20]
    corpus.add_good("jpeg/arithmetic.jpg", ARITHMETIC, without_corner, tolerance=3)
    corpus.add_good("jpeg/cmyk.jpg", encoded("JPEG", Image.fromarray(SCENE).convert("CMYK"), **best), tolerance=3)
    corpus.add_good("jpeg/grey.jpg", encoded("JPEG", Image.fromarray(SCENE).convert("L"), quality=100), GREY, 2)
    corpus.add_good("jpeg/more_behind_its_end.jpg", plain + b"trailing" * 99, tolerance=2)
    corpus.add_good("jpeg/broken_exif.jpg", encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", **best), tolerance=2)
    corpus.add_good(
        "jpeg/broken_colour_profile.jpg", encoded("JPEG", icc_profile=b"no profile" * 9, **best), tolerance=2
    )
    corpus.add_good("jpeg/is_a_png.jpg", encoded("PNG"))
    corpus.add_good("jpeg/is_a_jpeg.png", plain, tolerance=2)
    for orientation, stored in STORED.items():
        exif = oriented(orientation)
        corpus.add_good(f"exif/{orientation}.jpg", encoded("JPEG", stored(SCENE), exif=exif, **best), tolerance=2)
    turned = STORED[6](SCENE)
    corpus.add_good("exif/6.png", encoded("PNG", turned, exif=oriented(6)))
    corpus.add_good("exif/6.webp", encoded("WEBP", turned, exif=oriented(6), lossless=True))
    corpus.add_good("exif/6.tif", encoded("TIFF", turned, exif=oriented(6)))
    corpus.add_good(
        "exif/6.avif", encoded("AVIF", turned, exif=oriented(6), quality=100, subsampling="4:4:4"), tolerance=2
    )
    corpus.add_good("exif/impossible.jpg", encoded("JPEG", exif=oriented(9), **best), tolerance=2)


def _pngs(corpus: Corpus) -> None:
    white = SCENE.copy()
    white[HIGH // 2 :, : WIDE // 2] = 255
    image = Image.fromarray(SCENE)
    palette = image.quantize(8, dither=Image.Dither.NONE)
    blue = palette.getpixel((5, HIGH - 5))
    corpus.add_good("png/plain.png", encoded("PNG"))
    corpus.add_good("png/interlaced.png", interlaced())
    corpus.add_good("png/palette.png", encoded("PNG", palette), tolerance=1)
    corpus.add_good("png/palette_transparent.png", encoded("PNG", palette, transparency=blue), white, 1)
    corpus.add_good("png/colour_transparent.png", encoded("PNG", transparency=(30, 60, 210)), white)
    alpha = np.full((HIGH, WIDE, 1), 255, np.uint8)
    alpha[HIGH // 2 :, : WIDE // 2] = 0
    rgba = np.concatenate([SCENE, alpha], axis=2)
    corpus.add_good("png/alpha.png", encoded("PNG", rgba), white)
    half = np.concatenate([SCENE, alpha // 2 + 128], axis=2)
    lighter = SCENE.copy()
    lighter[HIGH // 2 :, : WIDE // 2] = (142, 157, 232)
    corpus.add_good("png/half_alpha.png", encoded("PNG", half), lighter, 1)
    grey = np.concatenate([GREY[..., :1], alpha], axis=2)
    corpus.add_good("png/grey_alpha.png", encoded("PNG", grey), np.where(alpha == 0, 255, GREY).astype(np.uint8))
    corpus.add_good("webp/alpha.webp", encoded("WEBP", rgba, lossless=True), white)


def _other_formats(corpus: Corpus) -> None:
    for name, kind, options in (
        ("a.bmp", "BMP", {}),
        ("a.dib", "DIB", {}),
        ("a.tif", "TIFF", {}),
        ("lzw.tif", "TIFF", {"compression": "tiff_lzw"}),
        ("deflate.tif", "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("packbits.tif", "TIFF", {"compression": "packbits"}),
        ("big.tif", "TIFF", {"big_tiff": True}),
        ("a.webp", "WEBP", {"lossless": True}),
        ("a.jp2", "JPEG2000", {}),
        ("a.ppm", "PPM", {}),
        ("a.tga", "TGA", {}),
        ("rle.tga", "TGA", {"compression": "tga_rle"}),
        ("a.pcx", "PCX", {}),
        ("a.sgi", "SGI", {}),
        ("a.dds", "DDS", {}),
    ):
        corpus.add_good(f"formats/{name}", encoded(kind, **options))
    cmyk = Image.fromarray(SCENE).convert("CMYK")
    corpus.add_good("formats/cmyk.tif", encoded("TIFF", cmyk), tolerance=1)
    corpus.add_good("formats/jpeg.tif", encoded("TIFF", compression="jpeg", quality=100), tolerance=6)
    corpus.add_good("formats/lossy.webp", encoded("WEBP", quality=98), tolerance=6)
    corpus.add_good("formats/lossy.avif", encoded("AVIF", quality=90, subsampling="4:4:4"), tolerance=6)
    text = f"P3 {WIDE} {HIGH} 255\n" + " ".join(map(str, SCENE.reshape(-1).tolist()))
    corpus.add_good("formats/text.ppm", text.encode())
    corpus.add_good("formats/a.gif", encoded("GIF", Image.fromarray(SCENE).quantize(8)), tolerance=1)


def _depths(corpus: Corpus) -> None:
    deep = SCENE.astype(np.uint16) * 257
    grey = GREY[..., 0].astype(np.uint16) * 257
    board = BLACK_WHITE[..., 0] > 0
    corpus.add_good("depths/rgb16.png", by_opencv(".png", deep), tolerance=1)
    corpus.add_good("depths/rgb16.tif", by_opencv(".tiff", deep), tolerance=1)
    corpus.add_good("depths/grey16.png", encoded("PNG", Image.fromarray(grey)), GREY)
    corpus.add_good("depths/grey16.tif", encoded("TIFF", Image.fromarray(grey)), GREY)
    corpus.add_good("depths/grey16.pgm", f"P5 {WIDE} {HIGH} 65535\n".encode() + grey.astype(">u2").tobytes(), GREY)
    floats = (GREY[..., 0].astype(np.float32) - GREY.min()) / np.float32(GREY.max() - GREY.min())
    stretched = np.repeat((floats * 255).round().astype(np.uint8)[..., None], 3, axis=2)
    corpus.add_good("depths/float.tif", encoded("TIFF", Image.fromarray(floats)), stretched, 1)
    corpus.add_good("depths/one_bit.png", encoded("PNG", Image.fromarray(board)), BLACK_WHITE)
    corpus.add_good("depths/one_bit.gif", encoded("GIF", Image.fromarray(board)), BLACK_WHITE)
    fax = encoded("TIFF", Image.fromarray(board), compression="group4")
    corpus.add_good("depths/fax.tif", fax, BLACK_WHITE)
    colours = by_opencv(".tiff", SCENE.astype(np.float32))
    corpus.add_bad("depths/float_colours.tif", colours, r"TIFF, RGB, 3 x 32-bit float.*not supported")
    nothing = Image.fromarray(np.full((4, 4), np.nan, np.float32))
    corpus.add_bad("depths/no_finite_value.tif", encoded("TIFF", nothing), "none of its values is finite")


def _frames(corpus: Corpus) -> None:
    """The first frame counts."""
    others = [Image.new("RGB", (WIDE, HIGH), colour) for colour in ((255, 0, 255), (0, 255, 255))]
    more: dict[str, Any] = {"save_all": True, "append_images": others}
    corpus.add_good("frames/animated.gif", encoded("GIF", **more, duration=100, loop=0), tolerance=2)
    corpus.add_good("frames/animated.webp", encoded("WEBP", **more, lossless=True), tolerance=1)
    corpus.add_good("frames/animated.png", encoded("PNG", **more))
    corpus.add_good("frames/pages.tif", encoded("TIFF", **more))
    corpus.add_good("frames/stereo.mpo", encoded("MPO", **more, quality=100, subsampling=0), tolerance=2)
    corpus.add_bad(
        "frames/none.gif", b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b";", "cannot be decoded|not a"
    )


def _sizes(corpus: Corpus) -> None:
    dot = np.full((1, 1, 3), (200, 30, 60), np.uint8)
    corpus.add_good("sizes/dot.png", encoded("PNG", dot), dot)
    corpus.add_good("sizes/dot.jpg", encoded("JPEG", dot, quality=100, subsampling=0), dot, 2)
    line = np.repeat(np.array([[[220, 40, 30]], [[30, 60, 210]]], np.uint8), 10_000, axis=0)
    corpus.add_good("sizes/1x20000.png", encoded("PNG", line), line)
    corpus.add_good("sizes/20000x1.png", encoded("PNG", line.transpose(1, 0, 2)), line.transpose(1, 0, 2))
    corpus.add_bad("sizes/nothing.png", png(0, 0, b""), "cannot be decoded|not a picture")
    jpeg = bytearray(encoded("JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    flat = jpeg.copy()
    flat[frame + 5 : frame + 7] = bytes(2)
    corpus.add_bad("sizes/no_height.jpg", bytes(flat), "cannot be decoded|not a picture")
    deep = jpeg.copy()
    deep[frame + 4] = 12
    corpus.add_bad("sizes/twelve_bits.jpg", bytes(deep), "cannot be decoded|not a picture")


def _names(corpus: Corpus) -> None:
    for stem in (
        *(
            "two\nlines",
            "tab\there",
            "emoji 🗼👩‍👩‍👧",
            "quotes \"'`",
            "comma, semicolon;",
            " spaces ",
            "-rf",
            "back\\slash",
        ),
        *(
            "percent%20%s",
            "=cmd()",
            "$(touch pwned)",
            "日本語",
            "عربي",
            "\u202egpj.evil",
            "e\u0301",
            "\u00e9",
            "dots..",
            "#?*",
        ),
        *("nothing\u200bthere", "bell\x07", "del\x7f", "x" * 250),
    ):
        corpus.add_good(f"names/{stem}.JPG" if stem == "-rf" else f"names/{stem}.png", encoded("PNG"))
    corpus.add_good("names/" + "/".join("deep" for _ in range(40)) + "/a.png", encoded("PNG"))
    assert max(len(name.encode()) for name in os.listdir(corpus.folder / "names")) == 254  # noqa: PTH208
    corpus.add_good("names/" + "y" * 251 + ".png", encoded("PNG"))
    raw = os.fsencode(corpus.folder / "names") + b"/caf\xe9.png"
    try:
        descriptor = os.open(raw, os.O_CREAT | os.O_WRONLY)
    except OSError:  # a file system that takes no such names
        return
    os.write(descriptor, encoded("PNG"))
    os.close(descriptor)
    corpus.bad["names/caf\\xe9.png"] = "its name is not UTF-8; rename the file"


def _cut(corpus: Corpus) -> None:
    """Files of which only the beginning is there."""
    for name, kind, options in (
        ("jpeg.jpg", "JPEG", {"quality": 95}),
        ("progressive.jpg", "JPEG", {"progressive": True}),
        ("png.png", "PNG", {}),
        ("gif.gif", "GIF", {}),
        ("webp.webp", "WEBP", {}),
        ("tiff.tif", "TIFF", {}),
        ("bmp.bmp", "BMP", {}),
        ("avif.avif", "AVIF", {}),
        ("ppm.ppm", "PPM", {}),
        ("tga.tga", "TGA", {}),
    ):
        noise = np.random.default_rng(0).integers(0, 256, (HIGH, WIDE, 3), dtype=np.uint8)
        data = encoded(kind, noise, **options)
        corpus.add_bad(f"cut/{name}", data[: len(data) // 2], "cannot be decoded|not a picture")
    noise = np.random.default_rng(0).integers(0, 256, (HIGH, WIDE, 3), dtype=np.uint8)
    corpus.add_bad("cut/last_bytes.jpg", encoded("JPEG", noise)[:-10], "JPEG.*truncated")
    corpus.add_good("cut/end_marker.jpg", encoded("JPEG", quality=100, subsampling=0)[:-2], tolerance=2)
    corpus.add_good(
        "cut/end_marker_progressive.jpg",
        encoded("JPEG", progressive=True, quality=100, subsampling=0)[:-2],
        tolerance=2,
    )
    corpus.add_bad("cut/header_only.jpg", encoded("JPEG")[:200], "cannot be decoded|not a picture")
    corpus.add_bad("cut/four_bytes.jpg", b"\xff\xd8\xff\xe0", "cannot be decoded|not a picture")
    corpus.add_bad("cut/one_byte.png", b"\x89", "not a picture")
    corpus.add_bad("cut/empty.jpg", b"", "the file is empty")
    broken = bytearray(encoded("PNG", np.random.default_rng(0).integers(0, 256, (HIGH, WIDE, 3), dtype=np.uint8)))
    broken[len(broken) // 2 : len(broken) // 2 + 8] = b"\xff" * 8
    corpus.add_bad("cut/broken_in_the_middle.png", bytes(broken), "cannot be decoded")


def _no_pictures(corpus: Corpus) -> None:
    not_one = "not a picture in a known format"
    for name, data in (
        ("text.jpg", b"once upon a time\n" * 50),
        ("page.jpg", b"<!DOCTYPE html><html><body>404</body></html>"),
        ("drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'),
        ("values.png", b'{"a": 1}'),
        ("archive.jpg", b"PK\x03\x04" + bytes(200)),
        ("paper.jpg", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"),
        ("film.jpg", struct.pack(">I", 24) + b"ftypisom" + bytes(4) + b"isomiso2" + bytes(200)),
        ("program.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"),
        ("script.png", b"#!/bin/sh\ntouch pwned\n"),
        ("binary.jpg", b"\x7fELF" + bytes(100)),
        ("noise.jpg", random.Random(0).randbytes(5000)),
        ("zeros.jpg", bytes(5000)),
    ):
        corpus.add_bad(f"no pictures/{name}", data, not_one)
    jpeg_xl = b"\xff\x0a" + random.Random(1).randbytes(300)
    reason = "JPEG XL is read where pillow-jxl-plugin|cannot be decoded|pixels"
    corpus.add_bad("no pictures/jpeg_xl.jpg", jpeg_xl, reason)
    heic = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200)
    corpus.add_bad(
        "no pictures/phone.heic", heic, "HEIC is read where pillow-heif is installed|cannot be decoded|not a"
    )
    for name in ("notes.txt", "film.mp4", "no ending", "model.psd", ".hidden.jpg", ".cache/a.jpg"):
        path = corpus.folder / "no pictures" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded("PNG"))
    corpus.ignored += 4  # what is hidden is not even met


def _bombs(corpus: Corpus) -> None:
    too_many = r"pixels, more than the 200,000,000 allowed|too many pixels"
    corpus.add_bad("bombs/claims.png", png(100_000, 100_000, bytes(100)), too_many)
    corpus.add_bad("bombs/is_one.png", png(16_000, 16_000, bytes(2001 * 16_000), depth=1, colour=0), too_many)
    gif = encoded("GIF", Image.fromarray(SCENE).quantize(8))
    corpus.add_bad("bombs/screen.gif", gif[:6] + b"\xff\xff\xff\xff" + gif[10:], too_many)
    bmp = bytearray(encoded("BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    corpus.add_bad("bombs/claims.bmp", bytes(bmp), too_many)
    corpus.add_bad("bombs/claims.ppm", b"P6 70000 70000 255\n" + bytes(99), too_many)
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 << 20), 9))
    data = encoded("PNG")
    corpus.add_good("bombs/text.png", data[:33] + text + data[33:])  # the chunk is skipped
    corpus.add_bad("bombs/scans.jpg", many_scans(3000), "a progressive JPEG of 3,0.. scans, more than the 100 allowed")
    with (corpus.folder / "bombs" / "half_a_terabyte.jpg").open("wb") as stream:
        stream.truncate(500 << 30)  # of which the disk holds nothing
    corpus.bad["bombs/half_a_terabyte.jpg"] = "536,870,912,000 bytes, more than the 500,000,000 allowed"


def _places(corpus: Corpus) -> None:
    folder = corpus.folder / "places"
    folder.mkdir()
    corpus.add_good("places/one.png", encoded("PNG"))
    corpus.add_good("places/the same again.png", encoded("PNG"))
    os.link(folder / "one.png", folder / "hard link.png")
    (folder / "link.png").symlink_to("one.png")
    for name in ("hard link", "link"):
        corpus.good[f"places/{name}.png"] = (SCENE, 0)
    corpus.add_good("places/folder.jpg/inside.png", encoded("PNG"))
    (folder / "round").symlink_to(folder)
    (folder / "other").symlink_to(corpus.folder / "jpeg")
    corpus.ignored += 2
    (folder / "itself.jpg").symlink_to("itself.jpg")
    (folder / "there.jpg").symlink_to("back.jpg")
    (folder / "back.jpg").symlink_to("there.jpg")
    for name in ("itself", "there", "back"):
        corpus.bad[f"places/{name}.jpg"] = "symbolic links"
    (folder / "to nothing.jpg").symlink_to("gone.jpg")
    corpus.bad["places/to nothing.jpg"] = "No such file"
    (folder / "to a folder.jpg").symlink_to("folder.jpg")  # a folder by what it leads to
    corpus.ignored += 1
    (folder / "to a device.jpg").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.jpg")
    for name in ("to a device", "pipe", "socket"):
        corpus.bad[f"places/{name}.jpg"] = "not a regular file"
    here = Path.cwd()
    os.chdir(folder)  # the address of a socket has no more than 108 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
    os.chdir(here)
    corpus.add_good("places/closed.png", encoded("PNG"))
    (folder / "closed.png").chmod(0)
    if os.geteuid() != 0:  # root reads it nonetheless
        del corpus.good["places/closed.png"]
        corpus.bad["places/closed.png"] = "Permission denied"
