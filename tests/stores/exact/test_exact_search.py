"""Exact search: every scanner, both precisions, filters, and more near misses than are kept at once.

The reference sorts all float64 cosines, rounded as the search rounds them.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores_helpers import unit_vectors

from pipeline.stores.exact import search as flat
from pipeline.stores.exact.products import graph_of, widened
from pipeline.stores.exact.scan import CPUScanner, TorchScanner
from pipeline.stores.exact.search import FlatVectors


def reference(vectors: Any, rank: Any, query: Any, top_k: int, among: Any) -> tuple[Any, Any]:
    rows = np.arange(len(vectors)) if among is None else among
    scores = (np.rint(vectors[rows].astype(np.float64) @ query * 2**30) / 2**30).clip(-1, 1).astype(np.float32)
    order = np.lexsort((rank[rows], -scores))[:top_k]
    return rows[order], scores[order]


def assert_exact(search: FlatVectors, rank: Any, queries: Any, top_k: int, among: Any = None) -> None:
    queries = queries.astype(np.float64)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    for query, (rows, scores) in zip(queries, search.nearest(queries, top_k, among), strict=True):
        expected, values = reference(search.vectors, rank, query, top_k, among)
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(scores, values)


@pytest.mark.parametrize(
    ("precision", "scanner"),
    [("float32", CPUScanner), ("float16", CPUScanner), ("float32", TorchScanner), ("float16", TorchScanner)],
)
@pytest.mark.parametrize("queries", [1, 3, 64, 131])
def test_every_way_of_scanning_is_exact(
    precision: str, scanner: Any, queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stores.exact.scan._CUDA_SCORES", 1 << 17)
    vectors = unit_vectors(5000, 24).astype(precision)
    vectors[1000:1400] = vectors[:400]  # ties
    rank = np.random.default_rng(1).permutation(5000)
    search = FlatVectors(vectors, rank)
    search._scanner = scanner(vectors) if scanner is CPUScanner else scanner(vectors, "cpu")
    asked = unit_vectors(queries, 24, seed=2)
    among = np.flatnonzero(np.random.default_rng(3).random(5000) < 0.3)
    for top_k in (1, 100, 4999, 6000):
        assert_exact(search, rank, asked[: 3 if top_k > 100 else None], top_k)
    assert_exact(search, rank, asked, 50, among)
    assert_exact(search, rank, asked, 50, among[:7])


class CountingSource:
    """An array as a source of vectors, which counts how often each row is read."""

    def __init__(self, vectors: Any) -> None:
        self.vectors, self.shape, self.reads = vectors, vectors.shape, np.zeros(len(vectors), np.int64)
        self.most = 0

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Any) -> Any:
        return self.vectors[rows]

    def read(self, rows: Any, out: Any) -> None:
        self.reads[rows] += 1
        self.most = max(self.most, len(rows))
        out[:] = self.vectors[rows]


@pytest.mark.parametrize("queries", [1, 3, 64])
def test_vectors_that_are_streamed_are_read_once_in_small_blocks(queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stores.exact.streamed._BLOCK_BYTES", 100 * 24 * 4)
    vectors = unit_vectors(5000, 24)
    vectors[1000:1400] = vectors[:400]  # ties
    rank = np.random.default_rng(1).permutation(5000)
    asked = unit_vectors(queries, 24, seed=2)
    among = np.flatnonzero(np.random.default_rng(3).random(5000) < 0.3)
    for rows in (None, among, among[:7]):
        for top_k in (1, 50, 4999):
            source = CountingSource(vectors)
            search = FlatVectors(source, rank)
            queried = asked.astype(np.float64)
            for query, (found, scores) in zip(queried, search.nearest(queried, top_k, rows), strict=True):
                expected, values = reference(vectors, rank, query, top_k, rows)
                np.testing.assert_array_equal(found, expected)
                np.testing.assert_array_equal(scores, values)
            wanted = np.zeros(5000, np.int64)
            wanted[slice(None) if rows is None else rows] = 1
            np.testing.assert_array_equal(source.reads, wanted)
            assert source.most <= 100


@given(
    spread=st.sampled_from([0.0, 1e-9, 3e-8, 1e-7, 1e-5, 1e-2]),
    top_k=st.integers(1, 30),
    kept=st.sampled_from([1, 20, 400]),
    seed=st.integers(0, 9),
)
def test_nearly_equal_vectors_are_told_apart_however_few_are_kept(
    spread: float, top_k: int, kept: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = (unit_vectors(1, 16) + rng.normal(size=(900, 16)) * spread).astype(np.float32)
    rank = rng.permutation(900)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat, "_KEPT", kept)
        patch.setattr("pipeline.stores.exact.scan._SCORES", 1)
        assert_exact(FlatVectors(vectors, rank), rank, unit_vectors(3, 16, seed=8), top_k)


@pytest.mark.parametrize(
    ("precision", "output"), [("float32", "products"), ("float16", "products"), ("float16", "widened")]
)
def test_the_graph_is_one_that_onnx_accepts(precision: str, output: str) -> None:
    onnx.checker.check_model(onnx.load_from_string(graph_of(precision, output)), full_check=True)


def test_every_half_is_widened_as_by_numpy() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(-1, 16)
    np.testing.assert_array_equal(widened(halves), halves.astype(np.float32))
    np.testing.assert_array_equal(widened(halves[:3]), halves[:3].astype(np.float32))


def test_halves_are_searched_without_torch() -> None:
    program = (
        "import sys, numpy as np; from pipeline.stores.exact.search import FlatVectors; "
        "vectors = np.eye(8, dtype=np.float16); found = FlatVectors(vectors, np.arange(8)).nearest(np.eye(8), 1); "
        "assert [rows.tolist() for rows, _ in found] == [[row] for row in range(8)]; "
        "sys.exit(bool({'torch', 'onnx'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_nothing_to_search() -> None:
    empty = FlatVectors(np.zeros((0, 8), np.float32), np.zeros(0, np.int32))
    ((rows, scores),) = empty.nearest(unit_vectors(1).astype(np.float64), 5)
    assert (len(rows), scores.dtype) == (0, np.float32)
    some = FlatVectors(unit_vectors(5), np.arange(5))
    assert len(some.nearest(unit_vectors(1).astype(np.float64), 5, np.zeros(0, np.intp))[0][0]) == 0
    assert some.nearest(np.zeros((0, 8)), 5) == []
