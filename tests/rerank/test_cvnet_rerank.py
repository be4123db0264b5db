"""CVNet-Rerank on maps of any size and any describer: its fast way equals the plain one, and what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from listed import listed
from stores_helpers import make_card
from torch.nn import functional

from pipeline.checkpoints import hash_weights
from pipeline.errors import RelookError
from pipeline.rerank import load_reranker
from pipeline.rerank.checkpoints import save_checkpoint
from pipeline.rerank.cvnet.network import CVLearner
from pipeline.rerank.cvnet.reranker import CVNetReranker
from pipeline.types import Candidates, Description, FeatureMaps

LEVELS = (0.25, 0.5, 1.0)


@pytest.fixture(scope="module")
def reranker() -> CVNetReranker:
    torch.manual_seed(0)
    return CVNetReranker(CVLearner(len(LEVELS)))


def maps_of(height: int, width: int, channels: int = 8, seed: int = 0) -> FeatureMaps:
    rng = np.random.default_rng((seed, height, width))
    sizes = [(max(1, round(height * level**0.5)), max(1, round(width * level**0.5))) for level in LEVELS]
    return tuple(rng.normal(size=(channels, *size)).astype(np.float32) for size in sizes)


def plainly(learner: CVLearner, query: FeatureMaps, key: FeatureMaps) -> float:
    """The score by the paper's steps: cosines at every pair of levels, each volume resized, all 4-D convolutions."""
    (hq, wq), (hk, wk) = query[-1].shape[1:], key[-1].shape[1:]
    volumes = []
    for one in map(torch.from_numpy, query):
        for other in map(torch.from_numpy, key):
            lengths = one.flatten(1).norm(dim=0)[:, None] * other.flatten(1).norm(dim=0) + 1e-8
            cosines = (one.flatten(1).T @ other.flatten(1)) / lengths
            cosines = cosines.view(1, *one.shape[1:], -1).permute(0, 3, 1, 2)
            cosines = functional.interpolate(cosines, (hq, wq), mode="bilinear", align_corners=True)
            cosines = cosines.permute(0, 2, 3, 1).reshape(hq * wq, 1, *other.shape[1:])
            cosines = functional.interpolate(cosines, (hk, wk), mode="bilinear", align_corners=True)
            volumes.append(cosines.view(hq, wq, hk, wk).clamp(min=0))
    volume = torch.stack(volumes)[None]
    for block in (learner.block1, learner.block2, learner.block3, learner.block4):
        volume = block(volume)
    return float(learner.mlp(volume.mean(dim=(2, 3, 4, 5))).softmax(dim=1)[0, 1])


sides = st.integers(1, 9)


@settings(max_examples=15)
@given(sides, sides, sides, sides)
def test_the_fast_way_equals_the_plain_one(reranker: CVNetReranker, hq: int, wq: int, hk: int, wk: int) -> None:
    query, key = maps_of(hq, wq), maps_of(hk, wk, seed=1)
    with torch.inference_mode():
        expected = plainly(reranker.learner, query, key)
    assert reranker.probabilities(query, [key])[0] == pytest.approx(expected, abs=2e-6)


def test_many_candidates_of_many_sizes_score_as_alone(reranker: CVNetReranker, monkeypatch: pytest.MonkeyPatch) -> None:
    query = maps_of(6, 5)
    others = [maps_of(h, w, seed=number) for number, (h, w) in enumerate([(5, 6), (1, 9), (5, 6), (7, 1), (1, 1)] * 3)]
    alone = [reranker.probabilities(query, [other])[0] for other in others]
    np.testing.assert_allclose(reranker.probabilities(query, others), alone, atol=1e-5)
    monkeypatch.setattr("pipeline.rerank.cvnet.reranker._VOLUME_BYTES", 1)
    np.testing.assert_allclose(reranker.probabilities(query, others), alone, atol=1e-5)


def test_queries_with_and_without_candidates(reranker: CVNetReranker) -> None:
    stored = {"a": maps_of(4, 4, seed=3), "b": maps_of(3, 5, seed=4)}

    class Gallery:
        def maps(self, ids: Sequence[str]) -> list[FeatureMaps]:
            return [tuple(level.astype(np.float16) for level in stored[name]) for name in ids]

    queries = [
        Description(np.zeros(2, np.float32), maps=maps_of(4, 3)),
        Description(np.zeros(2, np.float32), maps=maps_of(2, 2)),
    ]
    nothing = np.zeros(0, np.float32)
    scores = reranker.score(
        queries, Candidates(["p", "q"], [["b", "a"], []], [np.ones(2, np.float32), nothing]), Gallery()
    )
    assert [len(values) for values in scores] == [2, 0]
    exact = reranker.probabilities(queries[0].maps, [stored["b"], stored["a"]])
    np.testing.assert_allclose(scores[0], exact, atol=2e-3)  # float16, as an index stores them
    with pytest.raises(RelookError, match="needs feature maps"):
        reranker.score([Description(np.zeros(2, np.float32))], Candidates(["p"], [["a"]], [nothing]), Gallery())


def test_a_cell_of_zeros_is_like_nothing(reranker: CVNetReranker) -> None:
    query = maps_of(3, 3)
    empty = tuple(np.zeros_like(level) for level in query)
    assert np.isfinite(reranker.probabilities(query, [empty]))


def test_bfloat16_keeps_the_ranking(reranker: CVNetReranker) -> None:
    query, others = maps_of(6, 8), [maps_of(7, 5, seed=seed) for seed in range(12)]
    half = CVNetReranker(reranker.learner, precision="bfloat16")
    exact, rough = reranker.probabilities(query, others), half.probabilities(query, others)
    np.testing.assert_allclose(rough, exact, atol=1e-2)
    assert not np.array_equal(rough, exact)


def projecting(inputs: int = 6, outputs: int = 8) -> CVNetReranker:
    torch.manual_seed(1)
    convolutions = [torch.nn.Conv2d(inputs, outputs, 3, padding=1, bias=False) for _ in LEVELS]
    return CVNetReranker(CVLearner(len(LEVELS)), torch.nn.ModuleList(convolutions))


def test_maps_are_projected_where_they_were_not(tmp_path: Path) -> None:
    made = projecting()
    query, other = maps_of(5, 4, channels=6), maps_of(4, 5, channels=6)
    with torch.inference_mode():
        asked, stored = (
            tuple(c(torch.from_numpy(level)[None])[0].numpy() for c, level in zip(made.projection, item, strict=True))
            for item in (query, other)
        )
    found = made.probabilities(query, [other])
    np.testing.assert_allclose(found, made.probabilities(asked, [stored]), atol=1e-6)
    save_checkpoint(tmp_path / "cvnet.safetensors", made.to_checkpoint())
    again = load_reranker("cvnet", tmp_path / "cvnet.safetensors")
    np.testing.assert_array_equal(again.probabilities(query, [other]), found)
    as_they_are = load_reranker("cvnet", tmp_path / "cvnet.safetensors", project=False)
    assert abs(as_they_are.probabilities(query, [other])[0] - found[0]) > 1e-7


def test_maps_that_its_own_projection_made_are_not_projected_again() -> None:
    """Also where the projection gives as many channels as it takes."""
    made = projecting(8, 8)
    query, other = maps_of(5, 4), maps_of(4, 5)
    before = made.probabilities(query, [other])
    own = card_with(channels=8, projected_by=hash_weights(made.projection.state_dict()))
    made.check(own)
    np.testing.assert_array_equal(made.probabilities(query, [other]), before)  # a check changes nothing
    as_they_are = CVNetReranker(made.learner).probabilities(query, [other])
    np.testing.assert_array_equal(made.bind(own).probabilities(query, [other]), as_they_are)
    assert before[0] != as_they_are[0]


def card_with(**maps: Any) -> Any:
    return make_card(settings={"maps": {"levels": list(LEVELS), "channels": 6, "projected_by": None, **maps}})


def test_what_it_refuses(reranker: CVNetReranker) -> None:
    reranker.check(card_with())
    reranker.check(card_with(channels=99))
    with pytest.raises(RelookError, match=r"needs feature maps; extract with describe\.maps\.levels"):
        reranker.check(make_card())
    with pytest.raises(RelookError, match="compares 3 levels of maps; the index has 1"):
        reranker.check(card_with(levels=[1.0]))
    projects = projecting()
    projects.check(card_with())
    with pytest.raises(RelookError, match=r"maps of 6 channels; those of the index are of 8 channels.*project = false"):
        projects.check(card_with(channels=8))
    with pytest.raises(RelookError, match="projected by another checkpoint"):
        projects.check(card_with(projected_by="sha256:other"))
    with pytest.raises(RelookError, match="reduced by a PCA that it was not trained on"):
        projects.check(card_with(projection="pca"))
    trained = CVNetReranker(reranker.learner, card=card_with())
    trained.check(card_with())
    with pytest.raises(RelookError, match=r"another model's maps \(settings\.maps\.channels"):
        trained.check(card_with(channels=7))


def test_wrong_checkpoints_are_one_line_each(tmp_path: Path) -> None:
    with pytest.raises(RelookError, match=r"rerank\.cvnet\.checkpoint"):
        load_reranker("cvnet")
    torch.save({"unrelated": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(RelookError, match="not a checkpoint of cvnet"):
        load_reranker("cvnet", tmp_path / "other.pt")
    state = dict(projecting().to_checkpoint().state)
    torch.save({"model_state": {**state, "extra": torch.zeros(1)}}, tmp_path / "extra.pt")
    with pytest.raises(RelookError, match=r"1 unexpected \(extra\)"):
        load_reranker("cvnet", tmp_path / "extra.pt")
    del state["cv_learner.mlp.0.bias"]
    torch.save({"model_state": state}, tmp_path / "short.pt")
    with pytest.raises(RelookError, match=r"1 missing \(cv_learner\.mlp\.0\.bias\)"):
        load_reranker("cvnet", tmp_path / "short.pt")


def test_the_card_of_a_trained_one_survives_its_file(tmp_path: Path, reranker: CVNetReranker) -> None:
    made = CVNetReranker(reranker.learner, card=card_with(), weight=0.4)
    save_checkpoint(tmp_path / "cvnet.safetensors", made.to_checkpoint())
    again = load_reranker("cvnet", tmp_path / "cvnet.safetensors")
    assert isinstance(again, CVNetReranker)
    assert (again.card, again.weight) == (card_with(), 0.4)
    assert replace(again.card, name="other").fingerprint != card_with().fingerprint


def test_an_effect_is_the_change_of_the_log_odds(reranker: CVNetReranker) -> None:
    query, image = maps_of(4, 5), maps_of(3, 4, seed=1)
    regions = {"a": (10.0, 20.0, 90.0, 80.0)}

    class Gallery:
        def maps(self, ids: Sequence[str]) -> list[FeatureMaps]:
            return [image for _ in ids]

        def regions(self, ids: Sequence[str]) -> list[Any]:
            return [regions[name] for name in ids]

    described = Description(np.zeros(2, np.float32), maps=query, region=(0.0, 0.0, 50.0, 40.0))
    (found,) = reranker.explain(described, listed(["a"]), ["a"], Gallery())
    assert (found.query_xy.shape, found.image_xy.shape) == ((20, 2), (12, 2))
    np.testing.assert_allclose(found.query_xy[[0, 1, -1]], [[4.5, 4.5], [14.5, 4.5], [44.5, 34.5]])
    np.testing.assert_allclose(found.image_xy[[0, -1]], [[19.5, 29.5], [79.5, 69.5]])
    sides = [reranker.expanded([maps])[0].double() for maps in (query, image)]
    learner, step = copy.deepcopy(reranker.learner).double(), 1e-5
    for side, effects, cell in ((0, found.query_effect, 7), (1, found.image_effect, 5)):
        odds = []
        for sign in (-1, 1):
            changed = [levels.clone() for levels in sides]
            changed[side].flatten(2)[:, :, cell] *= 1 + sign * step
            with torch.inference_mode():
                logits = learner(changed[0], changed[1][None])[0]
            odds.append(float(logits[1] - logits[0]))
        assert effects[cell] == pytest.approx((odds[1] - odds[0]) / (2 * step), abs=1e-5, rel=1e-3)
    with pytest.raises(RelookError, match="of a known part of a photo"):
        reranker.explain(replace(described, region=None), listed(["a"]), ["a"], Gallery())
