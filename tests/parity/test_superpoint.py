"""SuperPoint: an official file gives the official keypoints, as SuperGlue's and LightGlue's repositories run it.

Points are compared exactly, scores and descriptors within 1e-5. Points whose official scores differ by less than the
noise of float32 (after kornia's resizing 9e-7 here) may stand in one another's place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity_ledger import folders

from pipeline.describe import load_keypoints
from pipeline.types import Keypoints

ATOL = 1e-5
MANY = 10**6
NOISE = 2e-6


FOLDERS = folders("superpoint*")
pytestmark = pytest.mark.skipif(
    FOLDERS == ["superpoint*"], reason="SuperPoint's numbers hold a photo: they lie in ../shared/parity_matching alone"
)


@pytest.fixture(scope="module", params=FOLDERS)
def official(request: pytest.FixtureRequest, official_folder: Any) -> Any:
    return official_folder(request.param)


@pytest.fixture(scope="module")
def checkpoint(official: Any, official_file: Callable[..., Path]) -> Path:
    return official_file(official, None)


def extractor(checkpoint: Path, **options: Any) -> Any:
    return load_keypoints("superpoint", checkpoint, accept_license=["superpoint"], **options)


def superglue(settings: dict[str, Any]) -> dict[str, Any]:
    """Options of a case of SuperGlue's repository."""
    count = settings["max_keypoints"]
    return {
        "count": MANY if count < 0 else count,
        "threshold": settings["keypoint_threshold"],
        "radius": settings["nms_radius"],
        "border": settings["remove_borders"],
    }


def lightglue(settings: dict[str, Any]) -> dict[str, Any]:
    """Options of a case of LightGlue's repository."""
    return {
        "count": settings["max_num_keypoints"],
        "threshold": settings["detection_threshold"],
        "radius": settings["nms_radius"],
        "border": settings["remove_borders"],
        "grey": "weighted",
        "resizing": "tensor",
    }


def rgb(official: Any, photo: str) -> np.ndarray:
    return np.ascontiguousarray(official.inputs[f"rgb_{photo}"].transpose(1, 2, 0))


def grey(official: Any, photo: str) -> np.ndarray:
    """Three equal channels, of which OpenCV makes the same grey again."""
    return np.repeat(official.inputs[f"gray_{photo}"][..., None], 3, axis=2)


def keypoints(extractor: Any, picture: np.ndarray) -> Keypoints:
    (found,) = extractor.extract([extractor.prepare(picture)])
    assert isinstance(found, Keypoints)
    return found


def compare(official: Any, start: str, found: Keypoints, rows: Any = slice(None)) -> None:
    official.equals(f"{start}_keypoints", found.xy[rows])
    official.agrees(f"{start}_scores", found.score[rows], ATOL)
    count = len(official.outputs[f"{start}_descriptors"])
    official.agrees(f"{start}_descriptors", found.descriptors[rows][:count], ATOL)


def settled(official: Any, start: str, found: Keypoints) -> np.ndarray:
    """Rows of `found` in the official order of points whose scores tie but for noise."""
    points, scores = official.outputs[f"{start}_keypoints"], official.outputs[f"{start}_scores"]
    group = np.cumsum(np.r_[False, np.diff(scores) < -NOISE])
    if len(found) != len(points):
        return np.arange(len(found))
    order = np.empty(len(points), np.intp)
    order[np.lexsort((*points.T, group))] = np.lexsort((*found.xy.T, group))
    return order


@contextmanager
def logits_of(extractor: Any) -> Iterator[list[torch.Tensor]]:
    seen: list[torch.Tensor] = []
    hook = extractor._network.convPb.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        hook.remove()


def test_superglues_default_keeps_all_in_raster_order(official: Any, checkpoint: Path) -> None:
    for photo in official.config["photos"]:
        picture = grey(official, photo)
        made = extractor(checkpoint, size=max(picture.shape), **superglue(official.config["default"]))
        with logits_of(made) as logits:
            found = keypoints(made, picture)
        compare(official, f"default_{photo}", found, np.lexsort(found.xy.T))
        official.agrees(f"logits_{photo}", logits[0][0, :, :8, :8], ATOL)


def test_superglues_few_are_the_strongest(official: Any, checkpoint: Path) -> None:
    settings = {**official.config["default"], **official.config["few"]}
    for photo in official.config["photos"]:
        picture = grey(official, photo)
        found = keypoints(extractor(checkpoint, size=max(picture.shape), **superglue(settings)), picture)
        compare(official, f"few_{photo}", found, settled(official, f"few_{photo}", found))


@pytest.mark.parametrize("case", ["native", "resized"])
def test_lightglues(official: Any, checkpoint: Path, case: str) -> None:
    for photo in official.config["photos"]:
        picture = rgb(official, photo)
        size = official.config["lightglue_resized"] if case == "resized" else max(picture.shape)
        found = keypoints(extractor(checkpoint, size=size, **lightglue(official.config["lightglue"])), picture)
        start = f"lightglue_{case}_{photo}"
        compare(official, start, found, settled(official, start, found))
        official.equals(f"{start}_image_size", np.array(found.region[2:], np.float32))
