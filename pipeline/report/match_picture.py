"""Two photos side by side, lines between the points that match, and the outline of the query on the result.

Used by `relook match`, by result pages with explanations, and by notebooks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.errors import UsageError
from pipeline.files import write_bytes, write_errors
from pipeline.imaging import Pixels, resize
from pipeline.types import FloatArray

_GAP = 8  # pixels between the photos
_BACKGROUND = 24
# RGB; told apart by people with any colour vision, on light and dark photos.
_INLIER = (0, 190, 170)
_OUTLIER = (230, 120, 60)
_OUTLINE = (255, 215, 0)
# Lines that are drawn of each kind: more hide the photos.
_LINES = 150
_SUBPIXEL = 4  # bits of a coordinate behind the point, for smooth lines


@dataclass(frozen=True)
class MatchedPoints:
    """What is drawn of a pair of photos.

    Attributes:
        query_xy, image_xy: [k, 2] float32, in pixels of the upright originals.
        inliers: [k] bool.
        outline: [4, 2] float32, of the query on the image; None: there is none.
    """

    query_xy: FloatArray
    image_xy: FloatArray
    inliers: npt.NDArray[np.bool_]
    outline: FloatArray | None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MatchedPoints:
        """Of what `VerifiedMatches.to_json` gives."""
        points, outline = values["points"], values["outline"]
        return cls(
            np.array([point["query"] for point in points], np.float32).reshape(-1, 2),
            np.array([point["image"] for point in points], np.float32).reshape(-1, 2),
            np.array([point["inlier"] for point in points], np.bool_),
            None if outline is None else np.array(outline, np.float32),
        )


def write_match(path: Path, query: Pixels, image: Pixels, found: MatchedPoints, side: int = 900) -> None:
    """Write the picture of `draw_matches` as a .png or .jpg file.

    Raises:
        UsageError: the file's name has another ending.
        RelookError: the file cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{path}: a picture is written as .png or .jpg")
    picture = draw_matches(query, image, found, side)
    _, data = cv2.imencode(ending, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    with write_errors(path):
        write_bytes(path, data.tobytes())


def draw_matches(query: Pixels, image: Pixels, found: MatchedPoints, side: int = 640) -> Pixels:
    """The picture [H, W, 3] uint8 RGB.

    Args:
        query, image: upright photos [h, w, 3] uint8 RGB.
        found: points in pixels of these photos.
        side: the longer side of each photo in the picture, in pixels.
    """
    left, right = _fit(query, side), _fit(image, side)
    canvas, offset = _beside(left, right)
    starts = _places(found.query_xy, query, left)
    ends = _places(found.image_xy, image, right) + np.array([offset, 0], np.float32)
    for kind, colour in ((~found.inliers, _OUTLIER), (found.inliers, _INLIER)):
        for row in np.flatnonzero(kind)[:_LINES]:
            _line(canvas, starts[row], ends[row], colour)
    if found.outline is not None:
        corners = _places(found.outline, image, right)
        part = np.ascontiguousarray(canvas[: right.shape[0], offset:])
        cv2.polylines(part, [_fixed(corners)], True, _OUTLINE, 2, cv2.LINE_AA, _SUBPIXEL)
        canvas[: right.shape[0], offset:] = part
    return canvas


def draw_effects(query: Pixels, image: Pixels, values: Mapping[str, Any], side: int = 640) -> Pixels:
    """The same two photos with a disc on each local descriptor: its area is its effect on the score.

    Args:
        query, image: upright photos [h, w, 3] uint8 RGB.
        values: what `Attended.to_json` gives.
        side: see `draw_matches`.
    """
    sides = {"query": query, "image": image}
    largest = max((abs(one["effect"]) for name in sides for one in values[name]), default=0.0) or 1.0
    return _beside(*(_with_discs(photo, values[name], largest, side) for name, photo in sides.items()))[0]


def _with_discs(photo: Pixels, places: Sequence[Mapping[str, Any]], largest: float, side: int) -> Pixels:
    picture = _fit(photo, side)
    discs = picture.copy()
    for one in sorted(places, key=lambda item: -abs(item["effect"])):  # small ones on top
        place = _places(np.array([one["xy"]], np.float32), photo, picture)[0]
        radius = max(1, round(side / 24 * (abs(one["effect"]) / largest) ** 0.5 * (1 << _SUBPIXEL)))
        colour = _INLIER if one["effect"] > 0 else _OUTLIER
        cv2.circle(discs, _fixed(place).tolist(), radius, colour, -1, cv2.LINE_AA, _SUBPIXEL)
    return np.asarray(cv2.addWeighted(discs, 0.55, picture, 0.45, 0))


def _beside(left: Pixels, right: Pixels) -> tuple[Pixels, int]:
    """Both pictures on one canvas, and where the right one begins."""
    offset = left.shape[1] + _GAP
    canvas = np.full((max(left.shape[0], right.shape[0]), offset + right.shape[1], 3), _BACKGROUND, np.uint8)
    canvas[: left.shape[0], : left.shape[1]] = left
    canvas[: right.shape[0], offset:] = right
    return canvas, offset


def _fit(picture: Pixels, side: int) -> Pixels:
    height, width = picture.shape[:2]
    factor = side / max(height, width)
    return resize(picture, (max(1, round(width * factor)), max(1, round(height * factor))))


def _places(points: FloatArray, photo: npt.NDArray[Any], drawn: npt.NDArray[Any]) -> FloatArray:
    """Pixels of the photo as pixels of what is drawn of it; the centre of the first pixel is (0, 0) in both."""
    factors = np.array([drawn.shape[1] / photo.shape[1], drawn.shape[0] / photo.shape[0]], np.float32)
    return np.asarray((points + 0.5) * factors - 0.5, np.float32)


def _line(canvas: Pixels, start: FloatArray, end: FloatArray, colour: tuple[int, int, int]) -> None:
    first, last = _fixed(np.stack([start, end])).tolist()
    cv2.line(canvas, first, last, colour, 1, cv2.LINE_AA, _SUBPIXEL)
    for point in (first, last):
        cv2.circle(canvas, point, 2 << _SUBPIXEL, colour, 1, cv2.LINE_AA, _SUBPIXEL)


def _fixed(points: FloatArray) -> npt.NDArray[np.int32]:
    """Coordinates with `_SUBPIXEL` bits behind the point; a corner far outside stays within OpenCV's range."""
    return np.clip(points * (1 << _SUBPIXEL), -(2**20), 2**20).round().astype(np.int32)
