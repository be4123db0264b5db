"""The first query of the table, which is searched in the files, is that of the vectors in memory, and loads none."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from flushing import without_flushing
from hypothesis import given, settings
from hypothesis import strategies as st
from stores_helpers import ROOT, make_card, unit_vectors

from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter, TableStore
from pipeline.stores.index import part_ids, vector_rows
from pipeline.stores.table import store as table
from pipeline.types import FloatArray

__all__ = ["without_flushing"]


IDS = [f"{row:03d}" for row in range(200)]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shapes of what was loaded, in order."""
    shapes: list[tuple[int, int]] = []

    def load(rows: Any, precision: Any) -> Any:
        shapes.append(rows.shape)
        return whole(rows, precision)

    whole = table.load_vectors
    monkeypatch.setattr(table, "load_vectors", load)
    return shapes


def write(
    directory: Path,
    ids: Sequence[str],
    vectors: FloatArray,
    parts: int = 4,
    tables: Any = "parquet",
    deleted: Sequence[str] = (),
) -> Path:
    """An index of some parts; every row is labelled by the last digit of its number."""
    with IndexWriter(directory) as writer:
        writer.begin(make_card(vectors.shape[1]), {}, ROOT, tables)
        for rows in np.array_split(np.arange(len(ids)), parts):
            labels: list[Mapping[str, str]] = [{"label": str(row % 10)} for row in rows]
            writer.add_vectors([ids[row] for row in rows], vectors[rows], labels)
        if deleted:
            writer.delete(deleted)
    return directory


def globals_file(directory: Path, part: int) -> Path:
    return directory / Index(directory).manifest.parts[part].files["globals"].path


def plain(found: list[tuple[list[str], FloatArray]]) -> list[tuple[list[str], bytes]]:
    return [(names, scores.tobytes()) for names, scores in found]


# Directions out of few values: many vectors are equal, or equally far from a query.
direction = st.lists(st.integers(-2, 2), min_size=3, max_size=3).filter(any)


@settings(max_examples=40, deadline=None)
@given(
    pool=st.lists(direction, min_size=1, max_size=4),
    picks=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    names=st.lists(st.text(max_size=4), min_size=40, max_size=40, unique=True),
    queries=st.lists(direction, min_size=1, max_size=3),
    top_k=st.integers(1, 45),
    parts=st.integers(1, 5),
    labels=st.none() | st.lists(st.sampled_from("0123456789x"), max_size=4),
    gone=st.sets(st.integers(0, 39), max_size=20),
    block=st.sampled_from([1, 40, 100, 1 << 20]),
    tables=st.sampled_from(["parquet", "csv"]),
)
def test_a_streamed_query_is_that_of_loaded_vectors(
    pool: Any,
    picks: Any,
    names: Any,
    queries: Any,
    top_k: int,
    parts: int,
    labels: Any,
    gone: Any,
    block: int,
    tables: str,
) -> None:
    base = np.array(pool, np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    vectors = base[[pick % len(base) for pick in picks]]
    ids = names[: len(picks)]
    deleted = [ids[row] for row in gone if row < len(ids)]
    where = None if labels is None else {"label": labels}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.stores.exact.streamed._BLOCK_BYTES", block)
        store = TableStore.open(write(Path(folder), ids, vectors, parts, tables, deleted))
        first, again = (store.query(np.array(queries, np.float32), top_k, where) for _ in range(2))
        assert "_vectors" in store.__dict__
        assert plain(first) == plain(again)
        here = [name for name in ids if name not in deleted]
        assert TableStore.open(Path(folder)).fetch(here).tobytes() == store.fetch(here).tobytes()


def test_the_first_query_and_what_follows_it_load_no_vectors(tmp_path: Path, loads: list[Any]) -> None:
    vectors = unit_vectors(200)
    store = TableStore.open(write(tmp_path, IDS, vectors, deleted=IDS[90:110]))
    ((names, _),) = store.query(vectors[:1], 20, {"label": ["0", "7"]})
    assert {int(name) % 10 for name in names} == {0, 7}
    assert store.fetch(names).tobytes() == vectors[[int(name) for name in names]].tobytes()
    found = store.read(["005", "nobody", "191"])
    assert (found.ids, found.metadata) == (["005", "191"], [{"label": "5"}, {"label": "1"}])
    assert found.vectors.tobytes() == vectors[[5, 191]].tobytes()
    assert len(list(store.ids())) == 180
    with pytest.raises(RelookError, match="holds no id '095'"):
        store.fetch(["001", "095"])
    assert loads == []
    store.query(vectors[:1], 20)
    assert loads == [(180, 8)]
    store.query(vectors[:9], 20)
    assert store.fetch(names).tobytes() == vectors[[int(name) for name in names]].tobytes()
    assert loads == [(180, 8)]


def test_a_first_query_looks_into_each_file_once_and_reads_the_ids_of_its_hits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many blocks and threads read a part; the other ids are read by the second query."""
    vectors = unit_vectors(200)
    vectors[[3, 4, 111, 118]] = vectors[3]
    path = write(tmp_path, IDS, vectors, parts=20, deleted=["110", "112"])
    opened: list[tuple[str, str]] = []

    def counted(module: Any, name: str) -> None:
        whole = getattr(module, name)

        def call(path: Path, *rest: Any) -> Any:
            opened.append((name, path.stem))
            return whole(path, *rest)

        monkeypatch.setattr(module, name, call)

    counted(vector_rows, "plain_vectors")
    counted(part_ids, "read_id_column")
    monkeypatch.setattr("pipeline.stores.exact.streamed._BLOCK_BYTES", 100)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    parts = [part.name for part in Index(path).manifest.parts]
    store = TableStore.open(path)
    assert store.query(vectors[3:4], 3)[0][0] == ["003", "004", "111"]
    places = [("plain_vectors", name) for name in parts]
    assert sorted(opened) == sorted([*places, ("read_id_column", parts[0]), ("read_id_column", parts[11])])
    assert store.fetch(["118", "003"]).tobytes() == vectors[[118, 3]].tobytes()
    assert len(opened) == 22
    store.query(vectors[3:4], 3)
    assert sorted(opened[22:]) == sorted(("read_id_column", name) for name in parts)
    store.query(vectors[50:51], 3)
    assert len(opened) == 42


def test_a_store_that_is_loaded_has_all_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TableStore.open(write(tmp_path, IDS, unit_vectors(200)))
    store.load()
    monkeypatch.setattr(part_ids, "read_id_column", None)
    assert store.query(unit_vectors(200)[7:8], 1)[0][0] == ["007"]


def test_a_store_can_be_loaded_before_the_first_query(tmp_path: Path, loads: list[Any]) -> None:
    vectors = unit_vectors(len(IDS), 8)
    store = TableStore.open(write(tmp_path, IDS, vectors))
    store.load()
    assert loads == [(len(IDS), 8)]
    assert store.query(vectors[:1], 1)[0][0] == [IDS[0]]
    store.query(vectors[:1], 1)
    assert loads == [(len(IDS), 8)]


@pytest.mark.parametrize(
    ("options", "queries", "top_k"),
    [({}, 65, 3), ({}, 64, 513), ({"precision": "float16"}, 1, 3)],
    ids=["more than one pass", "many results", "halves"],
)
def test_what_does_not_pay_or_cannot_be_streamed_is_loaded(
    tmp_path: Path, loads: list[Any], options: Any, queries: int, top_k: int
) -> None:
    store = TableStore.open(write(tmp_path, IDS, unit_vectors(200)), **options)
    assert len(store.query(unit_vectors(queries, seed=1), top_k)) == queries
    assert loads == [(200, 8)]


def test_halves_are_the_same_before_and_after_they_are_loaded(tmp_path: Path) -> None:
    vectors = unit_vectors(200)
    store = TableStore.open(write(tmp_path, IDS, vectors), precision="float16")
    before = store.fetch(IDS)
    store.query(vectors[:1], 1)
    assert before.tobytes() == store.fetch(IDS).tobytes() == vectors.astype(np.float16).astype(np.float32).tobytes()


def test_csv_and_files_of_other_writers_are_loaded(tmp_path: Path, loads: list[Any]) -> None:
    vectors, queries = unit_vectors(200), unit_vectors(2, seed=1)
    wanted = plain(TableStore.open(write(tmp_path / "one", IDS, vectors)).query(queries, 30))
    assert loads == []
    path = globals_file(tmp_path / "one", 2)
    pq.write_table(pq.read_table(path), path, compression="zstd")
    other = TableStore.open(tmp_path / "one")
    assert other.fetch(IDS[::7]).tobytes() == vectors[::7].tobytes()
    assert loads == []
    assert plain(other.query(queries, 30)) == wanted
    assert plain(TableStore.open(write(tmp_path / "csv", IDS, vectors, tables="csv")).query(queries, 30)) == wanted
    assert loads == [(200, 8)] * 2


def test_damaged_files_are_named_whether_streamed_or_loaded(tmp_path: Path) -> None:
    vectors = unit_vectors(200, 64)
    path = globals_file(write(tmp_path, IDS, vectors), 3)
    whole = path.read_bytes()
    other = globals_file(write(tmp_path / "other", IDS[:5], vectors[:5], parts=1), 0).read_bytes()
    for content, message in (
        (None, "cannot be read"),
        (whole[: len(whole) // 2], "cannot be read"),
        (b"", "cannot be read"),
        (other, "has 5 vectors instead of 50; run: relook verify"),
    ):
        path.unlink() if content is None else path.write_bytes(content)
        store = TableStore.open(tmp_path)
        for _ in range(2):
            with pytest.raises(RelookError, match=message) as raised:
                store.query(vectors[:1], 3)
            assert str(raised.value).startswith(f"{path}: ")
            assert "\n" not in str(raised.value)


def test_a_file_that_is_cut_short_while_it_is_searched_is_named(tmp_path: Path) -> None:
    vectors = unit_vectors(200, 64)
    store = TableStore.open(write(tmp_path, IDS, vectors))
    store.fetch(IDS)  # now it is known where the vectors lie
    path = globals_file(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:9000])
    for search in (lambda: store.query(vectors[:1], 3), lambda: store.query(vectors[:1], 3), lambda: store.fetch(IDS)):
        with pytest.raises(RelookError, match=r"cannot be read \(it is cut short\)") as raised:
            search()
        assert str(path) in str(raised.value)


def test_threads_that_query_a_fresh_store_at_once_load_it_once(tmp_path: Path, loads: list[Any]) -> None:
    vectors, threads = unit_vectors(200), 8
    store = TableStore.open(write(tmp_path, IDS, vectors))
    barrier = threading.Barrier(threads)

    def search(_: int) -> list[tuple[list[str], bytes]]:
        barrier.wait()
        return plain(store.query(vectors[:2], 50))

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(search, range(threads)))
    assert found == [found[0]] * threads
    assert loads == [(200, 8)]
