"""The local ann store under filters, and for batches of queries, beside the exact table: for `ann.py --filters`.

A filter selects a share of the rows: at random, as clusters (all rows of some k-means clusters, as labels do), or as
the clusters that are farthest from the query, the worst case of inverted lists.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from ann_contenders import CONTENDERS
from rich.console import Console
from rich.table import Table

SHARES = (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5)
KINDS = ("random", "clusters", "far clusters")
TOP_K = 100
QUERIES = 50
BATCH = 300


def filters_and_batches(folder: Path, console: Console) -> None:
    """Measure and print both tables for the vectors of `make_vectors` in `folder`."""
    vectors, queries = np.load(folder / "vectors.npy"), np.load(folder / "queries.npy")
    keys = selections(vectors, queries[0])
    store = filled(folder, vectors, keys)
    console.print(filter_table(store, vectors, queries[:QUERIES], keys))
    console.print(batch_table(store, vectors, queries))


def selections(vectors: np.ndarray, query: np.ndarray) -> dict[str, np.ndarray]:
    """Which rows [N] bool each filter selects, by its name."""
    import faiss

    rng = np.random.default_rng(1)
    count = len(vectors)
    means = faiss.Kmeans(vectors.shape[1], max(8, count // 500), niter=5, seed=1)
    means.train(vectors[np.sort(rng.choice(count, min(count, 50_000), replace=False))])
    which = means.index.search(vectors, 1)[1][:, 0]
    order = {
        "random": rng.permutation(count),
        "clusters": np.argsort(rng.permutation(len(means.centroids))[which], kind="stable"),
        "far clusters": np.argsort((means.centroids @ query)[which], kind="stable"),
    }
    found = {}
    for kind in KINDS:
        for share in SHARES:
            kept = np.zeros(count, np.bool_)
            kept[order[kind][: max(1, round(share * count))]] = True
            found[f"{kind} {share:g}"] = kept
    return found


def filled(folder: Path, vectors: np.ndarray, keys: dict[str, np.ndarray]) -> Any:
    """A store whose metadata say which filters select a row, opened again."""
    from pipeline.types import GlobalDescriptors

    place = folder / "filtered"
    contender: Any = CONTENDERS["relook ann"](place, vectors)
    if not place.joinpath("ann").exists():
        store = contender._open()
        for start in range(0, len(vectors), 5000):
            rows = range(start, min(start + 5000, len(vectors)))
            metadata = [{key: "1" for key, kept in keys.items() if kept[row]} for row in rows]
            store.upsert(GlobalDescriptors([f"{row:09d}" for row in rows], vectors[rows.start : rows.stop]), metadata)
    contender.open()
    return contender.store


def filter_table(store: Any, vectors: np.ndarray, queries: np.ndarray, keys: dict[str, np.ndarray]) -> Table:
    """Mean and least recall, and median milliseconds of a query, per kind and share."""
    table = Table("filter", "rows", "recall", "least", "ms", title=f"{len(vectors):,} vectors, top {TOP_K}")
    scores = queries @ vectors.T
    for name, kept in {"none": np.ones(len(vectors), np.bool_), **keys}.items():
        where = None if name == "none" else {name: ["1"]}
        store.query(queries[:1], TOP_K, where)
        seconds, shares = [], []
        for query, row in zip(queries, scores, strict=True):
            started = time.perf_counter()
            ((ids, _),) = store.query(query[None], TOP_K, where)
            seconds.append(time.perf_counter() - started)
            nearest = np.argsort(-np.where(kept, row, -2), kind="stable")[: min(TOP_K, int(kept.sum()))]
            shares.append(len(np.intersect1d([int(one) for one in ids], nearest)) / len(nearest))
        ms = f"{np.median(seconds) * 1e3:.1f}"
        table.add_row(name, f"{int(kept.sum()):,}", f"{np.mean(shares):.4f}", f"{min(shares):.2f}", ms)
    return table


def batch_table(store: Any, vectors: np.ndarray, queries: np.ndarray) -> Table:
    """Milliseconds per query of one batch, of the store and of an exact search in memory."""
    from pipeline.stores.exact.search import FlatVectors

    table = Table("", "ms per query", title=f"{BATCH} queries at once, {len(vectors):,} vectors, top {TOP_K}")
    batch = np.resize(queries, (BATCH, queries.shape[1]))
    flat = FlatVectors(vectors, np.arange(len(vectors)))
    searches = {
        "ann": lambda: store.query(batch, TOP_K),
        "exact, in memory": lambda: flat.nearest(batch.astype(np.float64), TOP_K),
    }
    for name, search in searches.items():
        search()
        started = time.perf_counter()
        search()
        table.add_row(name, f"{(time.perf_counter() - started) / BATCH * 1e3:.2f}")
    return table
