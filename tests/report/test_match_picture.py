"""The picture of a match: lines end where the points lie, and files are written whole or refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UsageError
from pipeline.report.match_picture import MatchedPoints, draw_effects, draw_matches, write_match

LEFT = np.full((200, 300, 3), 90, np.uint8)
RIGHT = np.full((400, 200, 3), 90, np.uint8)


def points(inlier: bool = True, outline: bool = False) -> MatchedPoints:
    corners = np.array([[20, 20], [180, 20], [180, 380], [20, 380]], np.float32) if outline else None
    return MatchedPoints(
        np.array([[60, 40]], np.float32), np.array([[100, 300]], np.float32), np.array([inlier]), corners
    )


def near(picture: np.ndarray, x: float, y: float, colour: tuple[int, int, int]) -> bool:
    part = picture[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4].reshape(-1, 3).astype(int)
    return bool((np.abs(part - colour).sum(axis=1) < 60).any())


@pytest.mark.parametrize(("inlier", "colour"), [(True, (0, 190, 170)), (False, (230, 120, 60))])
def test_a_line_joins_the_two_points(inlier: bool, colour: tuple[int, int, int]) -> None:
    picture = draw_matches(LEFT, RIGHT, points(inlier), side=400)
    assert picture.shape == (400, 400 + 8 + 200, 3)
    start, end = (60 * 400 / 300, 40 * 400 / 300), (408 + 100, 300)
    assert near(picture, *start, colour)
    assert near(picture, *end, colour)
    assert near(picture, (start[0] + end[0]) / 2, (start[1] + end[1]) / 2, colour)
    assert not near(picture, 300, 20, colour)


def test_the_outline_lies_on_the_right_photo() -> None:
    picture = draw_matches(LEFT, RIGHT, points(outline=True), side=400)
    for x, y in ((20, 200), (180, 200), (100, 20), (100, 380)):
        assert near(picture, 408 + x, y, (255, 215, 0))
    assert not near(picture, 20, 100, (255, 215, 0))


def test_an_outline_far_outside_is_drawn_as_far_as_it_is_seen() -> None:
    far = MatchedPoints(*([np.zeros((0, 2), np.float32)] * 2), np.zeros(0, np.bool_), np.float32([[-1e7, 5]] * 4))
    assert draw_matches(LEFT, RIGHT, far).shape[2] == 3


def test_effects_are_discs_by_their_size() -> None:
    values = {
        "query": [{"xy": [100.0, 100.0], "effect": 1.0}, {"xy": [250.0, 150.0], "effect": -0.01}],
        "image": [{"xy": [50.0, 50.0], "effect": -1.0}],
    }
    picture = draw_effects(LEFT, RIGHT, values, side=400).astype(int)
    middle = picture[133, 133]
    assert middle[1] > middle[0] + 40  # teal
    other = picture[50, 408 + 50]
    assert other[0] > other[2] + 40  # orange
    assert (np.abs(picture[:266, :400] - 90).sum(axis=2) > 30).sum() < 2000


@pytest.mark.parametrize("name", ["match.png", "match.JPG"])
def test_a_file_is_written(tmp_path: Path, name: str) -> None:
    write_match(tmp_path / "new" / name, LEFT, RIGHT, points(), side=300)
    with Image.open(tmp_path / "new" / name) as picture:
        assert picture.size == (300 + 8 + 150, 300)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"match\.gif: a picture is written as \.png or \.jpg"):
        write_match(tmp_path / "match.gif", LEFT, RIGHT, points())
