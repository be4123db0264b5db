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
from pipeline.types import Box, Description, FloatArray, LocalDescriptors, ModelCard, Prepared


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


def use_tiny() -> None:
    """In this process every configuration asks for the tiny describer."""
    import pipeline.workflow.model_loading

    def new_describer(config: Config) -> TinyDescriber:
        return TinyDescriber(config.describe.image.size)

    pipeline.workflow.model_loading.new_describer = new_describer


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """`use_tiny` for one test, without flushing."""
    monkeypatch.setattr(
        "pipeline.workflow.model_loading.new_describer", lambda config: TinyDescriber(config.describe.image.size)
    )
    monkeypatch.setattr("pipeline.files._flush", lambda path: None)


def tiny_config(folder: Path, size: int = 320, **extract: Any) -> Config:
    """The index and the photos of `folder`."""
    values = {
        "index": str(folder / "index"),
        "catalog": {"images": str(folder / "photos"), "labels": "folder"},
        "describe": {"image": {"size": size}},
        "extract": {"part_size": 4, "workers": 2, **extract},
        "reindex": {"small_parts": 3, "keep": 2, "max_removed": 1},
    }
    return parse_config(values, "tests")


def paint(path: Path, seed: int) -> None:
    """A photo whose colours follow from `seed` alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = np.random.default_rng(seed).integers(0, 255, (2, 2, 3), dtype=np.uint8)
    Image.fromarray(fields).resize((8, 8), Image.Resampling.NEAREST).save(path, format="PNG")
