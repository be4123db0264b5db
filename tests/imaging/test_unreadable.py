"""Files that are no pictures, are cut off or are too large: each is one ImageError that names it."""

from __future__ import annotations

import io
import os
import random
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import PhotoMaker, make_photo
from PIL import EpsImagePlugin, Image

from pipeline.errors import ImageError
from pipeline.imaging import decode_image, read_image

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


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
