"""SuperGlobal in NumPy, as searches use it, against the reranker itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from listed import listed

from pipeline.errors import RelookError, UsageError
from pipeline.rerank import load_reranker
from pipeline.rerank.superglobal import SuperGlobalReranker
from pipeline.rerank.superglobal_light import SuperGlobal
from pipeline.types import Candidates, Description, FloatArray

OPTIONS: list[dict[str, Any]] = [
    {},
    {"k": 3, "beta": 1.0, "power": 8.0, "expansion": 0.15, "normalise": True},
    {"k": 40, "beta": 0.0},
]


class Source:
    """Random vectors by name, some of them twice."""

    def __init__(self, count: int) -> None:
        vectors = np.random.default_rng(0).normal(size=(count, 16)).astype(np.float32)
        vectors[1] = vectors[0]
        self._vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def globals(self, ids: Sequence[str]) -> FloatArray:
        return self._vectors[[int(name) for name in ids]]


def asked(lengths: Sequence[int]) -> tuple[list[Description], Candidates]:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(len(lengths), 16)).astype(np.float32)
    ids = [[str(row) for row in rng.permutation(30)[:length]] for length in lengths]
    queries = [Description(vector / np.linalg.norm(vector)) for vector in vectors]
    return queries, Candidates([""] * len(ids), ids, [np.zeros(len(one), np.float32) for one in ids])


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("lengths", [[30, 0, 1, 12], [30] * 6])
def test_it_scores_and_explains_like_the_reranker(options: dict[str, Any], lengths: list[int]) -> None:
    light, whole = load_reranker("superglobal", searching=True, **options), load_reranker("superglobal", **options)
    assert isinstance(light, SuperGlobal)
    assert isinstance(whole, SuperGlobalReranker)
    queries, candidates = asked(lengths)
    source: Any = Source(30)
    wanted = whole.score(queries, candidates, source)
    for mine, theirs in zip(light.score(queries, candidates, source), wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6)
    names = [name for name in candidates.ids[0] if name not in ("0", "1")]
    mine, theirs = (one.explain(queries[0], listed(names), names[:5], source) for one in (light, whole))
    for found, reason in zip(mine, theirs, strict=True):
        assert dict(zip(found.ids, found.weights, strict=True)) == pytest.approx(
            dict(zip(reason.ids, reason.weights, strict=True)), abs=2e-6
        )
        assert (found.before, found.after) == pytest.approx((reason.before, reason.after), abs=2e-6)


def test_it_refuses_what_the_reranker_refuses() -> None:
    with pytest.raises(UsageError, match="not trained"):
        load_reranker("superglobal", "file", searching=True)
    queries, candidates = asked([3, 3])
    source: Any = Source(30)
    with pytest.raises(RelookError, match="1 queries for 2 lists"):
        load_reranker("superglobal", searching=True).score(queries[:1], candidates, source)
