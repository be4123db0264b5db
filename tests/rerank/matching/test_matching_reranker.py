"""The reranker `matching`: scores count inliers, batches do not matter, and bad input has a defined score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from listed import listed

from pipeline.errors import RelookError, UsageError
from pipeline.rerank import load_reranker
from pipeline.rerank.matching.reranker import MatchingReranker
from pipeline.types import Candidates, Description, Keypoints, KeypointsCard

VECTOR = np.array([1, 0], np.float32)


def image(seed: int, count: int = 80, shift: float = 0.0, noise: float = 0.0) -> Keypoints:
    """Keypoints with descriptors of their own; images of one seed show the same thing, `shift` pixels further."""
    random = np.random.default_rng(seed)
    xy = random.uniform((0, 0), (600, 440), (count, 2)) + shift
    descriptors = random.normal(size=(count, 64))
    if noise:
        descriptors += np.random.default_rng(99).normal(scale=noise, size=descriptors.shape)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    zeros = np.zeros(count, np.float32)
    return Keypoints(
        xy.astype(np.float32), descriptors.astype(np.float32), zeros, zeros, zeros, (0.0, 0.0, 640.0, 480.0)
    )


class Gallery:
    """Keypoints by id."""

    def __init__(self, images: dict[str, Keypoints]) -> None:
        self._images = images
        self.read: list[str] = []

    def keypoints(self, ids: Sequence[str]) -> list[Keypoints]:
        self.read += ids
        return [self._images[name] for name in ids]


def candidates(*rows: Sequence[str]) -> Candidates:
    return Candidates([str(n) for n in range(len(rows))], list(rows), [np.zeros(len(row), np.float32) for row in rows])


def described(keypoints: Keypoints | None) -> Description:
    return Description(VECTOR, keypoints=keypoints)


@pytest.fixture
def reranker() -> MatchingReranker:
    made = load_reranker("matching", matcher="mutual", verification="homography")
    assert isinstance(made, MatchingReranker)
    return made


@pytest.fixture
def gallery() -> Gallery:
    return Gallery(
        {
            "same": image(1, shift=20.0, noise=0.05),
            "other": image(2),
            "none": image(3, count=0),
            "one": image(4, count=1),
        }
    )


def test_what_shows_the_same_thing_scores_most(reranker: MatchingReranker, gallery: Gallery) -> None:
    scores = reranker.score([described(image(1))], candidates(["other", "same", "none", "one"]), gallery)[0]
    assert scores.dtype == np.float32
    assert scores[1] == pytest.approx(np.log(81) / np.log(1025), abs=0.02)
    assert scores[0] < 0.35
    assert scores[2] == scores[3] == 0


def test_queries_together_score_as_each_alone(reranker: MatchingReranker, gallery: Gallery) -> None:
    queries = [described(image(seed)) for seed in (1, 2, 5, 1, 6, 7, 8, 9, 10, 2)]
    rows = [["same", "other"], ["other"], [], ["none", "same", "one"]] + [["other", "same"]] * 6
    together = reranker.score(queries, candidates(*rows), gallery)
    for query, row, found in zip(queries, rows, together, strict=True):
        alone = reranker.score([query], candidates(row), gallery)[0]
        np.testing.assert_allclose(found, alone, atol=1e-5)


def test_a_query_without_keypoints_scores_zero(reranker: MatchingReranker, gallery: Gallery) -> None:
    scores = reranker.score([described(image(1, count=0))], candidates(["same", "none"]), gallery)[0]
    assert scores.tolist() == [0, 0]


def test_an_explanation_has_the_points_and_the_outline(reranker: MatchingReranker, gallery: Gallery) -> None:
    found = reranker.explain(described(image(1)), listed(["other", "same"]), ["same"], gallery)[0]
    assert found.inlier_count > 70
    np.testing.assert_allclose(found.image_xy[found.inliers] - found.query_xy[found.inliers], 20, atol=0.1)
    outline = found.outline()
    assert outline is not None
    np.testing.assert_allclose(outline, np.array([[20, 20], [660, 20], [660, 500], [20, 500]]), atol=1)
    document = found.to_json()
    assert document["inliers"] == sum(point["inlier"] for point in document["points"])


def test_explanations_of_the_last_scores_match_nothing_again(reranker: MatchingReranker, gallery: Gallery) -> None:
    query = described(image(1))
    fresh = reranker.explain(query, listed(["same", "other"]), ["same", "one"], gallery)
    gallery.read.clear()
    reranker.score([described(image(2)), query], candidates(["other"], ["same", "other"]), gallery)
    gallery.read.clear()
    found = reranker.explain(query, listed(["same", "other"]), ["same", "one"], gallery)
    assert gallery.read == ["one"], "it was not scored"
    assert [one.to_json() for one in found] == [one.to_json() for one in fresh]
    changed = Gallery({"same": image(2), "other": image(1)})
    assert reranker.explain(query, listed(["same", "other"]), ["other"], changed)[0].inlier_count == 80
    assert reranker.explain(described(image(2)), listed(["same"]), ["same"], gallery)[0].inlier_count < 30


def test_keypoints_of_another_kind_are_refused(reranker: MatchingReranker) -> None:
    with pytest.raises(RelookError, match=r"matches xfeat, but the keypoints are sift.*features=sift"):
        reranker.check_keypoints(KeypointsCard("sift", "", {}, 128))


def test_a_query_that_was_described_without_keypoints_is_an_error(reranker: MatchingReranker, gallery: Gallery) -> None:
    with pytest.raises(RelookError, match="without keypoints"):
        reranker.score([described(None)], candidates(["same"]), gallery)


def test_unknown_options_and_matchers_are_named() -> None:
    with pytest.raises(UsageError, match="matcher"):
        load_reranker("matching", matcher="lightglu")
    with pytest.raises(UsageError, match="option"):
        load_reranker("matching", halff=3)
