"""What is kept of rankings to draw them: shares that add up, ignored images that count nowhere, bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluate import mark_relevance
from pipeline.types import Ranking
from pipeline.workflow.evaluation.curves import RankingCurves


def ranked(ids: list[str], before: list[int] | None = None) -> Ranking:
    scores = np.linspace(1, 0, len(ids), dtype=np.float32)
    return Ranking("q", ids, scores, {} if before is None else {"global_rank": np.array(before)})


def curves(ranking: Ranking, **groups: list[str]) -> dict | None:
    made = RankingCurves()
    made.add(ranking, mark_relevance(ranking, groups))
    return made.to_json()


def test_a_perfect_ranking_and_what_moved() -> None:
    found = curves(ranked(["a", "b", "c", "d"], [3, 1, 2, 4]), positive=["a", "b"])
    assert found is not None
    assert found["precision"] == [1.0] * 21
    assert found["moves"] == [[3, 1], [1, 2]]
    for name in ("positive", "negative"):
        assert sum(found["scores"][name]) == pytest.approx(1, abs=1e-3)
    assert len(found["scores"]["edges"]) == len(found["scores"]["positive"]) + 1


def test_ignored_images_count_nowhere() -> None:
    with_junk = curves(ranked(["j", "a", "j2", "b", "c"]), easy=["a"], hard=["b"], junk=["j", "j2"])
    assert with_junk is not None
    assert with_junk["precision"] == [1.0] * 21
    assert with_junk["moves"] == []


def test_without_a_positive_there_is_nothing() -> None:
    assert curves(ranked(["a"]), positive=[]) is None


def test_many_results_keep_the_memory_small() -> None:
    ids = [str(n) for n in range(50_000)]
    made = RankingCurves()
    ranking = ranked(ids, list(range(1, 50_001)))
    for _ in range(3):
        made.add(ranking, mark_relevance(ranking, {"positive": ids[::10]}))
    assert sum(len(rows) for kind in made._scores.values() for rows in kind) == 600
    assert len((made.to_json() or {})["moves"]) == 60
