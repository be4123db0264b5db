"""A picture in each form that a program may have it in: the same pixels, or one named error."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from photos import make_photo
from PIL import Image

from pipeline.errors import ImageError
from pipeline.imaging import read_image, read_picture, thumbnail, thumbnail_bytes


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_every_form_gives_the_pixels_of_the_file(tmp_path: Path, name: str) -> None:
    path = make_photo(tmp_path / name, (31, 17), seed=4)
    expected = read_image(path)
    np.testing.assert_array_equal(read_picture(path, "x").pixels, expected.pixels)
    encoded = read_picture(path.read_bytes(), "x")
    np.testing.assert_array_equal(encoded.pixels, expected.pixels)
    assert (encoded.sha256, encoded.size) == (expected.sha256, expected.size)
    np.testing.assert_array_equal(read_picture(expected.pixels, "x").pixels, expected.pixels)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_picture(image, "x").pixels, expected.pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pillow_image_is_turned_like_its_file(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = make_photo(tmp_path / "a.png", (31, 17), exif=exif)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_picture(image, "x").pixels, read_image(path).pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_a_pillow_image_of_any_mode_is_read_like_its_file(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (9, 13), dtype=np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (9, 13, 4), dtype=np.uint8), "RGBA").convert(mode)
    image.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_picture(image, "x").pixels, read_image(tmp_path / "a.tif").pixels)


def test_a_palette_with_a_transparent_colour_is_put_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "a.png", transparency=1)
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(read_picture(opened, "x").pixels, np.full((4, 4, 3), 255, np.uint8))


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.zeros((4, 4, 3), np.float32), "an array of float32; pixels are uint8.*by 255"),
        (np.zeros((4, 4, 3), np.int64), "an array of int64; pixels are uint8"),
        (np.zeros((4, 4), np.uint8), r"an array of shape \[4, 4\]; a picture is \[H, W, 3\]"),
        (np.zeros((4, 4, 4), np.uint8), r"an array of shape \[4, 4, 4\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"list\(array\)"),
        (np.zeros((0, 4, 3), np.uint8), r"an array of shape \[0, 4, 3\]"),
        (np.zeros((40, 40, 3), np.uint8), "40 x 40 pixels, more than the 1,000 allowed"),
        (Image.new("RGB", (40, 40)), "40 x 40 pixels, more than the 1,000 allowed"),
        (Image.new("L", (40, 40)), "40 x 40 pixels, more than the 1,000 allowed"),
        (b"", "no bytes"),
        (b"not a picture", "picture"),
        (bytes(20_001), "20,001 bytes, more than the 20,000 allowed"),
    ],
)
def test_what_is_no_picture_is_one_named_error(picture: object, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as error:
        read_picture(picture, "the query", max_pixels=1000, max_bytes=20_000)  # type: ignore[arg-type]
    assert str(error.value).startswith("the query")


def test_a_closed_pillow_image_is_an_error(tmp_path: Path) -> None:
    with Image.open(make_photo(tmp_path / "a.png")) as image:
        pass
    with pytest.raises(ImageError, match="x: a Pillow image that cannot be read"):
        read_picture(image, "x")


def test_a_thumbnail_is_small_and_has_a_frame_where_the_box_is(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((300, 500, 3), (0, 0, 200), np.uint8)).save(path)
    assert thumbnail(str(tmp_path / "gone.png")) == ""
    plain = Image.open(io.BytesIO(base64.b64decode(thumbnail(str(path), 100).partition(",")[2])))
    framed = Image.open(io.BytesIO(thumbnail_bytes(str(path), (100, 100, 300, 200), 100)))
    assert plain.size == framed.size == (100, 60)
    assert framed.getpixel((20, 30))[0] > 150 > plain.getpixel((20, 30))[0]  # gold
    assert framed.getpixel((40, 30))[0] < 100
    outside = Image.open(io.BytesIO(thumbnail_bytes(str(path), (-50, -50, 900, 900), 100)))
    assert outside.getpixel((1, 30))[0] > 100
    assert thumbnail_bytes(str(path), (600, 10, 700, 20), 100)  # beyond the photo: no frame
