"""Damaged files of the local ann store: `verify` finds and repairs them, queries name the command; read-only use."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flushing import without_flushing
from pinecone_helpers import filled
from stores_helpers import make_card, start, unit_vectors

from pipeline.config import load_config
from pipeline.config.run import Config
from pipeline.errors import LockedError, RelookError
from pipeline.stages.upload import upload
from pipeline.stages.verify import verify
from pipeline.stores import Index, open_store
from pipeline.stores.ann.sqlite_file import _connect
from pipeline.types import GlobalDescriptors, VectorStore

__all__ = ["without_flushing"]


IDS = [f"photo {number:04d}.jpg" for number in range(600)]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An index, and a local ann store with lists that equals it."""
    made = filled(tmp_path / "index", IDS)
    upload(configured(made))
    assert opened(made).stats()["lists"] > 0
    return made


def configured(index: Index) -> Config:
    return load_config(overrides=[f"index={index.directory}", "store.kind=ann", "store.ann.flat_below=100"])


def opened(index: Index) -> VectorStore:
    return open_store("ann", index, flat_below=100)


def folder_of(index: Index) -> Path:
    return index.directory / "ann" / index.card.fingerprint


def checkpointed(index: Index) -> Path:
    """The database, with all of its log folded in."""
    path = folder_of(index) / "records.sqlite"
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("pattern", ["lists-*", "model-*"])
@pytest.mark.parametrize(
    ("harm", "said"), [(Path.unlink, "missing"), (cut, "bytes instead of"), (flip, "its checksum differs")]
)
def test_damaged_lists_are_found_and_rebuilt_from_the_records(
    index: Index, pattern: str, harm: Callable[[Path], None], said: str
) -> None:
    vectors = opened(index).fetch(IDS[:5])
    before = opened(index).query(vectors, 10)
    (path, *_) = sorted(folder_of(index).glob(pattern))
    harm(path)
    found = verify(configured(index))
    assert found.differs
    assert (found.equal, found.added, found.changed, found.removed) == (600, 0, 0, 0)
    (line,) = found.store_damaged
    assert f"{path.name}: damaged" in line
    assert said in line
    repaired = verify(configured(index), repair=True)
    assert repaired.store_damaged == [line]
    assert not repaired.differs
    assert verify(configured(index)).store_damaged == []
    for (ids, scores), (names, values) in zip(opened(index).query(vectors, 10), before, strict=True):
        assert ids[0] == names[0]
        np.testing.assert_allclose(scores[0], values[0])


@pytest.mark.parametrize("harm", [Path.unlink, cut])
def test_a_query_on_damaged_lists_names_the_command_that_rebuilds_them(
    index: Index, harm: Callable[[Path], None]
) -> None:
    reader = opened(index)
    vectors = reader.fetch(IDS[:1])
    reader.query(vectors, 3)
    for path in folder_of(index).glob("lists-*"):
        harm(path)
    for store in (reader, opened(index)):
        with pytest.raises(RelookError, match=r"lists-.*damaged .*run|with: relook verify --store ann --repair"):
            store.query(vectors, 3)


def test_a_vector_whose_bits_changed_is_repaired_from_the_index(index: Index) -> None:
    path = checkpointed(index)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE record SET vector = zeroblob(32) WHERE id = ?", (IDS[7],))
    db.close()
    found = verify(configured(index), repair=True)
    assert (found.changed, found.examples["changed"], found.differs) == (1, [IDS[7]], False)


def cut_under_a_reader(connection: Any, directory: Path, path: Path) -> None:
    store = open_store("ann", Index(directory), flat_below=100)
    vectors = store.fetch(IDS[:1])
    store.query(vectors, 3)
    os.truncate(path, 32768)
    try:
        list(store.ids())
        store.fetch(IDS[300:])
        connection.send("no error")
    except RelookError as error:
        connection.send(str(error))


def test_a_database_that_is_cut_under_an_open_reader_is_an_error_and_no_signal(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", IDS, make_card(2048))  # more than SQLite's own cache
    upload(configured(index))
    path = checkpointed(index)
    process, connection = start(cut_under_a_reader, index.directory, path)
    said = connection.recv()
    process.join()
    assert process.exitcode == 0
    assert f"{path}: damaged" in said
    assert "relook upload --store ann" in said


def cut_beside_a_reader(connection: Any, directory: Path, ending: str, share: float) -> None:
    store = open_store("ann", Index(directory), flat_below=100)
    vectors = store.fetch(IDS[:1])
    store.query(vectors, 3)
    path = folder_of(Index(directory)) / f"records.sqlite{ending}"
    os.truncate(path, int(share * path.stat().st_size))
    said = []
    for act in (lambda: store.query(vectors, 3), lambda: store.fetch(IDS), lambda: list(store.ids())):
        try:
            act()
            said.append("read")
        except RelookError as error:
            said.append(str(error))
    connection.send(said)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5])
@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_a_log_that_is_cut_beside_an_open_reader_is_an_error_and_no_signal(
    tmp_path: Path, ending: str, share: float
) -> None:
    """The writer is still open, so that all its changes are in the log."""
    index = filled(tmp_path / "index", IDS, make_card(512))
    writer = opened(index)
    writer.upsert(GlobalDescriptors(IDS, unit_vectors(len(IDS), 512)), [{}] * len(IDS))
    process, connection = start(cut_beside_a_reader, index.directory, ending, share)
    said = connection.recv()
    process.join()
    assert process.exitcode == 0
    path = folder_of(index) / "records.sqlite"
    if ending == "-shm":
        assert all(line.startswith(f"{path}-shm: cut to") for line in said)
        # This process maps the same memory: what it is given back is what SQLite makes of an empty one.
        os.truncate(f"{path}-shm", 0)
        os.truncate(f"{path}-shm", 32768)
    else:
        assert f"{path}: damaged" in said[1]
        assert "relook upload --store ann" in said[1]


class ReadOnly:
    """Folders that cannot be written, for the superuser as well."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr("pipeline.stores.ann.sqlite_file.os.access", lambda path, mode: False)


def test_a_read_only_store_searches_and_follows_a_writer_elsewhere(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointed(index)
    vectors = opened(index).fetch(IDS[:3])
    with monkeypatch.context() as patch:
        ReadOnly(patch)
        reader = opened(index)
        assert reader._records._immutable is not None  # type: ignore[attr-defined]
        assert [ids[0] for ids, _ in reader.query(vectors, 3)] == IDS[:3]
        assert reader.stats()["count"] == 600
        assert reader.namespaces() == {index.card.fingerprint: 600}
    assert opened(index).delete(IDS[:1]) == 1  # where the folder can be written
    checkpointed(index)
    assert reader.stats()["count"] == 599
    assert IDS[0] not in reader.query(vectors, 3)[0][0]


def test_a_log_that_a_read_only_folder_hides_is_said(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpointed(index)
    log = path.with_name("records.sqlite-wal")
    log.write_bytes(b"x" * 4096)
    ReadOnly(monkeypatch)
    refused = sqlite3.OperationalError("unable to open database file")
    refused.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN

    class Refusing:
        def execute(self, *_: object) -> None:
            raise refused

    monkeypatch.setattr("pipeline.stores.ann.sqlite_file._connection", lambda *_, **__: Refusing())
    with pytest.raises(RelookError, match=r"interrupted writer left a log.*relook verify --store ann"):
        _connect(path)


def test_a_file_that_changes_while_it_is_read_is_read_again(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpointed(index)
    ReadOnly(monkeypatch)
    reader = opened(index)
    with pytest.raises(LockedError, match="another process writes to it"), reader._records.reading():  # type: ignore[attr-defined]
        os.utime(path, ns=(1, 1))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs the superuser")
def test_a_read_only_mount(index: Index) -> None:
    checkpointed(index)
    program = (
        "import sys; from pathlib import Path; from pipeline.stores import Index, open_store;"
        "store = open_store('ann', Index(Path(sys.argv[1])), flat_below=100);"
        "print(store.query(store.fetch(sys.argv[2:]), 1)[0][0][0])"
    )
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$3" -c "$4" "$1" "$2"'
    command = ["unshare", "-m", "bash", "-c", script, "mount", index.directory, IDS[4], sys.executable, program]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no right to mount here: {done.stderr.strip()}")
    assert done.stdout.strip() == IDS[4], done.stderr
