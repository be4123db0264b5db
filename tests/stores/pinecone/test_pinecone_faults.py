"""Whatever goes wrong between relook and Pinecone: the store equals the index in the end, or one line says why not.

The SDK is the real one, over HTTP; nothing of it is replaced. After an error nothing is lost: the same upload, run
again, sends what is still missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flushing import without_flushing
from pinecone_helpers import assert_equal, configured, filled, open_pinecone, serving
from pinecone_server import Fault, PineconeServer

from pipeline.errors import RelookError
from pipeline.stages.upload import upload
from pipeline.stores import Index
from pipeline.stores.pinecone.store import PineconeStore

__all__ = ["without_flushing"]

IDS = [f"photo {number:04d}.jpg" for number in range(90)]
ALWAYS = 10**9


@pytest.fixture
def server() -> Iterator[PineconeServer]:
    with serving() as server:
        server.create("relook", 8)
        yield server


@pytest.fixture(params=["documents", "vectors"])
def either(request: pytest.FixtureRequest) -> Iterator[PineconeServer]:
    """A service with an index of one kind or the other."""
    with serving() as server:
        server.create("relook", 8, request.param)
        yield server


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Three parts."""
    return filled(tmp_path / "index", IDS, part=30)


def run(index: Index, **settings: Any) -> int:
    return upload(configured(index.directory, **settings)).added


def fails(index: Index, **settings: Any) -> str:
    """The line with which an upload ends."""
    with pytest.raises(RelookError) as caught:
        run(index, **settings)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_mends(server: PineconeServer, index: Index) -> None:
    """Without faults the same upload sends what is missing, and nothing that is there."""
    server.faults.clear()
    there = len(server.content().get(index.card.fingerprint, {}))
    assert run(index) == len(IDS) - there
    assert_equal(server, index)


def test_too_many_requests_are_repeated_after_the_time_that_the_service_asks_for(
    server: PineconeServer, index: Index
) -> None:
    server.faults.append(Fault("upsert", times=2, status=429, retry_after=0.4))
    started = time.monotonic()
    assert run(index) == len(IDS)
    assert time.monotonic() - started >= 0.8  # the first records are those of the model card, and they wait too
    assert_equal(server, index)


@pytest.mark.parametrize("status", [500, 503])
def test_a_burst_of_errors_is_outlasted(either: PineconeServer, index: Index, status: int) -> None:
    # The SDK tries four times; after that, what failed is sent again.
    either.faults.append(Fault("upsert", skip=1, times=6, status=status, retry_after=0.05))
    assert run(index) == len(IDS)
    assert_equal(either, index)


@pytest.mark.parametrize("path", ["upsert", "fetch", "indexes/", "stats"])
def test_an_outage_ends_in_one_line(server: PineconeServer, index: Index, path: str) -> None:
    # A first upload fetches one record alone, the model card.
    server.faults.append(Fault(path, skip=path != "fetch", times=ALWAYS, status=503, retry_after=0.05))
    assert "failed; run it again ([503" in fails(index, resends=0)
    assert_mends(server, index)


@pytest.mark.parametrize(
    ("path", "cut"), [("upsert", "before"), ("upsert", "after"), ("fetch", "after"), ("", "before")]
)
def test_connections_that_are_cut_are_made_again(server: PineconeServer, index: Index, path: str, cut: str) -> None:
    server.faults += [Fault(path, skip=number, cut=cut) for number in range(3)]
    assert run(index) == len(IDS)
    assert_equal(server, index)


def test_a_service_that_cuts_every_connection_was_reached(server: PineconeServer, index: Index) -> None:
    server.faults.append(Fault("upsert", skip=2, times=ALWAYS, cut="before"))
    line = fails(index, resends=0)
    assert "the connection was cut" in line
    assert "cannot be reached" not in line
    assert_mends(server, index)


def test_a_slow_answer_is_asked_for_again(server: PineconeServer, index: Index) -> None:
    server.faults.append(Fault("upsert", skip=1, slow=1.0))
    assert run(index, timeout=0.3) == len(IDS)
    assert_equal(server, index)


def test_answers_that_never_come_in_time_end_in_one_line(server: PineconeServer, index: Index) -> None:
    server.faults.append(Fault("upsert", skip=1, times=ALWAYS, slow=0.3))
    assert "no answer in time" in fails(index, timeout=0.1, resends=0)
    time.sleep(0.5)  # what was sent is carried out all the same
    assert_mends(server, index)


def test_a_wrong_key_is_refused_without_being_shown(server: PineconeServer, index: Index) -> None:
    key, server.key = server.key, "another"
    line = fails(index)
    assert "the key in PINECONE_API_KEY is refused" in line
    assert key not in line
    server.key = key
    assert_mends(server, index)


def test_a_full_account_keeps_what_it_took(either: PineconeServer, index: Index) -> None:
    served = either.indexes["relook"]
    served.quota = 70  # two parts and the model card
    line = fails(index)
    assert "is full" in line
    assert "quota of this project" in line
    assert len(either.content()[index.card.fingerprint]) == 60
    served.quota = None
    assert_mends(either, index)


def test_a_monthly_limit_is_said(server: PineconeServer, index: Index) -> None:
    server.faults.append(Fault("upsert", skip=1, times=ALWAYS, status=429, retry_after=0.01))
    assert "monthly limit" in fails(index, resends=0)
    assert_mends(server, index)


def test_what_cannot_be_mended_is_not_sent_again(server: PineconeServer, index: Index) -> None:
    server.faults.append(Fault("upsert", skip=1, times=ALWAYS, status=400))
    assert "refused ([400" in fails(index)
    assert sum(count for name, count in server.calls.items() if name.endswith("upsert")) == 2
    assert_mends(server, index)


def test_an_upload_may_be_cut_off_after_any_number_of_requests(
    either: PineconeServer, index: Index, tmp_path: Path
) -> None:
    assert run(index, collection="whole") == len(IDS)
    total = sum(either.calls.values())
    for number in range(total):
        one = Index(index.directory)
        either.faults.append(Fault("", skip=number, times=ALWAYS, status=400))
        collection = f"cut-{number}"
        with pytest.raises(RelookError):
            run(one, collection=collection)
        either.faults.clear()
        run(one, collection=collection)
        assert_equal(either, one, collection=collection)
        space = f"{collection}-{one.card.fingerprint}"
        assert {either.received[space, name] for name in IDS} == {1}, "nothing is sent twice"
    assert total > 10


@pytest.mark.parametrize("fault", [{"status": 429, "retry_after": 0.1}, {"cut": "before"}])
def test_searches_outlast_a_fault(either: PineconeServer, index: Index, fault: dict[str, Any]) -> None:
    run(index)
    vectors = open_pinecone(either, index).fetch(IDS[:12])
    for path in ("search", "query", "fetch", "list", "indexes"):
        either.faults.append(Fault(path, **fault))
    store = open_pinecone(either, index)
    assert [ids[0] for ids, _ in store.query(vectors, 3)] == IDS[:12]
    assert list(store.ids()) == IDS
    assert store.fetch(IDS[:12]).tolist() == vectors.tolist()


READS: dict[str, Callable[[PineconeStore], object]] = {
    "fetch": lambda store: store.fetch(IDS[:12]),
    "search": lambda store: store.query(np.eye(8, dtype=np.float32)[:2], 3),
    "list": lambda store: list(store.ids()),
    "stats": lambda store: store.stats(),
    "indexes/": lambda store: store.stats(),
}


@pytest.mark.parametrize("read", READS)
def test_reads_are_sent_again_like_writes(either: PineconeServer, index: Index, read: str) -> None:
    run(index)
    ask, path = READS[read], "/query" if read == "search" and either.indexes["relook"].kind == "vectors" else read
    expected = ask(open_pinecone(either, index))
    # The SDK tries four times; what fails then is sent again, once here.
    either.faults.append(Fault(path, times=4, status=503, retry_after=0.01))
    assert repr(ask(open_pinecone(either, index, resends=1, concurrency=1))) == repr(expected)
    either.faults.append(Fault(path, times=ALWAYS, status=503, retry_after=0.01))
    with pytest.raises(RelookError, match=r"failed; run it again \(\[503"):
        ask(open_pinecone(either, index, resends=1, concurrency=1))


def test_a_refused_read_is_not_sent_again(server: PineconeServer, index: Index) -> None:
    run(index)
    store = open_pinecone(server, index)
    server.calls.clear()
    server.faults.append(Fault("fetch", times=ALWAYS, status=400))
    with pytest.raises(RelookError, match=r"refused \(\[400"):
        store.fetch(IDS[:3])
    assert server.calls["POST /documents/fetch"] == 1


@pytest.mark.parametrize(
    ("host", "said"),
    [("http://127.0.0.1:9", "cannot be reached"), ("http://no-such-host.invalid", "cannot be reached")],
)
def test_only_a_host_that_cannot_be_reached_is_called_so(
    server: PineconeServer, index: Index, monkeypatch: pytest.MonkeyPatch, host: str, said: str
) -> None:
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", host)
    assert said in fails(index, resends=0)


def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", IDS[:3])
    with serving():
        pass
    assert "cannot be reached" in fails(index, resends=0)
