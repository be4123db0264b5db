"""A describer that needs no network, for tests of what happens around one: photos become 12 numbers and some locals.

`use_tiny` puts it in the place of networks; the photos are real files, and everything else is as it runs at night.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config import Config, parse_config
from pipeline.types import (
    Box,
    Description,
    FloatArray,
    Keypoints,
    KeypointsCard,
    LocalDescriptors,
    ModelCard,
    Prepared,
    PreparedKeypoints,
)


class TinyDescriber:
    """The mean colours of four fields; `size` is on its card, so that another size is another model."""

    to_fit: tuple[str, ...] = ()

    def __init__(self, size: int) -> None:
        settings = {"image": {"size": size}}
        self.card = ModelCard("tiny", "none", "random weights (seed 0)", settings, "", 12, 3)
        self._size = size

    def fit(self, batches: Any) -> None:
        raise AssertionError("there is nothing to fit")

    def fitted(self) -> Mapping[str, FloatArray]:
        return {}

    def use_fitted(self, arrays: Mapping[str, FloatArray]) -> None:
        assert not arrays

    def prepare(self, image: Any, bbox: Box | None = None) -> Prepared:
        small = Image.fromarray(image).resize((2, 2), Image.Resampling.BOX)
        height, width = image.shape[:2]
        pixels = np.asarray(small).transpose(2, 0, 1)
        return Prepared([pixels], [(width / 2, height / 2, 0, 0)], [1.0], width, height)

    def describe(self, batch: Sequence[Prepared]) -> list[Description]:
        described = []
        for item in batch:
            cells = item.pixels[0].astype(np.float32).reshape(3, 4) + self._size / 1000 + 1
            vector = cells.reshape(-1) / np.linalg.norm(cells)
            units = (cells / np.linalg.norm(cells, axis=0)).T
            places = np.arange(8, dtype=np.float32).reshape(4, 2)
            local = LocalDescriptors(units, places, np.ones(4, np.float32), np.ones(4, np.float32))
            described.append(Description(vector, local))
        return described


class TinyKeypoints:
    """As many keypoints as the picture's first pixel says, `count` at most; they follow from that pixel alone."""

    def __init__(self, kind: str, count: int) -> None:
        self.card = KeypointsCard(kind, "", {"count": count}, 4)
        self._count = count

    def prepare(self, image: Any, bbox: Box | None = None) -> PreparedKeypoints:
        height, width = image.shape[:2]
        return PreparedKeypoints(image[:1, :1].copy(), (0.0, 0.0, float(width), float(height)))

    def extract(self, batch: Sequence[PreparedKeypoints]) -> list[Keypoints]:
        found = []
        for item in batch:
            seed = int(item.pixels.astype(np.int64).reshape(-1) @ [1, 256, 65536])
            rng, count = np.random.default_rng(seed), seed % (self._count + 1)
            values = rng.normal(size=(count, 4)).astype(np.float32)
            units = values / np.linalg.norm(values, axis=1, keepdims=True)
            xy, score = rng.uniform(0, 8, (count, 2)).astype(np.float32), np.ones(count, np.float32)
            zeros = np.zeros(count, np.float32)
            found.append(Keypoints(xy, units, score, zeros, zeros, item.region))
        return found


def tiny_keypoints(
    kind: str, checkpoint: Any = None, device: str = "cpu", *, accept_license: Any = (), count: int = 9
) -> TinyKeypoints:
    """In the place of `load_keypoints`."""
    assert checkpoint is None
    return TinyKeypoints(kind, count)


def use_tiny() -> None:
    """In this process every configuration asks for the tiny describer and for tiny keypoints."""
    import pipeline.describe
    import pipeline.workflow.model_loading

    def new_describer(config: Config) -> TinyDescriber:
        return TinyDescriber(config.describe.image.size)

    pipeline.workflow.model_loading.new_describer = new_describer
    pipeline.describe.load_keypoints = tiny_keypoints


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """`use_tiny` for one test, without flushing."""
    monkeypatch.setattr(
        "pipeline.workflow.model_loading.new_describer", lambda config: TinyDescriber(config.describe.image.size)
    )
    monkeypatch.setattr("pipeline.describe.load_keypoints", tiny_keypoints)
    monkeypatch.setattr("pipeline.files.atomic_write._flush", lambda path: None)


def tiny_config(folder: Path, size: int = 320, keypoints: Mapping[str, Any] | None = None, **extract: Any) -> Config:
    """The index and the photos of `folder`; `keypoints` is the section of that name."""
    values = {
        "index": str(folder / "index"),
        "catalog": {"images": str(folder / "photos"), "labels": "folder"},
        "describe": {"image": {"size": size}, "keypoints": dict(keypoints or {})},
        "extract": {"part_size": 4, "workers": 2, **extract},
        "reindex": {"small_parts": 3, "keep": 2, "max_removed": 1},
    }
    return parse_config(values, "tests")


def paint(path: Path, seed: int) -> None:
    """A photo whose colours follow from `seed` alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = np.random.default_rng(seed).integers(0, 255, (2, 2, 3), dtype=np.uint8)
    Image.fromarray(fields).resize((8, 8), Image.Resampling.NEAREST).save(path, format="PNG")
