"""JPEGs decoded at a part of their size: the same picture, upright, and every refusal as in full."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from pipeline.config import DescribeConfig, ImageConfig
from pipeline.describe import ReadOptions, describe_few, load_describer
from pipeline.describe.preprocessing import smallest_for
from pipeline.errors import ImageError
from pipeline.imaging import Smallest, read_image, read_picture
from pipeline.types import ImageRecord


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth, with another colour in each corner."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    pixels = np.stack([255 * x / width, 255 * y / height, 127 + 120 * np.sin(x / 60)], axis=2)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, orientation: int = 1, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, exif=exif.tobytes(), **options)
    return stream.getvalue()


def at_least(sides: tuple[int, int]) -> Smallest:
    return lambda width, height: sides


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("mode", "progressive"), [("RGB", False), ("L", True), ("CMYK", False)])
def test_a_reduced_picture_is_the_picture(orientation: int, mode: str, progressive: bool) -> None:
    data = encoded(picture(403, 302, mode), orientation, progressive=progressive)
    whole = read_picture(data, "x")
    sides = (76, 101) if orientation >= 5 else (101, 76)  # a quarter has as many: 101 x 76
    found = read_picture(data, "x", smallest=at_least((sides[0] - 1, sides[1] - 1)))
    assert found.whole == whole.whole == whole.pixels.shape[1::-1]
    assert found.pixels.shape[1::-1] == sides
    resized = np.asarray(Image.fromarray(whole.pixels).resize(sides, Image.Resampling.BOX))
    assert np.abs(resized.astype(int) - found.pixels).mean() < 2


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
def test_no_side_becomes_too_small(width: int, height: int, least_width: int, least_height: int) -> None:
    least = min(least_width, width), min(least_height, height)
    found = read_picture(encoded(picture(width, height)), "x", smallest=at_least(least))
    assert found.whole == (width, height)
    assert found.pixels.shape[1] >= least[0]
    assert found.pixels.shape[0] >= least[1]


def test_what_is_refused_in_full_is_refused(tmp_path: Path) -> None:
    whole = encoded(picture(403, 302))
    file = tmp_path / "photo.jpg"
    for data, limit in (
        (whole[: len(whole) // 2], 10**6),
        (whole[:300], 10**6),
        (b"x" * 99, 10**6),
        (whole, 403 * 301),
    ):
        file.write_bytes(data)
        with pytest.raises(ImageError) as wanted:
            read_image(file, max_pixels=limit)
        with pytest.raises(ImageError) as found:
            read_image(file, max_pixels=limit, smallest=at_least((50, 50)))
        assert str(found.value) == str(wanted.value)
    file.write_bytes(whole[:-2])  # all pixels, without the end marker
    assert read_image(file, smallest=at_least((50, 50))).pixels.shape == (76, 101, 3)


def test_other_formats_are_read_in_full(tmp_path: Path) -> None:
    picture(400, 300).save(tmp_path / "photo.png")
    found = read_image(tmp_path / "photo.png", smallest=at_least((10, 10)))
    assert found.pixels.shape == (300, 400, 3)
    assert found.whole == (400, 300)


def test_what_is_left_for_the_largest_scale() -> None:
    smallest = smallest_for(ImageConfig(size=64, multiple=32, draft=2.0), (0.5, 1.0, 2.0))
    assert smallest is not None
    assert smallest(4000, 3000) == (2 * 160, 2 * 96)
    assert smallest_for(ImageConfig(), (1.0,)) is None


@pytest.mark.parametrize("values", [{"interpolation": "opencv", "resize": "long"}, {"max_side": 1024}, {"draft": 0.5}])
def test_settings_that_need_all_pixels(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="draft"):
        ImageConfig.model_validate({"draft": 2.0, **values})


def test_a_describer_reads_reduced_photos(tmp_path: Path) -> None:
    """Nearly the descriptors of the whole photo, places in its pixels; a box is cut from the whole photo."""
    (tmp_path / "photo.jpg").write_bytes(encoded(picture(1000, 750), 6))
    options = {"locals": {"count": 20, "dimension": None}, "globals": {"scales": (1.0,)}}
    whole = load_describer("efficientnet_lite0", image={"size": 64}, **options)
    reduced = load_describer("efficientnet_lite0", image={"size": 64, "draft": 2.0}, **options)
    assert "draft" not in whole.card.settings["image"]
    assert whole.card.image.draft is None
    assert reduced.card.image.draft == 2.0
    assert reduced.card.fingerprint != whole.card.fingerprint
    reading = ReadOptions(2, 1, 1, 10**8, 10**8)
    for box in (None, (100.0, 100.0, 300.0, 500.0)):
        record = ImageRecord("photo.jpg", "photo.jpg", bbox=box)
        (mine,), (theirs,) = (
            list(describe_few(one, [record], lambda record: tmp_path / record.path, reading))
            for one in (reduced, whole)
        )
        assert (mine.record.width, mine.record.height) == (750, 1000)
        assert mine.record == theirs.record
        near = float(mine.description.vector @ theirs.description.vector)
        assert near > 0.99
        assert (near > 1 - 1e-6) == (box is not None)
        places = [one.description.locals.xy.max(axis=0) for one in (mine, theirs)]
        np.testing.assert_allclose(*places, atol=1e-3)


def test_the_default_and_published_describers_read_in_full() -> None:
    assert DescribeConfig().image.draft is None
