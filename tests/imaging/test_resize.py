"""The size that a picture is resized to, and what resizing does to its pixels."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quadrants import COLOURS, quadrants

from pipeline.imaging import INTERPOLATIONS, MAX_ASPECT, ResizeRule, resize, target_size

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


Rule = Literal["area", "short", "long"]


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
