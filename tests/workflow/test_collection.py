"""A collection as a whole: components as scikit-learn has them, outliers by brute force, a map of it all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from stores_helpers import make_card, unit_vectors

from pipeline.config import Config
from pipeline.errors import RelookError, UsageError
from pipeline.stages.info import outliers
from pipeline.stages.map import map_
from pipeline.stores import Index, IndexWriter
from pipeline.types import Description, ImageRecord
from pipeline.workflow.collection import clusters, nearest_similarity, principal_components

DIMENSION = 8


def record(name: str) -> ImageRecord:
    return ImageRecord(name, name, "", "", None, 64, 48, 10, 1, "")


def collection(folder: Path, vectors: np.ndarray) -> Config:
    """An index of two parts, and one deleted image."""
    with IndexWriter(folder) as writer:
        writer.begin(make_card(local_dimension=0), {}, folder, "parquet")
        for number, part in enumerate(np.array_split(vectors, 2)):
            names = [f"{number}-{row}" for row in range(len(part))]
            writer.add([record(name) for name in names], [Description(v) for v in part])
        writer.add([record("dead")], [Description(vectors[0])])
        writer.delete(["dead"])
    return Config(index=folder)


def test_components_are_those_of_a_library(tmp_path: Path) -> None:
    vectors = unit_vectors(60, DIMENSION, seed=1)
    found = principal_components(Index(collection(tmp_path / "i", vectors).index), 3)
    wanted = PCA(3).fit_transform(vectors)
    assert np.abs(found) == pytest.approx(np.abs(wanted), abs=1e-4)


def test_outliers_are_those_of_all_pairs(tmp_path: Path) -> None:
    vectors = unit_vectors(41, DIMENSION, seed=2)
    config = collection(tmp_path / "i", vectors)
    cosines = vectors @ vectors.T - 9 * np.eye(41, dtype=np.float32)
    assert nearest_similarity(Index(config.index)) == pytest.approx(cosines.max(axis=1), abs=1e-5)
    found = outliers(config, 3)
    assert [one.similarity for one in found] == pytest.approx(np.sort(cosines.max(axis=1))[:3], abs=1e-3)


def test_clusters_are_numbered_by_size() -> None:
    points = np.repeat(np.float32([[0, 0], [9, 9], [0, 9]]), (5, 20, 10), axis=0)
    found = clusters(points, 12, seed=0)
    assert found.tolist() == [2] * 5 + [0] * 20 + [1] * 10


@pytest.mark.parametrize("method", ["pca", "umap"])
def test_a_map_has_every_image_once(tmp_path: Path, method: str) -> None:
    if method == "umap":
        pytest.importorskip("umap")
    vectors = unit_vectors(50, DIMENSION, seed=3)
    config = collection(tmp_path / "i", vectors)
    found = map_(config, method)
    assert len(set(found.ids)) == len(found.xy) == len(found.clusters) == 50
    xy = np.array(found.xy)
    assert xy.min() == 0
    assert xy.max() == 1
    assert map_(config, method).xy == found.xy


def test_maps_that_are_refused(tmp_path: Path) -> None:
    config = collection(tmp_path / "i", unit_vectors(2, DIMENSION, seed=3))
    with pytest.raises(RelookError, match="2 images; a map needs at least 3"):
        map_(config)
    with pytest.raises(UsageError, match="--method tsne: expected pca or umap"):
        map_(config, "tsne")
