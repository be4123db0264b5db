"""The local ann store under filters: recall where they are random, and where they follow the clusters, as labels do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores_helpers import ROOT, make_card

from pipeline.stores import IndexWriter, open_store
from pipeline.stores.ann.search import Snapshot
from pipeline.stores.ann.store import AnnStore
from pipeline.types import FloatArray, GlobalDescriptors

DIMENSION, COUNT, CLUSTERS, TOP_K = 32, 6000, 60, 20
NOMINAL = 0.9
SHARES = (0.0001, 0.001, 0.01, 0.1, 0.25, 0.5)


def unit(vectors: FloatArray) -> FloatArray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class Filled:
    """A store of clustered vectors whose metadata name rows by rank: at random, and cluster by cluster."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        which = rng.integers(0, CLUSTERS, COUNT)
        self.centres = unit(rng.normal(size=(CLUSTERS, DIMENSION)))
        self.vectors = unit(self.centres[which] + 0.1 * rng.normal(size=(COUNT, DIMENSION)))
        self.ranks = {"random": rng.permutation(COUNT), "clusters": np.argsort(np.argsort(which, kind="stable"))}
        with IndexWriter(folder / "index") as writer:
            writer.begin(make_card(DIMENSION), {}, ROOT, "parquet")
            assert writer.index is not None
            store = open_store("ann", writer.index, directory=folder / "ann", flat_below=200, recall=NOMINAL)
        assert isinstance(store, AnnStore)
        # Metadata name the smallest share that holds a row: a filter on several shares selects a larger one.
        metadata = [{kind: self._share(rank[row]) for kind, rank in self.ranks.items()} for row in range(COUNT)]
        for start in range(0, COUNT, 2000):
            some = slice(start, start + 2000)
            ids = [f"{row:05d}" for row in range(start, start + 2000)]
            store.upsert(GlobalDescriptors(ids, self.vectors[some]), metadata[some])
        self.store = store

    def _share(self, rank: int) -> str:
        return next((f"{share}" for share in SHARES if rank < max(1, share * COUNT)), "rest")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.files.atomic_write._flush", lambda path: None)
        patch.setattr("pipeline.stores.ann.search._FEW", 100)
        yield Filled(tmp_path_factory.mktemp("filters"))


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["random", "clusters"]),
    share=st.sampled_from(SHARES),
    cluster=st.integers(0, CLUSTERS - 1),
    seed=st.integers(0, 99),
)
def test_a_filter_finds_its_nearest_rows_wherever_they_lie(
    filled: Filled, kind: str, share: float, cluster: int, seed: int
) -> None:
    queries = filled.centres[cluster] + 0.1 * np.random.default_rng(seed).normal(size=(3, DIMENSION))
    where = {kind: [f"{one}" for one in SHARES if one <= share]}
    kept = np.flatnonzero(filled.ranks[kind] < max(1, share * COUNT))
    for query, (ids, scores) in zip(queries, filled.store.query(queries, TOP_K, where), strict=True):
        cosines = filled.vectors[kept] @ (query / np.linalg.norm(query))
        order = np.argsort(-cosines)[:TOP_K]
        assert len(ids) == min(TOP_K, len(kept))
        assert len({f"{kept[row]:05d}" for row in order} & set(ids)) >= 0.99 * len(ids)
        np.testing.assert_allclose(scores, cosines[order], atol=1e-5)


def test_a_batch_is_exact_where_that_is_faster_and_equals_its_queries_one_by_one(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = unit(filled.centres + 0.1 * np.random.default_rng(1).normal(size=filled.centres.shape))
    batch = filled.store.query(queries, TOP_K)
    order = np.argsort(-(queries @ filled.vectors.T), axis=1, kind="stable")[:, :TOP_K]
    assert [set(ids) for ids, _ in batch] == [{f"{row:05d}" for row in rows} for rows in order]
    found = 0
    for query, (ids, scores) in zip(queries, batch, strict=True):
        ((one, values),) = filled.store.query(query[None], TOP_K)  # by the lists
        both = [name for name in one if name in ids]
        found += len(both)
        np.testing.assert_array_equal(
            [scores[ids.index(name)] for name in both], [values[one.index(name)] for name in both]
        )
    assert found >= NOMINAL * TOP_K * len(queries)


@pytest.mark.parametrize(
    ("count", "queries", "exact"),
    [(10_000, 31, False), (10_000, 64, True), (50_000, 64, False), (50_000, 300, True), (200_000, 10**6, False)],
)
def test_the_rule_for_batches_follows_size_and_number(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, count: int, queries: int, exact: bool
) -> None:
    with filled.store._records.reading():
        snapshot = Snapshot(filled.store._records)
    monkeypatch.setattr(snapshot, "_count", count * 512 // DIMENSION)
    assert snapshot._exact_is_faster(queries) is exact


def test_the_lists_alone_would_miss_them(filled: Filled) -> None:
    """The store's lists are used here, and a query without a filter visits few of them."""
    stats = filled.store.stats()
    assert 0 < stats["probes"] < stats["lists"] / 4
