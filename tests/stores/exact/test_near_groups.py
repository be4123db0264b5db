"""Groups of near vectors: equal to the components of all pairs, however the vectors are cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from pipeline.stores.exact import near_groups as module
from pipeline.types import FloatArray


def clustered(count: int, dimension: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, count // 3), dimension))
    vectors = centres[rng.integers(len(centres), size=count)] + rng.uniform(0, 0.6) * rng.normal(
        size=(count, dimension)
    )
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@given(
    count=st.integers(1, 60),
    seed=st.integers(0, 10**6),
    threshold=st.floats(0.2, 0.99),
    piece=st.integers(1, 13),
    rows=st.integers(1, 7),
    block=st.integers(1, 20),
    pairs=st.integers(1, 30),
)
def test_equal_to_the_components_of_all_pairs(
    count: int, seed: int, threshold: float, piece: int, rows: int, block: int, pairs: int
) -> None:
    vectors = clustered(count, 5, seed)
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    if (np.abs(cosines - threshold) < 1e-5).any():
        return  # float32 may see such a pair on either side
    _, expected = connected_components(cosines >= threshold, directed=False)

    def stream(first: int) -> Iterator[FloatArray]:
        yield from (vectors[start : start + piece] for start in range(first, count, piece))

    done: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS", rows)
        patch.setattr(module, "_BLOCK_BYTES", block * vectors[0].nbytes)
        patch.setattr(module, "_PAIRS", pairs)
        found = module.near_groups(stream, count, threshold, done.append)
    assert sum(done) == count
    same = found[:, None] == found[None, :]
    np.testing.assert_array_equal(same, expected[:, None] == expected[None, :])


def test_equal_vectors_are_one_group_at_the_highest_threshold() -> None:
    vectors = np.repeat(clustered(4, 300, 1), 3, axis=0)
    found = module.near_groups(lambda first: iter([vectors[first:]]), 12, 1.0)
    assert found.tolist() == np.repeat(found[::3], 3).tolist()
