"""What every vector store does, whatever it is made of: one suite, run against each place of `store_places.py`.

A store that is filled is read through an instance that was opened afterwards, so that nothing is answered from memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from flushing import without_flushing
from store_places import CARD, OTHER_CARD, PLACES, Place
from stores_helpers import DIMENSION, unit_vectors

from pipeline.errors import RelookError
from pipeline.stores import TableStore
from pipeline.types import FloatArray, GlobalDescriptors, VectorStore, is_hosted

__all__ = ["without_flushing"]


LONG = "long/" + "ü" * 595
IDS = ["b", "a", "Z", "10", "9", "ä", "🗼", "a\nb", LONG, "a/b c.jpg", "#x", "'; --", " padded "]


@pytest.fixture(params=list(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return PLACES[request.param](tmp_path)


def put(
    place: Place,
    ids: Sequence[str],
    vectors: FloatArray,
    metadata: Sequence[Mapping[str, str]] | None = None,
    times: int = 1,
) -> VectorStore:
    """Write in some batches; the store as it is then opened by another."""
    store = place.open(CARD)
    for rows in np.array_split(np.arange(len(ids)), times):
        some = [{} for _ in rows] if metadata is None else [metadata[row] for row in rows]
        store.upsert(GlobalDescriptors([ids[row] for row in rows], vectors[rows]), some)
    place.settle(store)
    return place.open(CARD)


def directions(count: int, seed: int = 0) -> FloatArray:
    """Unit vectors of values out of a few, so that many are equal, opposite, or equally far from a query."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (count, DIMENSION)).astype(np.float32)
    vectors[~vectors.any(axis=1), 0] = 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ranked(ids: Sequence[str], vectors: FloatArray, query: FloatArray, top_k: int) -> list[tuple[str, float]]:
    """The reference: sums in double precision, one by one; scores nearer than 1e-6 are equal and go by id."""
    unit = query.astype(np.float64) / np.linalg.norm(query)
    scores = [round(math.fsum(a * b for a, b in zip(unit, row.astype(np.float64), strict=True)), 6) for row in vectors]
    return [(name, -score) for score, name in sorted((-s, n) for s, n in zip(scores, ids, strict=True))][:top_k]


def assert_answers(store: VectorStore, ids: Sequence[str], vectors: FloatArray, top_k: int, seed: int = 5) -> None:
    queries = directions(7, seed)
    answers = store.query(queries, top_k)
    assert len(answers) == len(queries)
    for query, (names, scores) in zip(queries, answers, strict=True):
        expected = ranked(ids, vectors, query, top_k)
        assert names == [name for name, _ in expected]
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, [score for _, score in expected], atol=2e-6)


@pytest.mark.parametrize("top_k", [1, 3, 10, 60, 61])
def test_a_query_is_the_reference_and_ties_go_by_id_also_at_the_cut(place: Place, top_k: int) -> None:
    ids = [f"{row * 7919 % 10007:05d}" for row in range(60)]
    vectors = directions(60)
    store = put(place, ids, vectors, times=3)
    assert_answers(store, ids, vectors, top_k)


def test_many_equal_vectors_are_cut_by_id(place: Place) -> None:
    ids = [f"{row:03d}" for row in range(250)]
    store = put(place, ids[::-1], directions(1).repeat(250, axis=0))
    ((names, scores),) = store.query(directions(1), 40)
    assert names == ids[:40]
    np.testing.assert_allclose(scores, 1, atol=1e-6)


def test_a_batch_is_its_queries_one_by_one(place: Place) -> None:
    store = put(place, [f"{row}" for row in range(90)], unit_vectors(90))
    queries = unit_vectors(40, seed=3)
    for query, (names, scores) in zip(queries, store.query(queries, 9), strict=True):
        ((one, values),) = store.query(query[None], 9)
        assert names == one
        np.testing.assert_allclose(scores, values, atol=1e-6)


def test_top_k_beyond_the_store_gives_all_of_it(place: Place) -> None:
    vectors = unit_vectors(len(IDS))
    store = put(place, IDS, vectors)
    for top_k in (len(IDS), len(IDS) + 1, 5000):
        assert sorted(store.query(vectors[:1], top_k)[0][0]) == sorted(IDS)


def test_an_empty_store(place: Place) -> None:
    store = place.open(CARD)
    ((names, scores),) = store.query(unit_vectors(1), 5)
    assert (names, scores.shape, scores.dtype) == ([], (0,), np.float32)
    assert list(store.ids()) == []
    assert store.fetch([]).shape == (0, DIMENSION)
    assert list(store.read(["a"]).ids) == []
    assert store.read(["a"]).vectors.shape == (0, DIMENSION)
    assert store.stats()["count"] == 0
    assert store.delete(["a"]) == 0
    store.upsert(GlobalDescriptors([], np.zeros((0, DIMENSION), np.float32)), [])
    assert store.stats()["count"] == 0


def test_no_queries_have_no_answers(place: Place) -> None:
    assert put(place, IDS, unit_vectors(len(IDS))).query(np.zeros((0, DIMENSION), np.float32), 3) == []


def test_ids_of_any_length_and_script(place: Place) -> None:
    vectors = unit_vectors(len(IDS))
    store = put(place, IDS, vectors, [{"label": name} for name in IDS], times=4)
    assert list(store.ids()) == sorted(IDS)
    order = [*IDS[::-1], IDS[3], IDS[3]]
    np.testing.assert_allclose(store.fetch(order), np.concatenate([vectors[::-1], vectors[[3, 3]]]), atol=1e-7)
    for row, name in enumerate(IDS):
        assert store.query(vectors[row : row + 1], 1)[0][0] == [name]
    with pytest.raises(RelookError, match="'nobody'"):
        store.fetch(["a", "nobody"])


def test_what_is_read_back_is_what_was_written(place: Place) -> None:
    vectors = unit_vectors(len(IDS))
    metadata = [{"label": f"l {name}", "path": name, "split": "" if row % 2 else "val"} for row, name in enumerate(IDS)]
    found = put(place, IDS, vectors, metadata).read([*IDS[::-1], "nobody"])
    assert list(found.ids) == IDS[::-1]
    np.testing.assert_allclose(found.vectors, vectors[::-1], atol=1e-7)
    assert list(found.metadata) == metadata[::-1]


def test_filters_keep_what_has_one_of_the_values(place: Place) -> None:
    rng = np.random.default_rng(2)
    ids, vectors = [f"{row:03d}" for row in range(120)], directions(120)
    splits, labels = rng.choice(["train", "gallery", "test"], 120), rng.choice(["ä", "b, c", ""], 120)
    metadata = [{"split": str(s), "label": str(x)} for s, x in zip(splits, labels, strict=True)]
    store = put(place, ids, vectors, metadata, times=2)
    filters: list[dict[str, list[str]]] = [
        {},
        {"split": ["gallery"]},
        {"split": ["gallery", "test"]},
        {"split": ["gallery"], "label": ["ä", "b, c"]},
        {"label": [""]},
        {"split": ["nowhere"]},
        {"split": []},
    ]
    for where in filters:
        kept = [row for row, m in enumerate(metadata) if all(m[k] in v for k, v in where.items())]
        for query, (names, _) in zip(directions(4, 9), store.query(directions(4, 9), 10, where), strict=True):
            assert names == [name for name, _ in ranked([ids[row] for row in kept], vectors[kept], query, 10)]


def test_an_upsert_adds_and_replaces_vector_and_metadata(place: Place) -> None:
    vectors, new = unit_vectors(3), unit_vectors(2, seed=4)
    put(place, ["a", "b", "c"], vectors, [{"label": "old"}] * 3)
    store = put(place, ["b", LONG], new, [{"label": "new"}] * 2)
    assert list(store.ids()) == ["a", "b", "c", LONG]
    np.testing.assert_allclose(store.fetch(["b", LONG, "a"]), np.stack([new[0], new[1], vectors[0]]), atol=1e-7)
    assert [entry["label"] for entry in store.read(["a", "b"]).metadata] == ["old", "new"]
    assert store.query(new[:1], 1)[0][0] == ["b"]
    assert store.query(new[:1], 9, {"label": ["new"]})[0][0] == ["b", LONG]
    assert store.stats()["count"] == 4


def test_the_same_upsert_twice_changes_nothing(place: Place) -> None:
    vectors = unit_vectors(len(IDS))
    put(place, IDS, vectors)
    store = put(place, IDS, vectors)
    assert store.stats()["count"] == len(IDS)
    assert list(store.ids()) == sorted(IDS)


def test_delete_counts_what_was_there(place: Place) -> None:
    store = put(place, IDS, unit_vectors(len(IDS)), times=2)
    assert store.delete(["a", "nobody", LONG, "a"]) == 2
    place.settle(store)
    store = place.open(CARD)
    assert store.delete(["a"]) == 0
    assert store.stats()["count"] == len(IDS) - 2
    assert not {"a", LONG} & set(store.query(unit_vectors(1), 99)[0][0])
    assert set(store.ids()) == set(IDS) - {"a", LONG}
    with pytest.raises(RelookError, match="'a'"):
        store.fetch(["a"])
    store = put(place, ["a"], unit_vectors(1))
    assert store.query(unit_vectors(1), 1)[0][0] == ["a"]


def test_stats_and_namespaces(place: Place) -> None:
    stats = put(place, IDS, unit_vectors(len(IDS))).stats()
    assert (stats["count"], stats["dimension"], stats["fingerprint"]) == (len(IDS), DIMENSION, CARD.fingerprint)
    assert place.open(CARD).namespaces()[CARD.fingerprint] == len(IDS)


def test_two_models_side_by_side_never_mix(place: Place) -> None:
    one, two = unit_vectors(3), unit_vectors(4, seed=9)
    put(place, ["a", "b", "c"], one)
    other = place.open(OTHER_CARD)
    other.upsert(GlobalDescriptors(["a", "x", "y", "z"], two), [{}] * 4)
    place.settle(other)
    store, other = place.open(CARD), place.open(OTHER_CARD)
    assert list(store.ids()) == ["a", "b", "c"]
    assert list(other.ids()) == ["a", "x", "y", "z"]
    np.testing.assert_allclose(store.fetch(["a"])[0], one[0], atol=1e-7)
    np.testing.assert_allclose(other.fetch(["a"])[0], two[0], atol=1e-7)
    assert set(store.query(two[:1], 99)[0][0]) == {"a", "b", "c"}
    assert other.delete(["a"]) == 1
    place.settle(other)
    assert list(place.open(CARD).ids()) == ["a", "b", "c"]
    assert place.open(OTHER_CARD).namespaces()[OTHER_CARD.fingerprint] == 3


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ([np.nan] + [0] * 7, "'wrong'"),
        ([np.inf] + [0] * 7, "'wrong'"),
        ([0] * 8, "'wrong' has length 0"),
        ([1.01] + [0] * 7, "'wrong' has length 1.01"),
    ],
)
def test_vectors_that_are_no_unit_vectors_are_refused(place: Place, vector: list[float], said: str) -> None:
    store = put(place, IDS, unit_vectors(len(IDS)))
    vectors = unit_vectors(3)
    vectors[1] = vector
    with pytest.raises(RelookError, match=said):
        store.upsert(GlobalDescriptors(["fine", "wrong", "too"], vectors), [{}] * 3)
    place.settle(store)
    assert list(place.open(CARD).ids()) == sorted(IDS)


@pytest.mark.parametrize(
    ("ids", "vectors", "entries", "said"),
    [
        (["wrong"], unit_vectors(1, 7), 1, r"'wrong'.* 7 values"),
        (["a", "b"], unit_vectors(1), 2, "for 2 ids"),
        (["a", "b"], unit_vectors(2), 1, "2 ids and metadata of 1"),
        (["same", "same"], unit_vectors(2), 2, "duplicate id 'same'"),
    ],
)
def test_an_upsert_that_does_not_fit_is_refused(
    place: Place, ids: list[str], vectors: FloatArray, entries: int, said: str
) -> None:
    store = put(place, IDS, unit_vectors(len(IDS)))
    with pytest.raises(RelookError, match=said):
        store.upsert(GlobalDescriptors(ids, vectors), [{}] * entries)
    assert store.stats()["count"] == len(IDS)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (np.ones((1, 7), np.float32), "vectors of 8 values"),
        (np.ones(8, np.float32), "vectors of 8 values"),
        (np.array([[1] * 7 + [np.nan]], np.float32), "NaN"),
        (np.zeros((1, 8), np.float32), "length 0"),
    ],
)
def test_a_query_that_is_no_direction_is_refused(place: Place, query: FloatArray, said: str) -> None:
    with pytest.raises(RelookError, match=said):
        put(place, IDS, unit_vectors(len(IDS))).query(query, 3)


@pytest.mark.parametrize("top_k", [0, -1])
def test_no_answers_cannot_be_asked_for(place: Place, top_k: int) -> None:
    with pytest.raises(RelookError, match=f"top_k = {top_k}"):
        put(place, IDS, unit_vectors(len(IDS))).query(unit_vectors(1), top_k)


def test_a_store_says_what_it_is(place: Place) -> None:
    """Hosted stores have the operations of a service, and an index-backed one is never synced."""
    store = place.open(CARD)
    assert store.hosted == all(hasattr(store, name) for name in ("place", "prepare", "settle", "promote", "prune"))
    assert not (store.hosted and store.index_backed)


class TestFaults:
    """What can go wrong with every store."""

    def test_traits_say_what_a_store_is(self, place: Place) -> None:
        store = place.open(CARD)
        assert store.hosted == is_hosted(store)
        assert not (store.hosted and store.index_backed)
        assert store.index_backed == isinstance(store, TableStore)

    def test_a_store_that_is_partly_written_counts_what_it_has(self, place: Place) -> None:
        vectors = unit_vectors(40)
        ids = [f"{row:02d}" for row in range(40)]
        store = put(place, ids[:5], vectors[:5])
        assert store.stats()["count"] == 5
        assert list(store.read(ids).ids) == ids[:5]
        assert sorted(store.query(vectors[:1], 40)[0][0]) == ids[:5]
        with pytest.raises(RelookError, match="'05'"):
            store.fetch(ids)

    def test_a_namespace_that_is_missing_is_empty_and_not_an_error(self, place: Place) -> None:
        put(place, IDS, unit_vectors(len(IDS)))
        other = place.open(OTHER_CARD)
        assert other.stats()["count"] == 0
        assert list(other.ids()) == []
        assert not other.namespaces().get(OTHER_CARD.fingerprint)
        assert list(other.read(["a"]).ids) == []
        with pytest.raises(RelookError, match="'a'"):
            other.fetch(["a"])

    def test_nothing_is_damaged_and_a_rebuild_changes_no_result(self, place: Place) -> None:
        ids, vectors = [f"{row:03d}" for row in range(120)], directions(120)
        store = put(place, ids, vectors, times=3)
        assert store.damaged_files() == []
        before = store.query(directions(4, 9), 10)
        store.rebuild()
        assert store.damaged_files() == []
        for (names, scores), (found, values) in zip(place.open(CARD).query(directions(4, 9), 10), before, strict=True):
            assert names == found
            np.testing.assert_allclose(scores, values, atol=1e-6)

    @pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
    def test_a_filter_that_follows_the_clusters_finds_all_of_its_nearest(self, place: Place, share: float) -> None:
        count, rng = 200, np.random.default_rng(3)
        centres = np.eye(DIMENSION, dtype=np.float32)
        which = np.sort(rng.integers(0, DIMENSION, count))
        vectors = centres[which] + 0.2 * rng.normal(size=(count, DIMENSION))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        kept = max(1, int(share * count))
        metadata = [{"label": "kept" if row < kept else "other"} for row in range(count)]
        ids = [f"{row:03d}" for row in range(count)]
        store = put(place, ids, vectors, metadata)
        for query in (centres[0], centres[-1]):  # beside the kept rows, and far from all of them
            ((names, _),) = store.query(query[None], 10, {"label": ["kept"]})
            assert names == [name for name, _ in ranked(ids[:kept], vectors[:kept], query, 10)]
