"""The embedded approximate store beyond the contract: recall, lists that follow the records, kills, damaged files."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flushing import without_flushing
from stores_helpers import ROOT, make_card, start, unit_vectors

from pipeline.errors import LockedError, RelookError
from pipeline.stores import IndexWriter, open_store
from pipeline.stores.ann.store import AnnStore
from pipeline.types import FloatArray, GlobalDescriptors

__all__ = ["without_flushing"]


DIMENSION = 16
CARD = make_card(DIMENSION)
BATCH = 50


@pytest.fixture(autouse=True)
def lists_for_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores as small as these would compare a batch with all vectors."""
    monkeypatch.setattr("pipeline.stores.ann.search._BATCH", 10**9)


def open_in(folder: Path, flat_below: int = 100, recall: float = 0.99, card: Any = CARD) -> AnnStore:
    """The store of a model beside an index of it."""
    with IndexWriter(folder / "index") as writer:
        writer.begin(card, {}, ROOT, "parquet")
        assert writer.index is not None
        store = open_store("ann", writer.index, directory=folder / "ann", flat_below=flat_below, recall=recall)
    assert isinstance(store, AnnStore)
    return store


def clustered(count: int, dimension: int = DIMENSION, seed: int = 0) -> FloatArray:
    """Unit vectors around centres of which some have many and most have few; neighbours stand side by side."""
    rng = np.random.default_rng(seed)
    sizes = rng.zipf(1.5, count).clip(1, count // 10).cumsum()
    which = np.searchsorted(sizes, np.arange(count), side="right")
    centres = unit_vectors(int(which.max()) + 1, dimension, seed)
    vectors = centres[which] + rng.normal(size=(count, dimension)).astype(np.float32) * np.float32(0.4 / dimension**0.5)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def queries_near(vectors: FloatArray, count: int, seed: int = 1) -> FloatArray:
    """Perturbed members."""
    rng = np.random.default_rng(seed)
    members = vectors[rng.integers(0, len(vectors), count)]
    return members + rng.normal(size=members.shape).astype(np.float32) * np.float32(0.2 / members.shape[1] ** 0.5)


def fill(store: AnnStore, vectors: FloatArray, batch: int = BATCH, first: int = 0) -> None:
    for start_row in range(first, len(vectors), batch):
        rows = range(start_row, min(start_row + batch, len(vectors)))
        ids = [f"{row:05d}" for row in rows]
        metadata = [{"label": f"{row % 7}", "split": "val" if row % 10 == 0 else "train"} for row in rows]
        store.upsert(GlobalDescriptors(ids, vectors[rows]), metadata)


def nearest(vectors: FloatArray, query: FloatArray, top_k: int, rows: Any = None) -> set[str]:
    rows = np.arange(len(vectors)) if rows is None else np.asarray(rows)
    return {f"{row:05d}" for row in rows[np.argsort(-(vectors[rows] @ query), kind="stable")[:top_k]]}


def folder_of(store_folder: Path) -> Path:
    return store_folder / "ann" / CARD.fingerprint


def list_files(folder: Path) -> set[str]:
    return {path.name for path in folder_of(folder).glob("*.faiss*")}


@pytest.mark.parametrize("order", ["as they come", "shuffled"])
def test_the_recall_that_was_asked_for_is_reached_with_exact_scores(tmp_path: Path, order: str) -> None:
    vectors = clustered(6000, 32)
    if order == "shuffled":
        vectors = vectors[np.random.default_rng(0).permutation(len(vectors))]
    fill(open_in(tmp_path, 500, card=make_card(32)), vectors, 250)
    store = open_in(tmp_path, 500, card=make_card(32))
    stats = store.stats()
    assert stats["count"] == 6000
    assert 0 < stats["probes"] < stats["lists"]
    assert stats["recall"] >= 0.985
    found = []
    for query, (ids, scores) in zip(
        queries_near(vectors, 60), store.query(queries_near(vectors, 60), 100), strict=True
    ):
        found.append(len(nearest(vectors, query, 100) & set(ids)))
        exact = vectors[[int(name) for name in ids]].astype(np.float64) @ (query / np.linalg.norm(query.astype(float)))
        np.testing.assert_allclose(scores, exact, atol=1e-7)
        assert ids == [name for _, name in sorted(zip(-scores, ids, strict=True))]
    assert np.mean(found) >= 98


@pytest.mark.parametrize(("where", "kept"), [({"split": ["val"]}, (0, 10)), ({"label": ["3"]}, (3, 7))])
def test_a_filter_keeps_the_recall(tmp_path: Path, where: Any, kept: tuple[int, int]) -> None:
    vectors = clustered(6000, 32)
    store = open_in(tmp_path, 500, card=make_card(32))
    fill(store, vectors, 1000)
    rows = np.arange(kept[0], 6000, kept[1])
    asked = queries_near(vectors, 60)
    answers = store.query(asked, 100, where)
    shared = [
        len(nearest(vectors, query, 100, rows) & set(ids)) for query, (ids, _) in zip(asked, answers, strict=True)
    ]
    assert all(int(name) % kept[1] == kept[0] for ids, _ in answers for name in ids)
    assert np.mean(shared) >= 98


def test_what_a_filter_leaves_is_found_in_lists_that_a_query_would_not_visit(tmp_path: Path) -> None:
    vectors = clustered(2000)
    store = open_in(tmp_path)
    far = np.argsort(vectors @ vectors[0])[:40]
    metadata = [{"kind": "far" if row in far else "near"} for row in range(2000)]
    store.upsert(GlobalDescriptors([f"{row:05d}" for row in range(2000)], vectors), metadata)
    assert store.stats()["probes"] < store.stats()["lists"]
    for top_k in (40, 100):
        ((ids, _),) = store.query(vectors[:1], top_k, {"kind": ["far"]})
        assert set(ids) == {f"{row:05d}" for row in far}


def test_more_answers_than_lists_were_measured_for(tmp_path: Path) -> None:
    vectors = clustered(2000)
    store = open_in(tmp_path)
    fill(store, vectors)
    asked = queries_near(vectors, 10)
    answers = zip(asked, store.query(asked, 700), strict=True)
    assert np.mean([len(nearest(vectors, query, 700) & set(ids)) for query, (ids, _) in answers]) >= 0.98 * 700
    assert sorted(store.query(asked[:1], 5000)[0][0]) == [f"{row:05d}" for row in range(2000)]


def test_equal_photos_beyond_the_answers_are_cut_by_id(tmp_path: Path) -> None:
    vectors = clustered(1000)
    vectors[200:700] = vectors[200]
    store = open_in(tmp_path)
    fill(store, vectors)
    assert store.query(vectors[200:201], 20)[0][0] == [f"{row:05d}" for row in range(200, 220)]


def test_lists_follow_whatever_is_written(tmp_path: Path) -> None:
    """Random writes, with a dictionary beside them: all of it is found, nothing else, in the order of the scores."""
    rng = np.random.default_rng(3)
    known: dict[str, FloatArray] = {}
    store = open_in(tmp_path, 60)
    for step in range(70):
        ids = [f"{number:04d}" for number in rng.choice(900, 40, replace=False)]
        if step % 4 == 3 or step > 60:
            assert store.delete(ids) == len(known.keys() & set(ids))
            known = {name: vector for name, vector in known.items() if name not in ids}
        else:
            vectors = unit_vectors(40, DIMENSION, step)
            store.upsert(GlobalDescriptors(ids, vectors), [{"step": str(step)}] * 40)
            known |= dict(zip(ids, vectors, strict=True))
        if step % 5 == 0:
            store = open_in(tmp_path, 60)
        assert store.stats()["count"] == len(known)
        assert store.namespaces() == {CARD.fingerprint: len(known)}
        query = unit_vectors(1, DIMENSION, 1000 + step)
        ((found, scores),) = store.query(query, 10**6)
        assert sorted(found) == sorted(known)
        np.testing.assert_allclose(scores, [known[name] @ query[0] for name in found], atol=1e-6)
    assert store.stats()["lists"] > 0
    assert list(store.ids()) == sorted(known)
    names = sorted(known)
    assert store.fetch(names).tobytes() == np.stack([known[name] for name in names]).tobytes()
    assert len(list_files(tmp_path)) < 10


def test_a_filter_forgets_what_was_replaced(tmp_path: Path) -> None:
    store = open_in(tmp_path)
    fill(store, clustered(400))
    store.upsert(GlobalDescriptors(["00003", "new"], unit_vectors(2, DIMENSION, 8)), [{"label": "x"}, {}])
    assert sorted(store.query(unit_vectors(1, DIMENSION), 999, {"label": ["x"]})[0][0]) == ["00003"]
    assert "00003" not in store.query(unit_vectors(1, DIMENSION), 999, {"label": ["3"]})[0][0]
    assert sorted(store.query(unit_vectors(1, DIMENSION), 999, {"split": [""]})[0][0]) == ["00003", "new"]


def upload(connection: Any, folder: Path, vectors: FloatArray) -> None:
    """Send what is missing, telling after each batch how much there is."""
    store = open_in(folder)
    there = set(store.ids())
    for first in range(0, len(vectors), BATCH):
        if f"{first:05d}" not in there:
            fill(store, vectors[: first + BATCH], first=first)
        connection.send(first + BATCH)


def assert_consistent(folder: Path, vectors: FloatArray, least: int) -> int:
    """Whole batches from the first on, at least so many vectors, and every one is found; returns how many."""
    store = open_in(folder)
    ids = list(store.ids())
    assert ids == [f"{row:05d}" for row in range(len(ids))]
    assert len(ids) % BATCH == 0
    assert len(ids) >= least
    assert store.stats()["count"] == len(ids)
    assert store.fetch(ids).tobytes() == vectors[: len(ids)].tobytes()
    for row in range(0, len(ids), 37):
        assert store.query(vectors[row : row + 1], 1)[0][0] == [ids[row]]
    assert len(store.query(vectors[:1], 10**6)[0][0]) == len(ids)
    return len(ids)


def test_kills_at_random_instants_lose_no_batch_that_was_acknowledged(tmp_path: Path) -> None:
    vectors = clustered(1500)
    rng = np.random.default_rng(5)
    sent = 0
    for _ in range(8):
        process, connection = start(upload, tmp_path, vectors)
        until = sent + int(rng.integers(1, 6)) * BATCH
        while sent < min(until, len(vectors)):
            sent = max(sent, connection.recv())
        connection.poll(float(rng.uniform(0, 0.03)))
        assert process.pid is not None
        with suppress(ProcessLookupError):  # it may be done by now
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        sent = assert_consistent(tmp_path, vectors, sent)
    process, connection = start(upload, tmp_path, vectors)
    process.join()
    assert process.exitcode == 0
    assert assert_consistent(tmp_path, vectors, len(vectors)) == len(vectors)
    fill(open_in(tmp_path), vectors, first=len(vectors) - 1)
    assert not any(name.endswith(".tmp") for name in list_files(tmp_path))


def upload_and_die(connection: Any, folder: Path, vectors: FloatArray, where: str, at: int) -> None:
    """Be killed when `where` is reached for the `at`-th time."""
    module, name = where.rsplit(".", 1)
    holder: Any = sys.modules[module]
    original, calls = getattr(holder, name), []

    def dying(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(holder, name, dying)
    upload(connection, folder, vectors)


@pytest.mark.parametrize(
    ("where", "at"),
    [
        ("pipeline.stores.ann.maintenance.train", 1),
        ("pipeline.stores.ann.maintenance.write", 1),
        ("pipeline.stores.ann.maintenance.write", 2),
        ("pipeline.stores.ann.lists.sha256_of", 2),
        ("pipeline.stores.ann.maintenance.measured", 1),
        ("pipeline.stores.ann.maintenance.merge", 2),
        ("pipeline.stores.ann.maintenance.Segment", 3),
    ],
)
def test_a_kill_while_lists_are_made(tmp_path: Path, where: str, at: int) -> None:
    vectors = clustered(900)
    process, _ = start(upload_and_die, tmp_path, vectors, where, at)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    least = assert_consistent(tmp_path, vectors, 100)
    assert least < len(vectors)
    process, _ = start(upload, tmp_path, vectors)
    process.join()
    assert process.exitcode == 0
    assert_consistent(tmp_path, vectors, len(vectors))
    kept = {file.name for file in open_in(tmp_path)._records.state().files}
    assert list_files(tmp_path) == kept


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all" * 4096)


@pytest.mark.parametrize(
    ("pattern", "harm", "said", "remedy"),
    [
        ("lists-*", truncate, "bytes instead of", "relook verify --store ann --repair"),
        ("lists-*", Path.unlink, "missing", "relook verify --store ann --repair"),
        ("records.sqlite", garbage, "not a database", "relook upload --store ann"),
        ("records.sqlite", truncate, "malformed", "relook upload --store ann"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(
    tmp_path: Path, pattern: str, harm: Callable[[Path], None], said: str, remedy: str
) -> None:
    vectors = clustered(400)
    fill(open_in(tmp_path), vectors)
    with sqlite3.connect(folder_of(tmp_path) / "records.sqlite") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    (path, *_) = sorted(folder_of(tmp_path).glob(pattern))
    harm(path)
    with pytest.raises(RelookError, match=f"{path.name}: damaged .*{said}.*{remedy}"):
        open_in(tmp_path).query(vectors[:1], 3)
    shutil.rmtree(folder_of(tmp_path))
    fill(open_in(tmp_path), vectors)
    assert open_in(tmp_path).query(vectors[:1], 1)[0][0] == ["00000"]


def test_lists_that_changed_on_disk_are_not_written_on(tmp_path: Path) -> None:
    fill(open_in(tmp_path), clustered(600))
    for path in folder_of(tmp_path).glob("*.faiss"):
        content = bytearray(path.read_bytes())
        content[-9] ^= 1
        path.write_bytes(content)
    with pytest.raises(RelookError, match=r"\.faiss: damaged \(its checksum differs\)"):
        fill(open_in(tmp_path), clustered(800), first=600)


def test_another_model_or_format_is_refused(tmp_path: Path) -> None:
    fill(open_in(tmp_path), clustered(50))
    other = make_card(DIMENSION, weights="sha256:other")
    shutil.copytree(folder_of(tmp_path), tmp_path / "ann" / other.fingerprint)
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(RelookError, match=f"{CARD.fingerprint}, not 16 of {other.fingerprint}"):
        open_in(tmp_path, card=other)
    shutil.rmtree(tmp_path / "index")
    with sqlite3.connect(folder_of(tmp_path) / "records.sqlite") as db:
        db.execute("UPDATE state SET value = '7' WHERE key = 'format'")
    db.close()
    with pytest.raises(RelookError, match="format 7; this relook reads format 1"):
        open_in(tmp_path)


def hold(connection: Any, folder: Path) -> None:
    with open_in(folder)._lock():
        connection.send("held")
        signal.pause()


def test_one_process_writes_and_others_read(tmp_path: Path) -> None:
    vectors = clustered(400)
    fill(open_in(tmp_path), vectors)
    reader = open_in(tmp_path)
    process, connection = start(hold, tmp_path)
    assert connection.recv() == "held"
    with pytest.raises(LockedError, match="another run holds the lock"):
        open_in(tmp_path).upsert(GlobalDescriptors(["a"], vectors[:1]), [{}])
    assert reader.query(vectors[:1], 1)[0][0] == ["00000"]
    process.kill()
    process.join()
    open_in(tmp_path).upsert(GlobalDescriptors(["a"], vectors[7:8]), [{}])
    assert "a" in reader.query(vectors[7:8], 3)[0][0]


def test_a_reader_follows_a_writer_through_all_its_lists(tmp_path: Path) -> None:
    vectors = clustered(1500)
    fill(open_in(tmp_path), vectors[:200])
    reader, failures, done = open_in(tmp_path), list[BaseException](), threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                for ids, scores in reader.query(vectors[:200:40], 1):
                    assert int(ids[0]) % 40 == 0
                    assert scores[0] > 0.999
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    fill(open_in(tmp_path), vectors, first=200)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(reader.query(vectors[:1], 10**6)[0][0]) == [f"{row:05d}" for row in range(1500)]


def test_an_unfilled_store_writes_nothing(tmp_path: Path) -> None:
    store = open_in(tmp_path)
    assert store.query(unit_vectors(1, DIMENSION), 3)[0][0] == []
    assert store.stats()["count"] == 0
    assert store.namespaces() == {}
    assert not (tmp_path / "ann").exists()
    fill(open_in(tmp_path), clustered(50))
    assert store.stats()["count"] == 50


def test_an_id_that_is_no_text_is_refused(tmp_path: Path) -> None:
    store = open_in(tmp_path)
    with pytest.raises(RelookError, match=r"'\\udcff' is not Unicode"):
        store.upsert(GlobalDescriptors(["a", "\udcff"], unit_vectors(2, DIMENSION)), [{}, {}])
    store.upsert(GlobalDescriptors(["a\0b", "a"], unit_vectors(2, DIMENSION)), [{}, {"k\0": "v\0"}])
    assert list(store.ids()) == ["a", "a\0b"]
    assert store.read(["a"]).metadata == [{"k\0": "v\0"}]
    assert store.delete(["a\0b"]) == 1


def test_without_the_library_the_error_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RelookError, match=r"pip install 'relook\[ann\]'"):
        open_in(tmp_path)


def test_a_library_that_gives_faiss_another_search_changes_nothing(tmp_path: Path) -> None:
    importlib.import_module("faiss.contrib.torch_utils")  # as pytorch-metric-learning does, for the whole process
    store = open_in(tmp_path)
    vectors = clustered(400)
    store.upsert(GlobalDescriptors([f"{row:03d}" for row in range(400)], vectors), [{}] * 400)
    assert store.stats()["lists"]
    assert [names[0] for names, _ in store.query(vectors[:50], 3)] == [f"{row:03d}" for row in range(50)]
