"""How files of an index are written and read: permissions, refusals of the file system, missing locks."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import ROOT as REPOSITORY
from safetensors import SafetensorError
from stores_helpers import ROOT, make_card

from pipeline.errors import LockedError, RelookError
from pipeline.files import atomic_path, exclusive_lock, write_bytes, write_errors
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index.part_files import write_fitted
from pipeline.types import Description, ImageRecord, LocalDescriptors


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def local_descriptors(count: int) -> LocalDescriptors:
    ones = np.ones(count, np.float32)
    return LocalDescriptors(np.eye(count, 4, dtype=np.float32), np.ones((count, 2), np.float32), ones, ones)


def test_every_file_has_the_permissions_of_the_umask(tmp_path: Path, umask: int) -> None:
    card = make_card(local_dimension=4)
    vector = np.eye(1, card.dimension, dtype=np.float32)[0]
    with IndexWriter(tmp_path / "index") as writer:
        writer.begin(card, {"globals.mean": np.ones(3, np.float32)}, ROOT, "parquet")
        writer.add([ImageRecord("a", "a.jpg")], [Description(vector, local_descriptors(2))])
        writer.complete(2)
        writer.write_failures([("b", "b.jpg", "no picture")])
        writer.write_report("extract", {})
        files = [path for path in (tmp_path / "index").rglob("*") if path.is_file()]
        assert {path.parent.name for path in files} >= {"index", "model", "globals", "catalog", "locals", "runs"}
        assert {(path.name, oct(stat.S_IMODE(path.stat().st_mode))) for path in files} == {
            (path.name, oct(0o666 & ~umask)) for path in files
        }


def test_a_library_that_hides_its_file_does_not_decide(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "x") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


@pytest.mark.parametrize(
    ("error", "words"),
    [
        *[(OSError(code, os.strerror(code)), os.strerror(code)) for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)],
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (sqlite3.OperationalError("database or disk is full"), "Disk is full"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "Readonly database"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "No space left"),
        (RuntimeError("Error in write_index: write error in x: 28 != 100 (No space left on device)"), "No space left"),
    ],
)
def test_what_a_file_system_refuses_is_one_line(tmp_path: Path, error: Exception, words: str) -> None:
    with pytest.raises(RelookError) as caught, write_errors(tmp_path / "x"):
        raise error
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / 'x'}: cannot be written ({words}")
    assert "\n" not in line


def test_other_errors_are_not_the_file_systems(tmp_path: Path) -> None:
    for error in (ValueError("no space left on device"), sqlite3.OperationalError("no such table"), RuntimeError("x")):
        with pytest.raises(type(error)), write_errors(tmp_path / "x"):
            raise error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_fitted_projections_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        with Path("/dev/full").open("wb", buffering=0) as stream:
            return stream.write(data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RelookError, match=r"fitted-abc.safetensors: cannot be written \(No space left on device\)"):
        write_fitted(tmp_path, {"mean": np.ones(3, np.float32)}, "abc")
    with pytest.raises(OSError, match="No space"):
        write_bytes(tmp_path / "x", b"1")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_parts_are_opened_without_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    whole = h5py.File.__init__

    def counted(self: h5py.File, name: object, *args: object, **options: object) -> None:
        if isinstance(name, str | Path):  # h5py makes further objects of an open file
            opened.append(options.get("locking", "default"))
        whole(self, name, *args, **options)

    card = make_card(local_dimension=4)
    vector = np.eye(1, card.dimension, dtype=np.float32)[0]
    with IndexWriter(tmp_path) as writer:
        writer.begin(card, {}, ROOT, "parquet")
        writer.add([ImageRecord("a", "a.jpg")], [Description(vector, local_descriptors(2))])
    monkeypatch.setattr(h5py.File, "__init__", counted)
    assert len(Index(tmp_path).locals(["a"])[0]) == 2
    assert opened == []  # the header says where its arrays lie
    monkeypatch.setattr("pipeline.stores.index.plain_arrays.places_in", lambda *_: None)
    assert len(Index(tmp_path).locals(["a"])[0]) == 2
    assert opened == [False]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, 524, errno.ENOSYS])
def test_a_file_system_without_flock_still_has_one_writer(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, operation: int) -> None:
        raise OSError(code, "not here")

    for name, value in {"BEAT": 0.05, "LEASE": 0.4, "LOOK": 0.02}.items():
        monkeypatch.setattr(f"pipeline.stores.index.lock.{name}", value)
    monkeypatch.setattr("fcntl.flock", refuse)
    with IndexWriter(tmp_path / "index"), pytest.raises(LockedError), IndexWriter(tmp_path / "index"):
        pass
    with IndexWriter(tmp_path / "index"):
        pass
    with exclusive_lock(tmp_path / "lock", "busy"), pytest.raises(LockedError), exclusive_lock(tmp_path / "lock", "b"):
        pass
    with exclusive_lock(tmp_path / "lock", "busy"):
        pass


def test_without_fcntl_and_resource_the_verbs_can_be_imported_and_an_index_written(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['fcntl'] = None; sys.modules['resource'] = None\n"
        "from pathlib import Path\n"
        "import pipeline.cli, pipeline.stages.search, pipeline.stages.extract, pipeline.stages.evaluate\n"
        "import pipeline.train.loop.dry_run\n"
        "from pipeline.errors import LockedError\n"
        "from pipeline.stores import IndexWriter\n"
        "from pipeline.stores.index import lock\n"
        "lock.BEAT, lock.LEASE, lock.LOOK = 0.05, 0.4, 0.02\n"
        f"with IndexWriter(Path({str(tmp_path)!r})):\n"
        "    try:\n"
        f"        IndexWriter(Path({str(tmp_path)!r})).__enter__()\n"
        "    except LockedError:\n"
        "        print('locked')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.stdout, done.returncode) == ("locked\n", 0), done.stderr


def test_the_writer_opens_a_generation_once(tmp_path: Path) -> None:
    card = make_card()
    vectors = np.eye(2, card.dimension, dtype=np.float32)
    with IndexWriter(tmp_path) as writer:
        assert writer.index is None
        writer.begin(card, {}, ROOT, "parquet")
        first = writer.index
        assert writer.index is first
        writer.add([ImageRecord("a", "a.jpg")], [Description(vectors[0])])
        second = writer.index
        assert second is not first
        assert writer.index is second
        assert second is not None
        assert list(second.records) == ["a"]
