"""Re-ranking: fusion, chains, checkpoints, and rerankers on odd inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from pipeline.errors import RelookError, UsageError
from pipeline.rerank import RerankStep, apply_chain, load_reranker
from pipeline.rerank.calibration import Calibration, fit_calibration
from pipeline.rerank.chain import fuse
from pipeline.rerank.checkpoints import read_checkpoint, save_checkpoint
from pipeline.rerank.registry import RERANKERS
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape
from pipeline.rerank.rrt.reranker import RRTReranker
from pipeline.train import RECIPES
from pipeline.types import Candidates, Description, LocalDescriptors, ModelCard

CARD = ModelCard("toy", "toy", "sha256:0", {"image": {"size": 3}}, "", 16, 8)
SHAPE = RRTShape(d_global=16, d_model=8, heads=2, layers=2, feedforward=16, scale_rule="nearest")


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    values = rng.standard_normal(shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def local(rng: np.random.Generator, count: int) -> LocalDescriptors:
    scale = rng.choice(np.array([0.7071, 1, 1.4142], np.float32), count)
    return LocalDescriptors(unit(rng, count, 8), np.zeros((count, 2), np.float32), scale, np.ones(count, np.float32))


class Gallery:
    def __init__(self, count: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.names = [f"g{row}" for row in range(count)]
        self.vectors = dict(zip(self.names, unit(rng, count, 16), strict=True))
        self.parts = {name: local(rng, 1 + row % 7) for row, name in enumerate(self.names)}

    def globals(self, ids: Sequence[str]) -> np.ndarray:
        return np.stack([self.vectors[name] for name in ids])

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        return [self.parts[name] for name in ids]

    def candidates(self, queries: Sequence[Description], depths: Sequence[int]) -> Candidates:
        ids, scores = [], []
        for query, depth in zip(queries, depths, strict=True):
            values = self.globals(self.names) @ query.vector
            order = np.argsort(-values, kind="stable")[:depth]
            ids.append([self.names[row] for row in order])
            scores.append(values[order])
        return Candidates([f"q{row}" for row in range(len(queries))], ids, scores)


def queries(count: int, seed: int = 1) -> list[Description]:
    rng = np.random.default_rng(seed)
    return [Description(unit(rng, 16), local(rng, 3 + row)) for row in range(count)]


@pytest.fixture
def rrt() -> RRTReranker:
    torch.manual_seed(0)
    return RRTReranker(RRTNetwork(SHAPE), CARD, weight=0.4)


@pytest.mark.parametrize("name", ["superglobal", "rrt"])
def test_batched_equals_one_by_one_with_ragged_lists(name: str, rrt: RRTReranker) -> None:
    reranker = rrt if name == "rrt" else load_reranker("superglobal", power=8.0, normalise=True)
    gallery, asked = Gallery(40), queries(5)
    candidates = gallery.candidates(asked, [40, 1, 0, 7, 40])
    together = reranker.score(asked, candidates, gallery)
    assert [len(values) for values in together] == [40, 1, 0, 7, 40]
    for row, query in enumerate(asked):
        alone = Candidates(["q"], [candidates.ids[row]], [candidates.scores[row]])
        np.testing.assert_allclose(reranker.score([query], alone, gallery)[0], together[row], atol=1e-5)


def test_superglobal_equals_the_slow_reference() -> None:
    gallery, asked = Gallery(30), queries(3)
    candidates = gallery.candidates(asked, [30] * 3)
    for options in ({}, {"k": 4, "beta": 1.0, "power": 8.0, "expansion": 0.15, "normalise": True}):
        found = load_reranker("superglobal", **options).score(asked, candidates, gallery)
        for query, ids, values in zip(asked, candidates.ids, found, strict=True):
            expected = slow_superglobal(query.vector, gallery.globals(ids), **options)
            np.testing.assert_allclose(values, expected, atol=2e-6)


def slow_superglobal(q, x, k=9, beta=0.15, power=1.0, expansion=0.5, normalise=False):
    """One candidate at a time, in float64, by the paper's words."""
    q, x = q.astype(np.float64), x.astype(np.float64)
    refined = []
    for row in range(len(x)):
        similarity = x @ x[row]
        nearest = [other for other in np.argsort(-similarity, kind="stable") if other != row][:k]
        weights = [beta * (similarity[n] if power == 1 else max(similarity[n], 0) ** power) for n in nearest]
        total = x[row] + sum(w * x[n] for w, n in zip(weights, nearest, strict=True))
        refined.append(total / (1 + sum(weights)))
    refined = np.stack(refined)
    first = refined @ q
    expanded = refined[np.argsort(-first, kind="stable")[: k + 1]].max(axis=0)
    if normalise:
        expanded /= np.linalg.norm(expanded)
    return (1 - expansion) * first + expansion * (refined @ expanded)


def test_superglobal_on_more_duplicates_than_neighbours() -> None:
    """Equal candidates refine each other to what they are, whichever of them count as the nearest."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 16)).astype(np.float32)
    vectors[:40] = vectors[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gallery, query = torch.from_numpy(vectors)[None], torch.from_numpy(vectors[:1])
    for beta in (0.0, 0.15):
        reranker = load_reranker("superglobal", k=9, beta=beta)
        refined = reranker.neighbourhood(gallery).descriptors(torch.arange(40)[None])
        torch.testing.assert_close(refined, gallery[:, :40], atol=1e-6, rtol=0)
        scores = reranker.refine(query, gallery)
        assert torch.isfinite(scores).all()
        torch.testing.assert_close(scores[:, :40], scores[:, :1].expand(-1, 40), atol=1e-6, rtol=0)


def test_superglobal_on_less_candidates_than_neighbours() -> None:
    gallery, asked = Gallery(3), queries(1)
    for depth in (1, 2, 3):
        values = load_reranker("superglobal").score(asked, gallery.candidates(asked, [depth]), gallery)[0]
        assert np.isfinite(values).all()


@given(weight=st.floats(0, 1), seed=st.integers(0, 50))
@settings(max_examples=50, deadline=None)
def test_fusion_is_between_its_parts(weight: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = rng.random(5, np.float32), rng.random(5, np.float32)
    fused = fuse(one, two, weight)
    assert (fused >= np.minimum(one, two) - 1e-6).all()
    assert (fused <= np.maximum(one, two) + 1e-6).all()


class Fixed:
    needs: frozenset[str] = frozenset()

    def __init__(self, value) -> None:
        self.value = value
        self.seen: list[list[str]] = []

    def check(self, card: ModelCard) -> None: ...

    def score(self, queries, candidates, gallery):
        self.seen += [list(ids) for ids in candidates.ids]
        return [np.array([self.value(name) for name in ids], np.float32) for ids in candidates.ids]


def test_a_chain_reorders_heads_only_and_explains() -> None:
    candidates = Candidates(["q"], [["a", "b", "c", "d"]], [np.array([0.9, 0.8, 0.7, 0.6], np.float32)])
    backwards = Fixed({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}.get)
    ranking = apply_chain([RerankStep("x", backwards, 3, 0.0)], queries(1), candidates, Gallery(1))[0]
    assert ranking.ids == ["c", "b", "a", "d"]
    assert ranking.explanation["global_rank"].tolist() == [3, 2, 1, 4]
    np.testing.assert_allclose(ranking.explanation["global_score"], [0.7, 0.8, 0.9, 0.6])
    assert np.isnan(ranking.explanation["x"][3])
    np.testing.assert_allclose(ranking.scores, [0.3, 0.2, 0.1, 0.6])
    second = Fixed({"c": 0.0, "b": 9.0, "a": 0.0}.get)
    ranking = apply_chain(
        [RerankStep("x", backwards, 3, 0.0), RerankStep("y", second, 2, 0.0)], queries(1), candidates, Gallery(1)
    )
    assert second.seen == [["c", "b"]]
    assert ranking[0].ids == ["b", "c", "a", "d"]


def one_list(scores: Sequence[float]) -> Candidates:
    return Candidates(["q"], [list("abcdefgh"[: len(scores)])], [np.array(scores, np.float32)])


def test_with_a_margin_only_candidates_near_the_second_are_scored() -> None:
    candidates = one_list([0.9, 0.85, 0.8, 0.6, 0.5])
    scorer = Fixed({"a": 0.3, "b": 0.2, "c": 0.9}.get)
    ranking = apply_chain([RerankStep("x", scorer, 4, 0.5, margin=0.06)], queries(1), candidates, Gallery(1))[0]
    assert scorer.seen == [["a", "b", "c"]]
    assert ranking.ids == ["c", "a", "b", "d", "e"]
    # What was not scored has the fused score of the lowest of those that were, 0.2.
    np.testing.assert_allclose(ranking.scores, [0.85, 0.6, 0.525, 0.4, 0.35], atol=1e-6)
    assert np.isnan(ranking.explanation["x"]).tolist() == [False, False, False, True, True]


def test_a_margin_is_measured_from_the_second_since_the_first_may_be_a_copy() -> None:
    scorer = Fixed(lambda name: 0.0)
    step = RerankStep("x", scorer, 3, 0.5, margin=0.1)
    apply_chain([step], queries(1), one_list([0.99, 0.5, 0.45, 0.44]), Gallery(1))
    apply_chain([step], queries(1), one_list([0.9, 0.6, 0.45]), Gallery(1))
    apply_chain([step], queries(1), one_list([0.9]), Gallery(1))
    apply_chain([step], queries(1), one_list([]), Gallery(1))
    assert scorer.seen == [["a", "b", "c"], ["a", "b"], ["a"], []]


@given(seed=st.integers(0, 200), margin=st.floats(0, 1) | st.none(), weight=st.floats(0, 1), top=st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_adaptive_and_calibrated_scores_never_rise(seed: int, margin: float | None, weight: float, top: int) -> None:
    rng = np.random.default_rng(seed)
    values = dict(zip("abcdefgh", rng.random(8, np.float32), strict=True))
    candidates = one_list(np.sort(rng.random(8))[::-1].tolist())
    curves = [fit_calibration(rng.random(40), rng.random(40) < 0.4) for _ in range(2)]
    step = RerankStep("x", Fixed(values.get), top, weight, margin, *curves)
    ranking = apply_chain([step, replace(step, margin=0.05)], queries(1), candidates, Gallery(1))[0]
    assert sorted(ranking.ids) == list("abcdefgh")
    assert (np.diff(ranking.scores) <= 0).all()
    assert np.isfinite(ranking.scores).all()


def test_a_wide_margin_gives_what_no_margin_gives() -> None:
    gallery, asked = Gallery(30), queries(3)
    candidates = gallery.candidates(asked, [30] * 3)
    reranker = load_reranker("superglobal")
    plain = apply_chain([RerankStep("x", reranker, 20, 0.3)], asked, candidates, gallery)
    wide = apply_chain([RerankStep("x", reranker, 20, 0.3, margin=2.0)], asked, candidates, gallery)
    for one, two in zip(plain, wide, strict=True):
        assert one.ids == two.ids
        np.testing.assert_array_equal(one.scores[:20], two.scores[:20])


def test_calibrations_are_applied_before_the_fusion_and_not_in_explanations() -> None:
    candidates = one_list([0.9, 0.8])
    incoming = Calibration("isotonic", (0.8, 0.9), (0.2, 0.4), 0.5, 1.0)
    own = Calibration("isotonic", (0.0, 1.0), (0.0, 1.0), 0.5, 1.0)
    step = RerankStep("x", Fixed({"a": 0.1, "b": 0.7}.get), 2, 0.25, None, incoming, own)
    ranking = apply_chain([step], queries(1), candidates, Gallery(1))[0]
    assert ranking.ids == ["b", "a"]
    expected = [0.25 * incoming(0.8) + 0.75 * own(0.7), 0.25 * incoming(0.9) + 0.75 * own(0.1)]
    np.testing.assert_allclose(ranking.scores, expected, atol=1e-5)
    np.testing.assert_allclose(ranking.explanation["x"], [0.7, 0.1])
    np.testing.assert_allclose(ranking.explanation["global_score"], [0.8, 0.9])


def test_no_chain_and_equal_scores_keep_the_global_order() -> None:
    candidates = Candidates(["q"], [["a", "b", "c"]], [np.array([0.9, 0.8, 0.7], np.float32)])
    assert apply_chain([], queries(1), candidates, Gallery(1))[0].ids == ["a", "b", "c"]
    level = RerankStep("x", Fixed(lambda name: 0.5), 3, 0.0)
    assert apply_chain([level], queries(1), candidates, Gallery(1))[0].ids == ["a", "b", "c"]


def test_a_checkpoint_survives_its_file(rrt: RRTReranker, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "rrt.safetensors", rrt.to_checkpoint())
    again = load_reranker("rrt", tmp_path / "rrt.safetensors")
    assert (again.weight, again.card, again.network.shape) == (0.4, CARD, SHAPE)
    gallery, asked = Gallery(9), queries(2)
    candidates = gallery.candidates(asked, [9, 9])
    for one, two in zip(rrt.score(asked, candidates, gallery), again.score(asked, candidates, gallery), strict=True):
        np.testing.assert_array_equal(one, two)


def test_wrong_checkpoints_are_one_line_each(rrt: RRTReranker, tmp_path: Path) -> None:
    def refused(path: Path | None, words: str) -> None:
        with pytest.raises(RelookError, match=words) as caught:
            load_reranker("rrt", path)
        assert "\n" not in str(caught.value)

    refused(None, "rrt needs a checkpoint: train one with relook train-rerank --reranker rrt")
    refused(tmp_path / "none.safetensors", "no such checkpoint")
    (tmp_path / "garbage").write_bytes(b"garbage garbage")
    refused(tmp_path / "garbage", "cannot be read as a checkpoint")
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    refused(tmp_path / "foreign.safetensors", "not a checkpoint of rrt")
    state = rrt.network.state_dict()
    state.pop("remap.bias")
    torch.save({"state": {**state, "extra": torch.zeros(1)}}, tmp_path / "short.pt")
    with pytest.raises(RelookError, match=r"1 missing \(remap\.bias\); 1 unexpected \(extra\)"):
        load_reranker("rrt", tmp_path / "short.pt", heads=2)
    torch.save({"state": {"unrelated": torch.zeros(1)}}, tmp_path / "other.pt")
    refused(tmp_path / "other.pt", "not a checkpoint of rrt")
    save_checkpoint(tmp_path / "whole.safetensors", rrt.to_checkpoint())
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.safetensors", "damaged")
    with pytest.raises(RelookError, match="a checkpoint of rrt, not of ames"):
        read_checkpoint(tmp_path / "whole.safetensors", "ames")


def test_descriptors_of_another_model_are_refused(rrt: RRTReranker) -> None:
    rrt.check(CARD)
    for change, words in (
        ({"dimension": 20}, "the index has 20 and 8"),
        ({"local_dimension": 0}, "needs local descriptors"),
        ({"weights": "sha256:1"}, "trained on another model's descriptors.*weights"),
    ):
        with pytest.raises(RelookError, match=words):
            rrt.check(ModelCard.from_json({**CARD.to_json(), **change}))


def test_names_and_options() -> None:
    with pytest.raises(UsageError, match="did you mean 'superglobal'"):
        load_reranker("superglobl")
    with pytest.raises(UsageError, match="kk"):
        load_reranker("superglobal", kk=3)
    with pytest.raises(UsageError, match="takes no checkpoint"):
        load_reranker("superglobal", "file")


def test_an_unknown_option_is_named_and_a_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"unknown option of reranker superglobal 'betta'; did you mean 'beta'\?"):
        load_reranker("superglobal", betta=1.0)

    class Broken:
        @staticmethod
        def load(checkpoint: Any = None, device: str = "cpu") -> Any:
            raise TypeError("a defect")

    monkeypatch.setitem(RERANKERS, "superglobal", replace(RERANKERS["superglobal"], made_by=Broken))
    with pytest.raises(TypeError, match="a defect"):
        load_reranker("superglobal")


@pytest.mark.parametrize("name", ["rrt", "rrt_sop", "ames", "elvis", "locore", "cvnet"])
def test_every_trainable_reranker_says_how_it_is_trained(name: str, tmp_path: Path) -> None:
    for checkpoint in (None, tmp_path / "none.safetensors"):
        with pytest.raises(RelookError, match=f"relook train-rerank --reranker {name}, or give --set"):
            load_reranker(name, checkpoint)
    assert name in RECIPES
