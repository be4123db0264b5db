"""What tests of the exchange share: importing a file into an index, AMES's file, and made local descriptors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from stores_helpers import unit_vectors

from pipeline.config import load_config
from pipeline.errors import RelookError
from pipeline.stages.import_descriptors import ImportResult, import_descriptors
from pipeline.stores import Index
from pipeline.types import FloatArray, LocalDescriptors

SCALES = (0.7071, 1.0, 1.4142)


def bring(tmp_path: Path, source: Path, **arguments: Any) -> tuple[ImportResult, Index]:
    config = load_config(None, [f"index={tmp_path / 'index'}", "extract.part_size=3"])
    result = import_descriptors(config, source, **arguments)
    return result, Index(tmp_path / "index")


def refusal(tmp_path: Path, source: Path, **arguments: Any) -> str:
    with pytest.raises(RelookError) as caught:
        bring(tmp_path, source, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def vectors_of(index: Index) -> dict[str, FloatArray]:
    return {name: vector for part in index.globals_parts() for name, vector in zip(part.ids, part.vectors, strict=True)}


def some_locals(count: int, seed: int, width: int = 16) -> LocalDescriptors:
    rng = np.random.default_rng(seed)
    return LocalDescriptors(
        unit_vectors(count, width, seed).astype(np.float16).astype(np.float32),
        rng.uniform(0, 500, (count, 2)).astype(np.float32),
        rng.choice(1 / np.array(SCALES), count).astype(np.float32),
        np.sort(rng.uniform(1, 9, count).astype(np.float32))[::-1].copy(),
    )


def ames_file(file: Path, images: int = 5, count: int = 6, width: int = 16) -> list[LocalDescriptors]:
    """As the authors' code writes it: descriptors as long as the network left them, padding where there are fewer."""
    made = [some_locals(min(row + 2, count), row, width) for row in range(images)]
    values = np.zeros((images, count, 5 + width), np.float32)
    for row, image in enumerate(made):
        values[row, len(image) :, 3] = 1
        values[row, : len(image), :2] = image.xy
        values[row, : len(image), 2] = np.abs(image.scale[:, None] - 1 / np.array(SCALES)).argmin(axis=1)
        values[row, : len(image), 4] = image.weight
        values[row, : len(image), 5:] = image.descriptors * 37.5
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as stream:
        stream["features"] = values
    return made


def listed(vector: FloatArray) -> str:
    return str(vector.tolist())
