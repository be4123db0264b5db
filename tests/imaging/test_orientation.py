"""Pictures are turned upright by their EXIF block; nothing is printed about a file that was read."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photos import PhotoMaker
from PIL import Image
from quadrants import STORED, quadrants, save

from pipeline.errors import ImageError
from pipeline.imaging import decode_image, read_image

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


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
