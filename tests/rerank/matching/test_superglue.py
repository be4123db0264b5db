"""SuperGlue in batches: equal to one pair at a time; marginals of the transport; its licence and other files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from keypoints import random_keypoints

from pipeline.errors import RelookError
from pipeline.rerank.matching.matchers import load_matcher
from pipeline.rerank.matching.superglue import SuperGlueMatcher
from pipeline.rerank.matching.superglue_network import SuperGlueNetwork, SuperGlueShape, transport
from pipeline.types import KeypointsCard

ACCEPTED = ["superpoint"]


@pytest.fixture(scope="module")
def matcher() -> SuperGlueMatcher:
    torch.manual_seed(0)
    return SuperGlueMatcher(SuperGlueNetwork(SuperGlueShape(32, (16,), 4)), threshold=0.0, sinkhorn_iterations=20)


@settings(max_examples=10)
@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from([1, 2, 33])), min_size=1, max_size=6))
def test_a_padded_batch_equals_one_by_one(matcher: SuperGlueMatcher, lengths: list[tuple[int, int]]) -> None:
    pairs = []
    for seed, (m, n) in enumerate(lengths):
        first = random_keypoints(seed, m, 32)
        pairs.append((first, random_keypoints(seed + 99, n, 32, like=first)))
    for result, pair in zip(matcher.results(pairs), pairs, strict=True):
        (expected,) = matcher.results([pair])
        torch.testing.assert_close(result.log_assignment, expected.log_assignment, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(result.rows, expected.rows)
        torch.testing.assert_close(result.columns, expected.columns)
        (found,) = matcher.match([pair])
        np.testing.assert_allclose(found.scores, result.scores.numpy(), atol=1e-5)


def test_padding_changes_no_marginal() -> None:
    torch.manual_seed(0)
    counts = torch.tensor([7, 4]), torch.tensor([3, 9])
    result = transport(torch.randn(2, 7, 9), torch.tensor(0.5), counts, 200).exp()
    for pair, (m, n) in enumerate(zip(*(count.tolist() for count in counts), strict=True)):
        torch.testing.assert_close(result[pair, :m].sum(dim=1), torch.ones(m), atol=1e-4, rtol=0)
        torch.testing.assert_close(result[pair, :, :n].sum(dim=0), torch.ones(n), atol=1e-4, rtol=0)
        assert result[pair, m:-1].sum() == 0
        assert result[pair, :, n:-1].sum() == 0


def test_images_without_keypoints_have_no_matches(matcher: SuperGlueMatcher) -> None:
    image, empty = random_keypoints(0, 4, 32), random_keypoints(1, 0, 32)
    found = matcher.match([(image, empty), (empty, image), (image, image)])
    assert [len(one) for one in found[:2]] == [0, 0]
    assert len(found[2])


def test_the_licence_has_to_be_accepted(tmp_path: Path) -> None:
    file = tmp_path / "superglue_outdoor.pth"
    torch.save(SuperGlueNetwork(SuperGlueShape(32, (16,), 2)).state_dict(), file)
    with pytest.raises(RelookError, match=r"Magic Leap's licence.*noncommercial.*--accept-license superpoint"):
        load_matcher("superglue", "superpoint", file)
    loaded = load_matcher("superglue", "superpoint", file, accept_license=ACCEPTED)
    with pytest.raises(RelookError, match="descriptors of 32 values, not of 256"):
        loaded.check(KeypointsCard("superpoint", "", {}, 256))
    loaded.check(KeypointsCard("superpoint", "", {}, 32))


def test_other_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(RelookError, match=r"superglue_outdoor\.pth .*rerank\.matching\.checkpoint=FILE"):
        load_matcher("superglue", "superpoint", accept_license=ACCEPTED)
    file = tmp_path / "other.pth"
    torch.save({"posenc.Wr.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(RelookError, match=r"other\.pth: not a checkpoint of SuperGlue"):
        load_matcher("superglue", "superpoint", file, accept_license=ACCEPTED)
