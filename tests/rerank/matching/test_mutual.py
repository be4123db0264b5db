"""Mutual nearest neighbours: equal to a plain search, in batches of any lengths; the ratio test; the registry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keypoints import keypoints_of, random_keypoints

from pipeline.errors import RelookError, UsageError
from pipeline.rerank.matching.matchers import load_matcher
from pipeline.types import Keypoints, KeypointsCard

WIDTH = 16


def plainly(
    first: Keypoints, second: Keypoints, ratio: float | None = None, min_cosine: float | None = None
) -> list[tuple[int, int]]:
    """The definition, one keypoint at a time."""
    found = []
    cosines = first.descriptors.astype(np.float64) @ second.descriptors.T.astype(np.float64)
    for row in range(len(first)):
        if not len(second):
            break
        column = int(cosines[row].argmax())
        if cosines[:, column].argmax() != row or (min_cosine is not None and cosines[row, column] < min_cosine):
            continue
        near = np.sqrt(2 - 2 * cosines[row, column])
        others = [np.delete(cosines[row], column), np.delete(cosines[:, column], row)]
        if ratio is None or all(near < ratio * np.sqrt(2 - 2 * other.max()) for other in others if len(other)):
            found.append((row, column))
    return found


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6),
    st.sampled_from([None, 0.8, 1.0]),
    st.sampled_from([None, 0.7]),
)
def test_matches_are_those_of_a_plain_search(
    lengths: list[tuple[int, int]], ratio: float | None, min_cosine: float | None
) -> None:
    matcher = load_matcher("mutual", "sift", ratio=ratio, min_cosine=min_cosine)
    pairs = []
    for seed, (m, n) in enumerate(lengths):
        first = random_keypoints(seed, m, WIDTH)
        pairs.append((first, random_keypoints(seed + 99, n, WIDTH, like=first)))
    for found, (first, second) in zip(matcher.match(pairs), pairs, strict=True):
        assert [tuple(row) for row in found.rows.tolist()] == plainly(first, second, ratio, min_cosine)
        cosines = (first.descriptors[found.rows[:, 0]] * second.descriptors[found.rows[:, 1]]).sum(axis=1)
        np.testing.assert_allclose(found.scores, cosines.clip(0, 1), atol=1e-6)


def test_blocks_of_rows_find_what_one_block_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = []
    for seed, (m, n) in enumerate([(30, 35), (7, 40), (15, 9), (1, 1)]):
        first = random_keypoints(seed, m, WIDTH)
        pairs.append((first, random_keypoints(seed + 9, n, WIDTH, like=first)))
    rows = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)  # of equal ones, the first counts in blocks too
    image = keypoints_of(np.zeros((12, 2)), rows, (10, 10))
    expected = load_matcher("mutual", "sift").match([*pairs, (image, image)])
    monkeypatch.setattr("pipeline.rerank.matching.mutual._ROWS", 7)
    for found, one in zip(load_matcher("mutual", "sift").match([*pairs, (image, image)]), expected, strict=True):
        np.testing.assert_array_equal(found.rows, one.rows)
        np.testing.assert_allclose(found.scores, one.scores, atol=1e-6)


def test_both_directions_are_alike() -> None:
    first = random_keypoints(0, 30, WIDTH)
    second = random_keypoints(1, 35, WIDTH, like=first)
    one, other = load_matcher("mutual", "sift", ratio=0.9).match([(first, second), (second, first)])
    assert len(one)
    assert sorted(map(tuple, one.rows.tolist())) == sorted(map(tuple, other.rows[:, ::-1].tolist()))


def test_equal_descriptors_are_in_one_match_at_most() -> None:
    rows = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    image = keypoints_of(np.zeros((12, 2)), rows, (10, 10))
    (found,) = load_matcher("mutual", "disk").match([(image, image)])
    np.testing.assert_array_equal(found.rows, [[0, 0], [3, 3], [6, 6], [9, 9]])
    (found,) = load_matcher("mutual", "disk", ratio=0.9).match([(image, image)])
    assert len(found) == 0


def test_identical_images_match_identically() -> None:
    image = random_keypoints(0, 50, WIDTH)
    (found,) = load_matcher("mutual", "aliked", ratio=0.8, min_cosine=0.99).match([(image, image)])
    np.testing.assert_array_equal(found.rows, np.repeat(np.arange(50)[:, None], 2, axis=1))
    np.testing.assert_allclose(found.scores, 1, atol=1e-6)


def test_what_cannot_be_matched_is_refused() -> None:
    matcher = load_matcher("mutual", "disk")
    with pytest.raises(RelookError, match="descriptors of 16 and of 8 values"):
        matcher.match([(random_keypoints(0, 3, 16), random_keypoints(1, 3, 8))])
    with pytest.raises(RelookError, match="keypoints of disk, not of sift"):
        matcher.check(KeypointsCard("sift", "", {}, 128))
    matcher.check(KeypointsCard("disk", "", {}, 128))


def test_the_registry_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown matcher 'mutal'; did you mean 'mutual'"):
        load_matcher("mutal", "xfeat")
    with pytest.raises(UsageError, match="unknown option of matcher mutual 'ration'; did you mean 'ratio'"):
        load_matcher("mutual", "xfeat", ration=0.8)
    with pytest.raises(UsageError, match=r"lightglue takes keypoints of aliked or .*, not of 'keynet'"):
        load_matcher("lightglue", "keynet")
    with pytest.raises(UsageError, match="mutual has no weights"):
        load_matcher("mutual", "xfeat", "file.pt")
    for option, value in (("ratio", 0), ("ratio", 1.5), ("min_cosine", 2)):
        with pytest.raises(UsageError, match=option):
            load_matcher("mutual", "xfeat", **{option: value})
