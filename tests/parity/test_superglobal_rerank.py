"""SuperGlobal's re-ranking: the paper's settings give the official refinement, scores and orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import parity_ledger
import pytest
import torch
from stores_helpers import make_card

from pipeline.rerank import RerankStep, apply_chain, load_reranker
from pipeline.rerank.superglobal import Refinement, SuperGlobalReranker
from pipeline.stores import IndexWriter, TableStore
from pipeline.types import Candidates, Description, ImageRecord, LocalDescriptors

# Closer scores than these can change places when sums are taken in another order.
NOISE = 5e-7


class Gallery:
    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = vectors

    def globals(self, ids: Sequence[str]) -> np.ndarray:
        return self._vectors[[int(name) for name in ids]]

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        raise AssertionError("superglobal reads no locals")


@pytest.fixture(scope="module", params=parity_ledger.folders("superglobal_rerank*"))
def official(request: pytest.FixtureRequest, official_folder: Callable[[str], Any]) -> Any:
    return official_folder(request.param)


def cases(official: Any) -> dict[str, tuple[int, SuperGlobalReranker]]:
    """Per case how many candidates are looked at again, and the reranker with the case's settings."""
    found = {}
    for name, (top, k, beta) in official.config["cases_M_K_beta"].items():
        reranker = load_reranker("superglobal", k=int(k), beta=float(beta))
        assert isinstance(reranker, SuperGlobalReranker)
        found[name] = int(top), reranker
    return found


def refined(official: Any, top: int, reranker: SuperGlobalReranker) -> tuple[np.ndarray, Refinement]:
    """The rows [Q, M] of the candidates in the stored initial order, and what refines them."""
    initial = official.outputs["ranks_initial"].T[:, :top]
    return initial, reranker.neighbourhood(torch.from_numpy(official.inputs["X"][initial]))


def test_the_exact_search_gives_the_initial_order(official: Any, tmp_path: Path) -> None:
    vectors, queries = official.inputs["X"], official.inputs["Q"]
    with IndexWriter(tmp_path / "index") as writer:
        writer.begin(make_card(vectors.shape[1], local_dimension=0), {}, tmp_path, "parquet")
        records = [ImageRecord(f"{row:06d}", f"{row:06d}.jpg") for row in range(len(vectors))]
        writer.add(records, [Description(vector) for vector in vectors])
    answers = TableStore.open(tmp_path / "index").query(queries, len(vectors))
    ranks = np.array([[int(name) for name in ids] for ids, _ in answers])
    similarity = np.empty((len(queries), len(vectors)), np.float32)
    np.put_along_axis(similarity, ranks, np.array([scores for _, scores in answers]), axis=1)
    official.agrees("sim", similarity.T, atol=2e-6)
    official.equals("ranks_initial", ranks.T, where=~official.outputs["ranks_initial_ambiguous"])


def test_refined_descriptors(official: Any) -> None:
    for case, (top, reranker) in cases(official).items():
        initial, refinement = refined(official, top, reranker)
        everything = torch.arange(top).expand(len(initial), -1)
        descriptors = refinement.descriptors(everything)
        official.stats(f"{case}_x_dba_stats", descriptors)
        official.agrees(f"{case}_x_dba_norm_q0", descriptors[0].norm(dim=1), atol=2e-6)
        official.agrees(f"{case}_x_dba_first3q_first20", refinement.descriptors(everything[:, :20])[:3], atol=2e-6)


def test_similarities_and_orders_after_the_refinement(official: Any) -> None:
    for case, (top, reranker) in cases(official).items():
        initial, refinement = refined(official, top, reranker)
        first = refinement.similarity(torch.from_numpy(official.inputs["Q"])).numpy()
        official.agrees(f"{case}_res_dba", first, atol=2e-6)
        order = np.argsort(-first, axis=1, kind="stable")
        clear = far_from_neighbours(official.outputs[f"{case}_res_dba"])
        official.equals(f"{case}_order_after_dba", order, where=clear)
        official.equals(f"{case}_list_after_dba", np.take_along_axis(initial, order, axis=1), where=clear)


def test_final_scores_and_orders(official: Any) -> None:
    vectors, queries = official.inputs["X"], official.inputs["Q"]
    initial = official.outputs["ranks_initial"].T
    candidates = Candidates(
        [str(row) for row in range(len(queries))],
        [[str(name) for name in order] for order in initial],
        [(vectors[order] @ query).astype(np.float32) for order, query in zip(initial, queries, strict=True)],
    )
    descriptions = [Description(query) for query in queries]
    for case, (top, reranker) in cases(official).items():
        rankings = apply_chain(
            [RerankStep("superglobal", reranker, top, 0.0)], descriptions, candidates, Gallery(vectors)
        )
        ranks = np.array([[int(name) for name in ranking.ids] for ranking in rankings])
        official.equals(f"{case}_ranks_final", ranks.T, where=~official.outputs[f"{case}_final_ambiguous"])
        # The stored scores follow the order after the first refinement.
        scores = np.zeros(initial.shape, np.float32)
        np.put_along_axis(scores, ranks[:, :top], np.array([ranking.scores[:top] for ranking in rankings]), axis=1)
        listed = np.take_along_axis(scores, official.outputs[f"{case}_list_after_dba"].astype(np.int64), axis=1)
        official.agrees(f"{case}_final_score", listed, atol=2e-6)


def test_one_query_at_a_time_gives_the_same(official: Any) -> None:
    vectors, queries = official.inputs["X"], official.inputs["Q"]
    top, reranker = next(iter(cases(official).values()))
    ids = [[str(name) for name in order[:top]] for order in official.outputs["ranks_initial"].T]
    nothing = [np.zeros(top, np.float32)] * len(queries)
    descriptions = [Description(query) for query in queries]
    names = [str(row) for row in range(len(queries))]
    together = reranker.score(descriptions, Candidates(names, ids, nothing), Gallery(vectors))
    for row, query in enumerate(descriptions):
        alone = reranker.score([query], Candidates(["q"], [ids[row]], nothing[:1]), Gallery(vectors))
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5, rtol=0)


def far_from_neighbours(scores: np.ndarray) -> np.ndarray:
    """Which places [Q, M] of the descending order have no other score so near that noise could swap them."""
    gaps = -np.diff(-np.sort(-scores.astype(np.float64), axis=1), axis=1) > NOISE
    edge = np.ones((len(scores), 1), bool)
    return np.concatenate([edge, gaps], axis=1) & np.concatenate([gaps, edge], axis=1)
