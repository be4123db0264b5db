"""Every data set in miniature from its photos to its authors' figures: extract, then evaluate, on real photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import miniatures
import numpy as np
import pytest
from stores_helpers import unit_vectors

from pipeline.config import load_config
from pipeline.errors import RelookError
from pipeline.evaluate import RevisitedTruth, by_revisited
from pipeline.stages.evaluate import evaluate
from pipeline.stages.extract import extract
from pipeline.stages.import_descriptors import import_descriptors
from pipeline.stores import Index

SETTINGS = ["describe.image.size=96", "describe.globals.scales=[1.0]", "describe.locals.count=0", "device=cpu"]
Build = Callable[[Path, Path], Any]


def measured(name: str, folder: Path, index: Path, *settings: str) -> dict[str, Any]:
    config = load_config(None, [*SETTINGS, f"index={index}", "rerank.chain=[]", *settings])
    return evaluate(config, f"{name}:{folder}", None).to_json()


def extracted(name: str, folder: Path, index: Path, images: int) -> None:
    """Describe the gallery of a miniature; all of its photos can be read."""
    result = extract(load_config(None, [*SETTINGS, f"index={index}"]), f"{name}:{folder}")
    assert (result.images, result.failed) == (images, 0)


def _million(folder: Path, shared: Path) -> None:
    miniatures.revisited(folder / "roxford5k", "roxford5k", shared)
    miniatures.distractors(folder / "revisitop1m", shared)


SETS: dict[str, tuple[Build, int, int, str]] = {
    # build, images of the gallery, queries, the metric that names the protocol
    "rparis6k": (lambda folder, shared: miniatures.revisited(folder, "rparis6k", shared), 32, 8, "mAP_M"),
    "roxford5k+1m": (_million, 37, 8, "mAP_M"),
    "gldv2": (miniatures.landmarks, 21, 7, "mAP@100"),
    "gldv2-train-clean": (miniatures.landmarks, 11, 11, "uAP"),
    "ilias": (miniatures.ilias, 30, 8, "mAP@1k"),
}


@pytest.mark.parametrize("name", SETS)
def test_published_queries(name: str, tmp_path: Path, shared: Path) -> None:
    build, images, queries, metric = SETS[name]
    build(tmp_path / "set", shared)
    extracted(name, tmp_path / "set", tmp_path / "index", images)
    result = measured(name, tmp_path / "set", tmp_path / "index")
    assert (result["queries"] + result["unscored"], result["gallery"]) == (queries, images)
    # A describer that was trained on other things finds most of eight places among thirty photos.
    assert 30 < result["global"][metric] <= 100


@pytest.mark.parametrize(
    ("name", "build", "images", "queries"),
    [("sop", miniatures.products, 18, 9), ("cub200", miniatures.birds, 12, 6), ("cars196", miniatures.cars, 12, 6)],
)
def test_labels(name: str, build: Build, images: int, queries: int, tmp_path: Path, shared: Path) -> None:
    build(tmp_path / "set", shared)
    extracted(name, tmp_path / "set", tmp_path / "index", images)
    result = measured(name, tmp_path / "set", tmp_path / "index", "evaluate.split=test")
    assert (result["queries"], result["gallery"]) == (queries, queries)
    assert 30 < result["global"]["R@1"] <= 100
    assert {record.split for record in Index(tmp_path / "index").records.values()} == {"train", "test"}


def test_imported_descriptors_by_a_published_protocol(tmp_path: Path, shared: Path) -> None:
    """Queries and gallery come from one import; the figures are those of a ranking made by hand."""
    made = miniatures.revisited(tmp_path / "set", "roxford5k", shared)
    names = [*made.queries, *made.gallery]
    vectors = unit_vectors(len(names), 16)
    rows = [f'{name},"{vector.tolist()}"' for name, vector in zip(names, vectors, strict=True)]
    (tmp_path / "x.csv").write_text("\n".join(["vecid,vectors", *rows]))
    config = load_config(None, [f"index={tmp_path / 'index'}"])
    import_descriptors(config, tmp_path / "x.csv")
    result = measured("roxford5k", tmp_path / "set", tmp_path / "index")
    assert (result["queries"], result["gallery"]) == (len(made.queries), len(made.gallery))
    count = len(made.queries)
    rankings = np.argsort(-(vectors[:count] @ vectors[count:].T), axis=1, kind="stable")
    keys = ("easy", "hard", "junk")
    truths = [RevisitedTruth(*(np.array(answer[key], dtype=np.intp) for key in keys)) for answer in made.answers]
    assert result["global"]["mAP_M"] == pytest.approx(by_revisited(rankings, truths, "M").summary()["mAP"], abs=1e-6)
    (tmp_path / "less.csv").write_text("\n".join(["vecid,vectors", *rows[1:]]))
    import_descriptors(load_config(None, [f"index={tmp_path / 'less'}"]), tmp_path / "less.csv")
    with pytest.raises(RelookError, match=f"1 of {count} queries have none, such as '{names[0]}'"):
        measured("roxford5k", tmp_path / "set", tmp_path / "less")
