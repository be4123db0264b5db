"""Whitening from pairs: its formula, an index that is made with it, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import SmallCollection, make_collection

import relook
from pipeline.describe.pair_whitening import whitening_from_pairs
from pipeline.describe.projections import fit_pairs
from pipeline.errors import RelookError
from pipeline.stores import Index

SMALL = {"image": {"size": 96}, "globals": {"scales": [1.0]}, "locals": {"count": 0}}


@given(
    seed=st.integers(0, 10_000), labels=st.lists(st.sampled_from("abc"), min_size=2, max_size=12), d=st.integers(1, 4)
)
@settings(deadline=None, max_examples=40)
def test_it_is_its_formula(seed: int, labels: list[str], d: int) -> None:
    """The pairs' covariance, pair by pair: whitened by it, images differ by 1 within a label in every direction."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((len(labels), 4)).astype(np.float32)
    pairs = np.zeros((4, 4))
    for i, one in enumerate(labels):
        for j, other in enumerate(labels):
            if one == other:
                gap = (vectors[i] - vectors[j]).astype(np.float64)
                pairs += np.outer(gap, gap) / labels.count(one) / len(labels) / 2
    pairs = 0.7 * pairs + 0.3 * (np.trace(pairs) / 4 or 1.0) * np.eye(4)
    mean, matrix = whitening_from_pairs(vectors, labels, d, 0.3)
    np.testing.assert_allclose(mean, vectors.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(matrix.T @ pairs @ matrix, np.eye(d), atol=1e-5)
    centred = vectors - mean
    total = centred.T @ centred / len(labels)
    along = np.diag(matrix.T @ total @ matrix)
    best = np.sort(np.linalg.eigvals(np.linalg.solve(pairs, total)).real)[::-1][:d]
    np.testing.assert_allclose(along, best, rtol=1e-4, atol=1e-6)


def test_images_without_labels_do_not_count() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((8, 3)).astype(np.float32)
    labels = ["a", "a", "", "b", "b", "", "c", ""]
    kept = [row for row, label in enumerate(labels) if label]
    found = fit_pairs(vectors, labels, 2, 0.3, what="x")
    same = fit_pairs(vectors[kept], [labels[row] for row in kept], 2, 0.3, what="x")
    np.testing.assert_allclose(found.matrix, same.matrix, atol=1e-6)
    for labels, size, message in (
        (["a", "b", *[""] * 6], 2, "at least two of one label"),
        (["a", "a", *[""] * 6], 2, "more than 2 labelled pictures, not 2"),
        (["a"] * 8, 4, "4 dimensions out of 3"),
        ([], 2, "needs images with labels"),
    ):
        with pytest.raises(RelookError, match=message):
            fit_pairs(vectors, labels, size, 0.3, what="describe.globals.whiten")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> SmallCollection:
    return make_collection(tmp_path_factory.mktemp("photos"))


def test_an_index_is_made_with_it_and_searched(collection: SmallCollection, tmp_path: Path) -> None:
    whitened = {**SMALL, "globals": {"scales": [1.0], "whiten": 6, "whitening": "pairs"}}
    plain = relook.extract(collection.manifest, index=tmp_path / "plain", describe=SMALL)
    relook.extract(collection.manifest, index=tmp_path / "index", describe=whitened)
    assert plain.images == 28
    card, before = Index(tmp_path / "index").card, Index(tmp_path / "plain").card
    assert card.dimension == 6
    assert card.settings["globals"]["whitening"] == "pairs"
    assert "whitening" not in before.settings["globals"]  # an older index stays of the same model
    names, matrix = relook.open(tmp_path / "plain").vectors()
    records = Index(tmp_path / "plain").records
    labels = [records[name].label for name in names]
    mean, projection = whitening_from_pairs(matrix, labels, 6, 0.3)
    expected = (matrix - mean) @ projection
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    with relook.open(tmp_path / "index") as gallery:
        ids, vectors = gallery.vectors()
        rows = [names.index(name) for name in ids]
        np.testing.assert_allclose(vectors @ vectors.T, (expected @ expected.T)[rows][:, rows], atol=1e-3)
        hits = gallery.search(collection.folder / "ring" / "ring_2.png", rerank=None)
        assert hits[0].id == "ring/ring_2.png"
        assert hits[0].score == pytest.approx(1, abs=1e-4)
    with (
        relook.open(tmp_path / "plain", describe={"globals": {"whitening": "pairs"}}) as gallery,
        pytest.raises(relook.RelookError, match="whitening: 'pairs' requested, 'pca' in the index"),
    ):
        gallery.search(collection.folder / "ring" / "ring_2.png")


def test_photos_without_labels_are_refused(collection: SmallCollection, tmp_path: Path) -> None:
    whitened = {**SMALL, "globals": {"whiten": 4, "whitening": "pairs"}}
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, file in enumerate(sorted(collection.folder.rglob("*.png"))[:6]):
        (folder / f"{number}.png").write_bytes(file.read_bytes())
    with pytest.raises(relook.RelookError, match="the photos have no labels, or no two of one label"):
        relook.extract(folder, index=tmp_path / "index", describe=whitened)
