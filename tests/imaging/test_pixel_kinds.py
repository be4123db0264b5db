"""Every odd but good picture is decoded right: greys, depths, transparency, frames."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photos import PhotoMaker
from PIL import Image
from quadrants import quadrants, save

from pipeline.imaging import read_image

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


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
