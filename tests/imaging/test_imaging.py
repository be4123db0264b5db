"""Pictures: whatever is wrong with a file is one ImageError, and every odd but good picture is decoded right."""

from __future__ import annotations

import hashlib
import io
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import PhotoMaker, make_photo
from PIL import EpsImagePlugin, Image
from quadrants import COLOURS, Pixels, quadrants, save

from pipeline.errors import ImageError
from pipeline.imaging import INTERPOLATIONS, MAX_ASPECT, ResizeRule, decode_image, read_image, resize, target_size

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]

Rule = Literal["area", "short", "long"]

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


# --- files that are no good -------------------------------------------------------------------------------------------


def cut(name: str, keep: float) -> Callable[[Path], Path]:
    """A photo in the format of `name` of which only the first part is left."""

    def build(folder: Path) -> Path:
        path = make_photo(folder / name, (64, 48))
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        return path

    return build


def holding(name: str, data: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return build


def png_of(width: int, height: int) -> bytes:
    """A PNG that declares a size and then has one row of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def broken_png(folder: Path) -> Path:
    """Bytes in the middle of the compressed pixels are others."""
    path = make_photo(folder / "a.png")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = b"\xff" * 8
    path.write_bytes(data)
    return path


def folder_named_like_a_photo(folder: Path) -> Path:
    (folder / "a.jpg").mkdir()
    return folder / "a.jpg"


def link_to_itself(folder: Path) -> Path:
    (folder / "a.jpg").symlink_to(folder / "a.jpg")
    return folder / "a.jpg"


def link_to_nothing(folder: Path) -> Path:
    (folder / "a.jpg").symlink_to(folder / "gone.jpg")
    return folder / "a.jpg"


def no_finite_value(folder: Path) -> Path:
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(folder / "a.tif")
    return folder / "a.tif"


BAD_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "gone.jpg", "No such file"),
    "below a file": (lambda folder: make_photo(folder / "a.png") / "b.png", "Not a directory"),
    "a folder": (folder_named_like_a_photo, "not a regular file"),
    "a link to itself": (link_to_itself, "symbolic links"),
    "a link to nothing": (link_to_nothing, "No such file"),
    "a name with a null": (lambda folder: folder / "a\0.jpg", "null"),
    "a name too long": (lambda folder: folder / ("a" * 300 + ".jpg"), "too long"),
    "empty": (holding("a.jpg", b""), "empty"),
    "JPEG cut in half": (cut("a.jpg", 0.5), "(?i)truncated"),
    "JPEG without its pixels": (cut("a.jpg", 0.1), "cannot be decoded|not a picture"),
    "PNG cut in half": (cut("a.png", 0.5), "cannot be decoded"),
    "GIF cut in half": (cut("a.gif", 0.5), "cannot be decoded"),
    "WebP cut in half": (cut("a.webp", 0.5), "cannot be decoded|not a picture"),
    "TIFF cut in half": (cut("a.tif", 0.5), "cannot be decoded|not a picture"),
    "BMP cut in half": (cut("a.bmp", 0.5), "cannot be decoded"),
    "PNG with broken pixels": (broken_png, "cannot be decoded"),
    "text": (holding("a.jpg", b"once upon a time\n" * 50), "not a picture"),
    "a web page": (holding("a.jpg", b"<!DOCTYPE html><html><body>404</body></html>"), "not a picture"),
    "an archive": (holding("a.jpg", b"PK\x03\x04" + bytes(200)), "not a picture"),
    "noise": (holding("a.jpg", random.Random(0).randbytes(5000)), "not a picture"),
    "zeros": (holding("a.jpg", bytes(5000)), "not a picture"),
    "the first bytes of a JPEG": (holding("a.jpg", b"\xff\xd8\xff\xe0"), "cannot be decoded|not a picture"),
    "bomb far over the limit": (holding("a.png", png_of(100_000, 100_000)), "pixels"),
    "bomb just over the limit": (holding("a.png", png_of(15_000, 15_000)), "15000 x 15000 pixels, more than the 200,"),
    "a program in PostScript": (holding("a.jpg", EPS), "not a picture"),
    "floats of which none is finite": (no_finite_value, "finite"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_one_error_that_names_it(kind: str, tmp_path: Path) -> None:
    build, reason = BAD_FILES[kind]
    path = build(tmp_path)
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(path)
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert caught.value.path == str(path)
    assert "\n" not in caught.value.reason
    assert caught.value.exit_code == 1


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    os.mkfifo(path)
    errors: list[ImageError] = []

    def read() -> None:
        try:
            read_image(path)
        except ImageError as error:
            errors.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(timeout=10)
    assert not reader.is_alive(), "read_image waits for somebody to write into the pipe"
    assert errors[0].reason == "not a regular file"


@contextmanager
def somebody_else() -> Iterator[None]:
    """Without the rights of root, whom no permission stops."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = make_photo(Path(folder) / "photo.png")
        with somebody_else():
            assert read_image(path).size
        path.chmod(0)
        with somebody_else(), pytest.raises(ImageError, match=r"photo\.png: Permission denied"):
            read_image(path)


def test_too_many_bytes_are_refused_before_they_are_read(photo: PhotoMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    path = photo()
    size = path.stat().st_size
    assert read_image(path, max_bytes=size).size == size
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("read although it is too large"))
    with pytest.raises(ImageError, match=rf"{size:,} bytes, more than the {size - 1:,} allowed"):
        read_image(path, max_bytes=size - 1)


def test_no_file_stays_open(tmp_path: Path) -> None:
    make_photo(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no")
    (tmp_path / "folder.png").mkdir()
    before = set(Path("/dev/fd").iterdir())
    for name in ("good.png", "bad.png", "folder.png"):
        with suppress(ImageError):
            read_image(tmp_path / name)
    assert set(Path("/dev/fd").iterdir()) == before


def many_scans(count: int, size: tuple[int, int] = (64, 64)) -> bytes:
    """A progressive JPEG whose last scan is there many times over; each costs a few bytes."""
    stream = io.BytesIO()
    Image.new("RGB", size, (200, 100, 50)).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    assert data[-2:] == b"\xff\xd9"
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + data[-2:]


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    assert decode_image(many_scans(20), name="x")[0, 0].tolist() == pytest.approx([200, 100, 50], abs=3)
    with pytest.raises(ImageError, match=r"a progressive JPEG of 3,010 scans, more than the 100 allowed"):
        decode_image(many_scans(3000), name="x")


def test_decoding_ends_when_its_time_is_over(photo: PhotoMaker) -> None:
    """Pillow decodes this in pure Python, pixel after pixel, asking for more bytes each time: it would take minutes."""
    side = 8000
    header = b"qoif" + struct.pack(">IIBB", side, side, 3, 0)
    data = header + b"\xfe\x01\x02\x03" * (side * side // 10)
    started = time.monotonic()
    with pytest.raises(ImageError, match=r"^x: not read within 0\.2 seconds$"):
        decode_image(data, name="x", seconds=0.2)
    assert time.monotonic() - started < 20
    assert read_image(photo(), seconds=60).pixels.shape == (48, 64, 3)


def test_a_file_that_trickles_is_given_up(photo: PhotoMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a network drive that answers, but hardly."""
    read = os.read

    def slowly(descriptor: int, size: int) -> bytes:
        time.sleep(0.02)
        return read(descriptor, min(size, 10))

    monkeypatch.setattr(os, "read", slowly)
    with pytest.raises(ImageError, match=r"photo\.png: not read within 0\.1 seconds"):
        read_image(photo(), seconds=0.1)


def test_heic_is_read_where_its_package_is_installed() -> None:
    pytest.importorskip("pillow_heif")
    from pillow_heif import register_heif_opener

    register_heif_opener()  # to write one; relook itself registers nothing
    upright = quadrants()
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    stored = np.ascontiguousarray(STORED[6](upright))
    Image.fromarray(stored).save(stream, "HEIF", exif=exif.tobytes(), quality=95, chroma=444)
    pixels = decode_image(stream.getvalue(), name="x")
    assert pixels.shape == upright.shape
    assert abs(pixels.astype(int) - upright).mean() <= 4
    with pytest.raises(ImageError, match="more than the 511 allowed"):
        decode_image(stream.getvalue(), name="x", max_pixels=511)
    with pytest.raises(ImageError):
        decode_image(stream.getvalue()[:300], name="x")


HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200)


def test_a_heic_file_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where it is not installed
    with pytest.raises(ImageError, match=r'HEIC is read where pillow-heif is installed \(pip install "relook\[heif\]"'):
        decode_image(HEIC, name="x")


def test_the_limit_of_pixels_is_inclusive(photo: PhotoMaker) -> None:
    path = photo(size=(20, 30))
    assert read_image(path, max_pixels=600).pixels.shape == (30, 20, 3)
    with pytest.raises(ImageError, match="20 x 30 pixels, more than the 599 allowed"):
        read_image(path, max_pixels=599)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.bmp"])
def test_what_max_pixels_allows_is_not_refused_by_pillow(
    name: str, photo: PhotoMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photo(name, size=(20, 30))
    wanted = read_image(path).pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # its own limit; twice as much is an error
    found = read_image(path, max_pixels=600).pixels
    assert found.shape == (30, 20, 3)
    assert abs(found.astype(int) - wanted).max() <= 8  # a lossy WebP is decoded by another library then
    with pytest.raises(ImageError, match="20 x 30 pixels, more than the 599 allowed"):
        read_image(path, max_pixels=599)


def test_postscript_is_never_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("handed to Ghostscript"))
    with pytest.raises(ImageError, match="not a picture"):
        decode_image(EPS, name="upload.jpg")


def test_bytes_without_a_file_are_named_as_told() -> None:
    with pytest.raises(ImageError, match=r"^upload 3: not a picture") as caught:
        decode_image(b"nothing", name="upload 3")
    assert caught.value.path == "upload 3"


def encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(stream, kind)
    return stream.getvalue()


GOOD_BYTES = {kind: encoded(kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM")}


@settings(max_examples=150)
@given(st.sampled_from(sorted(GOOD_BYTES)), st.data())
def test_damaged_bytes_give_a_picture_or_an_image_error(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(GOOD_BYTES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    try:
        pixels = decode_image(bytes(damaged), name="x", max_pixels=100_000)
    except ImageError as error:
        outcome = str(error)
    else:
        outcome = f"x: {pixels.dtype} {pixels.ndim} {pixels.shape[2]}"
        assert outcome == "x: uint8 3 3"
    assert outcome.startswith("x: ")
    assert "\n" not in outcome


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_bytes_of_no_picture_give_an_image_error(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode_image(b"??" + data, name="x", max_pixels=100_000)


# --- pictures that are good -------------------------------------------------------------------------------------------


# How EXIF's orientations store the upright picture: row 0 and column 0 of the file are these edges of the scene.
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_pictures_are_turned_upright(orientation: int, ending: str, tmp_path: Path) -> None:
    upright = quadrants()
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"quality": 100, "subsampling": 0} if ending == "jpg" else {}
    if ending == "webp":
        options = {"lossless": True}
    stored = np.ascontiguousarray(STORED[orientation](upright))
    path = save(tmp_path / f"a.{ending}", Image.fromarray(stored), exif=exif.tobytes(), **options)
    pixels = read_image(path).pixels
    assert pixels.shape == upright.shape
    tolerance = 4 if ending == "jpg" else 0
    assert abs(pixels.astype(int) - upright).max() <= tolerance


def test_the_orientation_six_is_a_quarter_turn_clockwise(tmp_path: Path) -> None:
    """Spelled out for one pixel, so that the table above is not its own witness."""
    stored = np.zeros((2, 3, 3), np.uint8)
    stored[0, 0] = 255  # the file's upper left corner is the scene's upper right corner
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = read_image(save(tmp_path / "a.png", Image.fromarray(stored), exif=exif.tobytes())).pixels
    assert pixels.shape == (3, 2, 3)
    assert pixels[0, 1].tolist() == [255, 255, 255]
    assert pixels.sum() == 3 * 255


@pytest.mark.parametrize("block", [b"garbage", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x09"])
def test_a_broken_exif_block_does_not_spoil_a_picture(block: bytes, photo: PhotoMaker) -> None:
    assert read_image(photo("a.jpg", exif=b"Exif\0\0" + block)).pixels.shape == (48, 64, 3)


def test_an_impossible_orientation_is_none(photo: PhotoMaker) -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    assert read_image(photo("a.jpg", exif=exif.tobytes())).pixels.shape == (48, 64, 3)


def test_nothing_is_printed_about_a_file_that_was_read(photo: PhotoMaker) -> None:
    path = photo("a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    script = "import sys, pathlib; from pipeline.imaging import read_image; read_image(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_host_program_is_left_alone(photo: PhotoMaker) -> None:
    """Importing relook and reading pictures changes no warning filter, thread count, variable or setting of Pillow."""
    script = """
import os, sys, warnings, pathlib
import cv2
from PIL import Image, ImageFile, PngImagePlugin

def state():
    limits = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK
    return list(warnings.filters), cv2.getNumThreads(), dict(os.environ), limits, Image.open, "HEIF" in Image.OPEN

before = state()
import pipeline.imaging
for path in sys.argv[1:]:
    pipeline.imaging.read_image(pathlib.Path(path), max_pixels=10**9, icc="srgb")
assert state() == before
"""
    paths = [photo("a.jpg"), photo("a.png"), photo("a.tif"), photo("a.webp")]
    subprocess.run([sys.executable, "-c", script, *map(str, paths)], check=True)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    upright = quadrants()
    path = save(tmp_path / "a.jpg", Image.fromarray(upright).convert("CMYK"), quality=100, subsampling=0)
    with Image.open(path) as image:
        assert image.mode == "CMYK"
    assert abs(read_image(path).pixels.astype(int) - upright).max() <= 6


def test_grey_jpeg(tmp_path: Path) -> None:
    grey = np.linspace(0, 255, 64 * 48).reshape(48, 64).astype(np.uint8)
    pixels = read_image(save(tmp_path / "a.jpg", Image.fromarray(grey), quality=100)).pixels
    assert (pixels == pixels[..., :1]).all()
    assert abs(pixels[..., 0].astype(int) - grey).max() <= 3


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bit_greys_are_scaled_and_not_clipped(name: str, tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 40 * 30).reshape(30, 40).round().astype(np.uint16)
    path = tmp_path / name
    if name.endswith(".pgm"):
        path.write_bytes(b"P5 40 30 65535\n" + deep.astype(">u2").tobytes())
    else:
        Image.fromarray(deep).save(path)
    pixels = read_image(path).pixels
    assert (pixels == np.round(deep / 257)[..., None]).all()
    assert pixels.min() == 0
    assert pixels.max() == 255


def test_a_dark_sixteen_bit_png_stays_dark(tmp_path: Path) -> None:
    deep = np.full((4, 4), 250, np.uint16)
    assert (read_image(save(tmp_path / "a.png", Image.fromarray(deep))).pixels == 1).all()


@pytest.mark.parametrize("values", [[0, 1_000_000, 2_000_000], [-300, 0, 300]])
def test_deeper_integers_take_their_own_range(values: list[int], tmp_path: Path) -> None:
    deep = np.array([values], np.int32)
    assert read_image(save(tmp_path / "a.tif", Image.fromarray(deep))).pixels[0, :, 0].tolist() == [0, 128, 255]


def test_floats_take_their_own_range(tmp_path: Path) -> None:
    values = np.array([[-1, -0.5, 0, 0.5, 1]], np.float32)
    pixels = read_image(save(tmp_path / "a.tif", Image.fromarray(values))).pixels
    assert pixels[0, :, 0].tolist() == [0, 64, 128, 191, 255]
    assert (read_image(save(tmp_path / "b.tif", Image.fromarray(values * 0 + 7))).pixels == 0).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_floats_that_are_not_finite_do_not_spoil_the_others(tmp_path: Path) -> None:
    values = np.array([[0, 5, 10, np.nan, np.inf, -np.inf]], np.float32)
    pixels = read_image(save(tmp_path / "a.tif", Image.fromarray(values))).pixels
    assert pixels[0, :, 0].tolist() == [0, 128, 255, 0, 255, 0]


def test_one_bit(tmp_path: Path) -> None:
    board = np.indices((6, 9)).sum(axis=0) % 2 == 1
    pixels = read_image(save(tmp_path / "a.png", Image.fromarray(board))).pixels
    assert (pixels == board[..., None] * np.uint8(255)).all()


def test_transparency_is_put_on_white(tmp_path: Path) -> None:
    colour = np.array([200, 100, 0])
    for mode, channels in (("RGBA", colour), ("LA", np.array([50]))):
        values = np.zeros((1, 3, len(channels) + 1), np.uint8)
        values[..., :-1] = channels
        values[0, :, -1] = (0, 51, 255)
        pixels = read_image(save(tmp_path / f"{mode}.png", Image.fromarray(values))).pixels
        wanted = [255 + (channels - 255) * alpha for alpha in (0, 0.2, 1)]
        assert abs(pixels[0].astype(float) - np.broadcast_to(wanted, (3, 3))).max() <= 1, mode


def test_a_transparent_entry_of_a_palette_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 200])
    for x in range(3):
        image.putpixel((x, 0), x)
    plain = [[10, 20, 30], [200, 0, 0], [0, 0, 200]]
    assert read_image(save(tmp_path / "plain.png", image)).pixels[0].tolist() == plain
    white = [255, 255, 255]
    for name in ("a.png", "a.gif"):
        pixels = read_image(save(tmp_path / name, image, transparency=1)).pixels
        assert pixels[0].tolist() == [plain[0], white, plain[2]], name
    partly = read_image(save(tmp_path / "b.png", image, transparency=bytes([255, 0, 51]))).pixels
    assert partly[0].tolist() == [plain[0], white, [204, 204, 244]]


def test_a_transparent_colour_of_an_rgb_png_is_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8))
    pixels = read_image(save(tmp_path / "a.png", image, transparency=(1, 2, 3))).pixels
    assert pixels[0].tolist() == [[255, 255, 255], [9, 9, 9]]


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.gif", {}), ("a.webp", {"lossless": True}), ("a.png", {}), ("a.tif", {}), ("a.mpo", {"quality": 100})],
)
def test_of_many_frames_the_first_one_counts(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    frames = [Image.new("RGB", (24, 16), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    path = save(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 3
    pixels = read_image(path).pixels
    assert pixels.shape == (16, 24, 3)
    assert abs(pixels.astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.webp", "a.bmp", "a.tif"])
def test_one_pixel(name: str, tmp_path: Path) -> None:
    pixels = read_image(save(tmp_path / name, Image.new("RGB", (1, 1), (120, 120, 120)))).pixels
    assert pixels.shape == (1, 1, 3)
    assert abs(pixels.astype(int) - 120).max() <= 2


def test_the_content_counts_and_not_the_ending(tmp_path: Path) -> None:
    upright = quadrants(2)
    path = save(tmp_path / "a.jpg", Image.fromarray(upright), format="PNG")
    assert (read_image(path).pixels == upright).all()


def test_the_facts_of_a_file_come_with_it(photo: PhotoMaker) -> None:
    path = photo("Café 東京.png", size=(31, 17))
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    file = read_image(path)
    assert file.pixels.shape == (17, 31, 3)
    assert file.pixels.dtype == np.uint8
    assert file.size == path.stat().st_size
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert file.mtime_ns == path.stat().st_mtime_ns


# --- sizes ------------------------------------------------------------------------------------------------------------

sides = st.integers(1, 20_000)


def ideal(width: int, height: int, rule: Rule, size: int) -> tuple[float, float]:
    """The sides before rounding, from the words of the docstring."""
    aspect = min(max(width / height, 1 / MAX_ASPECT), MAX_ASPECT)
    if rule == "area":
        high = (size * size / aspect) ** 0.5
    elif rule == "short":
        high = size if aspect >= 1 else size / aspect
    else:
        high = size / aspect if aspect >= 1 else size
    return high * aspect, high


@settings(max_examples=200)
@given(sides, sides, st.sampled_from(["area", "short", "long"]), st.integers(1, 2000), st.integers(1, 64), st.data())
def test_target_size_follows_its_rule(
    width: int, height: int, rule: Rule, size: int, multiple: int, data: st.DataObject
) -> None:
    scale = data.draw(st.sampled_from([0.25, 0.5, 0.7071, 1.0, 1.4142, 2.0]))
    result = target_size(width, height, rule=rule, size=size, multiple=multiple, scale=scale)
    for side, wanted in zip(result, ideal(width, height, rule, size), strict=True):
        assert side % multiple == 0
        assert side >= multiple
        assert abs(side - wanted * scale) <= multiple / 2 + 1e-6 or side == multiple
    turned = target_size(height, width, rule=rule, size=size, multiple=multiple, scale=scale)
    assert max(abs(turned[1] - result[0]), abs(turned[0] - result[1])) in (0, multiple)  # a tie may round either way


@given(sides, sides, st.integers(1, 2000), st.integers(1, 64))
def test_exact_is_a_square_whatever_the_picture(width: int, height: int, size: int, multiple: int) -> None:
    result = target_size(width, height, rule="exact", size=size, multiple=multiple)
    assert result[0] == result[1]
    assert abs(result[0] - size) <= multiple / 2 or result[0] == multiple


@given(sides, sides)
def test_no_picture_becomes_a_thread(width: int, height: int) -> None:
    for rule in ("area", "short", "long"):
        short, long = sorted(target_size(width, height, rule=rule, size=320))
        assert long <= MAX_ASPECT * (short + 0.5) + 0.5


@pytest.mark.parametrize(
    ("rule", "options", "wanted"),
    [
        ("short", {}, (427, 320)),
        ("long", {}, (320, 240)),
        ("area", {}, (370, 277)),
        ("exact", {}, (320, 320)),
        ("short", {"multiple": 32}, (416, 320)),
        ("area", {"multiple": 32}, (384, 288)),
        ("long", {"scale": 0.5}, (160, 120)),
        ("exact", {"scale": 1.4142, "multiple": 32}, (448, 448)),
        ("long", {"scale": 0.01, "multiple": 32}, (32, 32)),
    ],
)
def test_a_photo_of_four_by_three(rule: ResizeRule, options: dict[str, Any], wanted: tuple[int, int]) -> None:
    assert target_size(1024, 768, rule=rule, size=320, **options) == wanted


def test_a_strip_is_squeezed() -> None:
    assert target_size(1, 100_000, rule="short", size=320) == (320, 320 * MAX_ASPECT)
    assert target_size(100_000, 1, rule="long", size=320) == (320, 320 // MAX_ASPECT)


def test_resizing_to_the_same_size_changes_nothing() -> None:
    pixels = quadrants(4)
    assert resize(pixels, (8, 16)) is pixels


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_resize_gives_width_and_height(interpolation: str) -> None:
    pixels = np.full((20, 30, 3), (10, 120, 250), np.uint8)
    for width, height in ((7, 5), (60, 40), (1, 1), (30, 40)):
        resized = resize(pixels, (width, height), interpolation)
        assert resized.shape == (height, width, 3)
        assert resized.dtype == np.uint8
        assert (resized == pixels[0, 0]).all()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_making_smaller_averages(interpolation: str) -> None:
    """A fine chequerboard becomes grey; without antialiasing it would stay black or white."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = resize(np.repeat(board[..., None], 3, axis=2), (8, 8), interpolation)
    assert abs(small.astype(int) - 127).max() <= 12


def test_resize_keeps_sides_apart() -> None:
    small = resize(quadrants(32), (2, 2), "box")
    assert (small == COLOURS).all()
