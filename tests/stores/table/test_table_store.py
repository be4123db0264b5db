"""The built-in table in Parquet and in CSV, beyond what every store does (test_store_contract.py): exact to the bit.

The reference is written without matrices: each score is summed on its own and rounded to a multiple of 2**-30, and the
ranking is a sort of tuples.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flushing import without_flushing
from hypothesis import given, settings
from hypothesis import strategies as st
from stores_helpers import DIMENSION, ROOT, make_card, make_index, make_items, unit_vectors

from pipeline.errors import LockedError, RelookError, UsageError
from pipeline.stores import Index, IndexWriter, TableStore, open_store
from pipeline.stores.registry import STORES, table_format
from pipeline.types import FloatArray, GlobalDescriptors

__all__ = ["without_flushing"]


LONG = "long/" + "ü" * 595
IDS = ["b", "a", "Z", "10", "9", "ä", "🗼", "a\nb", LONG, ""]


@pytest.fixture(params=["parquet", "csv"])
def tables(request: pytest.FixtureRequest) -> Any:
    return request.param


def make_store(
    directory: Path,
    tables: Any,
    ids: Sequence[str],
    vectors: FloatArray,
    metadata: Sequence[Mapping[str, str]] | None = None,
    parts: int = 1,
) -> TableStore:
    """A store with these vectors, spread over some parts."""
    with IndexWriter(directory) as writer:
        writer.begin(make_card(vectors.shape[1]), {}, ROOT, tables)
        for rows in np.array_split(np.arange(len(ids)), parts):
            some = [{} for _ in rows] if metadata is None else [metadata[row] for row in rows]
            writer.add_vectors([ids[row] for row in rows], vectors[rows], some)
    return TableStore.open(directory)


def reference(
    ids: Sequence[str], vectors: FloatArray, query: FloatArray, top_k: int
) -> tuple[list[str], list[np.float32]]:
    direction = query.astype(np.float64) / np.linalg.norm(query.astype(np.float64))
    sums = [math.fsum(a * b for a, b in zip(direction, row.astype(np.float64), strict=True)) for row in vectors]
    scores = [np.float32(min(1.0, round(total * 2**30) / 2**30)) for total in sums]
    ranked = sorted((-score, name) for score, name in zip(scores, ids, strict=True))[:top_k]
    return [name for _, name in ranked], [-score for score, _ in ranked]


def assert_answer(answer: tuple[list[str], FloatArray], expected: tuple[list[str], list[np.float32]]) -> None:
    assert answer[0] == expected[0]
    assert answer[1].dtype == np.float32
    assert not np.signbit(answer[1][answer[1] == 0]).any()
    np.testing.assert_array_equal(answer[1], np.array(expected[1], np.float32))


# Directions out of few values, so that many of them are equal, opposite, or equally far from a query.
direction = st.lists(st.integers(-2, 2), min_size=3, max_size=3).filter(any)


@settings(max_examples=30, deadline=None)
@given(
    pool=st.lists(direction, min_size=1, max_size=4),
    picks=st.lists(st.integers(0, 3), max_size=40),
    names=st.lists(st.text(max_size=4), min_size=40, max_size=40, unique=True),
    queries=st.lists(direction, min_size=1, max_size=3),
    top_k=st.integers(1, 45),
    parts=st.integers(1, 3),
)
def test_a_query_is_the_reference(pool: Any, picks: Any, names: Any, queries: Any, top_k: int, parts: int) -> None:
    base = np.array(pool, np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    vectors = base[[pick % len(base) for pick in picks]]
    ids = names[: len(picks)]
    asked = np.array(queries, np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    for tables in ("parquet", "csv"):
        with tempfile.TemporaryDirectory() as folder:
            store = make_store(Path(folder), tables, ids, vectors, parts=parts)
            answers = store.query(asked, top_k)
            for query, answer in zip(asked, answers, strict=True):
                assert_answer(answer, reference(ids, vectors, query, top_k))
            assert store.fetch(ids).tobytes() == vectors.tobytes()


@pytest.mark.parametrize("dimension", [3, 64, 512])
def test_equal_vectors_have_equal_scores_wherever_they_stand(tmp_path: Path, tables: Any, dimension: int) -> None:
    # A product of matrices in float32 gives rows of one value several scores, by where they stand in it.
    picks = np.random.default_rng(0).integers(0, 5, 997)
    vectors = unit_vectors(5, dimension)[picks]
    ids = [f"{row:04d}" for row in range(997)]
    store = make_store(tmp_path, tables, ids, vectors, parts=3)
    queries = unit_vectors(70, dimension, 7)
    whole = store.query(queries, 997)
    for names, scores in whole:
        assert len(np.unique(scores)) == 5
        assert names == [name for _, name in sorted(zip(-scores, names, strict=True))]
    for top_k in (1, 3, 20, 250, 996):
        for (names, scores), (all_names, all_scores) in zip(store.query(queries, top_k), whole, strict=True):
            assert names == all_names[:top_k]
            np.testing.assert_array_equal(scores, all_scores[:top_k])


def test_the_best_of_almost_equal_vectors_are_found(tmp_path: Path, tables: Any) -> None:
    # They differ by less than a product in float32 can tell.
    noise = np.random.default_rng(1).normal(size=(600, 64)) * 2e-8
    vectors = (unit_vectors(1, 64) + noise).astype(np.float32)
    ids = [f"{row:03d}" for row in range(600)]
    store = make_store(tmp_path, tables, ids, vectors)
    queries = unit_vectors(5, 64, 8)
    for query, answer in zip(queries, store.query(queries, 5), strict=True):
        assert_answer(answer, reference(ids, vectors, query, 5))


def test_a_batch_is_its_queries_one_by_one(tmp_path: Path, tables: Any) -> None:
    vectors = unit_vectors(300, 64)
    ids = [f"{row}" for row in range(300)]
    store = make_store(tmp_path, tables, ids, vectors, parts=2)
    queries = unit_vectors(131, 64, 3)
    for top_k in (1, 7, 300):
        batch = store.query(queries, top_k)
        assert len(batch) == 131
        for query, (names, scores) in zip(queries, batch, strict=True):
            ((one_names, one_scores),) = store.query(query[None], top_k)
            assert names == one_names
            np.testing.assert_array_equal(scores, one_scores)
    for query, answer in zip(queries[:9], store.query(queries[:9], 20), strict=True):
        assert_answer(answer, reference(ids, vectors, query, 20))


def test_both_formats_give_the_same_ranking_and_scores(tmp_path: Path) -> None:
    vectors = unit_vectors(200, 33)
    ids = [f"{row}" for row in range(200)]
    stores = [make_store(tmp_path / kind, kind, ids, vectors, parts=n) for kind, n in (("parquet", 1), ("csv", 4))]
    for one, other in zip(*(store.query(unit_vectors(70, 33, 5), 50) for store in stores), strict=True):
        assert one[0] == other[0]
        assert one[1].tobytes() == other[1].tobytes()


def test_an_empty_store(tmp_path: Path, tables: Any) -> None:
    store = make_store(tmp_path, tables, [], np.zeros((0, DIMENSION), np.float32))
    ((names, scores),) = store.query(unit_vectors(1), 5)
    assert (names, scores.shape, scores.dtype) == ([], (0,), np.float32)
    assert list(store.ids()) == []
    assert store.fetch([]).shape == (0, DIMENSION)
    assert store.stats()["count"] == 0
    assert store.delete(["a"]) == 0
    store.upsert(GlobalDescriptors([], np.zeros((0, DIMENSION), np.float32)), [])
    assert Index(tmp_path).manifest.generation == 1


def test_scores_are_cosines(tmp_path: Path, tables: Any) -> None:
    # Rows of float32 are only about of unit length; a cosine is at most 1 all the same.
    vectors = unit_vectors(40, 512) * np.float32(1.0005)
    store = make_store(tmp_path, tables, [f"{row:02d}" for row in range(40)], vectors)
    for row, (names, scores) in enumerate(store.query(vectors, 3)):
        assert (names[0], scores[0]) == (f"{row:02d}", 1)
    # The length of a query does not matter.
    for one, other in zip(store.query(vectors, 40), store.query(vectors * np.float32(4), 40), strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])


def test_an_upsert_that_is_refused_commits_nothing(tmp_path: Path, tables: Any) -> None:
    store = make_store(tmp_path, tables, IDS, unit_vectors(len(IDS)))
    with pytest.raises(RelookError, match="'wrong'"):
        store.upsert(GlobalDescriptors(["fine", "wrong"], unit_vectors(2) * np.float32([[1], [2]])), [{}] * 2)
    assert Index(tmp_path).manifest.generation == 2


def test_a_missing_word_is_the_empty_one_to_a_filter(tmp_path: Path, tables: Any) -> None:
    store = make_store(tmp_path, tables, ["a", "b"], unit_vectors(2), [{"split": "val"}, {}])
    assert store.query(unit_vectors(1), 9, {"split": [""]})[0][0] == ["b"]
    assert store.query(unit_vectors(1), 9, {"unknown": ["x"]})[0][0] == []


def test_a_filter_reads_all_of_the_metadata_whatever_its_words(tmp_path: Path, tables: Any) -> None:
    words = ["", "a\nb", 'say "hi"', "\\", "naïve 🍎", "1", "null", "a,b"]
    ids = [f"{number:02d}" for number in range(3 * len(words))]
    metadata = [{"label": words[number % len(words)], "other": str(number)} for number in range(len(ids))]
    store = make_store(tmp_path, tables, ids, unit_vectors(len(ids)), metadata)
    for number, word in enumerate(words):
        found = store.query(unit_vectors(1), 99, {"label": [word]})[0][0]
        assert sorted(found) == ids[number :: len(words)]
    assert store.query(unit_vectors(1), 99, {"label": words[1:3], "other": ["1", "3", "10"]})[0][0] != []


def test_metadata_that_is_no_text_is_named(tmp_path: Path) -> None:
    make_store(tmp_path, "csv", ["a", "b"], unit_vectors(2), [{"label": "x"}, {"label": "y"}])
    index = Index(tmp_path)
    path = tmp_path / index.manifest.parts[0].files["globals"].path
    whole = path.read_text()
    for wrong in ('{""label"": 7}', "no JSON", "", "{}\n{}"):
        path.write_text(whole.replace('{""label"": ""x""}', wrong))
        with pytest.raises(RelookError, match="metadata"):
            TableStore(index).query(unit_vectors(1), 9, {"label": ["x"]})


def test_a_row_alone_without_any_metadata_is_named(tmp_path: Path) -> None:
    make_store(tmp_path, "csv", ["a"], unit_vectors(1), [{"label": "x"}])
    path = tmp_path / Index(tmp_path).manifest.parts[0].files["globals"].path
    path.write_text(path.read_text().replace('{""label"": ""x""}', ""))
    with pytest.raises(RelookError, match="metadata"):
        TableStore(Index(tmp_path)).query(unit_vectors(1), 9, {"label": ["x"]})


def test_stats(tmp_path: Path, tables: Any) -> None:
    store = make_store(tmp_path, tables, IDS, unit_vectors(len(IDS)))
    assert store.stats() == {
        "count": len(IDS),
        "dimension": DIMENSION,
        "fingerprint": make_card().fingerprint,
        "tables": tables,
    }


def test_an_upsert_adds_and_replaces_and_is_seen_at_once(tmp_path: Path, tables: Any) -> None:
    vectors = unit_vectors(3)
    store = make_store(tmp_path, tables, ["a", "b", "c"], vectors)
    old = TableStore.open(tmp_path)
    new = unit_vectors(2, seed=4)
    store.upsert(GlobalDescriptors(["b", LONG], new), [{}, {}])
    assert list(store.ids()) == ["a", "b", "c", LONG]
    assert store.fetch(["b", LONG, "a"]).tobytes() == np.stack([new[0], new[1], vectors[0]]).tobytes()
    ((names, scores),) = store.query(new[:1], 1)
    assert names == ["b"]
    assert scores[0] == pytest.approx(1)
    assert store.stats()["count"] == 4
    assert old.fetch(["b"]).tobytes() == vectors[1].tobytes()
    assert TableStore.open(tmp_path).fetch(["b"]).tobytes() == new[0].tobytes()


def test_a_store_that_another_run_writes_to_refuses_changes_and_answers(tmp_path: Path, tables: Any) -> None:
    store = make_store(tmp_path, tables, IDS, unit_vectors(len(IDS)))
    with IndexWriter(tmp_path):
        with pytest.raises(LockedError):
            store.upsert(GlobalDescriptors(["a"], unit_vectors(1)), [{}])
        with pytest.raises(LockedError):
            store.delete(["a"])
        assert len(store.query(unit_vectors(1), 3)[0][0]) == 3


def test_stores_are_opened_by_name(tmp_path: Path, tables: Any) -> None:
    index = make_index(tmp_path, tables)
    _, descriptions = make_items(["a", "b", "c"])
    assert open_store("table", index).fetch(["b"]).tobytes() == descriptions[1].vector.tobytes()
    if tables == "csv":
        assert list(open_store("csv", index).ids()) == ["a", "b", "c"]
    else:
        with pytest.raises(RelookError, match=r"its tables are Parquet"):
            open_store("csv", index)
    with pytest.raises(UsageError, match="did you mean 'table'"):
        open_store("tabel", index)
    assert [table_format(name) for name in ("table", "csv")] == ["parquet", "csv"]
    with pytest.raises(UsageError):
        table_format("nothing")
    assert {"table", "csv"} <= STORES.keys()
