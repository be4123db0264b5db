"""`upload --shard`: shares send every vector once, and the upload after them finds nothing left to send."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bucket import Bucket, bucket, object_client, object_server
from cli_helpers import document, refused
from flushing import without_flushing
from pinecone_helpers import assert_equal, configured, filled, server
from pinecone_server import PineconeServer

from pipeline.errors import RelookError, UsageError
from pipeline.stages.upload import upload, upload_share
from pipeline.stores import Index, IndexWriter

__all__ = ["bucket", "object_client", "object_server", "server", "without_flushing"]

IDS = [f"photo {number:04d}.jpg" for number in range(380)]


@pytest.fixture
def index(server: PineconeServer, tmp_path: Path) -> Index:
    """An index of four parts, and an empty Pinecone index."""
    server.create("relook", 8)
    return filled(tmp_path / "index", IDS)


def share(index: Index, text: str) -> dict[str, Any]:
    return upload_share(configured(index.directory), text).to_json()


def whole(index: Index) -> tuple[int, int, int, int]:
    result = upload(configured(index.directory))
    return result.added, result.changed, result.removed, result.equal


def writes(server: PineconeServer) -> int:
    return sum(server.received[(space, one)] for space, one in server.received if not space.endswith("models"))


def share_files(index: Index) -> list[Path]:
    return list((index.directory / "uploads" / "shares").glob("*"))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shares_at_the_same_time_send_every_vector_once(count: int, server: PineconeServer, index: Index) -> None:
    with ThreadPoolExecutor(count) as pool:
        sent = list(pool.map(lambda number: share(index, f"{number}/{count}"), range(1, count + 1)))
    assert sum(one["added"] for one in sent) == writes(server) == 380
    assert [one["shard"] for one in sent] == [f"{number}/{count}" for number in range(1, count + 1)]
    assert_equal(server, index)
    assert whole(index) == (0, 0, 0, 380)
    assert writes(server) == 380
    assert share_files(index) == []
    assert share(index, f"1/{count}")["added"] == 0
    assert writes(server) == 380


def test_a_share_that_was_lost_is_run_again_or_left_to_the_upload(server: PineconeServer, index: Index) -> None:
    assert share(index, "1/3")["added"] == 100
    assert share(index, "3/3")["added"] == 180
    again = share(index, "3/3")
    assert (again["added"], again["changed"], again["equal"]) == (0, 0, 180)
    assert writes(server) == 280
    assert whole(index) == (100, 0, 0, 280)
    assert_equal(server, index)


def test_shares_delete_nothing_and_the_upload_does(server: PineconeServer, index: Index) -> None:
    whole(index)
    filled(index.directory, [*IDS[100:110], "new"], seed=7)
    with IndexWriter(index.directory) as writer:
        writer.delete(IDS[:4])
    changed = Index(index.directory)
    sent = [share(changed, f"{number}/2") for number in (1, 2)]
    assert [sum(one[key] for one in sent) for key in ("added", "changed", "removed")] == [1, 10, 0]
    assert whole(changed) == (0, 0, 4, 377)
    assert_equal(server, changed)


def test_a_journal_of_a_share_that_is_wrong_does_no_harm(server: PineconeServer, index: Index) -> None:
    share(index, "1/2")
    del server.indexes["relook"].namespaces[index.card.fingerprint]
    (file,) = share_files(index)
    assert whole(index) == (380, 0, 0, 0)
    assert_equal(server, index)
    assert not file.exists()


def test_shares_are_for_services_and_only_send(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", IDS[:5])
    with pytest.raises(UsageError, match="--shard is for hosted stores; table is a local store"):
        upload_share(configured(index.directory, "store.kind=table"), "1/2")
    with pytest.raises(RelookError, match="K must be from 1 to N"):
        upload_share(configured(index.directory), "3/2")
    for flag in ("--promote", "--prune", "--dry-run"):
        assert "--shard only sends" in refused(2, "upload", "--shard", "1/2", flag)


def test_an_index_in_a_bucket(
    server: PineconeServer, index: Index, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares on machines that have nothing of it; the upload after them sends nothing."""
    bucket.put_folder(index.directory, "index")
    words = ("upload", "--index", f"{bucket.url}/index", "--store", "pinecone", "--set", "store.pinecone.name=relook")
    for number in (1, 2):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"machine {number}"))
        assert document(*words, "--shard", f"{number}/2")["shard"] == f"{number}/2"
    assert writes(server) == 380
    assert document(*words)["equal"] == 380
    assert writes(server) == 380
    assert_equal(server, index)
