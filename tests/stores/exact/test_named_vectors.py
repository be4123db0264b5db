"""Exact search by id: equal to sorting all cosines, ties by id."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from stores_helpers import unit_vectors

from pipeline.stores.exact.named_vectors import NamedVectors


@given(st.integers(1, 40), st.integers(0, 10**6), st.integers(1, 50))
def test_equal_to_sorting_all(count: int, seed: int, top_k: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit_vectors(count, 6, seed)[rng.integers(0, count, count)]  # with duplicates
    ids = [f"{name:03d}" for name in rng.permutation(count)]
    queries = unit_vectors(3, 6, seed + 1)
    for query, (found, scores) in zip(queries, NamedVectors(ids, vectors).query(queries, top_k), strict=True):
        cosines = np.rint(vectors.astype(np.float64) @ query.astype(np.float64) * 2**30) / 2**30
        expected = sorted(range(count), key=lambda row: (-np.float32(cosines[row]), ids[row]))[:top_k]
        assert found == [ids[row] for row in expected]
        np.testing.assert_allclose(scores, cosines[expected], atol=1e-6)
