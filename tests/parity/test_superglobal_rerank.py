"""SuperGlobal's re-ranking: the paper's settings give the official orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.rerank import Look, load_reranker, look_again
from pipeline.types import Candidates, Description, LocalDescriptors


class Gallery:
    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = vectors

    def globals(self, ids: Sequence[str]) -> np.ndarray:
        return self._vectors[[int(name) for name in ids]]

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        raise AssertionError("superglobal reads no locals")


@pytest.fixture
def official(fixture_folder: Callable[[str], SimpleNamespace]) -> SimpleNamespace:
    return fixture_folder("superglobal_rerank")


def test_orders_and_scores(official: SimpleNamespace) -> None:
    vectors, queries = official.inputs["X"], official.inputs["Q"]
    initial = official.outputs["ranks_initial"].T
    candidates = Candidates(
        [str(row) for row in range(len(queries))],
        [[str(name) for name in order] for order in initial],
        [(vectors[order] @ query).astype(np.float32) for order, query in zip(initial, queries, strict=True)],
    )
    descriptions = [Description(query) for query in queries]
    for case, (top, k, beta) in cases(official).items():
        reranker = load_reranker("superglobal", k=k, beta=beta)
        rankings = look_again([Look("superglobal", reranker, top, 0.0)], descriptions, candidates, Gallery(vectors))
        expected = official.outputs[f"{case}_ranks_final"].T
        ambiguous = official.outputs[f"{case}_final_ambiguous"].T
        ranks = np.array([[int(name) for name in ranking.ids] for ranking in rankings])
        np.testing.assert_array_equal(ranks[~ambiguous], expected[~ambiguous])
        # The stored scores follow the order after the first refinement.
        place = official.outputs[f"{case}_list_after_dba"]
        for row, ranking in enumerate(rankings):
            score = dict(zip(map(int, ranking.ids[:top]), ranking.scores[:top], strict=True))
            found = [score[int(name)] for name in place[row]]
            np.testing.assert_allclose(found, official.outputs[f"{case}_final_score"][row], atol=2e-6, rtol=0)


def test_one_query_at_a_time_gives_the_same(official: SimpleNamespace) -> None:
    vectors, queries = official.inputs["X"], official.inputs["Q"]
    ids = [[str(name) for name in order[:400]] for order in official.outputs["ranks_initial"].T]
    nothing = [np.zeros(400, np.float32)] * len(queries)
    reranker = load_reranker("superglobal")
    descriptions = [Description(query) for query in queries]
    names = [str(row) for row in range(len(queries))]
    together = reranker.score(descriptions, Candidates(names, ids, nothing), Gallery(vectors))
    for row, query in enumerate(descriptions):
        alone = reranker.score([query], Candidates(["q"], [ids[row]], nothing[:1]), Gallery(vectors))
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5, rtol=0)


def cases(official: SimpleNamespace) -> dict[str, tuple[int, int, float]]:
    return {name: (int(m), int(k), float(beta)) for name, (m, k, beta) in official.config["cases_M_K_beta"].items()}
