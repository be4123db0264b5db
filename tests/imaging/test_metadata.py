"""Metadata never costs a picture: EXIF, chunks, segments, boxes and extensions, unusual and damaged ones.

The quick runs are the first inputs of the long ones: pytest -m slow tests/imaging/test_metadata.py. RELOOK_FUZZ_SECONDS
says how long each of those takes, RELOOK_FUZZ_SEED where it begins.
"""

from __future__ import annotations

import io
import os
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

import cv2
import numpy as np
import pytest
from damaged_containers import (
    AVIF,
    GIF,
    JPEG2000,
    WEBP,
    random_avif,
    random_bmp,
    random_gif,
    random_jp2,
    random_tiff,
    random_webp,
)
from damaged_metadata import (
    TAGS,
    encoded,
    exif_block,
    orientation_entry,
    png_chunk,
    random_exif,
    random_jpeg,
    random_png,
    scene,
)
from PIL import Image

from pipeline.errors import ImageError
from pipeline.imaging import decode_image
from pipeline.imaging.colour_spaces import matrix_profile
from pipeline.imaging.exif import exif_orientation, upright, xmp_orientation

SECONDS = float(os.environ.get("RELOOK_FUZZ_SECONDS", "300"))
SEED = int(os.environ.get("RELOOK_FUZZ_SEED", "0"))
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")


def pixels_of(data: bytes) -> np.ndarray:
    return decode_image(data, name="x", icc="srgb")


def clean(kind: str, orientation: int = 1) -> np.ndarray:
    """Pillow's decoding of the file without metadata, turned by Pillow."""
    image = Image.open(io.BytesIO(encoded(kind, **OPTIONS.get(kind, {}))))
    return np.asarray(upright(image.convert("RGB"), orientation))


OPTIONS = {"WEBP": WEBP, "AVIF": AVIF, "GIF": GIF, "JPEG2000": JPEG2000}


def with_exif(kind: str, block: bytes) -> bytes:
    """The scene with an EXIF block put into its container by hand; Pillow would parse and change it."""
    data = encoded(kind, **OPTIONS.get(kind, {}))
    if kind == "JPEG":
        content = b"Exif\0\0" + block
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]
    if kind == "PNG":
        return data[:33] + png_chunk(b"eXIf", block) + data[33:]
    if kind == "WEBP":
        size = struct.pack("<I", 23)[:3] + struct.pack("<I", 15)[:3]
        chunks = b"VP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + size + data[12:]
        chunks += b"EXIF" + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2)
        return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks
    raise AssertionError(kind)


def check_exif(
    blocks: Iterator[tuple[bytes, int]], kinds: tuple[str, ...] = ("JPEG", "PNG", "WEBP")
) -> Callable[[], None]:
    expected = {(kind, turn): clean(kind, turn) for kind in kinds for turn in range(1, 9)}

    def step() -> None:
        block, orientation = next(blocks)
        for kind in kinds:
            np.testing.assert_array_equal(pixels_of(with_exif(kind, block)), expected[kind, orientation])

    return step


def check_equal(files: Iterator[bytes], wanted: Callable[[bytes], np.ndarray]) -> Callable[[], None]:
    def step() -> None:
        data = next(files)
        try:
            found = pixels_of(data)
        except ImageError as error:
            raise AssertionError(f"{error.reason}: {data!r}") from None
        assert np.array_equal(found, wanted(data)), data

    return step


def check_same(files: Callable[[int], Iterator[bytes]], kind: str) -> Callable[[], None]:
    expected = clean(kind)
    return check_equal(files(SEED), lambda _: expected)


def jpeg_reference(data: bytes) -> np.ndarray:
    progressive = b"\xff\xc2" in data
    return np.asarray(Image.open(io.BytesIO(encoded("JPEG", quality=90, progressive=progressive))).convert("RGB"))


STEPS = {
    "exif": lambda: check_exif(random_exif(SEED)),
    "png": lambda: check_equal(without_colour(random_png(SEED)), lambda _: clean("PNG")),
    "jpeg": lambda: check_equal(random_jpeg(SEED), jpeg_reference),
    "webp": lambda: check_same(random_webp, "WEBP"),
    "gif": lambda: check_same(random_gif, "GIF"),
    "jpeg 2000": lambda: check_same(random_jp2, "JPEG2000"),
    "tiff": lambda: check_same(random_tiff, "TIFF"),
    "avif": lambda: check_same(random_avif, "AVIF"),
    "bmp": lambda: check_same(random_bmp, "BMP"),
}


def without_colour(files: Iterator[bytes]) -> Iterator[bytes]:
    """A random gAMA or cICP chunk may well state a colour space; only the fate of the file is of interest here."""
    for data in files:
        yield data.replace(b"gAMA", b"gAMB").replace(b"cICP", b"cICQ")


@pytest.mark.parametrize("kind", STEPS)
def test_damaged_metadata_changes_no_pixel(kind: str) -> None:
    step = STEPS[kind]()
    for _ in range(150):
        step()


@pytest.mark.slow
@pytest.mark.parametrize("kind", STEPS)
def test_damaged_metadata_changes_no_pixel_for_minutes(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    step, count, end = STEPS[kind](), 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        step()
        count += 1
    with capsys.disabled():
        print(f"\n{kind}: {count:,} inputs from seed {SEED}")


def test_every_tag_of_every_type_leaves_the_orientation() -> None:
    """All 65,536 tags would take minutes: those that Pillow knows, with each type, alone beside the orientation."""
    values = {1: b"\1", 2: b"2\0", 3: b"\1\0", 4: bytes(4), 5: bytes(8), 6: b"\xff", 7: b"\1\2\3\4", 8: b"\xff\xff"}
    values |= {9: b"\xff" * 4, 10: bytes(8), 11: bytes(4), 12: bytes(8), 13: bytes(4)}
    cases = [
        (exif_block([orientation_entry(6), (tag, kind, 1, value)]), 6)
        for tag in TAGS
        if tag != 0x0112
        for kind, value in values.items()
    ]
    assert len(cases) >= 600
    step = check_exif(iter(cases), ("JPEG",))
    for _ in cases:
        step()


@pytest.mark.parametrize(
    ("kind", "count", "value", "orientation"),
    [
        (3, 1, struct.pack("<H", 6), 6),
        (4, 1, struct.pack("<I", 6), 6),
        (1, 1, b"\6", 6),
        (5, 1, struct.pack("<II", 6, 1), 6),
        (12, 1, struct.pack("<d", 6.0), 6),
        (3, 0, b"", 1),
        (3, 1, struct.pack("<H", 0), 1),
        (3, 1, struct.pack("<H", 9), 1),
        (5, 1, struct.pack("<II", 6, 0), 1),
        (5, 1, struct.pack("<II", 13, 2), 1),
        (11, 1, struct.pack("<f", float("nan")), 1),
        (2, 2, b"6\0", 1),
        (999, 1, b"\6", 1),
    ],
)
def test_an_orientation_of_another_type_counts_where_it_is_a_number(
    kind: int, count: int, value: bytes, orientation: int
) -> None:
    assert exif_orientation(exif_block([(0x0112, kind, count, value)])) == orientation


def test_xmp_states_an_orientation_where_exif_does_not() -> None:
    assert xmp_orientation(b'<rdf:Description tiff:Orientation="8"/>') == 8
    assert xmp_orientation(b"<tiff:Orientation>3</tiff:Orientation>") == 3
    assert xmp_orientation(b'tiff:Orientation="77"') == 1
    packet = b"http://ns.adobe.com/xap/1.0/\0" + b'<x tiff:Orientation="6"/>'
    data = encoded("JPEG")
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(packet) + 2) + packet + data[2:]
    np.testing.assert_array_equal(pixels_of(data), clean("JPEG", 6))


@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
def test_other_containers_take_odd_tags_too(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    found = pixels_of(encoded(kind, exif=exif.tobytes(), **OPTIONS.get(kind, {})))
    np.testing.assert_array_equal(found, clean(kind, 6))


def test_what_opencv_reads_is_read(tmp_path: object) -> None:
    """OpenCV's own decoding of the same damaged file, where it decodes it."""
    for data in islice(without_colour(random_png(99)), 40):
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if found is not None:
            np.testing.assert_array_equal(pixels_of(data), found)


def test_a_bomb_in_metadata_costs_little_memory() -> None:
    bomb = zlib.compress(zlib.compress(bytes(1 << 30), 9) * 8, 9)
    plain = encoded("PNG")
    chunks = png_chunk(b"iCCP", b"n\0\0" + bomb)
    chunks += png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb) * 20
    chunks += png_chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb) * 20
    data = plain[:33] + chunks + plain[33:]
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(pixels_of(data), np.asarray(scene()))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_marker_is_read_only_when_its_pixels_are_whole(progressive: bool) -> None:
    data = encoded("JPEG", quality=90, progressive=progressive)
    np.testing.assert_array_equal(pixels_of(data[:-2]), pixels_of(data))
    for missing in (4, 6, 10, 100):
        with pytest.raises(ImageError, match=r"JPEG.*truncated"):
            pixels_of(data[:-missing])


def test_twelve_bits_in_sixteen_are_scaled_where_the_file_says_so() -> None:
    rng = np.random.default_rng(0)
    eight = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    twelve = np.round(eight / 255 * 4095).astype(np.uint16)
    for values, depth, colour in ((twelve, eight, 3), (twelve[..., 0], np.repeat(eight[..., :1], 3, axis=2), 1)):
        data = cv2.imencode(".png", values[..., ::-1] if values.ndim == 3 else values)[1].tobytes()
        marked = data[:33] + png_chunk(b"sBIT", b"\x0c" * colour) + data[33:]
        np.testing.assert_array_equal(pixels_of(marked), depth)
        assert pixels_of(data).max() <= 16  # the file does not say it: see docs/inputs.md
        full = (values * 16 + (values >> 8)).astype(np.uint16)  # as the specification has it
        data = cv2.imencode(".png", full[..., ::-1] if full.ndim == 3 else full)[1].tobytes()
        marked = data[:33] + png_chunk(b"sBIT", b"\x0c" * colour) + data[33:]
        assert abs(pixels_of(marked).astype(int) - depth).max() <= 1


def test_a_transparent_value_of_a_sixteen_bit_grey_png_is_white() -> None:
    values = np.array([[0, 257, 65535]], np.uint16)
    data = cv2.imencode(".png", values)[1].tobytes()
    data = data[:33] + png_chunk(b"tRNS", struct.pack(">H", 257)) + data[33:]
    assert pixels_of(data)[0, :, 0].tolist() == [0, 255, 255]


def with_wrong_checksum(data: bytes, kind: bytes) -> bytes:
    at = data.index(kind)
    end = at + 4 + int.from_bytes(data[at - 4 : at])
    return data[:end] + bytes([data[end] ^ 1]) + data[end + 1 :]


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT", b"IEND"])
@pytest.mark.parametrize("mode", ["RGB", "P", "1", "LA"])
def test_a_png_chunk_with_a_wrong_checksum_is_read_where_its_pixels_are_whole(kind: bytes, mode: str) -> None:
    image = scene().quantize(16) if mode == "P" else scene().convert(mode)
    data = encoded("PNG", im=image)
    if kind in data:
        np.testing.assert_array_equal(pixels_of(with_wrong_checksum(data, kind)), pixels_of(data))


def test_an_interlaced_png_with_a_wrong_checksum_of_its_header_is_read() -> None:
    """Adam7 of 24 x 16 grey pixels, made by hand."""
    grey = np.asarray(scene().convert("L"))
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b"".join(b"\0" + row.tobytes() for x, y, dx, dy in passes for row in grey[y::dy, x::dx])
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 24, 16, 8, 0, 0, 0, 1), 12345)
    data = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    np.testing.assert_array_equal(pixels_of(data), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("at", range(16, 29))
def test_a_png_header_that_its_pixels_contradict_is_refused(at: int) -> None:
    data = encoded("PNG")
    for bit in range(8):
        damaged = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        if at in (26, 27):  # the methods of compression and filtering, of which there is one each
            with suppress(ImageError):
                np.testing.assert_array_equal(pixels_of(damaged), clean("PNG"))
        else:
            with pytest.raises(ImageError, match="PNG"):
                pixels_of(damaged)


def test_a_profile_in_jpeg_2000_is_applied() -> None:
    profile = matrix_profile(gamma=1.0)
    assert profile is not None
    data = encoded("JPEG2000", **JPEG2000)
    at = data.index(b"colr") - 4
    length = int.from_bytes(data[at : at + 4])
    colr = struct.pack(">I4s", len(profile) + 11, b"colr") + b"\2\0\0" + profile
    header = data.index(b"jp2h") - 4
    size = int.from_bytes(data[header : header + 4]) - length + len(colr)
    made = data[:header] + struct.pack(">I", size) + data[header + 4 : at] + colr + data[at + length :]
    found, plain = pixels_of(made).astype(int), np.asarray(scene()) / 255
    expected = np.where(plain <= 0.0031308, plain * 12.92, 1.055 * plain ** (1 / 2.4) - 0.055) * 255
    assert abs(found - expected).max() <= 2
    np.testing.assert_array_equal(decode_image(made, name="x"), np.asarray(scene()))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "I;16"])
def test_a_reduced_jpeg_2000_file_is_what_pillow_reads(mode: str) -> None:
    grey = np.asarray(scene().convert("L"))
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else scene().convert(mode)
    found = pixels_of(encoded("JPEG2000", im=image, **JPEG2000))
    expected = np.repeat(grey[..., None], 3, axis=2) if mode != "RGBA" else np.asarray(scene())
    np.testing.assert_array_equal(found, expected)


def test_the_first_frame_of_a_gif_is_what_pillow_shows() -> None:
    """Transparent, interlaced, smaller than the screen, and followed by others."""
    frame = scene().quantize(16)
    small = frame.crop((0, 0, 9, 7))
    for options in (
        {"im": frame, "transparency": 3},
        {"im": frame, "interlace": True},
        {"im": frame, "save_all": True, "append_images": [frame.rotate(180)], "disposal": 2},
        {"im": scene().convert("L"), "comment": b"x" * 600},
        {"im": small, "save_all": True, "append_images": [small.rotate(180)], "transparency": 0},
    ):
        data = encoded("GIF", **options)
        image = Image.open(io.BytesIO(data)).convert("RGBA")
        expected = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        np.testing.assert_array_equal(pixels_of(data), np.asarray(expected))
        with pytest.raises(ImageError, match="GIF"):
            pixels_of(data[: data.index(b",\0\0\0\0") + 20])


def test_an_avif_file_is_known_by_any_of_its_brands() -> None:
    data = encoded("AVIF", **AVIF)
    for brand in (b"miaf", b"MA1B", b"isom"):
        np.testing.assert_array_equal(pixels_of(data[:8] + brand + data[12:]), clean("AVIF"))
