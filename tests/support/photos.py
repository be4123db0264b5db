"""Small pictures and a small collection, drawn in a temporary folder, the same in every run."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
# Data that is no part of the project: the variable RELOOK_SHARED, or `shared` beside the checkout.
SHARED = Path(os.environ.get("RELOOK_SHARED") or ROOT.parent / "shared")

# Six things that can be told apart: a shape, its colour, and the colour behind it.
SHAPES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "disc": ((210, 40, 40), (235, 235, 220)),
    "square": ((40, 90, 210), (240, 220, 120)),
    "ring": ((30, 140, 60), (215, 225, 245)),
    "cross": ((240, 150, 20), (60, 50, 80)),
    "stripes": ((20, 20, 20), (230, 230, 230)),
    "triangle": ((150, 50, 170), (190, 230, 190)),
}
PER_LABEL = 4
DISTRACTORS = 4


@dataclass(frozen=True)
class SmallCollection:
    """28 pictures of 96 x 80 pixels: six labels of four, and four distractors.

    Attributes:
        folder: holds LABEL/LABEL_N.png, and other/other_N.png for the distractors.
        manifest: `manifest.csv` in it, with columns path, label and split; of each label two are "train", two "val".
        labels: label by path, "" for a distractor.
    """

    folder: Path
    manifest: Path
    labels: Mapping[str, str]


class PhotoMaker(Protocol):
    """`make_photo` in the test's own temporary folder."""

    def __call__(self, name: str = "photo.png", size: tuple[int, int] = (64, 48), seed: int = 0, **save: Any) -> Path:
        """The path of the new picture."""


def make_photo(path: Path, size: tuple[int, int] = (64, 48), seed: int = 0, **save: Any) -> Path:
    """Draw a picture: a gradient, some rectangles, a little noise; another `seed` gives another picture.

    Args:
        path: its file; the ending chooses the format; folders are made.
        size: width and height.
        save: options of Pillow's `save`, such as quality=90 or exif=...
    """
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    corners = rng.integers(30, 226, (3, 3))
    pixels = corners[0] + (corners[1] - corners[0]) * (x / width)[..., None] / 2
    pixels = pixels + (corners[2] - corners[0]) * (y / height)[..., None] / 2
    for _ in range(6):
        left, top = int(rng.integers(0, width)), int(rng.integers(0, height))
        right, bottom = left + int(rng.integers(1, width // 2 + 2)), top + int(rng.integers(1, height // 2 + 2))
        pixels[top:bottom, left:right] = rng.integers(0, 256, 3)
    return _save(path, pixels + rng.normal(0, 4, pixels.shape), **save)


def make_collection(folder: Path) -> SmallCollection:
    """Draw the collection that `small_collection` hands out."""
    rows = []
    for number, label in enumerate(SHAPES):
        for view in range(PER_LABEL):
            path = f"{label}/{label}_{view}.png"
            _save(folder / path, _draw(label, np.random.default_rng(100 * number + view)))
            rows.append({"path": path, "label": label, "split": "train" if view < PER_LABEL // 2 else "val"})
    for number in range(DISTRACTORS):
        path = f"other/other_{number}.png"
        make_photo(folder / path, (96, 80), seed=9000 + number)
        rows.append({"path": path, "label": "", "split": "train" if number < DISTRACTORS // 2 else "val"})
    manifest = folder / "manifest.csv"
    with manifest.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, ["path", "label", "split"])
        writer.writeheader()
        writer.writerows(rows)
    return SmallCollection(folder, manifest, {row["path"]: row["label"] for row in rows})


def _draw(shape: str, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """One view of a shape, [80, 96, 3]: somewhere near the middle, larger or smaller, lighter or darker."""
    y, x = np.mgrid[0:80, 0:96]
    radius = rng.uniform(20, 30)
    u = (x - 48 - rng.uniform(-12, 12)) / radius
    v = (y - 40 - rng.uniform(-8, 8)) / radius
    distance = np.hypot(u, v)
    inside = {
        "disc": distance < 1,
        "square": np.maximum(abs(u), abs(v)) < 0.85,
        "ring": (distance < 1) & (distance > 0.55),
        "cross": (np.minimum(abs(u), abs(v)) < 0.3) & (np.maximum(abs(u), abs(v)) < 1),
        "stripes": (np.maximum(abs(u), abs(v)) < 1) & (np.floor(u * 4) % 2 == 0),
        "triangle": (v < 0.8) & (v > 2 * abs(u) - 0.9),
    }[shape]
    front, back = SHAPES[shape]
    pixels = np.where(inside[..., None], front, back) * rng.uniform(0.85, 1.1)
    return pixels + rng.normal(0, 6, pixels.shape)


def _save(path: Path, pixels: npt.NDArray[np.float64], **save: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).save(path, **save)
    return path
