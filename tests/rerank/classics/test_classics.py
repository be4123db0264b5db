"""The classics against their formulas in plain loops, and what query expansion does in a chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RelookError, UsageError
from pipeline.rerank import RerankStep, apply_chain, load_reranker
from pipeline.rerank.classics.rocchio import rocchio
from pipeline.types import Candidates, Description, FurtherSearch, explains

CLASSICS = ("average_qe", "alpha_qe", "dba", "k_reciprocal", "diffusion")
WIDTH = 6


def unit(values: np.ndarray) -> np.ndarray:
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True), np.float32)


class Gallery:
    """Images around a few centres, so that neighbourhoods mean something."""

    def __init__(self, count: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        centres = rng.standard_normal((1 + count // 6, WIDTH))
        self.matrix = unit(centres[rng.integers(len(centres), size=count)] + 0.5 * rng.standard_normal((count, WIDTH)))
        self.names = [f"g{row:02d}" for row in range(count)]
        self.query = unit(centres[0] + 0.5 * rng.standard_normal(WIDTH))

    def globals(self, ids: Sequence[str]) -> np.ndarray:
        return self.matrix[[self.names.index(name) for name in ids]]

    def first(self, vector: np.ndarray, count: int) -> tuple[list[str], np.ndarray]:
        values = self.matrix @ vector
        order = np.argsort(-values, kind="stable")[:count]
        return [self.names[row] for row in order], values[order]

    def candidates(self, count: int, **more: Any) -> Candidates:
        ids, scores = self.first(self.query, count)
        return Candidates(["q"], [ids], [scores], **more)

    def search(self, wanted: Sequence[FurtherSearch]) -> list[list[str]]:
        return [[name for v in one.vectors for name in self.first(v, one.count or 1)[0]] for one in wanted]


def scores_of(name: str, gallery: Gallery, candidates: Candidates, **options: Any) -> np.ndarray:
    reranker = load_reranker(name, **options)
    return reranker.score([Description(gallery.query)], candidates, gallery)[0]  # type: ignore[arg-type]


sizes = st.integers(1, 40)
seeds = st.integers(0, 10_000)


@given(count=sizes, seed=seeds, k=st.integers(1, 12), alpha=st.sampled_from([0.0, 1.0, 3.0]))
@settings(deadline=None, max_examples=25)
def test_query_expansion_is_its_formula(count: int, seed: int, k: int, alpha: float) -> None:
    gallery = Gallery(count, seed)
    candidates = gallery.candidates(count)
    mixed = gallery.query.astype(np.float64)
    for name, similarity in list(zip(candidates.ids[0], candidates.scores[0], strict=True))[:k]:
        mixed = mixed + max(float(similarity), 0.0) ** alpha * gallery.globals([name])[0]
    expected = gallery.globals(candidates.ids[0]) @ (mixed / np.linalg.norm(mixed))
    np.testing.assert_allclose(scores_of("alpha_qe", gallery, candidates, k=k, alpha=alpha), expected, atol=2e-6)
    if alpha == 0:
        np.testing.assert_allclose(scores_of("average_qe", gallery, candidates, k=k), expected, atol=2e-6)


@given(count=sizes, seed=seeds, k=st.integers(1, 12))
@settings(deadline=None, max_examples=25)
def test_database_augmentation_is_its_formula(count: int, seed: int, k: int) -> None:
    gallery = Gallery(count, seed)
    candidates = gallery.candidates(count)
    vectors = gallery.globals(candidates.ids[0]).astype(np.float64)
    expected = []
    for row, vector in enumerate(vectors):
        others = sorted((other for other in range(count) if other != row), key=lambda o: -float(vectors[o] @ vector))
        mixed = sum((k - r) / k * vectors[near] for r, near in enumerate([row, *others][:k]))
        expected.append(float(gallery.query @ mixed) / float(np.linalg.norm(mixed)))
    np.testing.assert_allclose(scores_of("dba", gallery, candidates, k=k), expected, atol=1e-5)


def plain_k_reciprocal(images: np.ndarray, k1: int, k2: int) -> list[float]:
    count = len(images)
    distance = ((images[:, None] - images[None]) ** 2).sum(axis=2)
    ranked = [[p, *sorted((g for g in range(count) if g != p), key=lambda g: distance[p, g])] for p in range(count)]

    def reciprocal(p: int, k: int) -> set[int]:
        return {g for g in ranked[p][: k + 1] if p in ranked[g][: k + 1]}

    encoded = np.zeros((count, count))
    for p in range(count):
        whole = reciprocal(p, k1)
        related = set(whole)
        for g in whole:
            half = reciprocal(g, round(k1 / 2))
            if 3 * len(whole & half) >= 2 * len(half):
                related |= half
        for g in related:
            encoded[p, g] = np.exp(-distance[p, g])
        encoded[p] /= encoded[p].sum()
    averaged = [np.mean([encoded[g] for g in ranked[p][:k2]], axis=0) for p in range(count)]
    return [
        sum(min(a, b) for a, b in zip(averaged[0], one, strict=True))
        / sum(max(a, b) for a, b in zip(averaged[0], one, strict=True))
        for one in averaged[1:]
    ]


@given(count=st.integers(1, 30), seed=seeds, k1=st.integers(1, 12), k2=st.integers(1, 6))
@settings(deadline=None, max_examples=25)
def test_k_reciprocal_is_its_formula(count: int, seed: int, k1: int, k2: int) -> None:
    gallery = Gallery(count, seed)
    candidates = gallery.candidates(count)
    images = np.vstack([gallery.query, gallery.globals(candidates.ids[0])]).astype(np.float64)
    found = scores_of("k_reciprocal", gallery, candidates, k1=k1, k2=k2)
    np.testing.assert_allclose(found, plain_k_reciprocal(images, k1, k2), atol=1e-5)


@given(count=sizes, seed=seeds, k=st.integers(1, 12), query_k=st.integers(1, 5), alpha=st.sampled_from([0.5, 0.99]))
@settings(deadline=None, max_examples=25)
def test_diffusion_solves_its_system(count: int, seed: int, k: int, query_k: int, alpha: float) -> None:
    gallery = Gallery(count, seed)
    candidates = gallery.candidates(count)
    vectors = gallery.globals(candidates.ids[0]).astype(np.float64)
    near = []
    for row, vector in enumerate(vectors):
        others = sorted((other for other in range(count) if other != row), key=lambda o: -float(vectors[o] @ vector))
        near.append(others[:k])
    affinity = np.zeros((count, count))
    for row in range(count):
        for other in near[row]:
            if row in near[other]:
                affinity[row, other] = max(float(vectors[row] @ vectors[other]), 0) ** 3
    degrees = affinity.sum(axis=1)
    scale = np.array([1 / np.sqrt(degree) if degree else 1.0 for degree in degrees])
    start = np.maximum(vectors @ gallery.query.astype(np.float64), 0) ** 3
    start[query_k:] = 0
    solved = np.linalg.solve(np.eye(count) - alpha * scale[:, None] * affinity * scale, (1 - alpha) * start)
    expected = solved / (solved.max() or 1)
    found = scores_of("diffusion", gallery, candidates, k=k, query_k=query_k, alpha=alpha, iterations=500)
    np.testing.assert_allclose(found, expected, atol=2e-4)


@given(seed=seeds, liked=st.integers(0, 4), unliked=st.integers(0, 4), asked=st.booleans())
@settings(deadline=None, max_examples=25)
def test_rocchio_is_its_formula(seed: int, liked: int, unliked: int, asked: bool) -> None:
    gallery = Gallery(10, seed)
    like, unlike = gallery.matrix[:liked], gallery.matrix[5 : 5 + unliked]
    query = gallery.query if asked else None
    if not asked and not liked:
        with pytest.raises(UsageError, match="give a query"):
            rocchio(query, like, unlike)
        return
    expected = np.zeros(WIDTH)
    for vector, weight in [(gallery.query, float(asked)), *((v, 0.75 / liked) for v in like)]:
        expected = expected + weight * vector.astype(np.float64)
    for vector in unlike:
        expected = expected - 0.15 / unliked * vector.astype(np.float64)
    np.testing.assert_allclose(rocchio(query, like, unlike), expected / np.linalg.norm(expected), atol=1e-5)


def test_rocchio_refuses_a_query_of_which_nothing_is_left() -> None:
    vector = unit(np.ones(WIDTH))
    with pytest.raises(UsageError, match="cancel each other out"):
        rocchio(vector, vector[None][:0], vector[None], gamma=1.0)


@pytest.mark.parametrize("name", CLASSICS)
def test_many_lists_score_as_each_alone_and_take_no_checkpoint(name: str) -> None:
    galleries = [Gallery(30, 1)]
    gallery = galleries[0]
    queries = [Description(unit(gallery.matrix[row] + 0.1)) for row in range(9)]
    ids = [gallery.first(query.vector, 5 * (row % 4))[0] for row, query in enumerate(queries)]
    scores = [gallery.globals(names) @ query.vector for names, query in zip(ids, queries, strict=True)]
    reranker: Any = load_reranker(name)
    together = reranker.score(queries, Candidates(["q"] * 9, ids, scores), gallery)
    for query, names, values, found in zip(queries, ids, scores, together, strict=True):
        (alone,) = reranker.score([query], Candidates(["q"], [names], [values]), gallery)
        np.testing.assert_allclose(found, alone, atol=1e-5)
        assert found.dtype == np.float32
        assert len(found) == len(names)
    with pytest.raises(UsageError, match=f"{name} is not trained"):
        load_reranker(name, checkpoint="x.pt")
    with pytest.raises(RelookError, match="1 queries for 9 lists"):
        reranker.score(queries[:1], Candidates(["q"] * 9, ids, scores), gallery)


def chain_of(name: str, top: int, **options: Any) -> list[RerankStep]:
    return [RerankStep(name, load_reranker(name, **options), top, 0.0)]


@given(seed=seeds, top=st.integers(1, 12))
@settings(deadline=None, max_examples=25)
def test_an_expanded_query_is_searched_again(seed: int, top: int) -> None:
    gallery = Gallery(40, seed)
    chain, query = chain_of("alpha_qe", top, k=3), [Description(gallery.query)]
    (ranking,) = apply_chain(chain, query, gallery.candidates(top), gallery, gallery.search)  # type: ignore[arg-type]
    expander: Any = chain[0].reranker
    (expanded,) = expander.expand(query, gallery.candidates(top), gallery)
    ids, scores = gallery.first(expanded, top)
    assert list(ranking.ids[:top]) == ids
    np.testing.assert_allclose(ranking.scores[:top], scores, atol=1e-6)
    assert len(set(ranking.ids)) == len(ranking.ids)
    whole = dict(zip(*gallery.first(gallery.query, 40), strict=True))
    for name, value in zip(ranking.ids, ranking.explanation["global_score"], strict=True):
        assert value == pytest.approx(float(whole[name]), abs=1e-6)


def test_images_behind_the_head_are_scored_when_a_search_finds_them() -> None:
    gallery = Gallery(40, 3)
    chain, query = chain_of("alpha_qe", 5, k=3), [Description(gallery.query)]
    (ranking,) = apply_chain(chain, query, gallery.candidates(40), gallery, gallery.search)  # type: ignore[arg-type]
    (few,) = apply_chain(chain, query, gallery.candidates(5), gallery, gallery.search)  # type: ignore[arg-type]
    assert sorted(ranking.ids) == sorted(gallery.names)
    assert list(ranking.ids[: len(few.ids)]) == list(few.ids)


@pytest.mark.parametrize("name", ["dba", "k_reciprocal", "diffusion"])
def test_neighbours_of_the_first_candidates_join_the_list(name: str) -> None:
    gallery = Gallery(40, 5)
    query, candidates = [Description(gallery.query)], gallery.candidates(4)
    (near,) = apply_chain(chain_of(name, 4, reach=2), query, candidates, gallery, gallery.search)  # type: ignore[arg-type]
    (alone,) = apply_chain(chain_of(name, 4, reach=0), query, candidates, gallery, gallery.search)  # type: ignore[arg-type]
    assert sorted(alone.ids) == sorted(candidates.ids[0])
    assert set(near.ids) > set(alone.ids)
    assert not np.isnan(near.explanation[name]).any()
    assert sorted(near.explanation["global_rank"]) == list(range(1, len(near.ids) + 1))


class Verified:
    """A stand-in for matching with fixed scores by id."""

    needs = frozenset({"globals"})

    def __init__(self, scores: dict[str, float]) -> None:
        self._scores = scores

    def score(self, queries: Any, candidates: Candidates, gallery: Any) -> list[np.ndarray]:
        return [np.array([self._scores[name] for name in ids], np.float32) for ids in candidates.ids]


def test_only_verified_images_expand_after_matching() -> None:
    gallery = Gallery(20, 7)
    ids, _ = gallery.first(gallery.query, 20)
    matched = dict.fromkeys(ids, 0.1) | {ids[4]: 0.9, ids[6]: 0.5}
    verified: Any = Verified(matched)
    chain = [RerankStep("matching", verified, 10, 0.65), *chain_of("alpha_qe", 20, neighbours="matching", alpha=1.0)]
    query = [Description(gallery.query)]
    (ranking,) = apply_chain(chain, query, gallery.candidates(20), gallery, gallery.search)  # type: ignore[arg-type]
    mixed = gallery.query + np.float32(0.9) * gallery.globals([ids[4]])[0]
    mixed = unit(mixed + np.float32(0.5) * gallery.globals([ids[6]])[0])
    names, scores = gallery.first(mixed, 20)
    assert list(ranking.ids) == names
    np.testing.assert_allclose(ranking.scores, scores, atol=1e-6)
    nobody: Any = Verified(dict.fromkeys(ids, 0.1))
    (plain,) = apply_chain(
        [RerankStep("matching", nobody, 10, 0.65), chain[1]],
        query,
        gallery.candidates(20),
        gallery,  # type: ignore[arg-type]
    )
    assert list(plain.ids) == ids  # nothing was verified: the query stays as it is
    with pytest.raises(UsageError, match="give --rerank matching,alpha_qe"):
        apply_chain(chain[1:], query, gallery.candidates(20), gallery)  # type: ignore[arg-type]


# --- why a score is as it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSICS)
@settings(max_examples=15, deadline=None)
@given(sizes, seeds)
def test_reasons_begin_with_the_similarity_and_end_with_the_score(name: str, count: int, seed: int) -> None:
    gallery = Gallery(count, seed)
    candidates = gallery.candidates(count)
    ids = list(candidates.ids[0])
    reranker: Any = load_reranker(name)
    assert explains(reranker)
    found = reranker.explain(Description(gallery.query), candidates, ids, gallery)
    np.testing.assert_allclose([one.before for one in found], candidates.scores[0], atol=1e-5)
    np.testing.assert_allclose([one.after for one in found], scores_of(name, gallery, candidates), atol=1e-5)
    for own, one in zip(ids, found, strict=True):
        assert (np.diff(one.weights) <= 0).all()
        assert one.weights.sum() <= 1 + 1e-4
        assert set(one.ids) <= set(ids)
        assert name.endswith("_qe") or own not in one.ids


@pytest.mark.parametrize("name", ["average_qe", "alpha_qe", "dba"])
@settings(max_examples=15, deadline=None)
@given(sizes, seeds)
def test_shares_mix_the_descriptor_that_is_compared(name: str, count: int, seed: int) -> None:
    gallery = Gallery(count, seed)
    candidates = gallery.candidates(count)
    reranker: Any = load_reranker(name)
    ids = list(candidates.ids[0])[::3]
    reasons = reranker.explain(Description(gallery.query), candidates, ids, gallery)
    for own, one in zip(ids, reasons, strict=True):
        image = gallery.globals([own])[0]
        refined, other = (image, gallery.query) if name == "dba" else (gallery.query, image)
        mix = (1 - one.weights.sum()) * refined + (one.weights @ gallery.globals(one.ids) if one.ids else 0)
        assert one.after == pytest.approx(float(mix @ other) / float(np.linalg.norm(mix)), abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 40), seeds)
def test_all_that_flows_to_an_image_comes_from_its_neighbours(count: int, seed: int) -> None:
    gallery = Gallery(count, seed)
    candidates = gallery.candidates(count)
    ids = list(candidates.ids[0])
    reranker: Any = load_reranker("diffusion", iterations=200)
    reasons = reranker.explain(Description(gallery.query), candidates, ids, gallery)
    for own, one in zip(ids, reasons, strict=True):
        if own == ids[0]:  # where the diffusion starts
            continue
        assert one.weights.sum() == pytest.approx(1 if one.after > 1e-6 else 0, abs=1e-3)


def test_reasons_know_the_order_and_the_scores_of_the_links_before() -> None:
    gallery = Gallery(12, 0)
    ids, scores = gallery.first(gallery.query, 12)
    verified = np.linspace(0, 1, 12, dtype=np.float32)
    candidates = Candidates(["q"], [ids], [scores], {"matching": [verified]})
    reranker: Any = load_reranker("average_qe", k=2, neighbours="matching", verified=0.5)
    found = reranker.explain(Description(gallery.query), candidates, ids[:1], gallery)[0]
    assert sorted(found.ids) == sorted(ids[-2:])
    turned = Candidates(["q"], [ids[::-1]], [scores[::-1]])
    plain: Any = load_reranker("average_qe", k=2)
    assert sorted(plain.explain(Description(gallery.query), turned, ids[:1], gallery)[0].ids) == sorted(ids[-2:])


def test_a_ranking_says_which_order_each_link_was_given() -> None:
    gallery = Gallery(20, 3)
    chain = [*chain_of("k_reciprocal", 12), *chain_of("average_qe", 8)]
    query = [Description(gallery.query)]
    first, both = (
        apply_chain(part, query, gallery.candidates(20), gallery)[0]  # type: ignore[arg-type]
        for part in (chain[:1], chain)
    )
    order = np.argsort(both.places["average_qe"])
    assert [both.ids[row] for row in order] == list(first.ids)
    assert [both.ids[row] for row in np.argsort(both.places["k_reciprocal"])] == list(gallery.candidates(20).ids[0])
