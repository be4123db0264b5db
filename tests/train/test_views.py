"""Views of photos in training: cuts, and what follows from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from photos import make_photo

from pipeline.config import AugmentConfig
from pipeline.imaging import read_image
from pipeline.train.data.augmentation import augment, random_crop


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 99))
def test_a_cut_lies_in_the_picture_and_keeps_its_share(width: int, height: int, seed: int) -> None:
    settings = AugmentConfig(area=(0.2, 0.9))
    left, top, w, h = random_crop(width, height, settings, np.random.default_rng(seed))
    assert left >= 0 <= top
    assert w >= 1 <= h
    assert left + w <= width
    assert top + h <= height
    if min(width, height) > 200 and max(width, height) < 1.3 * min(width, height):
        assert 0.19 <= w * h / (width * height) <= 0.92


def test_a_view_follows_from_its_seed(photo: object, tmp_path: Path) -> None:
    pixels = read_image(make_photo(tmp_path / "a.png", (80, 60))).pixels
    settings = AugmentConfig(size=48, lighting=0.1)
    one, two, other = (augment(pixels, settings, seed) for seed in (3, 3, 4))
    assert one.shape == (3, 48, 48)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_without_any_change_a_view_is_the_resized_picture(tmp_path: Path) -> None:
    pixels = read_image(make_photo(tmp_path / "a.png", (64, 64))).pixels
    still = AugmentConfig(size=64, area=(1, 1), aspect=(1, 1), flip=0, jitter=0, hue=0)
    np.testing.assert_array_equal(augment(pixels, still, 0), pixels.transpose(2, 0, 1))
    mirrored = augment(pixels, still.model_copy(update={"flip": 1.0}), 0)
    np.testing.assert_array_equal(mirrored, pixels.transpose(2, 0, 1)[:, :, ::-1])
