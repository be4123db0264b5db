"""Camera raw files: the preview where it is large enough and whole, else the developed picture; one reason a fault.

The files are DNGs made by hand: 320 x 240, red on the left and blue on the right, with a green and yellow preview.
"""

from __future__ import annotations

import io
import struct
import sys

import numpy as np
import pytest
from damaged_metadata import exif_block, orientation_entry
from PIL import Image
from raw_files import raw_file

from pipeline.errors import ImageError
from pipeline.imaging import decode_image
from pipeline.imaging.exif import upright
from pipeline.imaging.raw import MIN_PREVIEW

pytest.importorskip("rawpy")


def sensor(width: int = 320, height: int = 240) -> np.ndarray:
    return halves(width, height, (200, 40, 40), (40, 40, 200))


def preview(width: int = 320, height: int = 240) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(halves(width, height, (20, 200, 20), (200, 200, 20))).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def halves(width: int, height: int, left: tuple[int, int, int], right: tuple[int, int, int]) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    return pixels


def at(data: bytes, x: float, y: float) -> np.ndarray:
    """The mean colour around a place of the decoded picture, from 0 to 1."""
    pixels = decode_image(data, name="x.dng")
    row, column = round(y * pixels.shape[0]), round(x * pixels.shape[1])
    return pixels[row - 8 : row + 8, column - 8 : column + 8].reshape(-1, 3).mean(axis=0)


def assert_developed(data: bytes) -> None:
    left, right = at(data, 0.25, 0.5), at(data, 0.75, 0.5)
    assert left.argmax() == 0
    assert right.argmax() == 2
    assert min(left[0] - left[1:].max(), right[2] - right[:2].max()) > 60


def assert_preview(data: bytes) -> None:
    np.testing.assert_allclose(at(data, 0.25, 0.5), (20, 200, 20), atol=4)
    np.testing.assert_allclose(at(data, 0.75, 0.5), (200, 200, 20), atol=4)


def test_a_file_without_a_preview_is_developed() -> None:
    data = raw_file(sensor())
    assert decode_image(data, name="x.dng").shape == (240, 320, 3)
    assert_developed(data)


def test_a_preview_as_large_as_the_sensor_is_taken() -> None:
    assert_preview(raw_file(sensor(), preview()))


def test_a_preview_of_a_useful_size_is_taken_and_a_smaller_one_is_not() -> None:
    large = sensor(1400, 900)
    data = raw_file(large, preview(MIN_PREVIEW, 658))
    assert decode_image(data, name="x.dng").shape == (658, MIN_PREVIEW, 3)
    assert_preview(data)
    data = raw_file(large, preview(MIN_PREVIEW - 2, 658))
    assert decode_image(data, name="x.dng").shape == (900, 1400, 3)
    assert_developed(data)


@pytest.mark.parametrize("harm", ["zeros", "cut", "no JPEG"])
def test_a_damaged_preview_leaves_the_sensors_picture(harm: str) -> None:
    whole = preview()
    harmed = {"zeros": bytes(len(whole)), "cut": whole[: len(whole) // 2], "no JPEG": b"\xff" * len(whole)}
    assert_developed(raw_file(sensor(), harmed[harm]))


def test_the_orientation_turns_the_developed_picture_and_the_preview() -> None:
    """Where the left of the sensor is; a preview may state its orientation, and may be turned already."""
    places = {1: (0.25, 0.5), 3: (0.75, 0.5), 6: (0.5, 0.25), 8: (0.5, 0.75)}
    for orientation, (x, y) in places.items():
        assert at(raw_file(sensor(), orientation=orientation), x, y).argmax() == 0
        assert at(raw_file(sensor(), orientation=orientation), 1 - x, 1 - y).argmax() == 2
        turned = turned_by(orientation)
        for stored in (preview(), stating(preview(), orientation), *([turned] if orientation in (6, 8) else [])):
            data = raw_file(sensor(), stored, orientation)
            np.testing.assert_allclose(at(data, x, y), (20, 200, 20), atol=4)
            np.testing.assert_allclose(at(data, 1 - x, 1 - y), (200, 200, 20), atol=4)
        data = raw_file(sensor(), stating(turned, 1), orientation)
        np.testing.assert_allclose(at(data, x, y), (20, 200, 20), atol=4)


def turned_by(orientation: int) -> bytes:
    """The preview as it is shown."""
    stream = io.BytesIO()
    upright(Image.open(io.BytesIO(preview())), orientation).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def stating(jpeg: bytes, orientation: int) -> bytes:
    block = b"Exif\0\0" + exif_block([orientation_entry(orientation)])
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_one_reason(share: float) -> None:
    data = raw_file(sensor())
    with pytest.raises(ImageError, match=r"^x\.dng: cannot be decoded \(camera raw: Input/output error\)$"):
        decode_image(data[: int(share * len(data))], name="x.dng")


@pytest.mark.parametrize("magic", [b"FUJIFILMCCD-RAW", b"IIRO", b"II*\0\x10\0\0\0CR\2\0"])
def test_a_file_that_only_begins_as_a_raw_file_is_one_reason(magic: bytes) -> None:
    with pytest.raises(ImageError, match=r"cannot be decoded \(camera raw: Unsupported file format or not RAW file\)$"):
        decode_image(magic + b"\x55" * 600, name="x.raf")


def test_the_limits_hold() -> None:
    with pytest.raises(ImageError, match="320 x 240 pixels, more than the 1,000 allowed"):
        decode_image(raw_file(sensor()), name="x", max_pixels=1000)
    with pytest.raises(ImageError, match="not read within 0 seconds"):
        decode_image(raw_file(sensor()), name="x", seconds=0)


def test_a_missing_package_is_one_reason_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(ImageError, match=r'camera raw files are read where rawpy .*"relook\[raw\]"'):
        decode_image(raw_file(sensor()), name="x")
